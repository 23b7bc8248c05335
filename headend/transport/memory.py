"""Two streams joined in memory: what one writes, the other reads. For tests and simulators."""

from headend.transport.stream import HIGH_WATER, LOW_WATER, BaseStream
from protocols.errors import LinkClosed


class MemoryStream(BaseStream):
    """One end. ``datagrams`` keeps each write apart, as UDP does."""

    __slots__ = ("_datagrams", "_other")

    def __init__(self, peer: str, *, datagrams: bool = False) -> None:
        super().__init__(peer)
        self._datagrams = datagrams
        self._other: MemoryStream | None = None

    def write(self, data: bytes) -> None:
        """Hand over bytes to the other end. Raises LinkClosed when either end is closed."""
        other = self._other
        if self._ended is not None or other is None:
            raise LinkClosed(f"{self.peer}: {self._ended or 'not joined'}")
        if data:
            other._arrived(bytes(data))  # noqa: SLF001 - the other half of this pair
            if other._size > HIGH_WATER:  # noqa: SLF001
                self.pause_writing()

    def _take(self) -> bytes:
        if self._datagrams:
            data = self._pending.popleft()
            self._size -= len(data)
        else:
            data = super()._take()
        if self._other is not None and self._size <= LOW_WATER:
            self._other.resume_writing()
        return data

    def _pause_peer(self, pause: bool) -> None:
        """Its writer is told in `write` and `_take`."""

    def _shut(self, *, at_once: bool) -> None:
        other, self._other = self._other, None
        if other is not None:
            other._other = None  # noqa: SLF001
            other._lost("closed by the peer")  # noqa: SLF001
            self._lost("closed by us")


def memory_pair(*, datagrams: bool = False) -> tuple[MemoryStream, MemoryStream]:
    """The head-end's end and the meter's end."""
    ours, theirs = (
        MemoryStream("memory:meter", datagrams=datagrams),
        MemoryStream("memory:headend", datagrams=datagrams),
    )
    ours._other, theirs._other = theirs, ours  # noqa: SLF001
    return ours, theirs
