"""What a client asks of a server: GET, SET, ACTION and ACCESS, joined where they come in blocks."""

from collections.abc import Callable
from typing import ClassVar

from protocols.dlms.apdu import access, action, get, notification
from protocols.dlms.apdu import set as setting
from protocols.dlms.apdu.fields import AttributeItem, InvokeIdAndPriority, Reader
from protocols.dlms.association.events import (
    AccessRequested,
    ActionRequested,
    Confirmed,
    GetRequested,
    MethodOutcome,
    Refused,
    ServerEvent,
    SetRequested,
    Transmit,
)
from protocols.dlms.association.server_answers import ServerAnswers
from protocols.dlms.association.server_exchange import ActionStart, SetStart
from protocols.dlms.association.states import ServerState
from protocols.dlms.blocks import BlockJoiner
from protocols.dlms.cosem import Method
from protocols.dlms.enums import ActionResult, Conformance, DataAccessResult, ServiceErrorCode
from protocols.errors import RemoteProtocolError


class ServerRequests(ServerAnswers):
    """Each request becomes one event for the application, or an answer at once where it cannot be served."""

    __slots__ = ()

    def _on_get(self, apdu: bytes) -> list[ServerEvent]:
        request = get.decode_request(apdu)
        if isinstance(request, get.GetRequestNext):
            return self._next_chunk(get.RESPONSE_TAG, request.invoke, request.block_number)
        if isinstance(request, get.GetRequestNormal):
            items: tuple[AttributeItem, ...] = (AttributeItem(request.attribute, request.selection),)
        else:
            items = request.items
        asked = self._ask(
            get.RESPONSE_TAG, request.invoke, len(items), isinstance(request, get.GetRequestWithList)
        )
        public = self.settings.public_objects
        if self._offer is not None and self._offer.public and public is not None:
            asked.permitted = tuple([item.attribute in public for item in items])
            items = tuple([item for item, granted in zip(items, asked.permitted, strict=True) if granted])
            if not items:
                return [Transmit(out) for out in self.respond_get(())]
        return [GetRequested(items)]

    def _on_set(self, apdu: bytes) -> list[ServerEvent]:
        request = setting.decode_request(apdu)
        invoke = request.invoke
        if isinstance(request, setting.SetRequestNormal):
            item = AttributeItem(request.attribute, request.selection)
            return self._set(invoke, (item,), (request.value.data,), listed=False)
        if isinstance(request, setting.SetRequestWithList):
            return self._set(invoke, request.items, tuple([v.data for v in request.values]), listed=True)
        if not isinstance(request, setting.SetRequestWithBlock):
            self._start, self._incoming = request, BlockJoiner(self.settings.max_total)
        start, joiner = self._start, self._incoming
        if joiner is None or not isinstance(start, SetStart):
            return self._set_aborted(invoke, DataAccessResult.NO_LONG_SET_IN_PROGRESS, request.block_number)
        try:
            whole = joiner.add(request.block_number, request.data, last=request.last)
        except RemoteProtocolError:
            return self._set_aborted(invoke, DataAccessResult.DATA_BLOCK_NUMBER_INVALID, request.block_number)
        if whole is None:
            return self._reply(setting.SetResponseBlock(invoke, request.block_number).to_bytes())
        self._start = self._incoming = None
        number = request.block_number
        if isinstance(start, setting.SetRequestWithFirstBlock):
            item = AttributeItem(start.attribute, start.selection)
            return self._set(invoke, (item,), (whole,), listed=False, block_number=number)
        values = _list_of(whole, len(start.items), "set-request")
        return self._set(invoke, start.items, values, listed=True, block_number=number)

    def _set(
        self,
        invoke: InvokeIdAndPriority,
        items: tuple[AttributeItem, ...],
        values: tuple[bytes, ...],
        *,
        listed: bool,
        block_number: int | None = None,
    ) -> list[ServerEvent]:
        self._ask(setting.RESPONSE_TAG, invoke, len(items), listed, block_number)
        if self._is_public():
            denied = [DataAccessResult.READ_WRITE_DENIED] * len(items)
            return [Transmit(out) for out in self.respond_set(denied)]
        return [SetRequested(items, values)]

    def _set_aborted(
        self, invoke: InvokeIdAndPriority, why: DataAccessResult, number: int
    ) -> list[ServerEvent]:
        self._start = self._incoming = None
        aborted = setting.SetResponseLastBlock(invoke, why, number)
        return [*self._reply(aborted.to_bytes()), Refused(f"SET block {number}: {why.name.lower()}")]

    def _on_action(self, apdu: bytes) -> list[ServerEvent]:
        request = action.decode_request(apdu)
        invoke = request.invoke
        if self.state is ServerState.HLS_PENDING:
            return self._on_proof(request)
        if Conformance.ACTION not in self.conformance:
            return self._not_allowed("ACTION is not negotiated", ServiceErrorCode.SERVICE_NOT_SUPPORTED)
        if isinstance(request, action.ActionRequestNextPBlock):
            return self._next_chunk(action.RESPONSE_TAG, invoke, request.block_number)
        if isinstance(request, action.ActionRequestNormal):
            raw = None if request.parameters is None else request.parameters.data
            return self._act(invoke, (request.method,), (raw,), listed=False)
        if isinstance(request, action.ActionRequestWithList):
            return self._act(
                invoke, request.methods, tuple([p.data for p in request.parameters]), listed=True
            )
        if not isinstance(request, action.ActionRequestWithPBlock):
            self._start, self._incoming = request, BlockJoiner(self.settings.max_total)
        start, joiner = self._start, self._incoming
        if joiner is None or not isinstance(start, ActionStart):
            return self._action_aborted(invoke, ActionResult.NO_LONG_ACTION_IN_PROGRESS, request.block_number)
        try:
            whole = joiner.add(request.block_number, request.data, last=request.last)
        except RemoteProtocolError:
            return self._action_aborted(invoke, ActionResult.LONG_ACTION_ABORTED, request.block_number)
        if whole is None:
            return self._reply(action.ActionResponseNextPBlock(invoke, request.block_number).to_bytes())
        self._start = self._incoming = None
        if isinstance(start, action.ActionRequestWithFirstPBlock):
            return self._act(invoke, (start.method,), (whole,), listed=False)
        parameters = _list_of(whole, len(start.methods), "action-request")
        return self._act(invoke, start.methods, parameters, listed=True)

    def _act(
        self,
        invoke: InvokeIdAndPriority,
        methods: tuple[Method, ...],
        parameters: tuple[bytes | None, ...],
        *,
        listed: bool,
    ) -> list[ServerEvent]:
        self._ask(action.RESPONSE_TAG, invoke, len(methods), listed)
        if self._is_public():
            denied = [MethodOutcome(ActionResult.READ_WRITE_DENIED)] * len(methods)
            return [Transmit(out) for out in self.respond_action(denied)]
        return [ActionRequested(methods, parameters)]

    def _action_aborted(
        self, invoke: InvokeIdAndPriority, why: ActionResult, number: int
    ) -> list[ServerEvent]:
        self._start = self._incoming = None
        aborted = action.ActionResponseNormal(invoke, why)
        return [*self._reply(aborted.to_bytes()), Refused(f"ACTION block {number}: {why.name.lower()}")]

    def _on_access(self, apdu: bytes) -> list[ServerEvent]:
        request = access.decode_request(apdu)
        if self._is_public():
            return self._not_allowed("the public client has no ACCESS service")
        asked = self._ask(access.RESPONSE_TAG, request.long_invoke, len(request.specs), listed=True)
        asked.specs = request.specs
        return [AccessRequested(request.specs, request.data)]

    def _on_confirm(self, apdu: bytes) -> list[ServerEvent]:
        return [Confirmed(notification.decode_confirm(apdu))]

    _HANDLERS: ClassVar[dict[int, "tuple[int, Callable[[ServerRequests, bytes], list[ServerEvent]]]"]] = {
        get.REQUEST_TAG: (int(Conformance.GET), _on_get),
        setting.REQUEST_TAG: (int(Conformance.SET), _on_set),
        action.REQUEST_TAG: (int(Conformance.ACTION), _on_action),
        access.REQUEST_TAG: (int(Conformance.ACCESS), _on_access),
        notification.CONFIRM_TAG: (int(Conformance.DATA_NOTIFICATION), _on_confirm),
    }


def _list_of(whole: bytes, count: int, name: str) -> tuple[bytes, ...]:
    """The values of a with-list request that came in blocks. Raises RemoteProtocolError."""
    reader = Reader(whole, name, 0)
    values = reader.many(lambda: reader.value("value"), "value list")
    reader.end()
    if len(values) != count:
        raise RemoteProtocolError(f"{name}: {len(values)} values for {count} targets")
    return tuple([value.data for value in values])
