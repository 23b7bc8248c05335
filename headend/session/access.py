"""Access to meters: plans, keys, counters and the replay bar brought together for many meters at a time.

Whoever reads meters over DLMS goes through one `Access`, because two things must be known to all of them: our
invocation counters, and the last counters of the meters.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from headend.drivers.contract import Target
from headend.keys.counters import CounterBlocks
from headend.keys.vault import MeterKeys, Pending, Vault
from headend.session.candidates import combinations, may_be_the_key, worst
from headend.session.client import MeterSession
from headend.session.counters import KeyCounters
from headend.session.deadlines import Deadlines
from headend.session.gateway import link_to
from headend.session.handover import Handover, Notified
from headend.session.kept import KeptLinks
from headend.session.plan import SessionPlan, plan_session
from headend.store import key_generations, keyring, meters
from headend.store.errors import ConflictError, UnavailableError
from headend.store.sql import Connection
from headend.transport.stream import Stream
from protocols.dlms.security import Key, PeerCounter
from protocols.errors import CommunicationError, LocalProtocolError, RemoteProtocolError
from schemas.address import AddressError, LinkAddress, Scheme
from schemas.failure import Stage
from schemas.meter import KeyPurpose, Meter
from schemas.model import MeterModel, ModelError, load_model

log = logging.getLogger(__name__)

#: Counters that each key has at hand when meters are prepared: a session of some dozen messages.
_AT_HAND: Final = 64
#: How long counters of meters wait for company before they are stored together, in seconds.
_LINGER_S: Final = 1.0

Connect = Callable[[], AbstractAsyncContextManager[Connection]]
_Peer = tuple[bytes, bytes]


class Lines(Protocol):
    """The open links of meters that dialled in."""

    def lease(self, meter_id: int) -> AbstractAsyncContextManager[Stream]:
        """The meter's link, for one user at a time. Raises LinkError where it has none."""

    def __contains__(self, meter_id: object) -> bool:
        """Whether the meter is connected now."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How one meter is reached: the `headend.drivers.contract.Way` of DLMS.

    ``key_id`` names its encryption key, None where nothing is ciphered; ``peer_last`` is the last counter
    that was accepted from it, None before the first.

    While the meter's keys are being changed there are ``others``: the same way under other keys, to be tried
    where these do not work; ``renewed`` are the fingerprints of those keys of a way that are pending.
    """

    target: Target
    model: MeterModel
    plan: SessionPlan
    key_id: bytes | None = None
    peer_last: int | None = None
    others: "tuple[Reach, ...]" = ()
    renewed: Mapping[KeyPurpose, bytes] = field(default_factory=dict)
    known_counter: int = 0

    @property
    def meter(self) -> Meter:
        """Which meter."""
        return self.target.meter

    @property
    def address(self) -> LinkAddress:
        """The link that is opened."""
        return self.plan.address

    @property
    def is_new(self) -> bool:
        """Whether no ciphered exchange has ever succeeded: the meter may have counted higher with others.
        Not under keys that we made: nobody else has them, and what it tells may be the old key's."""
        plan = self.plan
        return (
            plan.uses_counter
            and plan.invocation_counter is not None
            and self.peer_last is None
            and not self.renewed
        )


