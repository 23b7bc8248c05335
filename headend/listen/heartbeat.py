"""What meters that dial in, and gateways, say of themselves outside of DLMS, as their models describe it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from schemas.model import Heartbeat

_TITLE_LENGTH: Final = 8
#: Bytes of an identity that goes to a suffix.
_LONGEST: Final = 64


@dataclass(frozen=True, slots=True)
class Claim:
    """Who somebody says to be: a system title, or a name (logical device name or asset id). No proof."""

    title: bytes | None = None
    name: str | None = None

    def __str__(self) -> str:
        return self.title.hex().upper() if self.title is not None else self.name or ""


class Beat(NamedTuple):
    """A heartbeat at the start of some bytes: what it claims, what to answer, and where it ends."""

    claim: Claim
    answer: bytes
    end: int


@dataclass(frozen=True, slots=True)
class Partial:
    """The bytes may be the beginning of a heartbeat."""


@lru_cache(maxsize=256)
def _parts(pattern: Heartbeat) -> tuple[bytes, bytes, bytes, int | None]:
    length = _TITLE_LENGTH if pattern.identity == "system-title" else pattern.length
    return bytes.fromhex(pattern.prefix), bytes.fromhex(pattern.suffix), bytes.fromhex(pattern.answer), length


def find(patterns: Sequence[Heartbeat], data: bytes) -> Beat | Partial | None:
    """The heartbeat at the start of ``data``: of the first pattern that fits, or perhaps with more bytes."""
    partial: Partial | None = None
    for pattern in patterns:
        found = _match(pattern, data)
        if isinstance(found, Beat):
            return found
        partial = partial or found
    return partial


def _match(pattern: Heartbeat, data: bytes) -> Beat | Partial | None:
    prefix, suffix, answer, length = _parts(pattern)
    begin = len(prefix)
    if len(data) < begin:
        return Partial() if prefix.startswith(data) else None
    if not data.startswith(prefix):
        return None
    if length is None:
        end = data.find(suffix, begin, begin + _LONGEST + len(suffix))
        if end < 0:
            return Partial() if len(data) < begin + _LONGEST + len(suffix) else None
    else:
        end = begin + length
        given = data[end : end + len(suffix)]
        if len(given) < len(suffix):
            return Partial() if suffix.startswith(given) else None
        if given != suffix or len(data) < end:
            return None if given != suffix else Partial()
    claim = _claim(pattern, data[begin:end])
    return None if claim is None else Beat(claim, answer, end + len(suffix))


def _claim(pattern: Heartbeat, identity: bytes) -> Claim | None:
    if pattern.identity == "system-title":
        return Claim(title=identity)
    if not identity or not all(0x21 <= octet < 0x7F for octet in identity):
        return None
    return Claim(name=identity.decode("ascii"))
