"""How often somebody may ask: a bucket of requests for each principal and each address, in this process.

Far above what a billing system's pull or a control room needs, and what keeps one that went wild from being
all that is answered. 429 says when to come back.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from typing import Final

from api.errors import TooMany
from schemas.people import Principal

#: Buckets that are kept; the one that was used longest ago goes first, and was full.
_MOST: Final = 10_000


class Buckets:
    """``rate`` requests a second, ``burst`` at once; for each key. ``clock`` counts seconds."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> None:
        """One request. Raises TooMany."""
        now = self._clock()
        left, at = self._left.pop(key, (float(self._burst), now))
        left = min(self._burst, left + (now - at) * self._rate)
        if left < 1:
            self._left[key] = left, now
            after = ceil((1 - left) / self._rate)
            raise TooMany(f"too many requests: come back in {after} s", headers={"Retry-After": str(after)})
        self._left[key] = left - 1, now
        while len(self._left) > _MOST:
            self._left.popitem(last=False)


class Limits:
    """Both kinds. ``rate`` 0: no limit."""

    def __init__(self, rate: float = 0, burst: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._principals = Buckets(rate, burst, clock) if rate else None
        # Behind one address there may be several: a proxy, an office.
        self._addresses = Buckets(2 * rate, 2 * burst, clock) if rate else None

    def of_principal(self, principal: Principal) -> None:
        """Raises TooMany."""
        if self._principals is not None:
            self._principals.take(
                f"account {principal.account}" if principal.account is not None else principal.actor
            )

    def of_address(self, address: str) -> None:
        """Raises TooMany."""
        if self._addresses is not None:
            self._addresses.take(address)
