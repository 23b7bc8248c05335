"""Access to meters: plans, keys, counters and the replay bar brought together for many meters at a time.

Whoever reads meters over DLMS goes through one `Access`, because two things must be known to all of them: our
invocation counters, and the last counters of the meters.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from headend.drivers.contract import Target
from headend.keys.counters import CounterBlocks
from headend.keys.vault import MeterKeys, Vault
from headend.session.client import MeterSession
from headend.session.counters import KeyCounters
from headend.session.deadlines import Deadlines
from headend.session.gateway import link_to
from headend.session.handover import Handover, Notified
from headend.session.kept import KeptLinks
from headend.session.plan import SessionPlan, plan_session
from headend.store import keyring, meters
from headend.store.errors import ConflictError, UnavailableError
from headend.store.sql import Connection
from headend.transport.stream import Stream
from protocols.dlms.security import Key, PeerCounter
from protocols.errors import LocalProtocolError, RemoteProtocolError
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
    """

    target: Target
    model: MeterModel
    plan: SessionPlan
    key_id: bytes | None = None
    peer_last: int | None = None

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
        """Whether no ciphered exchange has ever succeeded: the meter may have counted higher with others."""
        return self.plan.uses_counter and self.plan.invocation_counter is not None and self.peer_last is None


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
        if self._vault is not None:
            async with self._connect() as connection:
                opened = await self._vault.get_many(connection, [one.meter.meter_id for one in wanted])
        found: dict[int, Reach | LocalProtocolError] = {}
        for target in wanted:
            meter_id = target.meter.meter_id
            try:
                found[meter_id] = self._reach(target, opened.get(meter_id, {}))
            except LocalProtocolError as error:
                found[meter_id] = error
        return await self._with_counters(found)

    async def prepare_one(self, target: Target) -> Reach:
        """How one meter is reached. Raises LocalProtocolError and as `prepare`."""
        found = (await self.prepare([target]))[target.meter.meter_id]
        if isinstance(found, LocalProtocolError):
            raise found
        return found

    def _reach(self, target: Target, keys: MeterKeys) -> Reach:
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
            return Reach(target, model, plan)
        return Reach(target, model, plan, self._vault.fingerprint.of(key))

    async def _with_counters(
        self, found: dict[int, Reach | LocalProtocolError]
    ) -> dict[int, Reach | LocalProtocolError]:
        reaches = [reach for reach in found.values() if isinstance(reach, Reach) and reach.key_id is not None]
        keys = {reach.key_id for reach in reaches if reach.key_id is not None}
        await self._counters.catch_up(keys)
        await self._counters.prepare(keys, at_least=_AT_HAND)
        peers = [
            (reach.key_id, reach.meter.system_title)
            for reach in reaches
            if reach.key_id is not None and reach.meter.system_title is not None
        ]
        if peers:
            async with self._connect() as connection:
                last = await keyring.peer_counters(connection, peers)
            for reach in reaches:
                peer = _peer(reach.key_id, reach.meter.system_title)
                if peer is not None and peer in last:
                    found[reach.meter.meter_id] = Reach(
                        reach.target, reach.model, reach.plan, reach.key_id, last[peer]
                    )
        return found

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
        known = _peer(reach.key_id, reach.meter.system_title)
        last = reach.peer_last
        if known is not None and known in self._accepted:
            last = max(self._accepted[known], -1 if last is None else last)
        bar = PeerCounter(last)
        session = MeterSession(
            reach.plan,
            counters=None if reach.key_id is None else KeyCounters(self._counters, reach.key_id),
            peer_counter=bar,
            deadlines=self._deadlines,
            answer_s=answer_s,
            stream=stream,
            kept=self._kept_links,
            learn_counter=reach.is_new and last is None,
        )
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
