"""How long an answer is waited for: from the way's length before anything is measured, then from what was.

The estimate is that of RFC 6298 (Jacobson, Karels): a smoothed round trip and its variation, the deadline
four variations above it. Answers are measured where only one request can have caused them (Karn): drivers
leave out those to repeated requests. A time-out doubles the deadline until the next answer comes.

A meter that has never answered goes by the meters that are as many hops behind the same station. Where nobody
has answered yet, each hop gets the time of its kind of link; these figures are our guesses, on the long side,
and the first answer replaces them. Where the network does not tell the kind either, the driver's settings do.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.network import LinkKind, Place

#: Seconds for one hop where nothing is measured.
FIRST_S: Final = {
    LinkKind.PLC_NARROWBAND: 10.0,
    LinkKind.PLC_BROADBAND: 4.0,
    LinkKind.ZIGBEE: 4.0,
    LinkKind.WIFI: 4.0,
    LinkKind.CELLULAR: 15.0,
    LinkKind.SERIAL: 4.0,
    LinkKind.ETHERNET: 4.0,
}
#: The shortest measured deadline on a line or bus, in seconds: the next in turn waits.
LINE_SHORTEST_S: Final = 1.0
#: A meter that answers nothing may be slow or dead: its deadline grows to so many times the first.
_MOST_DOUBLED: Final = 3.0
_ALPHA: Final = 1 / 8  # RFC 6298, 2.3
_BETA: Final = 1 / 4
_K: Final = 4
#: Ways that are remembered; the one that was used least lately goes first.
MOST: Final = 200_000


@dataclass(slots=True)
class Estimate:
    """Of answers of one kind. ``smoothed_s`` None: nothing has been measured. ``doubled``: time-outs since
    the last answer."""

    smoothed_s: float | None = None
    variation_s: float = 0.0
    doubled: int = 0

    def take(self, answers_s: Sequence[float]) -> None:
        """One or more, in their order."""
        smoothed_s, variation_s = self.smoothed_s, self.variation_s
        for answer_s in answers_s:
            if smoothed_s is None:
                smoothed_s, variation_s = answer_s, answer_s / 2
            else:
                beyond_s = answer_s - smoothed_s
                variation_s += _BETA * ((beyond_s if beyond_s > 0 else -beyond_s) - variation_s)
                smoothed_s += _ALPHA * beyond_s
        self.smoothed_s, self.variation_s = smoothed_s, variation_s

    @property
    def deadline_s(self) -> float | None:
        """How long to wait for the next, time-outs left aside; None: nothing has been measured."""
        return None if self.smoothed_s is None else self.smoothed_s + _K * self.variation_s


class Pace:
    """Deadlines for answers, by meter and by distance behind a station.

    Args:
        shortest_s: no measured deadline is below it, since large answers take longer than most; on a line or
            bus `LINE_SHORTEST_S`.
        longest_s: no deadline is above it.
        most: ways that are remembered.
    """

    def __init__(self, shortest_s: float = 5.0, longest_s: float = 120.0, *, most: int = MOST) -> None:
        self._shortest_s = shortest_s
        self._longest_s = longest_s
        self._most = most
        self._ways: OrderedDict[Hashable, Estimate] = OrderedDict()

    def __len__(self) -> int:
        """Ways that are remembered."""
        return len(self._ways)

    def answer_s(
        self, meter_id: int, place: Place, *, on_line: bool = False, probe: bool = False
    ) -> float | None:
        """Seconds to wait for the meter's next answer; None: as the driver's settings say.

        ``on_line``: the meter shares a line or bus. A ``probe`` gets at least what the way's length asks for,
        and no more for time-outs before it.
        """
        first = None if place.link is None else FIRST_S[place.link] * place.hops
        own = self._ways.get(meter_id)
        like = self._ways.get(_like(place))
        measured = None if own is None else own.deadline_s
        if measured is None and like is not None:
            measured = like.deadline_s
        shortest_s = min(self._shortest_s, LINE_SHORTEST_S) if on_line else self._shortest_s
        deadline = first if measured is None else max(measured, shortest_s)
        if deadline is None:
            return None
        if probe:
            deadline = max(deadline, first or 0.0)
        elif own is not None and own.doubled:
            most = self._longest_s if first is None else max(deadline, first * _MOST_DOUBLED)
            deadline = min(deadline * 2**own.doubled, most)
        return min(deadline, self._longest_s)

    def knows(self, meter_id: int) -> bool:
        """Whether the meter has answered."""
        found = self._ways.get(meter_id)
        return found is not None and found.smoothed_s is not None

    def answered(self, meter_id: int, place: Place, answers_s: Sequence[float]) -> None:
        """Learn from answers of one conversation, in their order."""
        if not answers_s:
            return
        for name in (meter_id, _like(place)):
            if name is None:
                continue
            estimate = self._estimate(name)
            estimate.doubled = 0
            estimate.take(answers_s)

    def timed_out(self, meter_id: int) -> None:
        """Wait longer for this meter, until it answers."""
        estimate = self._estimate(meter_id)
        estimate.doubled = min(estimate.doubled + 1, 10)

    def _estimate(self, name: Hashable) -> Estimate:
        found = self._ways.get(name)
        if found is None:
            found = self._ways[name] = Estimate()
            while len(self._ways) > self._most:
                self._ways.popitem(last=False)
        else:
            self._ways.move_to_end(name)
        return found


def _like(place: Place) -> tuple[str, int, int] | None:
    return None if place.station_id is None else ("hops", place.station_id, place.hops)
