"""A concentrator: one TCP port, and behind it many meters that only it can speak to.

An APDU with a gateway prefix goes on to the meter of that address, and its answer comes back with the prefix
of an answer. One without a prefix is for the concentrator itself, a DLMS server of its own. The medium
behind it is shared: one exchange at a time, whoever asked for it, and a meter that does not answer occupies
it for as long as the patience of the concentrator lasts.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.server import MeterConnection, Trouble
from concentrator_sim.station import Bus, Station, bus_of
from protocols.dlms import gateway, wrapper
from protocols.dlms.framing import BadFrame
from protocols.dlms.gateway import GatewayMessage, Header
from protocols.dlms.wrapper import WrapperFrame, WrapperReader
from protocols.errors import RemoteProtocolError
from schemas.address import GatewayAddress
from schemas.network import LinkKind

#: How long a concentrator waits for a meter before it says that it does not reach it, in seconds.
PATIENCE_S: Final = 2.0
_BACKLOG: Final = 64


class Route(Protocol):
    """What lies between a concentrator and one meter; see `medium.Route`."""

    def send(self, size: int, now: float) -> float | None:
        """A message of ``size`` bytes, either way: seconds until it arrives, None where it is lost."""


class Wire:
    """A route that takes no time and loses nothing."""

    def send(self, size: int, now: float) -> float | None:
        """See `Route`."""
        return 0.0


WIRE: Final = Wire()


@dataclass(slots=True, eq=False)
class Member:
    """A meter behind a concentrator; ``via`` is the serial number of the meter that relays for it.

    ``is_dead`` may be changed while the field runs.
    """

    meter: SimulatedMeter
    address: GatewayAddress
    route: Route = WIRE
    link: LinkKind = LinkKind.PLC_NARROWBAND
    hops: int = 1
    quality: int | None = None
    via: str = ""
    is_dead: bool = False


class Concentrator:
    """The meters behind one port. ``clock`` gives Unix seconds.

    Args:
        own: the logical devices of the concentrator itself, by server SAP.
        members: its meters. Raises ValueError where two have one address.
        patience_s: how long it waits for a meter.
        tells: whether it then says so, or is as silent as the meter.
        trouble: what goes wrong with the concentrator itself.
    """

    def __init__(
        self,
        own: Bus,
        members: Sequence[Member],
        clock: Callable[[], int],
        *,
        patience_s: float = PATIENCE_S,
        tells: bool = True,
        trouble: Trouble | None = None,
    ) -> None:
        self.trouble = trouble
        self.members = {member.address: member for member in members}
        if len(self.members) != len(members):
            raise ValueError("two meters of a concentrator have the same gateway address")
        self.own = own
        self.clock = clock
        self.exchanges = 0
        self._patience_s = patience_s
        self._tells = tells
        self._busy_until = 0.0
        self._connections: set[MeterConnection] = set()
        self._server: asyncio.Server | None = None
        self._unreached = [gateway.UNREACHED] if tells else []

    # ---- one exchange with a meter --------------------------------------------------------------------

    def carry(
        self, station: Station, message: GatewayMessage, client: int, server: int, at_s: float
    ) -> tuple[float, list[bytes]]:
        """Carry an APDU to its meter: seconds until the answer is there, and its APDUs with their prefixes.

        The concentrator's own word where the meter did not answer. ``at_s`` is when it is asked, in seconds
        of whatever clock the caller waits by: the medium is busy in them, also where the field's own clock
        stands still.
        """
        member = self.members.get(message.address)
        if member is None or message.header is not Header.REQUEST:
            return 0.0, self._unreached
        self.exchanges += 1
        queued_s = max(0.0, self._busy_until - at_s)
        took, answers = self._ask(station, member, message.apdu, client, server, self.clock() + queued_s)
        self._busy_until = at_s + queued_s + took
        return queued_s + took, answers

    def _ask(
        self, station: Station, member: Member, apdu: bytes, client: int, server: int, now: float
    ) -> tuple[float, list[bytes]]:
        took = None if member.is_dead else member.route.send(len(apdu), now)
        if took is None:
            return self._patience_s, self._unreached
        answers = station.receive(client, server, apdu)
        if not answers:
            return self._patience_s, self._unreached
        for answer in answers:
            back = member.route.send(len(answer), now + took)
            if back is None:
                return self._patience_s, self._unreached
            took += back
        return took, [gateway.encode(Header.ANSWER, member.address, answer) for answer in answers]

    # ---- the port ------------------------------------------------------------------------------------

    async def listen(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; the port. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: ConcentratorConnection(self, self._connections), host, port, backlog=_BACKLOG
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the port and all connections."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self.hang_up()
        if server is not None:
            await server.wait_closed()

    def hang_up(self) -> None:
        """Close all connections, as a reboot does; the port stays."""
        for connection in tuple(self._connections):
            connection.close()


class ConcentratorConnection(MeterConnection):
    """One connection to a concentrator: associations of its own with each meter and the concentrator."""

    __slots__ = ("_concentrator", "_loop", "_members", "_own", "_reader")

    def __init__(self, concentrator: Concentrator, opened: set[MeterConnection]) -> None:
        super().__init__(_NO_LINE, opened, trouble=concentrator.trouble)
        self._concentrator = concentrator
        self._loop = asyncio.get_running_loop()
        self._own = Station(concentrator.own, concentrator.clock)
        self._members: dict[GatewayAddress, Station] = {}
        self._reader = WrapperReader()

    def buffer_updated(self, nbytes: int) -> None:
        """The loop's call: so many bytes came."""
        if self.is_deaf():
            return
        reader = self._reader
        reader.feed(bytes(self._view[:nbytes]))
        try:
            while (frame := reader.next()) is not None:
                if isinstance(frame, BadFrame):
                    continue  # a strict reader raises instead
                self._take(frame)
        except RemoteProtocolError:
            self.close()  # a stream that lost its framing, or a prefix that is none

    def _take(self, frame: WrapperFrame) -> None:
        wait_s = 0.0
        if gateway.is_prefixed(frame.apdu):
            message = gateway.decode(frame.apdu)
            wait_s, answers = self._concentrator.carry(
                self._station(message.address), message, frame.source, frame.destination, self._loop.time()
            )
        else:
            answers = self._own.receive(frame.source, frame.destination, frame.apdu)
        out = b"".join(wrapper.encode(frame.destination, frame.source, answer) for answer in answers)
        if out:
            self.answer(out, wait_s)

    def _station(self, address: GatewayAddress) -> Station:
        found = self._members.get(address)
        if found is None:
            member = self._concentrator.members.get(address)
            found = Station({} if member is None else bus_of([member.meter]), self._concentrator.clock)
            if member is not None:
                self._members[address] = found
        return found


class _NoLine:
    """A connection that takes its frames apart itself has no line."""

    def receive(self, data: bytes) -> bytes:
        return b""


_NO_LINE: Final = _NoLine()