class Access:
    """``async with Access(...) as access:`` stores the meters' counters behind sessions, and the last of them
    when it ends.

    Args:
        connect: gives a connection outside of a transaction (a pool's ``connection``).
        vault: None where there are no keys.
        counters: our invocation counters.
        system_title: ours, 8 bytes.
        deadlines: of every session.
        profile_folders: where models are looked for before the packaged ones.
    """

    def __init__(
        self,
        connect: Connect,
        vault: Vault | None,
        counters: CounterBlocks,
        *,
        system_title: bytes,
        deadlines: Deadlines,
        profile_folders: tuple[Path, ...] = (),
    ) -> None:
        self._connect = connect
        self._vault = vault
        self._counters = counters
        self._title = system_title
        self._deadlines = deadlines
        self._folders = profile_folders
        self._accepted: dict[_Peer, int] = {}
        self._titles: dict[int, bytes] = {}
        self._some = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        #: where sessions with ``inbound:`` meters find their links; None where nobody listens
        self.inbound: Lines | None = None
        #: who stores what meters tell unasked within sessions
        self.notified: Notified | None = None
        self._handover = Handover()
        #: of meters whose keys are being changed: which pending keys are tried first
        self._first: dict[int, Mapping[KeyPurpose, bytes]] = {}
        self._looking: set[int] = set()
        self._kept_links: KeptLinks | None = None
        #: messages and frames of others, or without sense, that came in sessions and were dropped
        self.ignored = 0

    async def __aenter__(self) -> Self:
        self._kept_links = KeptLinks()
        self._task = asyncio.create_task(self._keep(), name="peer counters")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._kept_links is not None:
            self._kept_links.close()
            self._kept_links = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        try:
            await self.flush()
        except UnavailableError as away:
            # the bar then stays lower than it could be; the next answer of each meter raises it
            log.warning("the meters' last counters are not stored: %s", str(away).split("\n", 1)[0])
        await self._handover.close()

    @property
    def task(self) -> "asyncio.Task[None]":
        """The storing task, to be watched: it ends only by cancellation. Raises RuntimeError before start."""
        if self._task is None:
            raise RuntimeError("the access is not started")
        return self._task

    # ---- before sessions ----------------------------------------------------------------------------

    async def prepare(self, wanted: Sequence[Target]) -> dict[int, Reach | LocalProtocolError]:
        """How each meter is reached, by number, or what of its settings makes that impossible.

        Counters of all keys are reserved in one transaction. Raises SealError, CounterExhausted, and
        UnavailableError while the database is away.
        """
        opened: dict[int, dict[KeyPurpose, Key]] = {}
        pending: dict[int, Pending] = {}
        if self._vault is not None:
            numbers = [one.meter.meter_id for one in wanted]
            async with self._connect() as connection:
                # pending ones first: what is promoted in between is in both then, and not in neither
                pending = await self._vault.pending_many(connection, numbers)
                opened = await self._vault.get_many(connection, numbers)
        found: dict[int, Reach | LocalProtocolError] = {}
        for target in wanted:
            meter_id = target.meter.meter_id
            try:
                found[meter_id] = self._reach(target, opened.get(meter_id, {}), pending.get(meter_id))
            except LocalProtocolError as error:
                found[meter_id] = error
        return await self._with_counters(found)

    async def prepare_one(self, target: Target) -> Reach:
        """How one meter is reached. Raises LocalProtocolError and as `prepare`."""
        found = (await self.prepare([target]))[target.meter.meter_id]
        if isinstance(found, LocalProtocolError):
            raise found
        return found

    def _reach(self, target: Target, keys: MeterKeys, pending: Pending | None) -> Reach:
        reach = self._reach_under(target, keys, {})
        if pending is None or pending.sent_at is None or reach.plan.settings.cipher is None:
            return reach
        others = tuple(
            self._reach_under(
                target,
                {**keys, **{purpose: pending.keys[purpose] for purpose in chosen}},
                {purpose: pending.key_ids[purpose] for purpose in chosen},
            )
            for chosen in combinations(pending.keys, reach.plan)
        )
        return replace(reach, others=others)

    def _reach_under(self, target: Target, keys: MeterKeys, renewed: Mapping[KeyPurpose, bytes]) -> Reach:
        meter = target.meter
        try:
            model = load_model(meter.model, self._folders)
            if meter.address is None:
                raise LocalProtocolError(f"meter {meter.asset_id} has no address: it only pushes")
            plan = plan_session(model, link_to(meter.address, target.place), keys, self._title)
        except (ModelError, AddressError) as error:
            raise LocalProtocolError(str(error)) from error
        key = keys.get(KeyPurpose.ENCRYPTION)
        if not plan.uses_counter or key is None or self._vault is None:
            return Reach(target, model, plan, renewed=renewed)
        return Reach(target, model, plan, self._vault.fingerprint.of(key), renewed=renewed)

    async def _with_counters(
        self, found: dict[int, Reach | LocalProtocolError]
    ) -> dict[int, Reach | LocalProtocolError]:
        ways = [
            way
            for reach in found.values()
            if isinstance(reach, Reach)
            for way in (reach, *reach.others)
            if way.key_id is not None
        ]
        keys = {way.key_id for way in ways if way.key_id is not None}
        await self._counters.catch_up(keys)
        await self._counters.prepare(keys, at_least=_AT_HAND)
        peers = {peer for way in ways if (peer := _peer(way.key_id, way.meter.system_title)) is not None}
        changing = {
            reach.key_id: 0
            for reach in found.values()
            if isinstance(reach, Reach) and reach.others and reach.key_id is not None
        }
        last: Mapping[_Peer, int] = {}
        if peers or changing:
            async with self._connect() as connection:
                if peers:
                    last = await keyring.peer_counters(connection, sorted(peers))
                if changing:
                    changing |= await keyring.next_values(connection, list(changing), self._title)

        def told(way: Reach, known: int = 0) -> Reach:
            peer = _peer(way.key_id, way.meter.system_title)
            others = tuple(told(other, changing.get(way.key_id or b"", 0)) for other in way.others)
            return replace(
                way,
                peer_last=None if peer is None else last.get(peer),
                others=others,
                known_counter=known,
            )

        return {
            meter_id: told(reach)
            if isinstance(reach, Reach)
            and (reach.others or _peer(reach.key_id, reach.meter.system_title) in last)
            else reach
            for meter_id, reach in found.items()
        }

    # ---- sessions -----------------------------------------------------------------------------------

    def is_connected(self, meter_id: int) -> bool:
        """Whether the meter of this number dialled in and has its connection here."""
        return self.inbound is not None and meter_id in self.inbound

    def is_away(self, reach: Reach) -> bool:
        """Whether this meter dials in and is not connected now: nothing to be done but wait."""
        if reach.plan.address.scheme is not Scheme.INBOUND:
            return False
        return not self.is_connected(reach.meter.meter_id)

    @asynccontextmanager
    async def session(
        self, reach: Reach, *, stream: Stream | None = None, answer_s: float | None = None
    ) -> AsyncIterator[MeterSession]:
        """An associated session, one at a time with a meter and on a line. ``stream`` is an open link of the
        caller's; without one the meter is dialled, or leased from ``inbound``. From meters that are new to us
        our counter is learnt first. ``answer_s`` is waited for each answer instead of the deadlines' number.

        Raises the tree of `protocols.errors`.
        """
        if stream is None and self.inbound is not None and reach.plan.address.scheme is Scheme.INBOUND:
            async with (
                self.inbound.lease(reach.meter.meter_id) as line,
                self.session(reach, stream=line, answer_s=answer_s) as session,
            ):
                yield session
            return
        async with AsyncExitStack() as stack:
            yield await self._opened(stack, reach, stream, answer_s)

    async def _opened(
        self, stack: AsyncExitStack, reach: Reach, stream: Stream | None, answer_s: float | None
    ) -> MeterSession:
        """A session under the keys that work, where there is more than one choice.

        What is not the keys' fault ends it at once. Where all that are known have failed, others are looked
        for once: they may be newer than the ``reach`` is. On a link that was given only one can be tried; the
        next is at the meter's next call.
        """
        meter_id = reach.meter.meter_id
        waiting = self._in_order(reach)
        tried: list[Reach] = []
        failures: list[CommunicationError] = []
        while True:
            if not waiting:
                waiting = [one for one in await self._known_now(reach, failures) if not _is_among(one, tried)]
                if not waiting:
                    self._first.pop(meter_id, None)
                    raise worst(failures)
            one = waiting.pop(0)
            tried.append(one)
            session = self._session(one, stream, answer_s)
            try:
                await stack.enter_async_context(self._proven(session, one))
            except CommunicationError as error:
                failures.append(error)
                if not may_be_the_key(error, session):
                    raise
                if stream is not None:
                    if waiting:
                        self._first[meter_id] = waiting[0].renewed
                    raise
                continue
            if reach.others or len(tried) > 1:
                await self._remember(one)
            return session

    def _in_order(self, reach: Reach) -> list[Reach]:
        """The new keys first: where the answer to a transfer is lost, they are the meter's more often than
        not. Before them what worked last, or was to be tried next."""
        all_ways = [*reach.others[:1], reach, *reach.others[1:]]
        first = self._first.get(reach.meter.meter_id)
        return sorted(all_ways, key=lambda one: one.renewed != first) if first is not None else all_ways

    async def _known_now(self, reach: Reach, failures: Sequence[CommunicationError]) -> list[Reach]:
        """All ways that are known of by now, once."""
        if self._vault is None or reach.meter.meter_id in self._looking:
            return []
        self._looking.add(reach.meter.meter_id)
        try:
            found = await self.prepare_one(reach.target)
        except (UnavailableError, LocalProtocolError) as error:
            log.info("meter %s: its keys are not looked up again: %s", reach.meter.asset_id, error)
            return []
        finally:
            self._looking.discard(reach.meter.meter_id)
        return self._in_order(found)

    async def _remember(self, one: Reach) -> None:
        """These keys work: pending ones are the meter's from now on."""
        meter_id = one.meter.meter_id
        if not one.renewed:
            self._first[meter_id] = one.renewed
            return
        self._first.pop(meter_id, None)
        try:
            async with self._connect() as connection:
                await key_generations.promote(connection, meter_id, one.renewed, actor="session")
        except UnavailableError as error:
            log.warning("meter %s: that its new keys work is not stored yet: %s", one.meter.asset_id, error)

    def _session(self, reach: Reach, stream: Stream | None, answer_s: float | None) -> MeterSession:
        last = self._last(reach)
        counters = None
        if reach.key_id is not None:
            counters = KeyCounters(self._counters, reach.key_id, known=reach.known_counter)
        session = MeterSession(
            reach.plan,
            counters=counters,
            peer_counter=PeerCounter(last),
            deadlines=self._deadlines,
            answer_s=answer_s,
            stream=stream,
            kept=self._kept_links,
            learn_counter=reach.is_new and last is None,
        )
        session.renewed = reach.renewed
        return session

    def _last(self, reach: Reach) -> int | None:
        known, last = _peer(reach.key_id, reach.meter.system_title), reach.peer_last
        if known is not None and known in self._accepted:
            return max(self._accepted[known], -1 if last is None else last)
        return last

    @asynccontextmanager
    async def _proven(self, session: MeterSession, reach: Reach) -> AsyncIterator[MeterSession]:
        """The session, open, and with this meter; what it brought is handed on behind."""
        bar = session.peer_counter
        last = bar.last
        title, proven = reach.meter.system_title, False
        try:
            async with session:
                told = session.associated.server_system_title
                known_title, title = title, told or title
                if known_title is not None and title != known_title:
                    raise RemoteProtocolError(
                        f"the meter at {reach.plan.address} has system title {_hex(title)}, "
                        f"meter {reach.meter.asset_id} has {_hex(known_title)}",
                        stage=Stage.ASSOCIATION,
                    )
                proven = True
                yield session
        finally:
            if session.ignored:
                self.ignored += session.ignored
                log.warning(
                    "%s: %d messages from others than meter %s, or without sense, were dropped",
                    reach.plan.address, session.ignored, reach.meter.asset_id,
                )  # fmt: skip
            self._handover.start(self.notified, reach.meter, session.notifications, proven=proven)
            peer = _peer(reach.key_id, title)
            # a counter under a verified tag also proves whose title it is
            if peer is not None and bar.proven is not None and bar.proven != last:
                self._accepted[peer] = max(bar.proven, self._accepted.get(peer, -1))
                if reach.meter.system_title is None:
                    self._titles[reach.meter.meter_id] = peer[1]
                self._some.set()

    # ---- behind sessions ----------------------------------------------------------------------------

    async def flush(self) -> None:
        """Store what the meters' counters have come to, and system titles that are newly proven.

        Raises UnavailableError; nothing is lost then.
        """
        accepted, titles = dict(self._accepted), dict(self._titles)
        if not accepted:
            return
        async with self._connect() as connection:
            await keyring.advance_peers(connection, accepted)
            for meter_id, title in titles.items():
                try:
                    await meters.learn_identity(connection, meter_id, title=title)
                except ConflictError as error:
                    log.error("meter number %d: %s: %s", meter_id, title.hex().upper(), error)  # noqa: TRY400
        for meter_id in titles:
            del self._titles[meter_id]
        for peer, value in accepted.items():
            if self._accepted.get(peer) == value:
                del self._accepted[peer]

    async def _keep(self) -> None:
        while True:
            await self._some.wait()
            await asyncio.sleep(_LINGER_S)
            self._some.clear()
            try:
                await self.flush()
            except UnavailableError as error:
                log.warning("the meters' last counters wait: %s", str(error).split("\n", 1)[0])
                self._some.set()


def _hex(title: bytes | None) -> str:
    return "" if title is None else title.hex().upper()


def _peer(key_id: bytes | None, title: bytes | None) -> _Peer | None:
    return None if key_id is None or title is None else (key_id, title)


def _is_among(one: Reach, tried: Sequence[Reach]) -> bool:
    return any(one.plan.settings == other.plan.settings for other in tried)
