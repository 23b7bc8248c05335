"""A meter's breaker: its states and modes, the customer's button, and a drive that may be stuck.

What the customer consumes goes on while he is disconnected: registers here are functions of time, and a
breaker does not stop them. That is not simulated.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from concentrator_sim.object_model import Asked, CosemObject, Meter
from protocols.dlms import axdr
from protocols.dlms.cosem import ClassId
from protocols.dlms.cosem import disconnect_control as dc
from protocols.dlms.cosem.disconnect_control import ControlState, Transition
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError

BREAKER: Final = Obis.parse("0-0:96.3.10*255")
#: Remote disconnection; remote reconnection at once; manual buttons.
_MODE: Final = 2


class Breaker:
    """The breaker of one meter. ``sticks`` says whether its drive moves at a moment (Unix seconds)."""

    __slots__ = ("mode", "moves", "output", "state", "sticks")

    def __init__(self, meter: Meter) -> None:
        self.state = ControlState.CONNECTED
        self.output = True
        self.mode = _MODE
        #: how often it was told to move: commands that came twice are seen here
        self.moves = 0
        self.sticks: Callable[[float], bool] = lambda now: False

    def push_button(self, now_s: float = 0) -> bool:
        """The customer pushes the button: on where it is ready, off where the mode lets him; whether that
        did anything."""
        manual = (Transition.MANUAL_RECONNECT, Transition.MANUAL_DISCONNECT)
        return any(self._go(dc.after(self.mode, self.state, one), now_s) for one in manual)

    def invoke(self, method: int, now_s: float) -> bool:
        """A remote method; whether the mode has a transition for it from here."""
        return self._go(dc.invoked(self.mode, self.state, method), now_s)

    def _go(self, state: ControlState | None, now_s: float) -> bool:
        if state is None:
            return False
        self.moves += 1
        self.state = state
        if not self.sticks(now_s):
            self.output = state is ControlState.CONNECTED
        return True


def _of(asked: Asked) -> Breaker:
    return asked.device.meter.part(Breaker)


def _invoke(method: int, asked: Asked, parameter: bytes | None) -> ActionResult:
    if parameter is None or axdr.decode_exact(parameter) != dc.PARAMETER:
        return ActionResult.TYPE_UNMATCHED
    if _of(asked).invoke(method, asked.now_s):
        return ActionResult.SUCCESS
    return ActionResult.OTHER_REASON


def _set_mode(asked: Asked, raw: bytes) -> DataAccessResult:
    try:
        _of(asked).mode = dc.control_mode(axdr.decode_exact(raw))
    except RemoteProtocolError:
        return DataAccessResult.TYPE_UNMATCHED
    return DataAccessResult.SUCCESS


#: Disconnect Control, as the management client sees it.
BREAKERS: Final = (
    CosemObject(
        ClassId.DISCONNECT_CONTROL,
        0,
        BREAKER,
        {
            dc.OUTPUT_STATE: lambda asked: axdr.encode(axdr.boolean(_of(asked).output)),
            dc.CONTROL_STATE: lambda asked: axdr.encode(axdr.enum(_of(asked).state)),
            dc.CONTROL_MODE: lambda asked: axdr.encode(axdr.enum(_of(asked).mode)),
        },
        writes={dc.CONTROL_MODE: _set_mode},
        methods={one: partial(_invoke, one) for one in (dc.REMOTE_DISCONNECT, dc.REMOTE_RECONNECT)},
    ),
)
