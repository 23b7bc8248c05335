"""One conversation with one meter: open, associate, ask, release; every wait bounded, every end clean."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Final, Protocol, Self, TypeVar

from headend.links.failures import stage_of
from headend.links.pace import Estimate
from headend.session.channel import ApduChannel
from headend.session.deadlines import Deadlines
from headend.session.dial import channel_over, dial
from headend.session.kept import KeptLinks
from headend.session.plan import SessionPlan
from headend.store.errors import UnavailableError
from headend.transport.stream import Stream
from protocols.dlms import axdr
from protocols.dlms.apdu.fields import AttributeItem, Selection
from protocols.dlms.association import CipherSettings
from protocols.dlms.association.client import ClientAssociation
from protocols.dlms.association.events import (
    ActionDone,
    Associated,
    GetResult,
    Notification,
    Released,
    SetResult,
    Stale,
    Transmit,
)
from protocols.dlms.association.states import ClientState
from protocols.dlms.cosem import Attribute, ClassId, Method
from protocols.dlms.enums import ActionResult, Conformance, DataAccessResult, ServiceErrorCode
from protocols.dlms.security import PeerCounter
from protocols.errors import (
    ActionRefused,
    CommunicationError,
    DataAccessRefused,
    ExceptionResponse,
    LinkClosed,
    LinkTimeout,
    LocalProtocolError,
    PeerRefused,
    RemoteProtocolError,
)
from schemas.failure import Stage
from schemas.meter import KeyPurpose

log = logging.getLogger(__name__)


class Unanswered(LinkTimeout):
    """No answer came in time, and the session goes on: whether the request was carried out is not known."""


_Event = TypeVar("_Event", Associated, GetResult, SetResult, ActionDone, Released)

#: Invocation counters at hand before each message: an answer may call for a message or two of ours.
_COUNTERS_AT_HAND: Final = 4
_RESERVE: Final = 64
#: How often a GET, which changes nothing, is made at most where it is not answered.
_GETS: Final = 2
#: Actions that may be lost whose answers are measured until they say how long the next may take, and the
#: shortest time for one, in seconds.
_MEASURED: Final = 8
_SHORTEST_S: Final = 1.0
#: Notifications that a meter may slip between its answers in one session: none is dropped, one more ends it.
MAX_NOTIFICATIONS: Final = 256
#: Answers whose times are remembered in a session.
_ANSWERS: Final = 32
_DEADLINES: Final = Deadlines()
_LIST_ITEM: Final = 10  # bytes of an attribute descriptor without selection in a list
_LIST_ROOM: Final = 128  # bytes of a request that are not its list: header, ciphering of the widest form
_LONGEST_LIST: Final = 32
_LONGEST_PDU: Final = 0xFFFF
_COUNTER_FAULTS: Final = frozenset(
    {ServiceErrorCode.DECIPHERING_ERROR, ServiceErrorCode.INVOCATION_COUNTER_ERROR}
)


class InvocationCounters(Protocol):
    """Our counter under one key and system title, reserved in the database in blocks before use."""

    @property
    def available(self) -> int:
        """How many `next` can give without another reservation."""

    def next(self) -> int:
        """The next counter. Raises LocalProtocolError when none is reserved."""

    async def reserve(self, count: int) -> None:
        """Have at least ``count`` at hand."""

    async def raise_to(self, value: int) -> None:
        """Go on from ``value``, never backwards."""


def _no_counter() -> int:
    raise LocalProtocolError("a message is ciphered, but the session was given no invocation counters")


class MeterSession:
    """``async with MeterSession(plan, ...) as session:`` is associated inside and released behind.

    One request at a time. After a time-out, a broken link, a protocol error or a cancelled wait an answer may
    still be on its way: the session then refuses all further requests and its link is aborted, so that a late
    answer is never taken for the next one. A refusal in good form leaves the session usable.

    Links lose messages (a radio or power line behind a gateway). What may be made twice, a GET, is made once
    more where no answer came, and a block of an image (`action` with ``may_be_lost``) leaves the session
    usable: late answers carry an invoke id of their own, by which the association passes over them. Not over
    HDLC, which repeats frames itself, not where general blocks are in use, which carry no id, and not where
    half of an answer has come.

    Args:
        plan: whom to call and how.
        counters: our invocation counters, needed where the plan ciphers.
        peer_counter: the replay bar for the meter's counters; afterwards its ``proven`` is the one to store.
        stream: an open link of the caller's (a meter that dialled in). Left open after a clean release only.
        answer_s: how long each answer, and the association, may take instead of what ``deadlines`` say.
        kept: where links to concentrators are taken from, and left.
        learn_counter: read the meter's invocation counter by the public client first (a meter new to us). It
            is learnt anyway when the meter says that ours is wrong.
    """

    def __init__(
        self,
        plan: SessionPlan,
        *,
        counters: InvocationCounters | None = None,
        peer_counter: PeerCounter | None = None,
        deadlines: Deadlines | None = None,
        answer_s: float | None = None,
        stream: Stream | None = None,
        kept: KeptLinks | None = None,
        learn_counter: bool = False,
    ) -> None:
        self.plan = plan
        self.peer_counter = PeerCounter() if peer_counter is None else peer_counter
        #: what the meter told unasked, for whoever opened the session to have it stored
        self.notifications: list[Notification] = []
        #: keys of this session that are not stored as the meter's yet, by purpose: their fingerprints
        self.renewed: Mapping[KeyPurpose, bytes] = {}
        #: seconds that the last answers took, each from the last message of ours
        self.answers_s: deque[float] = deque(maxlen=_ANSWERS)
        #: of the APDUs that went and came, without framing
        self.bytes_out = self.bytes_in = 0
        self.stale = 0
        self._blocks = Estimate()  # of actions that may be lost, of which so many were answered
        self._answered = 0
        #: requests that were not answered, and the session went on
        self.unanswered = 0
        self.release_error: Exception | None = None
        self._deadlines = deadlines = _DEADLINES if deadlines is None else deadlines
        self._answer_s = answer_s
        self._associate_s = answer_s or deadlines.associate_s
        self._response_s = answer_s or deadlines.response_s
        self._counters = counters if plan.uses_counter else None
        self._given = stream
        self._kept = kept
        self._learn = learn_counter
        self._loop = asyncio.get_running_loop()
        self._end = 0.0
        self._broken: str | None = "not opened"
        self._ended: str | None = None
        self._stream: Stream | None = None
        self._channel: ApduChannel | None = None
        self._association: ClientAssociation | None = None
        self._associated: Associated | None = None

    def __repr__(self) -> str:
        return f"<MeterSession {self.plan.address} {self._broken or 'associated'}>"

    @property
    def associated(self) -> Associated:
        """What was negotiated. Raises LocalProtocolError before."""
        if self._associated is None:
            raise LocalProtocolError("the session is not associated")
        return self._associated

    @property
    def server_title(self) -> bytes | None:
        """The system title that the meter named, None where it named none or did not associate."""
        return None if self._associated is None else self._associated.server_system_title

    @property
    def ignored(self) -> int:
        """Messages and frames that came and were not our meter's, or made no sense: dropped."""
        return 0 if self._channel is None else self._channel.ignored

    @property
    def is_usable(self) -> bool:
        """Whether another request may be made."""
        return self._broken is None

    # ---- opening and release ------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open the link and associate. Raises the tree of `protocols.errors`; nothing stays open then."""
        self._end = self._loop.time() + self._deadlines.session_s
        try:
            await self._open()
        except BaseException as exc:
            self._abort()
            if isinstance(exc, PeerRefused) and stage_of(exc) is Stage.ACCESS:
                exc.stage = Stage.ASSOCIATION
            raise
        return self

    async def _open(self) -> None:
        address, kept = self.plan.address, self._kept
        stream = self._given
        if stream is None and kept is not None:
            self._stream = kept.take(address)
            if self._stream is not None:
                try:
                    await self._begin()
                except (LinkClosed, LinkTimeout) as exc:
                    kept.failed(address)
                    if isinstance(exc, LinkTimeout):
                        raise
                    self._abort()  # it was being closed as we took it
                else:
                    kept.worked(address)
                    return
        self._stream = await self._dial() if stream is None else stream
        await self._begin()

    async def _begin(self) -> None:
        try:
            if self._learn:
                await self._learn_first()
            await self._associate()
        except ExceptionResponse as exc:
            # Not for the peer's asking: only where a counter is what it complains of, and only once.
            if self._counters is None or exc.service_error not in _COUNTER_FAULTS:
                raise
            if self._given is None:
                self._abort()
                self._stream = await self._dial()
            if exc.invocation_counter is not None:
                await self._counters.raise_to(exc.invocation_counter)
            else:
                await self._learn_counter(because=exc)
            await self._associate()

    async def _dial(self) -> Stream:
        return await dial(self.plan.address, self._deadline(self._deadlines.connect_s))

    async def _associate(self) -> None:
        if self._stream is None:
            raise LocalProtocolError("no link to associate over")
        channel = self._channel = channel_over(self._stream, self.plan, self._deadlines)
        await channel.open(self._deadline(self._deadlines.connect_s))
        counters = self._counters
        association = self._association = ClientAssociation(
            self.plan.settings,
            next_counter=_no_counter if counters is None else counters.next,
            peer_counter=self.peer_counter,
        )
        if counters is not None:
            await self._have_counters(counters, self._end)
        self._associated = await self._exchange(
            association, association.associate(), Associated, self._associate_s
        )
        self._broken = None

    async def _learn_first(self) -> None:
        """A meter that does not let the public client in may still accept the counter that we have."""
        try:
            await self._learn_counter()
        except PeerRefused:
            if self._stream is None or not self._stream.is_open:
                if self._given is not None:
                    raise
                self._stream = await self._dial()

    async def _learn_counter(self, because: CommunicationError | None = None) -> None:
        """Raise our counter above the last one the meter accepted, as its public object tells."""
        if self.plan.invocation_counter is None or self._counters is None:
            if because is not None:
                raise because
            return
        self._kept = None
        attribute = Attribute(ClassId.DATA, self.plan.invocation_counter, 2)
        public = MeterSession(
            self.plan.public(), deadlines=self._deadlines, answer_s=self._answer_s, stream=self._stream
        )
        try:
            async with public:
                value = axdr.decode_exact(await public.get(attribute)).value
        finally:
            self.notifications += public.notifications
        if public.release_error is not None:
            raise public.release_error
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise RemoteProtocolError(f"{attribute}: the invocation counter is no number")
        await self._counters.raise_to(value + 1)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release, within ``release_s`` or the time of an answer, whichever is less. Masks nothing that went
        on inside: see `release_error`."""
        usable, self._broken = self.is_usable, self._broken or "released"
        association, channel, stream = self._association, self._channel, self._stream
        if not usable or association is None or channel is None or stream is None:
            self._abort()
            return
        release_s = min(self._deadlines.release_s, self._response_s)
        deadline = self._loop.time() + release_s
        try:
            if self._counters is not None:
                await self._have_counters(self._counters, deadline)
            await self._exchange(association, association.release(), Released, release_s)
            await channel.close(deadline)
        except (CommunicationError, UnavailableError) as error:  # what was read stays read
            self.release_error = error
            self._abort()
        except BaseException:
            self._abort()
            raise
        else:
            if self._given is None:
                self._leave(stream, channel)

    def _leave(self, stream: Stream, channel: ApduChannel) -> None:
        if self._kept is not None and channel.is_clean and not self.stale and not self.unanswered:
            self._kept.give(self.plan.address, stream)
        else:
            stream.close()

    # ---- keys ---------------------------------------------------------------------------------------

    def expect_keys(self, cipher: CipherSettings) -> None:
        """The next answer may come under these keys instead of those of the session."""
        if self._association is not None:
            self._association.expect_keys(cipher, PeerCounter())

    def end(self, why: str) -> None:
        """Nothing more is to be asked in this session; the next request finds it closed, and ``why``."""
        self._ended = self._broken = why

    def _abort(self) -> None:
        self._broken = self._broken or "aborted"
        if self._stream is not None:
            self._stream.abort()

    # ---- requests -----------------------------------------------------------------------------------

    async def get(
        self, attribute: Attribute, selection: Selection | None = None, *, timeout_s: float | None = None
    ) -> bytes:
        """One attribute as raw A-XDR bytes, blocks joined. ``timeout_s`` bounds each answer (``response_s``);
        where none comes it is asked for once more.

        Raises:
            DataAccessRefused: the meter said why not; the session stays usable.
            LinkError, RemoteProtocolError: the session is over.
        """
        done = await self._get(lambda a: a.get(attribute, selection), timeout_s)
        if len(done.results) != 1:
            raise RemoteProtocolError(f"{attribute}: {len(done.results)} results for one request")
        result = done.results[0]
        if isinstance(result, DataAccessResult):
            raise DataAccessRefused(f"{attribute}: {_worded(result)}", result=int(result))
        return result

    async def get_many(
        self, attributes: Sequence[Attribute], *, timeout_s: float | None = None
    ) -> tuple[bytes | DataAccessResult, ...]:
        """Several attributes: raw bytes or the refusal of each, in order. See `get_items`."""
        return await self.get_items(
            [AttributeItem(attribute) for attribute in attributes], timeout_s=timeout_s
        )

    async def get_items(
        self, items: Sequence[AttributeItem], *, timeout_s: float | None = None
    ) -> tuple[bytes | DataAccessResult, ...]:
        """Several attributes with their selections: raw bytes or the refusal of each, in order.

        In lists as long as the meter's PDU allows, where it and its model take lists; else one by one.
        """
        listed = self.plan.get_with_list and Conformance.MULTIPLE_REFERENCES in self.associated.conformance
        room = (self.associated.max_pdu or _LONGEST_PDU) - _LIST_ROOM
        longest = max((_LIST_ITEM + _selection_size(item) for item in items), default=_LIST_ITEM)
        size = max(1, min(room // longest, _LONGEST_LIST)) if listed else 1
        results: list[bytes | DataAccessResult] = []
        for start in range(0, len(items), size):
            part = items[start : start + size]
            results += await self._get_part(part, timeout_s)
        return tuple(results)

    async def _get_part(
        self, part: Sequence[AttributeItem], timeout_s: float | None
    ) -> tuple[bytes | DataAccessResult, ...]:
        if len(part) == 1:
            only = part[0]
            done = await self._get(lambda a: a.get(only.attribute, only.selection), timeout_s)
        else:
            done = await self._get(lambda a: a.get_many(part), timeout_s)
        if len(done.results) != len(part):
            raise RemoteProtocolError(f"{len(done.results)} results for a list of {len(part)}")
        return done.results

    async def set(self, attribute: Attribute, raw: bytes, *, timeout_s: float | None = None) -> None:
        """Write one attribute; ``raw`` is its A-XDR value. Raises DataAccessRefused and as `get`."""
        done = await self._request(lambda a: a.set(attribute, raw), SetResult, timeout_s)
        for result in done.results:
            if result is not DataAccessResult.SUCCESS:
                raise DataAccessRefused(f"{attribute}: {_worded(result)}", result=int(result))

    async def action(
        self,
        method: Method,
        raw: bytes | None = None,
        *,
        timeout_s: float | None = None,
        may_be_lost: bool = False,
    ) -> bytes | None:
        """Invoke one method; what it returned as raw A-XDR bytes, None for nothing.

        ``may_be_lost``: one of many that are alike, as blocks of an image are. It is waited for as long as
        those before it let expect, and raises Unanswered instead of LinkTimeout where the session goes on.

        Raises ActionRefused, DataAccessRefused (done, but what it returns is refused) and as `get`.
        """
        build = partial(_action, method, raw)
        if may_be_lost:
            done = await self._alike(build, timeout_s or self._response_s)
        else:
            done = await self._request(build, ActionDone, timeout_s)
        if len(done.outcomes) != 1:
            raise RemoteProtocolError(f"{method}: {len(done.outcomes)} outcomes for one request")
        outcome = done.outcomes[0]
        if outcome.result is not ActionResult.SUCCESS:
            raise ActionRefused(f"{method}: {_worded(outcome.result)}", result=int(outcome.result))
        if isinstance(outcome.returned, DataAccessResult):
            reason = f"{method}: its return value: {_worded(outcome.returned)}"
            raise DataAccessRefused(reason, result=int(outcome.returned))
        return outcome.returned

    # ---- underneath ---------------------------------------------------------------------------------

    async def _get(self, build: Callable[[ClientAssociation], bytes], timeout_s: float | None) -> GetResult:
        """Asked once more, under an id of its own, where nothing came."""
        for _ in range(_GETS - 1):
            try:
                return await self._request(build, GetResult, timeout_s, may_be_lost=True)
            except Unanswered as silence:
                log.debug("%s: asked once more: %s", self.plan.address, silence)
        return await self._request(build, GetResult, timeout_s)

    async def _alike(self, build: Callable[[ClientAssociation], bytes], longest_s: float) -> ActionDone:
        """Time-outs in a row double what is waited, up to ``longest_s``."""
        expected_s = self._blocks.deadline_s if self._answered >= _MEASURED else None
        if expected_s is not None:
            longest_s = min(max(expected_s, _SHORTEST_S) * 2**self._blocks.doubled, longest_s)
        try:
            done = await self._request(build, ActionDone, longest_s, may_be_lost=True)
        except Unanswered:
            self._blocks.doubled += 1
            raise
        self._blocks.doubled = 0
        self._blocks.take([self.answers_s[-1]])
        self._answered += 1
        return done

    async def _request(
        self,
        build: Callable[[ClientAssociation], bytes],
        wanted: type[_Event],
        timeout_s: float | None,
        may_be_lost: bool = False,
    ) -> _Event:
        association = self._association
        if self._ended is not None:
            raise LinkClosed(f"{self.plan.address}: {self._ended}")
        if self._broken is not None or association is None:
            raise LocalProtocolError(f"the session takes no more requests: {self._broken}")
        if self._counters is not None and self._counters.available < _COUNTERS_AT_HAND:
            await self._have_counters(self._counters, self._end)
        apdu = build(association)
        # Until the answer is in, whatever stops us leaves one under way.
        self._broken = "a request is under way"
        try:
            event = await self._exchange(association, apdu, wanted, timeout_s or self._response_s)
        except PeerRefused:
            self._broken = None
            raise
        except LinkTimeout as exc:
            if not (may_be_lost and self._goes_on(association)):
                self._broken = f"it ended with {type(exc).__name__}"
                raise
            self._broken = None
            self.unanswered += 1
            raise Unanswered(str(exc)) from exc
        except BaseException as exc:
            self._broken = f"it ended with {type(exc).__name__}"
            raise
        self._broken = None
        return event

    def _goes_on(self, association: ClientAssociation) -> bool:
        """Wait no longer for the outstanding answer, if that leaves an association."""
        channel = self._channel
        if channel is None or not channel.outlasts_silence or self._loop.time() >= self._end:
            return False
        association.abandon()
        return association.state is ClientState.ASSOCIATED

    async def _exchange(
        self, association: ClientAssociation, apdu: bytes, wanted: type[_Event], timeout_s: float
    ) -> _Event:
        """Send, and receive until the wanted event; what the protocol wants sent meanwhile is sent."""
        channel = self._channel
        if channel is None:
            raise LocalProtocolError("no link")
        now, counters = self._loop.time, self._counters
        sent = now()
        deadline = min(sent + timeout_s, self._end)
        await channel.send(apdu, deadline)
        self.bytes_out += len(apdu)
        found: _Event | None = None
        while found is None:
            if association.joins_general_blocks:
                received = await self._next_general_block(association, channel, deadline)
            else:
                received = await channel.receive(deadline)
            self.bytes_in += len(received)
            if counters is not None and counters.available < _COUNTERS_AT_HAND:
                await self._have_counters(counters, deadline)
            for event in association.receive(received):
                if isinstance(event, Transmit):
                    # Progress: the next block has its time. Stale frames and notifications are none.
                    before, sent = sent, now()
                    self.answers_s.append(sent - before)
                    deadline = min(sent + timeout_s, self._end)
                    await channel.send(event.apdu, deadline)
                    self.bytes_out += len(event.apdu)
                elif isinstance(event, wanted):
                    found = event
                    self.answers_s.append(now() - sent)
                elif isinstance(event, Stale):
                    self.stale += 1
                elif isinstance(event, Notification):
                    if len(self.notifications) >= MAX_NOTIFICATIONS:
                        raise RemoteProtocolError(f"more than {MAX_NOTIFICATIONS} notifications in a session")
                    self.notifications.append(event)
                elif isinstance(event, Released):
                    raise LinkClosed(f"{channel.peer}: the meter released the association")
        return found

    async def _next_general_block(
        self, association: ClientAssociation, channel: ApduChannel, deadline: float
    ) -> bytes:
        """General blocks may be lost (UDP): a peer that fell silent among them is told what we have, again
        and again, which is no progress and moves no deadline."""
        while True:
            again = self._loop.time() + self._deadlines.frame_s
            try:
                return await channel.receive(min(again, deadline))
            except LinkTimeout:
                nudge = association.nudge()
                if again >= deadline or nudge is None:
                    raise
                await channel.send(nudge, deadline)

    async def _have_counters(self, counters: InvocationCounters, deadline: float) -> None:
        if counters.available >= _COUNTERS_AT_HAND:
            return
        try:
            async with asyncio.timeout_at(deadline):
                await counters.reserve(_RESERVE)
        except TimeoutError as exc:
            raise LocalProtocolError("no invocation counters could be reserved before the deadline") from exc

    def _deadline(self, seconds: float) -> float:
        return min(self._loop.time() + seconds, self._end)


def _action(method: Method, raw: bytes | None, association: ClientAssociation) -> bytes:
    return association.action(method, raw)


def _selection_size(item: AttributeItem) -> int:
    return 0 if item.selection is None else 1 + len(item.selection.parameters)


def _worded(result: DataAccessResult | ActionResult) -> str:
    return result.name.lower().replace("_", " ")
