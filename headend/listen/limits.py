"""What one sender may cost the others: bounds on connections, bytes, frames and silence."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a listener.

    ``connections``   open at once; more are refused.
    ``per_host``      open at once from one address. Generous: a mobile network hides many meters behind one.
    ``idle_s``        silence after which a connection is closed.
    ``frame_s``       longest time from a frame's first byte to its last.
    ``max_apdu``      bytes of one APDU, and so of what a connection makes us keep.
    ``frames_per_s``  frames that a sender may send in the long run, ``burst`` of them at once. A TCP sender
                      beyond is not read for a while, which loses nothing; a UDP sender's datagrams are
                      dropped and counted.
    ``bad_in_a_row``  stretches that are no frame, without a good one between, after which we hang up.
    ``unsettled``     messages of one connection that wait for the database; then it is not read.
    ``waiting``       datagrams that wait to be looked at; more are dropped and counted.
    """

    connections: int = 20_000
    per_host: int = 2_000
    idle_s: float = 600.0
    frame_s: float = 60.0
    max_apdu: int = 16 * 1024
    frames_per_s: float = 50.0
    burst: int = 500
    bad_in_a_row: int = 20
    unsettled: int = 64
    waiting: int = 4_096


class Bucket:
    """A token bucket: ``rate`` per second in the long run, ``burst`` at once. ``clock`` counts seconds."""

    __slots__ = ("_at", "_burst", "_clock", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._tokens = float(burst)
        self._at = clock()

    def take(self) -> bool:
        """One token, if there is one."""
        if self._refilled() < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def borrow(self) -> float:
        """One token, owed where there is none: how many seconds to wait before going on."""
        self._tokens = self._refilled() - 1.0
        return max(0.0, -self._tokens / self._rate)

    def _refilled(self) -> float:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return self._tokens
