"""The network of a field, grown from its plan: who hangs below whom, by which hops. A function of the seed.

Every meter joins its station through the fewest hops that have margin enough; of those that offer, it takes
the best link. So a meter that is too far, or behind too much noise, gets a relay, and never fewer when links
become worse. What reaches nobody stays, on the best of its bad links.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from concentrator_sim.dice import Dice
from concentrator_sim.medium import CARRIERS, RELAY_BELOW_DB, Hop, Route, quality
from concentrator_sim.part import WHOLE, Part
from concentrator_sim.plan import NetworkPlan, StationPlan
from schemas.network import LinkKind, NodeKind

#: Number of the first meter below a station, so that theirs do not depend on how many answer directly.
FIRST_BELOW_STATIONS: Final = 1_000_001
_BRANCHES: Final = 4
_NEAREST_M: Final = 5.0
_STATION: Final = -1
_CODES: Final = {NodeKind.CONCENTRATOR: "DC", NodeKind.GATEWAY: "GW"}


@dataclass(frozen=True, slots=True)
class Leaf:
    """A meter below a station. ``place`` counts from 0, ``relay`` is the place of the meter that it hangs on,
    None for the station itself; ``margins`` are those of its hops, the station's first."""

    number: int
    place: int
    model: str
    dead: bool
    relay: int | None
    margins: tuple[float, ...]

    @property
    def hops(self) -> int:
        """Links between station and meter."""
        return len(self.margins)

    @property
    def quality(self) -> int:
        """Of its last link, as the station tells."""
        return quality(self.margins[-1])


@dataclass(frozen=True, slots=True)
class Station:
    """A station, or a house of WiFi meters that has none. ``code`` names it in the network, ``place`` counts
    from 0."""

    code: str
    place: int
    plan: StationPlan
    transformer: str
    seed: int
    leaves: tuple[Leaf, ...]

    def route(self, leaf: Leaf) -> Route:
        """The way to one of its meters, its dice fresh."""
        hops = tuple(Hop(self.plan.link_kind, margin) for margin in leaf.margins)
        return Route(hops, Dice(self.seed, "route", leaf.number), self.plan.rate_bps)


@dataclass(slots=True)
class Tree:
    """The network: transformers with their feeders, feeders with their substations, and the stations."""

    feeder_of: dict[str, str] = field(default_factory=dict)
    substation_of: dict[str, str] = field(default_factory=dict)
    stations: list[Station] = field(default_factory=list)

    @property
    def meters(self) -> int:
        """How many hang below stations."""
        return sum(len(station.leaves) for station in self.stations)

    def below(self, transformer: str) -> Iterator[Station]:
        """Stations at a transformer."""
        return (station for station in self.stations if station.transformer == transformer)


