"""Walks the chain of the audit trail and tells every place where it does not hold.

::

    hash of entry n = SHA-256(hash of entry n-1 || entry n as text)          made by the database, at commit
    seal of entry n = HMAC-SHA-256(key under the master key, n || its hash)   made by the service, each minute

An entry that was edited, removed, slipped in or moved breaks the chain at its place. Whoever rewrites the
whole chain behind it, or cuts off its end, breaks the seals, whose key is not in the database; what was added
since the last seal is safe against him only where its head is kept elsewhere (``headend audit head``).
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from headend.keys.seal import Fingerprint
from headend.store import audit
from headend.store.audit import Head
from headend.store.sql import Connection

#: Links that are read at once.
_AT_ONCE: Final = 5000
#: Faults that are told one by one.
MOST_FAULTS: Final = 100


class Fault(NamedTuple):
    """Where the chain does not hold, and what must have happened there."""

    position: int
    audit_id: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found. ``sealed`` is the position of the last seal that holds, 0: none. At most
    `MOST_FAULTS` faults."""

    head: Head
    sealed: int
    faults: tuple[Fault, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.faults


def link(before: bytes, text: str) -> bytes:
    """Hash of an entry, given the hash of the one before it."""
    return hashlib.sha256(before + text.encode()).digest()


async def verify(
    connection: Connection,
    fingerprint: Fingerprint | None,
    *,
    anchor: Head | None = None,
    on_progress: Callable[[int], object] = lambda done: None,
) -> Verified:
    """Walk the whole chain. ``anchor`` is a head that was written down elsewhere; without ``fingerprint``
    seals are not looked at. Within `store.audit.one_state`. Raises UnavailableError."""
    faults: list[Fault] = []
    end = await audit.head(connection)
    hashes_wanted = (
        {one.position: one for one in await audit.seals(connection)} if fingerprint is not None else {}
    )
    at_seals: dict[int, bytes] = {}
    position, before = 0, bytes(32)
    anchored = anchor is None or anchor.position == 0
    while links := await audit.chain(connection, after=position, limit=_AT_ONCE):
        for one in links:
            if one.position != position + 1:
                faults.append(
                    Fault(position + 1, None, f"places {position + 1} to {one.position - 1} are gone")
                )
            if one.text is None:
                faults.append(Fault(one.position, one.audit_id, f"entry {one.audit_id} was removed"))
            elif not hmac.compare_digest(link(before, one.text), one.hash):
                faults.append(
                    Fault(
                        one.position, one.audit_id, f"entry {one.audit_id} was changed, moved or slipped in"
                    )
                )
            position, before = one.position, one.hash
            if position in hashes_wanted:
                at_seals[position] = before
            if anchor is not None and position == anchor.position:
                anchored = hmac.compare_digest(before, anchor.hash)
        on_progress(position)
        if len(faults) >= MOST_FAULTS:
            break
    else:
        if (position, before) != end:
            faults.append(
                Fault(position + 1, None, f"the chain ends at {position}, its head says {end.position}")
            )
        faults += [
            Fault(0, number, f"entry {number} stands nowhere in the chain: it was slipped in")
            for number in await audit.unchained(connection, limit=MOST_FAULTS)
        ]
    if not anchored and anchor is not None:
        faults.append(
            Fault(anchor.position, None, f"the chain is not the one whose head {anchor.position} was kept")
        )
    sealed = 0
    for place, seal in sorted(hashes_wanted.items()):
        wanted = fingerprint.audit_seal(_sealed_text(Head(place, seal.hash))) if fingerprint else b""
        if not hmac.compare_digest(wanted, seal.seal):
            faults.append(Fault(place, None, f"the seal at {place} was not made by this service"))
        elif len(faults) < MOST_FAULTS and at_seals.get(place) != seal.hash:
            faults.append(Fault(place, None, f"the chain up to {place} is not the one that was sealed"))
        else:
            sealed = place
    return Verified(end, sealed, tuple(sorted(faults)[:MOST_FAULTS]))


async def seal(connection: Connection, fingerprint: Fingerprint) -> Head | None:
    """Seal the end of the chain, where it has moved since it was last sealed; None where it has not."""
    end = await audit.head(connection)
    if end.position == 0:
        return None
    added = await audit.add_seal(connection, end, fingerprint.audit_seal(_sealed_text(end)))
    return end if added else None


def _sealed_text(head: Head) -> bytes:
    return head.position.to_bytes(8, "big") + head.hash
