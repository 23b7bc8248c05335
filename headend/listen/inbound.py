"""Meters that dial in: who they say to be, then the proof, then their line is there to be used.

::

    accepted ─> heartbeat or push ──────────────┐
        └─ silent ─> its name, asked in public ─┴─> claim ─> known? inbound:? HLS? ─> proof ─> InboundMeters
                                                                │                         │
                                                                └── closed, logged ───────┘

A claim is worth nothing: only an association in which the meter proves its key makes the line a meter's. So
models without high level security cannot dial in, and least of all does a password (LLS) go to a stranger.
"""

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from headend.drivers.contract import Target
from headend.listen.directory import Directory, Known
from headend.listen.doorman import Doorman
from headend.listen.handler import PushHandler
from headend.listen.heartbeat import Beat, Claim
from headend.listen.inbound_meters import InboundMeters
from headend.listen.limits import Limits
from headend.listen.push import endpoint
from headend.listen.push_stream import Payload, PushStream
from headend.listen.quiet import QuietStream
from headend.session.access import Access
from headend.session.client import MeterSession
from headend.session.deadlines import Deadlines
from headend.session.plan import plan_session
from headend.store.errors import UnavailableError
from headend.transport.tcp import TcpStream
from protocols.dlms import axdr
from protocols.dlms.cosem import Attribute, ClassId
from protocols.dlms.obis import Obis
from protocols.errors import CommunicationError, LinkTimeout
from schemas.address import AddressError, LinkAddress, Scheme
from schemas.config import Settings
from schemas.model import MechanismName, load_model

log = logging.getLogger(__name__)

#: Silence after which we ask: meters are servers, most of them wait for the client.
_GREETING_S: Final = 3.0
_LOGICAL_DEVICE_NAME: Final = Attribute(ClassId.DATA, Obis.parse("0-0:42.0.0*255"), 2)
_PROVING: Final = frozenset(
    {
        MechanismName.HLS_MD5,
        MechanismName.HLS_SHA1,
        MechanismName.HLS_GMAC,
        MechanismName.HLS_SHA256,
    }
)


class Unproven(Exception):
    """Whoever dialled in is not a meter that we can trust; the message says why."""


@dataclass(slots=True)
class InboundTotals:
    """Connections since the start: proven ones, and those sent away."""

    proven: int = 0
    unproven: int = 0