def grow(seed: int, network: NetworkPlan, plans: tuple[StationPlan, ...], part: Part = WHOLE) -> Tree:
    """The network of a plan. Stations are numbered in its order and dealt to the transformers in turn; the
    tree has those of ``part``."""
    tree = Tree()
    if not plans:
        return tree
    feeders = [f"FD{n:03d}" for n in range(1, network.feeders + 1)]
    for n, feeder in enumerate(feeders):
        tree.substation_of[feeder] = f"SS{n * network.substations // network.feeders + 1:02d}"
    transformers = [f"TR{n:04d}" for n in range(1, network.transformers + 1)]
    for n, transformer in enumerate(transformers):
        tree.feeder_of[transformer] = feeders[n * network.feeders // network.transformers]
    number, place, counted = FIRST_BELOW_STATIONS, 0, Counter[str]()
    for plan in plans:
        for _ in range(plan.count):
            letters = "HOUSE" if plan.usual.node is None else _CODES[plan.usual.node]
            counted[letters] += 1
            code = f"{letters}-{counted[letters]:04d}"
            if part.has(place):
                transformer = transformers[place % len(transformers)]
                leaves = _leaves(Dice(seed, "station", code), plan, network, number)
                tree.stations.append(Station(code, place, plan, transformer, seed, leaves))
            number += plan.meter_count
            place += 1
    return tree


def _leaves(dice: Dice, plan: StationPlan, network: NetworkPlan, first: int) -> tuple[Leaf, ...]:
    kind, count = plan.link_kind, plan.meter_count
    # Evenly spread over the area that is reached. The station itself is at the middle.
    away = np.array([_NEAREST_M + plan.reach_m * math.sqrt(dice.chance()) for _ in range(count)])
    turn = np.array([dice.between(0, 2 * math.pi) for _ in range(count)])
    own = np.array([dice.between(0, network.own_noise_db) for _ in range(count)])
    noise = network.noise_db.get(kind, 0.0) + own
    margins = _to_station(kind, away, noise)
    if (margins >= RELAY_BELOW_DB).all():  # nobody needs anybody, so nobody asks for the links between meters
        return tuple(
            Leaf(first + n, n, plan.model(n), plan.is_dead(n), None, (margin,))
            for n, margin in enumerate(margins[:, 0].tolist())
        )
    margins = np.concatenate([_to_meters(kind, away, turn, noise), margins], axis=1)
    above, depth = join(margins, CARRIERS[kind].max_hops)
    leaves: list[Leaf | None] = [None] * count
    for place in np.argsort(depth, kind="stable").tolist():
        parent = int(above[place])
        relay = None if parent == _STATION else leaves[parent]
        own_margin = float(margins[place, parent])  # the station is the last column
        leaves[place] = Leaf(
            first + place,
            place,
            plan.model(place),
            plan.is_dead(place),
            None if relay is None else relay.place,
            (*(() if relay is None else relay.margins), own_margin),
        )
    return tuple(leaf for leaf in leaves if leaf is not None)


Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def _to_station(kind: LinkKind, away: Floats, noise: Floats) -> Floats:
    """Margin of each meter's link to the station, as a column."""
    return _margins(kind, away[:, None], noise)


def _to_meters(kind: LinkKind, away: Floats, turn: Floats, noise: Floats) -> Floats:
    """Margin of each meter's link to each other meter."""
    if CARRIERS[kind].db_per_m:
        # cable: along one branch the difference, else through the station
        branch = (turn * _BRANCHES / (2 * math.pi)).astype(np.int64)
        same = branch[:, None] == branch[None, :]
        between = np.where(same, np.abs(away[:, None] - away[None, :]), away[:, None] + away[None, :])
    else:
        x, y = away * np.cos(turn), away * np.sin(turn)
        between = np.hypot(x[:, None] - x[None, :], y[:, None] - y[None, :])
    return _margins(kind, between, noise)


def _margins(kind: LinkKind, metres: Floats, noise: Floats) -> Floats:
    carrier = CARRIERS[kind]
    air = carrier.db_per_decade * np.log10(np.maximum(metres, 1.0))
    found: Floats = carrier.budget_db - carrier.db_per_m * metres - air - noise[:, None]
    return found


def join(margins: Floats, max_hops: int, need_db: float = RELAY_BELOW_DB) -> tuple[Integers, Integers]:
    """Whom each meter hangs on (its place, -1 the station) and by how many hops, given the margin of each
    meter's link to each meter and, in the last column, to the station."""
    count = len(margins)
    above, depth = np.full(count, _STATION, np.int64), np.zeros(count, np.int64)
    joined = np.zeros(count, bool)
    offering = np.array([count])  # columns that the next level may hang on
    for level in range(1, max_hops + 1):
        open_ = np.flatnonzero(~joined)
        if not len(open_) or not len(offering):
            break
        offers = margins[np.ix_(open_, offering)]
        best = offers.argmax(axis=1)
        enough = offers[np.arange(len(open_)), best] >= need_db
        new = open_[enough]
        chosen = offering[best[enough]]
        above[new], depth[new] = np.where(chosen == count, _STATION, chosen), level
        joined[new] = True
        offering = new
    lost = np.flatnonzero(~joined)
    if len(lost):
        # On the best of bad links: of the station, or of whoever is joined and not yet as deep as may be.
        may = np.append(np.flatnonzero(joined & (depth < max_hops)), count)
        best = margins[np.ix_(lost, may)].argmax(axis=1)
        chosen = may[best]
        above[lost] = np.where(chosen == count, _STATION, chosen)
        depth[lost] = 1 + np.where(chosen == count, 0, depth[np.minimum(chosen, count - 1)])
    return above, depth
