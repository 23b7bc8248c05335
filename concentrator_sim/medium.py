"""What carries a link: how it weakens with distance and noise, and what becomes of a message on its way.

A link has a margin in dB: what is left of the signal above what a receiver needs. The loss of frames,
and the quality that a concentrator would report, are functions of the margin alone. Figures are of the size
that field measurements have; they claim to be no maker's.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from concentrator_sim.dice import Dice
from schemas.network import LinkKind


class Carrier(NamedTuple):
    """How a kind of link behaves.

    ``budget_db`` is the margin at no distance, of which ``db_per_m`` goes with each metre of cable or
    ``db_per_decade`` with each tenfold distance in the air. ``rate_bps`` is net of the kind's own overhead, a
    message goes in frames of ``frame`` bytes, each tried ``tries`` times; ``latency_s`` is a hop's own time
    for each message. ``evening_db`` is what noise rises by when all are at home. A route has ``max_hops``.
    """

    budget_db: float
    rate_bps: int
    latency_s: float
    db_per_m: float = 0.0
    db_per_decade: float = 0.0
    evening_db: float = 0.0
    frame: int = 1024
    tries: int = 3
    max_hops: int = 1


CARRIERS: Final[Mapping[LinkKind, Carrier]] = MappingProxyType(
    {
        LinkKind.PLC_NARROWBAND: Carrier(
            45, 48_000, 0.015, db_per_m=0.07, evening_db=5, frame=128, tries=4, max_hops=8
        ),
        LinkKind.PLC_BROADBAND: Carrier(
            50, 1_000_000, 0.006, db_per_m=0.14, evening_db=3, frame=512, tries=4, max_hops=10
        ),
        LinkKind.ZIGBEE: Carrier(90, 60_000, 0.012, db_per_decade=38, frame=80, tries=4, max_hops=10),
        LinkKind.WIFI: Carrier(80, 4_000_000, 0.004, db_per_decade=32, evening_db=4, frame=1400, tries=6),
        LinkKind.CELLULAR: Carrier(24, 200_000, 0.120, evening_db=2, frame=1400),
        LinkKind.SERIAL: Carrier(90, 8_000, 0.004, frame=256, tries=1),
        LinkKind.ETHERNET: Carrier(90, 50_000_000, 0.001, frame=1400, tries=1),
    }
)

#: Margin below which a link is not used where a relay offers better.
RELAY_BELOW_DB: Final = 14.0
_HALF_DB: Final = 6.0  # the margin at which a decade of loss begins
_DECADE_DB: Final = 6.0  # each further one divides the loss by ten
_FULL_DB: Final = 36.0  # quality 100
_NEVER: Final = 1e-9
_EVENING_H: Final = range(17, 22)
_CET_S: Final = 3600


def margin_db(kind: LinkKind, distance_m: float, noise_db: float = 0.0) -> float:
    """The margin of a link over ``distance_m`` with ``noise_db`` above the usual."""
    carrier = CARRIERS[kind]
    air = carrier.db_per_decade * math.log10(max(distance_m, 1.0))
    return carrier.budget_db - carrier.db_per_m * distance_m - air - noise_db


def frame_loss(margin: float) -> float:
    """How many of the frames are lost at this margin, each tried once."""
    loss = 1.0 / (1.0 + 10.0 ** ((margin - _HALF_DB) / _DECADE_DB))
    return loss if loss > _NEVER else 0.0


def quality(margin: float) -> int:
    """What a concentrator reports of a link, 0 to 100."""
    return max(0, min(100, round(100 * (margin - _HALF_DB) / (_FULL_DB - _HALF_DB))))


def is_evening(now: float) -> bool:
    """Whether ``now`` (Unix seconds) is in the noisy hours, by the clock of the field (Central European)."""
    return int((now + _CET_S) // 3600) % 24 in _EVENING_H


class Hop(NamedTuple):
    """One link of a route and its margin in quiet hours."""

    kind: LinkKind
    margin: float

    def frame_loss(self, now: float) -> float:
        """See `frame_loss`, at this hour."""
        noise = CARRIERS[self.kind].evening_db if is_evening(now) else 0.0
        return frame_loss(self.margin - noise)


@dataclass(slots=True)
class Route:
    """The way from a station to one meter, hop by hop. Both directions draw from the same ``dice``.
    ``rate_bps`` takes the place of the rates that the kinds of links have."""

    hops: tuple[Hop, ...]
    dice: Dice
    rate_bps: int | None = None
    #: where no frame is ever lost: seconds of a message, and of each of its bytes
    _sure: tuple[float, float] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        carriers = [CARRIERS[hop.kind] for hop in self.hops]
        worst = (
            frame_loss(hop.margin - carrier.evening_db)
            for hop, carrier in zip(self.hops, carriers, strict=True)
        )
        self._sure = None
        if not any(worst):
            per_byte_s = sum(8 / (self.rate_bps or carrier.rate_bps) for carrier in carriers)
            self._sure = sum(carrier.latency_s for carrier in carriers), per_byte_s

    @property
    def quality(self) -> int:
        """Of the weakest hop, 0 to 100."""
        return min((quality(hop.margin) for hop in self.hops), default=100)

    def send(self, size: int, now: float) -> float | None:
        """A message of ``size`` bytes sent at ``now`` (Unix seconds): seconds until it arrives, None where
        it is lost. A hop passes a message on when it has the whole of it."""
        if self._sure is not None:
            return self._sure[0] + size * self._sure[1]
        took = 0.0
        for hop in self.hops:
            carrier, loss = CARRIERS[hop.kind], hop.frame_loss(now)
            took += carrier.latency_s
            for part in _frames(size, carrier.frame):
                tries = self._tries(loss, carrier.tries)
                if tries is None:
                    return None
                took += tries * part * 8 / (self.rate_bps or carrier.rate_bps)
        return took

    def loss(self, size: int, now: float) -> float:
        """The probability with which `send` says None."""
        arrives = 1.0
        for hop in self.hops:
            carrier = CARRIERS[hop.kind]
            frames = len(_frames(size, carrier.frame))
            arrives *= (1.0 - hop.frame_loss(now) ** carrier.tries) ** frames
        return 1.0 - arrives

    def _tries(self, loss: float, most: int) -> int | None:
        for tried in range(1, most + 1):
            if not self.dice.happens(loss):
                return tried
        return None


def _frames(size: int, frame: int) -> list[int]:
    whole, rest = divmod(size, frame)
    return [frame] * whole + ([rest] if rest or not whole else [])
