"""What a client asks of a server: GET, SET, ACTION and ACCESS, in blocks where they are long."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Concatenate, ParamSpec

from protocols.dlms.apdu.access import RESPONSE_TAG as ACCESS_RESPONSE
from protocols.dlms.apdu.access import AccessRequest, AccessSpec
from protocols.dlms.apdu.action import RESPONSE_TAG as ACTION_RESPONSE
from protocols.dlms.apdu.action import (
    ActionRequestNormal,
    ActionRequestWithFirstPBlock,
    ActionRequestWithList,
    ActionRequestWithListAndFirstPBlock,
)
from protocols.dlms.apdu.fields import (
    INVOKE,
    AttributeItem,
    LongInvokeIdAndPriority,
    Raw,
    Selection,
    encode_values,
)
from protocols.dlms.apdu.get import RESPONSE_TAG as GET_RESPONSE
from protocols.dlms.apdu.get import GetRequestNormal, GetRequestWithList
from protocols.dlms.apdu.set import RESPONSE_TAG as SET_RESPONSE
from protocols.dlms.apdu.set import (
    SetRequestNormal,
    SetRequestWithFirstBlock,
    SetRequestWithList,
    SetRequestWithListAndFirstBlock,
)
from protocols.dlms.association.client_setup import ClientSetup
from protocols.dlms.cosem import Attribute, Method
from protocols.dlms.enums import Conformance
from protocols.errors import LocalProtocolError

_P = ParamSpec("_P")
_NULL = Raw(b"\x00")


def _undone(
    call: Callable[Concatenate["ClientRequests", _P], bytes],
) -> Callable[Concatenate["ClientRequests", _P], bytes]:
    """A request that cannot be encoded or cut leaves the association as it was before."""

    @wraps(call)
    def guarded(self: "ClientRequests", /, *args: _P.args, **kwargs: _P.kwargs) -> bytes:
        before = self.outstanding
        try:
            return call(self, *args, **kwargs)
        except LocalProtocolError:
            if self.outstanding is not before:
                self.take_back()
            raise

    return guarded


class ClientRequests(ClientSetup):
    """Each call gives the APDU to send, its first block where it is long."""

    __slots__ = ()

    @_undone
    def get(self, attribute: Attribute, selection: Selection | None = None) -> bytes:
        """GET of one attribute; answered by `GetResult` with one entry."""
        invoke = self._request(GET_RESPONSE, 1, listed=False)
        return self._send(GetRequestNormal(INVOKE[invoke], attribute, selection).to_bytes())

    @_undone
    def get_many(self, items: Sequence[AttributeItem]) -> bytes:
        """GET with list; answered by `GetResult` with an entry for each item."""
        self._check_list(items)
        invoke = self._request(GET_RESPONSE, len(items), listed=True)
        return self._send(GetRequestWithList(INVOKE[invoke], tuple(items)).to_bytes())

    @_undone
    def set(self, attribute: Attribute, raw: bytes, selection: Selection | None = None) -> bytes:
        """SET of one attribute to a raw A-XDR value, in blocks where it is long; answered by `SetResult`."""
        invoke = self._request(SET_RESPONSE, 1, listed=False)
        plain = SetRequestNormal(INVOKE[invoke], attribute, selection, Raw(raw)).to_bytes()
        if self._fits(plain):
            return self._send(plain)
        first = self._cut(raw, len(plain) - len(raw), Conformance.BLOCK_TRANSFER_WITH_SET_OR_WRITE)
        request = SetRequestWithFirstBlock(INVOKE[invoke], attribute, selection, False, 1, first)
        return self._send(request.to_bytes())

    @_undone
    def set_many(self, items: Sequence[tuple[AttributeItem, bytes]]) -> bytes:
        """SET with list of (item, raw A-XDR value); answered by `SetResult` with an entry for each."""
        self._check_list(items)
        invoke = self._request(SET_RESPONSE, len(items), listed=True)
        targets = tuple([target for target, _ in items])
        values = tuple([Raw(raw) for _, raw in items])
        plain = SetRequestWithList(INVOKE[invoke], targets, values).to_bytes()
        if self._fits(plain):
            return self._send(plain)
        data = encode_values(values)
        first = self._cut(data, len(plain) - len(data), Conformance.BLOCK_TRANSFER_WITH_SET_OR_WRITE)
        request = SetRequestWithListAndFirstBlock(INVOKE[invoke], targets, False, 1, first)
        return self._send(request.to_bytes())

    @_undone
    def action(self, method: Method, raw: bytes | None = None) -> bytes:
        """ACTION of one method, its parameters in blocks where they are long; answered by `ActionDone`."""
        invoke = self._request(ACTION_RESPONSE, 1, listed=False)
        parameters = None if raw is None else Raw(raw)
        plain = ActionRequestNormal(INVOKE[invoke], method, parameters).to_bytes()
        if raw is None or self._fits(plain):
            return self._send(plain)
        first = self._cut(raw, len(plain) - len(raw), Conformance.BLOCK_TRANSFER_WITH_ACTION)
        request = ActionRequestWithFirstPBlock(INVOKE[invoke], method, False, 1, first)
        return self._send(request.to_bytes())

    @_undone
    def action_many(self, items: Sequence[tuple[Method, bytes | None]]) -> bytes:
        """ACTION with list of (method, raw parameters or None); `ActionDone` has an entry for each."""
        self._check_list(items)
        invoke = self._request(ACTION_RESPONSE, len(items), listed=True)
        methods = tuple([method for method, _ in items])
        values = tuple([_NULL if raw is None else Raw(raw) for _, raw in items])
        plain = ActionRequestWithList(INVOKE[invoke], methods, values).to_bytes()
        if self._fits(plain):
            return self._send(plain)
        data = encode_values(values)
        first = self._cut(data, len(plain) - len(data), Conformance.BLOCK_TRANSFER_WITH_ACTION)
        request = ActionRequestWithListAndFirstPBlock(INVOKE[invoke], methods, False, 1, first)
        return self._send(request.to_bytes())

    @_undone
    def access(self, items: Sequence[tuple[AccessSpec, bytes | None]]) -> bytes:
        """ACCESS: each specification with its raw A-XDR datum (None: null-data); answered by `AccessDone`."""
        self._check_list(items)
        self._request(ACCESS_RESPONSE, len(items), listed=True)
        self._long_invoke = (self._long_invoke + 1) & 0xFF_FFFF
        request = AccessRequest(
            LongInvokeIdAndPriority(self._long_invoke, confirmed=True, high_priority=True),
            None,
            tuple([spec for spec, _ in items]),
            tuple([_NULL if raw is None else Raw(raw) for _, raw in items]),
        )
        if self._pending is not None:
            self._pending.invoke = self._long_invoke
        return self._send(request.to_bytes())

    def _check_list(self, items: Sequence[object]) -> None:
        if not items:
            raise LocalProtocolError("a request with list needs at least one entry")
