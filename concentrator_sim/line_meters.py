"""Meters on shared lines, each with an address and faults of its own: what all languages need of them."""

from collections.abc import Sequence

from concentrator_sim import meter_clock
from concentrator_sim.breaker import Breaker
from concentrator_sim.instant import Instant
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.served import House
from concentrator_sim.tree import Leaf, Station


class LineMeter:
    """One meter of a line, answering or not."""

    def __init__(self, station: Station, leaf: Leaf, house: House) -> None:
        self.meter = SimulatedMeter(station.seed, leaf.number)
        self.leaf = leaf
        self._house = house
        self._faults = house.faults_of(self.meter.serial)
        reset_s = self._faults.counter_reset_s()
        if reset_s is not None:
            self.meter.consumption.reset_at(reset_s)
        if self._faults.has_breaker:
            self.meter.part(Breaker).sticks = self._faults.breaker_sticks

    @property
    def serial(self) -> str:
        """Serial number."""
        return self.meter.serial

    @property
    def now(self) -> int:
        """By its crystal, Unix seconds: what it has metered goes by it."""
        return self._faults.clock(self._house.now())

    @property
    def shown_s(self) -> int:
        """What its clock shows, Unix seconds."""
        return meter_clock.shown_s(self.meter, self.now)

    @property
    def hears(self) -> bool:
        """Whether what is sent on the line reaches it."""
        now = self._house.now()
        return not (self.leaf.dead or self._faults.is_down(now) or self._faults.is_half_open(now))

    def shows(self, moment: int | None = None) -> Instant:
        """What it shows now, or showed at a moment."""
        return Instant(self.meter.consumption, self.meter.number, self.now if moment is None else moment)

    def says(self, data: bytes) -> bytes:
        """What becomes of an answer; nothing where nobody is there. Late is lost: the line has gone on."""
        if not self.hears:
            return b""
        now = self._house.now()
        return b"".join(one.data for one in self._faults.deliveries(data, now) if not one.delay_s)


def line_meters(station: Station, house: House) -> Sequence[LineMeter]:
    """The meters of a station, in the tree's order."""
    return [LineMeter(station, leaf, house) for leaf in station.leaves]
