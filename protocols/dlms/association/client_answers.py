"""What a server answers to a client: values, results and refusals, joined where they come in blocks."""

from collections.abc import Callable
from typing import ClassVar, Final

from protocols.dlms.apdu import exceptions, initiate
from protocols.dlms.apdu.access import RESPONSE_TAG as ACCESS_RESPONSE
from protocols.dlms.apdu.access import decode_response as decode_access
from protocols.dlms.apdu.action import RESPONSE_TAG as ACTION_RESPONSE
from protocols.dlms.apdu.action import (
    ActionRequestNextPBlock,
    ActionRequestWithPBlock,
    ActionResponseNextPBlock,
    ActionResponseNormal,
    ActionResponseWithList,
    ActionResponseWithPBlock,
)
from protocols.dlms.apdu.action import decode_response as decode_action
from protocols.dlms.apdu.fields import INVOKE, Raw
from protocols.dlms.apdu.get import RESPONSE_TAG as GET_RESPONSE
from protocols.dlms.apdu.get import (
    GetResponse,
    GetResponseNormal,
    GetResponseWithBlock,
    GetResponseWithList,
    block_of,
    next_request,
)
from protocols.dlms.apdu.get import decode_response as decode_get
from protocols.dlms.apdu.set import RESPONSE_TAG as SET_RESPONSE
from protocols.dlms.apdu.set import (
    SetRequestWithBlock,
    SetResponseBlock,
    SetResponseLastBlock,
    SetResponseNormal,
)
from protocols.dlms.apdu.set import decode_response as decode_set
from protocols.dlms.association.client_exchange import INVOKE_FLAGS, Pending
from protocols.dlms.association.client_requests import ClientRequests
from protocols.dlms.association.client_setup import service_refused
from protocols.dlms.association.events import (
    AccessDone,
    ActionDone,
    ClientEvent,
    GetResult,
    MethodOutcome,
    SetResult,
    Stale,
    Transmit,
)
from protocols.dlms.association.states import ClientState
from protocols.dlms.blocks import BlockJoiner
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.errors import ExceptionResponse, RemoteProtocolError

_LATE: Final = Stale("an answer came whose invoke id is not outstanding")