class InboundListener:
    """``async with InboundListener(settings, access, directory, handler)`` lets meters dial in.

    Listens where ``settings.listen_inbound`` says; without it does nothing. Inside, ``access.inbound`` gives
    their lines to sessions with ``inbound:`` meters. ``handler`` takes what they push between. ``shared``:
    other processes listen there too. Raises OSError where the address cannot be had.
    """

    def __init__(
        self,
        settings: Settings,
        access: Access,
        directory: Directory,
        handler: PushHandler,
        *,
        limits: Limits | None = None,
        greeting_s: float = _GREETING_S,
        shared: bool = False,
    ) -> None:
        self._settings = settings
        self._access = access
        self._directory = directory
        self._limits = limits or Limits(idle_s=settings.idle_timeout_s)
        self._handler = handler
        self._greeting_s = greeting_s
        self._shared = shared
        self._deadlines = Deadlines(
            associate_s=settings.response_timeout_s,
            response_s=settings.response_timeout_s,
            release_s=settings.release_timeout_s,
            session_s=settings.session_timeout_s,
        )
        self.meters = InboundMeters(handler, self._limits)
        self.totals = InboundTotals()
        self.door: Doorman | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        if self._settings.listen_inbound is not None:
            host, port = endpoint(self._settings.listen_inbound)
            self.door = await self._stack.enter_async_context(
                Doorman("inbound", host, port, self._serve, self._limits, shared=self._shared)
            )
            self._access.inbound = self.meters
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.door is not None:
            self._access.inbound = None
        await self._stack.__aexit__(kind, error, traceback)

    async def _serve(self, stream: TcpStream, host: str) -> str:
        try:
            known = await self._prove(stream, host)
        except (Unproven, CommunicationError, UnavailableError) as error:
            self.totals.unproven += 1
            log.warning("inbound: %s is sent away: %s", stream.peer, str(error).split("\n", 1)[0])
            return str(error)
        self.totals.proven += 1
        log.info("inbound: meter %s is connected from %s", known.meter.asset_id, stream.peer)
        return await self.meters.hold(known, stream)

    async def _prove(self, stream: TcpStream, host: str) -> Known:
        """The meter that has proven itself on this connection. Raises Unproven, CommunicationError."""
        claim = await self._greeted(stream, f"inbound {host}")
        if claim is None:
            claim = Claim(name=await self._asked(stream, f"inbound {host}"))
        known = await self._directory.by_claim(claim)
        if known is None:
            raise Unproven(f"no meter, or more than one, is known as {claim}")
        _check(known)
        reach = await self._access.prepare_one(Target(known.meter))
        # The lock of a meter's link is not taken: a stranger that claims to be it must not block the meter.
        heartbeat = known.model.heartbeat
        line = stream if heartbeat is None else QuietStream(stream, heartbeat)
        async with self._access.session(reach, stream=line):
            pass
        if not stream.is_open:
            raise Unproven(f"meter {known.meter.asset_id} did not release the association cleanly")
        return known

    async def _greeted(self, stream: TcpStream, source: str) -> Claim | None:
        """Who the caller says to be on its own; None where it waits for us."""
        reader = PushStream(max_apdu=self._limits.max_apdu, heartbeats=self._directory.heartbeats())
        deadline = asyncio.get_running_loop().time() + self._greeting_s
        while True:
            try:
                items = reader.feed(await stream.read_some(deadline))
            except LinkTimeout:
                if reader.pending:
                    raise Unproven("what it says first is neither a heartbeat nor a push") from None
                return None
            claim: Claim | None = None
            for item in items:
                match item:
                    case Beat(answer=answer):
                        claim = item.claim
                        if answer:
                            stream.write(answer)
                    case Payload():
                        claim = await self._handler.claim_of(item) or claim
                        await self._take(item, source)
                    case _:
                        raise Unproven("what it says first is neither a heartbeat nor a push")
            if claim is not None:
                stream.unread(reader.take_back())
                return claim

    async def _take(self, payload: Payload, source: str) -> None:
        """Have a push stored before who sends it is proven. It is not confirmed."""
        pending = await self._handler.begin(payload, source, None)
        if pending is not None:
            await self._handler.finish(pending)

    async def _asked(self, stream: TcpStream, source: str) -> str:
        """The logical device name, as the public client is told: anybody may say it."""
        generic = load_model("generic-dlms", self._settings.profile_folders)
        public = plan_session(generic, LinkAddress(Scheme.INBOUND), {}).public()
        # a heartbeat that comes late crosses the question
        quiet = QuietStream(stream, *self._directory.heartbeats())
        session = MeterSession(public, stream=quiet, deadlines=self._deadlines)
        try:
            async with session:
                value = axdr.decode_exact(await session.get(_LOGICAL_DEVICE_NAME)).value
        finally:
            for told in session.notifications:  # nobody has proven anything: each stands for itself
                await self._take(Payload(told.apdu.to_bytes(), ()), source)
        if session.release_error is not None:
            raise session.release_error
        text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
        if not 0 < len(text) <= 64 or not text.isascii() or not text.isprintable():
            raise Unproven("its logical device name is no text")
        return text


def _check(known: Known) -> None:
    """Raise Unproven for a meter that does not dial in, or cannot prove itself."""
    meter, association = known.meter, known.model.association
    try:
        dials_in = meter.address is not None and LinkAddress.parse(meter.address).scheme is Scheme.INBOUND
    except AddressError:
        dials_in = False
    if not dials_in:
        raise Unproven(f"meter {meter.asset_id} does not dial in: its address is not inbound:")
    if association.mechanism not in _PROVING:
        raise Unproven(
            f"meter {meter.asset_id}: its model {known.model.name} has {association.mechanism}, which proves "
            "nothing: a meter that dials in needs high level security"
        )
