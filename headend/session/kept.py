"""Links to concentrators, kept open for a moment after one meter's conversation for the next one's.

To open and close a connection costs as much as several round trips, at our end and at the concentrator's,
and a night reads hundreds of meters through each. The gateway prefix tells them apart on one connection.

A link is kept only when nothing can be under way on it: the association was released, every message that
came was its meter's, and no byte is left over. One on which anything comes while nobody uses it is closed,
and so is one that was not used for ``idle_s``. Some concentrators take a connection for one meter's: where
kept links fail their next meter again and again, none is kept any more.
"""

import asyncio
from collections import OrderedDict, deque
from typing import Final

from headend.transport.stream import Stream
from schemas.address import LinkAddress, Scheme

#: Links that are kept at most, of all concentrators together.
MOST: Final = 1_000
#: Kept links that may fail the next meter, one after another, before a concentrator is taken at its word.
_DOUBTS: Final = 3

_Place = tuple[str, int]


class KeptLinks:
    """The links that nobody uses now. Not for meters that have a link of their own."""

    def __init__(self, idle_s: float = 1.0, *, most: int = MOST) -> None:
        self._idle_s = idle_s
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._links: OrderedDict[Stream, tuple[_Place, float]] = OrderedDict()  # oldest first
        self._by_place: dict[_Place, deque[Stream]] = {}
        self._doubts: dict[_Place, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Links that are kept now."""
        return len(self._links)

    def take(self, address: LinkAddress) -> Stream | None:
        """A link to the concentrator of ``address`` that is open and silent, no longer kept; None where there
        is none."""
        place = _place(address)
        if place is None:
            return None
        waiting = self._by_place.get(place)
        while waiting:
            stream = waiting[-1]  # the one that was used last
            self._forget(stream, place)
            if stream.is_quiet:
                return stream
            stream.abort()
        return None

    def give(self, address: LinkAddress, stream: Stream) -> None:
        """Keep the link, or close it. Nothing may be under way on it."""
        place = _place(address)
        if place is None or self._doubts.get(place, 0) >= _DOUBTS:
            stream.close()
            return
        self._links[stream] = (place, self._loop.time() + self._idle_s)
        self._by_place.setdefault(place, deque()).append(stream)
        if len(self._links) > self._most:
            self._close_oldest()
        if self._timer is None:
            self._timer = self._loop.call_later(self._idle_s, self._sweep)

    def worked(self, address: LinkAddress) -> None:
        """A meter answered on a link that was kept."""
        if self._doubts:
            self._doubts.pop((address.host or "", address.port or 0), None)

    def failed(self, address: LinkAddress) -> None:
        """A meter did not answer on a link that was kept: it may be the meter, or the link."""
        place = _place(address)
        if place is not None:
            self._doubts[place] = self._doubts.get(place, 0) + 1

    def close(self) -> None:
        """Close all."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._links:
            self._close_oldest()

    def _sweep(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._links:
            _, (_, until) = next(iter(self._links.items()))
            if until > now:
                self._timer = self._loop.call_at(until, self._sweep)
                return
            self._close_oldest()

    def _close_oldest(self) -> None:
        stream, (place, _) = next(iter(self._links.items()))
        self._forget(stream, place)
        stream.close()

    def _forget(self, stream: Stream, place: _Place) -> None:
        del self._links[stream]
        waiting = self._by_place[place]
        waiting.remove(stream)
        if not waiting:
            del self._by_place[place]


def _place(address: LinkAddress) -> _Place | None:
    """What is connected with, None where the link is no concentrator's, or carries more than our messages."""
    if address.gateway is None or address.scheme is not Scheme.TCP or address.host is None:
        return None
    return address.host, address.port or 0
