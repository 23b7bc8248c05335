"""How many conversations at once, and where: the permits that a way needs, and what moves their limits.

::

    meter 1, line 1                         cannot be shared
    cell                                    as the settings say
    station, kind of link, all              at most what the settings say, and less where round trips grow

A station's round trips show how its own medium is used. Those of all links of a kind, and of all together,
are of many media and lengths: there each is measured against the floor of its station, where it has one, so
that what grows is what they have in common: a network that carries them all, or this process. A station may
take half as long again, all of them together twice as long, or some milliseconds longer: a slow medium is
held back where it is slow, and an overload of this process where the fast ones show it.
"""

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from headend.drivers.contract import Way
from headend.links.adaptive import Adaptive
from headend.links.permits import Fixed, Permit, Permits
from schemas.network import LinkKind

#: How much longer than their floor round trips may be, as a share, and in seconds where that is more. All
#: links together have the fewest seconds, so that an overload of this process is not taken for that of a kind
#: of link or a station: the dozen exchanges of a read wait about 0.1 s then. A station has the least share.
SLACK: Final = 1.0
SLACK_S: Final = 0.007
KIND_SLACK_S: Final = 0.025
STATION_SLACK: Final = 0.5
STATION_SLACK_S: Final = 0.05
#: Conversations at once at first: of a kind and a station so few that their floor is seen, one for a person.
_FIRST: Final = 64
_KIND_FIRST: Final = 4
_STATION_FIRST: Final = 2
#: Stations that are remembered; the one that was used least lately goes first.
MOST_STATIONS: Final = 20_000
_ONE: Final = Fixed(1)
#: The permit of all conversations, and the first part of the names of others.
ALL: Final = "all"


@dataclass(frozen=True, slots=True)
class Limits:
    """Conversations at once at most: ``most`` in all, behind one station, in one cell (transformer, else
    feeder), and over all links of a kind, where it is named. With one meter and on one line it is always one.
    """

    most: int = 256
    station: int = 4
    cell: int = 16
    kinds: Mapping[LinkKind, int] = field(default_factory=dict)


class Allowances:
    """The limits as they are now."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._all = Adaptive(limits.most, first=_FIRST, slack_s=SLACK_S, slack=SLACK)
        self._cell = Fixed(limits.cell)
        # each with the name of its permit
        self._kinds: dict[LinkKind | None, tuple[Hashable, Adaptive]] = {}
        self._stations: OrderedDict[int, tuple[Hashable, Adaptive]] = OrderedDict()

    def permits(self, way: Way) -> list[Permit]:
        """Those of one conversation with the meter at the way's end."""
        place, line = way.target.place, way.address.line
        found: list[Permit] = [
            (("meter", way.target.meter.meter_id), _ONE),
            (ALL, self._all),
            self._kind(place.link),
        ]
        if line is not None:
            found.append((("line", line), _ONE))
        if place.station_id is not None:
            found.append(self._station(place.station_id))
        cell = place.transformer or place.feeder
        if cell is not None:
            found.append((("cell", place.feeder, cell), self._cell))
        return found

    def ended(self, way: Way, answers_s: Sequence[float], held: Permits, *, fell_silent: bool) -> None:
        """Learn from a conversation whose permits are still held: from how long answers took, or from a
        meter that did not answer in time and had not been silent before.

        Silence is its station's business alone: a dark feeder must not slow down all others. On a line that
        is shared one talks at a time, and how long that takes is the line's.
        """
        place = way.target.place
        name, kind = self._kind(place.link)
        of_kind, of_all = held.held(name), held.held(ALL)
        station: Adaptive | None = None
        of_station = 0
        if place.station_id is not None and place.hops:  # behind it, and not it itself
            name, station = self._station(place.station_id)
            of_station = held.held(name)
        if not answers_s or way.address.is_shared:
            if station is not None:
                (station.timed_out if fell_silent else station.unmeasured)(of_station)
            kind.unmeasured(of_kind)
            self._all.unmeasured(of_all)
            return
        round_trip_s, floor_s = sum(answers_s) / len(answers_s), None
        if station is not None:
            station.answered(round_trip_s / place.hops, of_station)
            floor_s = round_trip_s if station.floor_s is None else station.floor_s * place.hops
        kind.answered(round_trip_s, of_kind, floor_s)
        if floor_s is None:
            floor_s = round_trip_s if kind.floor_s is None else kind.floor_s
        self._all.answered(round_trip_s, of_all, floor_s)

    def now(self) -> dict[str, float]:
        """The limits of all and of each kind of link, by name."""
        kinds = {
            "unknown" if kind is None else kind.value: one.limit for kind, (_, one) in self._kinds.items()
        }
        return {ALL: self._all.limit, **kinds}

    def of_station(self, station_id: int) -> int:
        """The limit behind one station."""
        return self._station(station_id)[1].limit

    def _kind(self, kind: LinkKind | None) -> tuple[Hashable, Adaptive]:
        found = self._kinds.get(kind)
        if found is None:
            most = self._limits.most if kind is None else self._limits.kinds.get(kind, self._limits.most)
            limit = Adaptive(most, first=_KIND_FIRST, slack_s=KIND_SLACK_S, slack=SLACK)
            found = self._kinds[kind] = (("kind", kind), limit)
        return found

    def _station(self, station_id: int) -> tuple[Hashable, Adaptive]:
        found = self._stations.get(station_id)
        if found is None:
            limit = Adaptive(
                self._limits.station, first=_STATION_FIRST, slack_s=STATION_SLACK_S, slack=STATION_SLACK
            )
            found = self._stations[station_id] = (("station", station_id), limit)
            if len(self._stations) > MOST_STATIONS:
                self._stations.popitem(last=False)
        else:
            self._stations.move_to_end(station_id)
        return found
