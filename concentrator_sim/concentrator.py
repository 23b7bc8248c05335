"""A concentrator: one TCP port, and behind it many meters that only it can speak to.

An APDU with a gateway prefix goes on to the meter of that address, and its answer comes back with the prefix
of an answer. One without a prefix is for the concentrator itself, a DLMS server of its own. The medium
behind it is shared: one exchange at a time, whoever asked for it, and a meter that does not answer occupies
it for as long as the patience of the concentrator lasts.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.server import MeterConnection, Trouble
from concentrator_sim.station import Bus, Station, bus_of
from protocols.dlms import gateway, wrapper
from protocols.dlms.framing import BadFrame
from protocols.dlms.gateway import Header
from protocols.dlms.wrapper import WrapperFrame, WrapperReader
from protocols.errors import RemoteProtocolError
from schemas.address import GatewayAddress
from schemas.network import LinkKind

#: How long a concentrator waits for a meter before it says that it does not reach it, in seconds.
PATIENCE_S: Final = 2.0
_BACKLOG: Final = 64
#: What is due sooner is answered now: timers are no finer. The medium is busy for its time all the same.
_AT_ONCE_S: Final = 0.005


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


class Way(NamedTuple):
    """From one connection to one of its meters: the associations with it, and the prefix of its answers."""

    member: Member
    station: Station
    prefix: bytes


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
        self.patience_s = patience_s
        self._tells = tells
        self._busy_until = 0.0
        self._connections: set[MeterConnection] = set()
        self._server: asyncio.Server | None = None
        self._unreached = [gateway.UNREACHED] if tells else []

    # ---- one exchange with a meter --------------------------------------------------------------------

    def carry(
        self, way: Way | None, apdu: bytes, client: int, server: int, at_s: float
    ) -> tuple[float, list[bytes]]:
        """Carry an APDU to its meter: seconds until the answer is there, and its APDUs with their prefixes.

        The concentrator's own word where the meter did not answer, or there is no such ``way``. ``at_s`` is
        when it is asked, in seconds of whatever clock the caller waits by: the medium is busy in them, also
        where the field's own clock stands still.
        """
        if way is None:
            return 0.0, self._unreached
        self.exchanges += 1
        queued_s = max(0.0, self._busy_until - at_s)
        took, answers = self._ask(way, apdu, client, server, self.clock() + queued_s)
        self._busy_until = at_s + queued_s + took
        return queued_s + took, answers

    def _ask(self, way: Way, apdu: bytes, client: int, server: int, now: float) -> tuple[float, list[bytes]]:
        member = way.member
        took = None if member.is_dead else member.route.send(len(apdu), now)
        if took is None:
            return self.patience_s, self._unreached
        answers = way.station.receive(client, server, apdu)
        if not answers:
            return self.patience_s, self._unreached
        for answer in answers:
            back = member.route.send(len(answer), now + took)
            if back is None:
                return self.patience_s, self._unreached
            took += back
        return took, [way.prefix + answer for answer in answers]

    def occupy(self, member: Member, size: int, answer: int) -> float | None:
        """A message of the concentrator's own to a meter, of ``size`` bytes, and its answer: seconds until
        that is there, after which the medium is free again; None where one of them is lost."""
        now = self.clock()
        at_s = asyncio.get_running_loop().time()
        there = None if member.is_dead else member.route.send(size, now)
        back = None if there is None else member.route.send(answer, now + there)
        took = self.patience_s if there is None or back is None else there + back
        queued_s = max(0.0, self._busy_until - at_s)
        self._busy_until = at_s + queued_s + took
        return None if there is None or back is None else queued_s + took

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
    """One connection to a concentrator: associations of its own with each meter and the concentrator.

    One after another or at the same time, any number of meters is spoken to on it.
    """

    __slots__ = ("_concentrator", "_loop", "_own", "_reader", "_ways")

    def __init__(self, concentrator: Concentrator, opened: set[MeterConnection]) -> None:
        super().__init__(_NO_LINE, opened, trouble=concentrator.trouble)
        self._concentrator = concentrator
        self._loop = asyncio.get_running_loop()
        self._own = Station(concentrator.own, concentrator.clock)
        self._ways: dict[bytes, Way] = {}  # by the prefix of requests, while an association stands
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
        wait_s, apdu = 0.0, frame.apdu
        if gateway.is_prefixed(apdu):
            wait_s, answers = self._forward(apdu, frame.source, frame.destination)
        else:
            answers = self._own.receive(frame.source, frame.destination, apdu)
        out = b"".join([wrapper.encode(frame.destination, frame.source, answer) for answer in answers])
        if out:
            self.answer(out, wait_s if wait_s > _AT_ONCE_S else 0.0)

    def _forward(self, apdu: bytes, client: int, server: int) -> tuple[float, list[bytes]]:
        end = gateway.FIXED + apdu[2] if len(apdu) > gateway.FIXED else 0
        head, inner = apdu[:end], apdu[end:]
        way = self._ways.get(head)
        if way is None or not inner:
            message = gateway.decode(apdu)
            member = self._concentrator.members.get(message.address)
            if member is not None and message.header is Header.REQUEST:
                station = Station(bus_of([member.meter]), self._concentrator.clock)
                way = Way(member, station, gateway.prefix(Header.ANSWER, member.address))
        found = self._concentrator.carry(way, inner, client, server, self._loop.time())
        if way is not None:
            if way.station.is_idle:
                self._ways.pop(head, None)
            else:
                self._ways[head] = way
        return found


class _NoLine:
    """A connection that takes its frames apart itself has no line."""

    def receive(self, data: bytes) -> bytes:
        return b""


_NO_LINE: Final = _NoLine()
