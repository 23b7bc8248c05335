"""Log-ins that fail are slowed down, by name and by address, and nobody is locked out.

A try is charged before the password is looked at, and given back where it was right: a thousand at once count
as a thousand. After some that are free each waits twice as long as the one before, a quarter of an hour at
most; what is tried before its time is refused without being looked at, and lengthens nothing.
"""

import hashlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from headend.store import sessions
from headend.store.sql import Connection

_LONGEST_S: Final = 900
#: How many may fail before the first wait: of one name; from one address, behind which a whole office may be.
_FREE: Final[Mapping[str, int]] = {"login": 5, "address": 20}


class Throttled(Exception):
    """Too many failed: none is tried before ``after_s`` seconds."""

    def __init__(self, after_s: int) -> None:
        super().__init__(f"too many log-ins failed: try again in {after_s} s")
        self.after_s = after_s


@dataclass(frozen=True, slots=True)
class Charged:
    """A try that is held against these keys until it is given back."""

    by_login: str
    by_address: str | None

    @property
    def keys(self) -> list[str]:
        """All of them."""
        return [self.by_login] if self.by_address is None else [self.by_login, self.by_address]


def wait_s(failures: int, free: int) -> int:
    """How long the next try waits after so many that failed, in seconds."""
    return 0 if failures < free else min(_LONGEST_S, 2 ** min(failures - free, 20))


def network(address: str) -> str:
    """What one subscriber has of addresses: an IPv4 address, or the 64 bits before an IPv6 interface."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))


async def charge(connection: Connection, login: str, address: str | None, *, now: datetime) -> Charged:
    """Hold a try against the name and the address. Raises Throttled, and then holds nothing. In a transaction
    that is committed before the password is looked at."""
    # Names that nobody has are counted too, and are not kept: somebody may have typed his password there.
    digest = hashlib.sha256(login.encode()).hexdigest()[:32]
    charged = Charged(f"login:{digest}", None if address is None else f"address:{network(address)}")
    held = await sessions.attempts(connection, charged.keys, now=now)
    wait = max(one.until for one in held.values()) - now
    if wait > timedelta(0):
        raise Throttled(max(1, -(-int(wait.total_seconds() * 1000) // 1000)))
    for key, one in held.items():
        is_old = now - one.last_at > sessions.REMEMBERED
        failures = 1 if is_old else one.failures + 1
        until = now + timedelta(seconds=wait_s(failures, _FREE[key.partition(":")[0]]))
        await sessions.set_attempts(connection, key, failures=failures, until=until, now=now)
    return charged


async def give_back(connection: Connection, charged: Charged, *, now: datetime) -> None:
    """The try did not fail, and proved nothing yet either."""
    await sessions.refund_attempt(connection, charged.keys, now=now)


async def succeeded(connection: Connection, charged: Charged, *, now: datetime) -> None:
    """Nothing is held against the name any more; the address loses this try alone, so that one's own log-ins
    do not pay for guesses at others."""
    if charged.by_address is not None:  # in the order of keys, as they are charged
        await sessions.refund_attempt(connection, [charged.by_address], now=now)
    await sessions.clear_attempts(connection, charged.by_login, now=now)