class ClientAnswers(ClientRequests):
    """Each answer becomes an event, the next block to send or to ask for, or an error."""

    __slots__ = ()

    def _on_get(self, apdu: bytes) -> list[ClientEvent]:
        pending = self._match(apdu, GET_RESPONSE)
        if pending is None:
            return [_LATE]
        block = block_of(apdu)
        if block is not None:
            return self._on_get_block(pending, *block)
        response = decode_get(apdu)
        if isinstance(response, GetResponseWithBlock):
            if isinstance(response.result, bytes):
                return self._on_get_block(pending, response.last, response.block_number, response.result)
            return self._done(GetResult((response.result,) * pending.count))
        if isinstance(response, GetResponseNormal):
            if pending.listed:
                raise RemoteProtocolError("a GET with list is answered with one value", offset=1)
            result = response.result
            return self._done(GetResult((result.data if isinstance(result, Raw) else result,)))
        return self._done(self._get_list(pending, response))

    def _on_get_block(self, pending: Pending, last: bool, number: int, data: bytes) -> list[ClientEvent]:
        joiner = pending.joiner
        if joiner is None:
            joiner = pending.joiner = BlockJoiner(self.settings.max_total)
        if 0 < number == joiner.received:
            return [Stale(f"block {number} came twice")]
        whole = joiner.add(number, data, last=last)
        if whole is None:
            return [Transmit(self._send(next_request(INVOKE_FLAGS | pending.invoke, number)))]
        if not pending.listed:
            return self._done(GetResult((whole,)))
        response = decode_get(bytes((GET_RESPONSE, 3, pending.invoke)) + whole)
        return self._done(self._get_list(pending, response))

    def _get_list(self, pending: Pending, response: GetResponse) -> GetResult:
        if not isinstance(response, GetResponseWithList) or not pending.listed:
            raise RemoteProtocolError("a GET of one attribute is answered with a list", offset=1)
        if len(response.results) != pending.count:
            raise RemoteProtocolError(f"{len(response.results)} results for {pending.count} attributes")
        return GetResult(tuple([r.data if isinstance(r, Raw) else r for r in response.results]))

    def _on_set(self, apdu: bytes) -> list[ClientEvent]:
        pending = self._match(apdu, SET_RESPONSE)
        if pending is None:
            return [_LATE]
        response = decode_set(apdu)
        if isinstance(response, SetResponseBlock):
            return self._next_block(pending, response.block_number, SetRequestWithBlock)
        if isinstance(response, SetResponseNormal | SetResponseLastBlock):
            results: tuple[DataAccessResult, ...] = (response.result,)
            if pending.listed and response.result is not DataAccessResult.SUCCESS:
                results *= pending.count  # the transfer broke off: that is every attribute's result
        else:
            results = response.results
        if len(results) != pending.count:
            raise RemoteProtocolError(f"{len(results)} results for {pending.count} attributes")
        return self._done(SetResult(results))

    def _on_action(self, apdu: bytes) -> list[ClientEvent]:
        pending = self._match(apdu, ACTION_RESPONSE)
        if pending is None:
            return [_LATE]
        response = decode_action(apdu)
        if self.state is ClientState.HLS_PENDING:
            return self._on_proof(response)
        if isinstance(response, ActionResponseNextPBlock):
            return self._next_block(pending, response.block_number, ActionRequestWithPBlock)
        if isinstance(response, ActionResponseWithPBlock):
            if pending.joiner is None:
                pending.joiner = BlockJoiner(self.settings.max_total)
            if 0 < response.block_number == pending.joiner.received:
                return [Stale(f"block {response.block_number} came twice")]
            whole = pending.joiner.add(response.block_number, response.data, last=response.last)
            if whole is None:
                invoke = INVOKE[INVOKE_FLAGS | pending.invoke]
                return [
                    Transmit(self._send(ActionRequestNextPBlock(invoke, response.block_number).to_bytes()))
                ]
            kind = 3 if pending.listed else 1
            response = decode_action(bytes((ACTION_RESPONSE, kind, pending.invoke)) + whole)
        if isinstance(response, ActionResponseNormal):
            outcomes: tuple[MethodOutcome, ...] = (_outcome(response.result, response.return_parameters),)
        elif isinstance(response, ActionResponseWithList):
            outcomes = tuple([_outcome(*result) for result in response.results])
        else:
            raise RemoteProtocolError("blocks of an ACTION hold blocks again")
        if len(outcomes) != pending.count:
            raise RemoteProtocolError(f"{len(outcomes)} results for {pending.count} methods")
        return self._done(ActionDone(outcomes))

    def _on_access(self, apdu: bytes) -> list[ClientEvent]:
        response = decode_access(apdu)
        pending = self._pending
        invoke = response.long_invoke.invoke_id
        if pending is None or pending.kind != ACCESS_RESPONSE or pending.invoke != invoke:
            self._abandoned.discard((ACCESS_RESPONSE, invoke))
            return [_LATE]
        if len(response.results) != pending.count:
            raise RemoteProtocolError(f"{len(response.results)} results for {pending.count} specifications")
        return self._done(AccessDone(response))

    def _on_exception(self, apdu: bytes) -> list[ClientEvent]:
        told = exceptions.decode(apdu)
        if not self._is_ours():
            return [Stale("an Exception-Response came for no outstanding request")]
        self._give_up()
        raise ExceptionResponse(
            f"the peer answers with an exception: {told}",
            state_error=told.state_error,
            service_error=told.service_error,
            invocation_counter=told.invocation_counter,
        )

    def _on_service_error(self, apdu: bytes) -> list[ClientEvent]:
        error = service_refused(apdu)
        if not self._is_ours():
            return [Stale("a ConfirmedServiceError came for no outstanding request")]
        self._give_up()
        raise error

    _HANDLERS: ClassVar[dict[int, "Callable[[ClientAnswers, bytes], list[ClientEvent]]"]] = {
        GET_RESPONSE: _on_get,
        SET_RESPONSE: _on_set,
        ACTION_RESPONSE: _on_action,
        ACCESS_RESPONSE: _on_access,
        exceptions.TAG: _on_exception,
        initiate.SERVICE_ERROR_TAG: _on_service_error,
    }


def _outcome(result: ActionResult, returned: Raw | DataAccessResult | None) -> MethodOutcome:
    return MethodOutcome(result, returned.data if isinstance(returned, Raw) else returned)
