"""A meter of Gurux' code that is told things: its objects take what is written, and methods are the test's.

The release's own SET and ACTION stop before they take anything, and what a method does is in Gurux' server
for its application to say. Here requests are taken apart; every value is decoded by Gurux' decoder, taken by
the `setValue` of Gurux' object, and given back by its `getValue`.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from gurux_dlms import GXByteBuffer
from gurux_dlms.enums import Command, ErrorCode
from gurux_dlms.GXDLMS import GXDLMS
from gurux_dlms.GXDLMSLNParameters import GXDLMSLNParameters
from gurux_dlms.internal._GXCommon import _GXCommon
from gurux_dlms.internal._GXDataInfo import _GXDataInfo

from tests.interop.gurux_server import GuruxMeter


class CommandedMeter(GuruxMeter):
    """With these ``objects`` beside the usual ones. ``methods`` by class and method take a parameter, and may
    give an error; others are refused. ``written`` are class and attribute, ``invoked`` class, method and
    parameter, as they came."""

    def __init__(
        self, *objects: Any, methods: dict[tuple[int, int], Callable[[Any], ErrorCode | None]] | None = None
    ) -> None:
        super().__init__(lists=False)
        for one in objects:
            self.items.append(one)
        self.methods = methods or {}
        self.written: list[tuple[int, int]] = []
        self.invoked: list[tuple[int, int, Any]] = []

    def _target(self, data: Any) -> tuple[int, int, str, int, Any]:
        """Invoke id, class, OBIS, index and value."""
        data.getUInt8()
        invoke = data.getUInt8()
        self.settings.updateInvokeId(invoke)
        class_id = data.getUInt16()
        obis = ".".join(str(data.getUInt8()) for _ in range(6))
        index = data.getUInt8()
        data.getUInt8()  # of a SET: no access selection; of an ACTION: a parameter follows
        return invoke, class_id, obis, index, _GXCommon.getData(self.settings, data, _GXDataInfo())

    def handle_method(self, data: Any) -> None:
        invoke, class_id, _, index, value = self._target(data)
        self.invoked.append((class_id, index, value))
        method = self.methods.get((class_id, index))
        error = ErrorCode.UNDEFINED_OBJECT if method is None else method(value)
        out = GXByteBuffer()
        out.setUInt8(0)
        self._answer(Command.METHOD_RESPONSE, invoke, error, out)

    def handleCommand(self, cmd: int, data: Any, sr: Any) -> Any:
        if cmd != Command.SET_REQUEST:
            return super().handleCommand(cmd, data, sr)
        invoke, class_id, obis, index, value = self._target(data)
        found = self.items.findByLN(class_id, obis)
        self.written.append((class_id, index))
        if found is not None:
            found.setValue(self.settings, SimpleNamespace(index=index, value=value, user=None))
        self._answer(Command.SET_RESPONSE, invoke, ErrorCode.UNDEFINED_OBJECT if found is None else None)
        return GXDLMS.getWrapperFrame(self.settings, cmd, self.replyData)

    def _answer(
        self, command: int, invoke: int, error: ErrorCode | None, out: GXByteBuffer | None = None
    ) -> None:
        code = ErrorCode.OK if error is None else error
        parameters = GXDLMSLNParameters(self.settings, invoke, command, 1, None, out, code)
        GXDLMS.getLNPdu(parameters, self.replyData)
