"""What a server sends for its application: answers, in blocks where they are long, and notifications."""

from collections.abc import Sequence
from typing import Final, TypeVar

from protocols.dlms.apdu import access, action, block_transfer, get, notification
from protocols.dlms.apdu import set as setting
from protocols.dlms.apdu.fields import InvokeIdAndPriority, LongInvokeIdAndPriority, Raw
from protocols.dlms.association.events import MethodOutcome, Refused, ServerEvent
from protocols.dlms.association.server_setup import ServerSetup
from protocols.dlms.blocks import GbtSender, split
from protocols.dlms.enums import ActionResult, Conformance, DataAccessResult
from protocols.errors import LocalProtocolError

_NULL: Final = b"\x00"
_T = TypeVar("_T")


class ServerAnswers(ServerSetup):
    """Answers to the request that waits, and the blocks of a long one, each when the client asks for it."""

    __slots__ = ()

    def respond_get(self, results: Sequence[bytes | DataAccessResult]) -> list[bytes]:
        """Answer `GetRequested` with raw A-XDR bytes or a refusal for each item; gives the APDUs to send."""
        asked = self._answer(get.RESPONSE_TAG)
        if asked.permitted:
            given = iter(results)
            results = [next(given) if ok else DataAccessResult.READ_WRITE_DENIED for ok in asked.permitted]
        values = tuple([Raw(r) if isinstance(r, bytes) else r for r in _counted(results, asked.count)])
        invoke = _short(asked.invoke)
        if asked.listed:
            plain = get.GetResponseWithList(invoke, values).to_bytes()
            body = plain[3:]
        else:
            plain = get.GetResponseNormal(invoke, values[0]).to_bytes()
            body = plain[4:]
        if self._fits(plain):
            return self._emit(plain, invoke)
        if Conformance.BLOCK_TRANSFER_WITH_GET_OR_READ not in self.conformance:
            unavailable = get.GetResponseNormal(invoke, DataAccessResult.DATA_BLOCK_UNAVAILABLE)
            return self._emit(unavailable.to_bytes(), invoke)
        self._chunks, self._chunks_sent = split(body, self._chunk_size()), 0
        return self._emit(self._get_chunk(invoke), invoke)

    def respond_set(self, results: Sequence[DataAccessResult]) -> list[bytes]:
        """Answer `SetRequested` with a result for each item; returns the APDUs to send."""
        asked = self._answer(setting.RESPONSE_TAG)
        all_results = tuple(_counted(results, asked.count))
        invoke = _short(asked.invoke)
        number = asked.block_number
        answer: setting.SetResponse
        if asked.listed:
            answer = (
                setting.SetResponseWithList(invoke, all_results)
                if number is None
                else setting.SetResponseLastBlockWithList(invoke, all_results, number)
            )
        else:
            answer = (
                setting.SetResponseNormal(invoke, all_results[0])
                if number is None
                else setting.SetResponseLastBlock(invoke, all_results[0], number)
            )
        return self._emit(answer.to_bytes(), invoke)

    def respond_action(self, outcomes: Sequence[MethodOutcome]) -> list[bytes]:
        """Answer `ActionRequested` with an outcome for each method; returns the APDUs to send."""
        asked = self._answer(action.RESPONSE_TAG)
        invoke = _short(asked.invoke)
        results = tuple(
            [
                action.ActionOutcome(
                    o.result, Raw(o.returned) if isinstance(o.returned, bytes) else o.returned
                )
                for o in _counted(outcomes, asked.count)
            ]
        )
        if asked.listed:
            plain = action.ActionResponseWithList(invoke, results).to_bytes()
        else:
            plain = action.ActionResponseNormal(invoke, *results[0]).to_bytes()
        if self._fits(plain):
            return self._emit(plain, invoke)
        if Conformance.BLOCK_TRANSFER_WITH_ACTION not in self.conformance:
            aborted = action.ActionResponseNormal(invoke, ActionResult.LONG_ACTION_ABORTED)
            return self._emit(aborted.to_bytes(), invoke)
        self._chunks, self._chunks_sent = split(plain[3:], self._chunk_size()), 0
        return self._emit(self._action_chunk(invoke), invoke)

    def respond_access(
        self, data: Sequence[bytes | None], results: Sequence[DataAccessResult | ActionResult]
    ) -> list[bytes]:
        """Answer `AccessRequested` with raw data (None: null-data) and a result for each specification."""
        asked = self._answer(access.RESPONSE_TAG)
        if not isinstance(asked.invoke, LongInvokeIdAndPriority):
            raise LocalProtocolError("no ACCESS request is waiting for an answer")
        response = access.AccessResponse(
            asked.invoke,
            None,
            None,
            tuple([Raw(_NULL if d is None else d) for d in _counted(data, asked.count)]),
            tuple(
                [
                    _access_result(spec, result)
                    for spec, result in zip(asked.specs, _counted(results, asked.count), strict=True)
                ]
            ),
        )
        return self._emit(response.to_bytes(), asked.invoke)

    def notify(self, body: bytes, *, date_time: bytes | None = None, confirmed: bool = False) -> list[bytes]:
        """Data-Notification with ``body`` (one raw A-XDR value), ciphered where the server has keys.

        Needs no association. Longer ones than the PDU size leave as unconfirmed general blocks.
        """
        self._notified = (self._notified + 1) & 0xFF_FFFF
        invoke = LongInvokeIdAndPriority(self._notified, confirmed=confirmed)
        apdu = notification.DataNotification(invoke, date_time, Raw(body)).to_bytes()
        cipher = self._cipher
        if cipher is not None:
            protection = cipher.settings.protection | self.settings.policy.response
            apdu = cipher.seal(apdu, protection=protection, use_global=True)
        if len(apdu) <= self._limit:
            return [apdu]
        sender = GbtSender(apdu, block_size=self._limit - block_transfer.OVERHEAD, confirmed=False)
        return [block.to_bytes() for block in sender.start()]

    def _next_chunk(self, tag: int, invoke: InvokeIdAndPriority, number: int) -> list[ServerEvent]:
        wrong: DataAccessResult | None = None
        if not self._chunks:
            wrong = DataAccessResult.NO_LONG_GET_IN_PROGRESS
        elif number != self._chunks_sent:
            wrong = DataAccessResult.DATA_BLOCK_NUMBER_INVALID
        if wrong is not None:
            self._chunks = []
            told = Refused(f"block {number}: {wrong.name.lower()}")
            if tag == get.RESPONSE_TAG:
                return [*self._reply(get.GetResponseWithBlock(invoke, True, number, wrong).to_bytes()), told]
            aborted = action.ActionResponseNormal(invoke, ActionResult.LONG_ACTION_ABORTED)
            return [*self._reply(aborted.to_bytes()), told]
        return self._reply(self._get_chunk(invoke) if tag == get.RESPONSE_TAG else self._action_chunk(invoke))

    def _get_chunk(self, invoke: InvokeIdAndPriority) -> bytes:
        number, chunk, last = self._take_chunk()
        return get.GetResponseWithBlock(invoke, last, number, chunk).to_bytes()

    def _action_chunk(self, invoke: InvokeIdAndPriority) -> bytes:
        number, chunk, last = self._take_chunk()
        return action.ActionResponseWithPBlock(invoke, last, number, chunk).to_bytes()

    def _take_chunk(self) -> tuple[int, bytes, bool]:
        chunk = self._chunks[self._chunks_sent]
        self._chunks_sent += 1
        number, last = self._chunks_sent, self._chunks_sent == len(self._chunks)
        if last:
            self._chunks = []
        return number, chunk, last


def _short(invoke: InvokeIdAndPriority | LongInvokeIdAndPriority) -> InvokeIdAndPriority:
    if isinstance(invoke, InvokeIdAndPriority):
        return invoke
    raise LocalProtocolError("an ACCESS request waits for an answer of another service")


def _counted(values: Sequence[_T], count: int) -> Sequence[_T]:
    if len(values) != count:
        raise LocalProtocolError(f"{len(values)} results for {count} items of the request")
    return values


def _access_result(spec: access.AccessSpec, result: DataAccessResult | ActionResult) -> access.AccessResult:
    if isinstance(spec, access.AccessAction):
        return access.AccessActionResult(ActionResult(result))
    if isinstance(spec, access.AccessSet):
        return access.AccessSetResult(DataAccessResult(result))
    return access.AccessGetResult(DataAccessResult(result))
