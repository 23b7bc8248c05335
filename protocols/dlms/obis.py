"""OBIS codes: the six value groups A-B:C.D.E*F that name every object of a meter (IEC 62056-6-1)."""

import re
from dataclasses import dataclass
from typing import Final

from protocols.errors import RemoteProtocolError

#: Letters that IEC 62056-21 readouts write instead of a number in groups C and D.
_LETTERS: Final = {"C": 96, "F": 97, "L": 98, "P": 99}

_HEX: Final = re.compile(r"[0-9A-Fa-f]{12}")
_DOTTED: Final = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})", re.ASCII)
_WRITTEN: Final = re.compile(
    r"(?:(?:(?P<a>\d{1,3})-)?(?P<b>\d{1,3}):)?"
    r"(?P<c>\d{1,3}|[CFLP])\.(?P<d>\d{1,3}|[CFLP])(?:\.(?P<e>\d{1,3}))?"
    r"(?:[*&.](?P<f>\d{1,3}))?",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, order=True)
class Obis:
    """One logical name. Ordered and hashed by its six bytes; ``str()`` is the full form ``1-0:1.8.0*255``."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != 6:
            raise ValueError(f"an OBIS code has 6 bytes, not {len(self.raw)}")

    @classmethod
    def from_bytes(cls, raw: bytes) -> "Obis":
        """The logical name as it stands on the wire.

        Raises:
            RemoteProtocolError: not six bytes long.
        """
        if len(raw) != 6:
            raise RemoteProtocolError(f"a logical name has 6 bytes, not {len(raw)}")
        return cls(bytes(raw))

    @classmethod
    def parse(cls, text: str) -> "Obis":
        """Read any written form.

        ``1-0:1.8.0*255``, ``1-0:1.8.0&255``, ``1-0:1.8.0.255``, ``1.0.1.8.0.255``, ``1-0:1.8.0``,
        ``0:1.8.0``, the reduced ``1.8.0``, ``1.8.0*01``, ``F.F``, ``C.1.0``, and twelve hex digits
        ``0100010800FF``. What a reduced form leaves out is: F 255, E 0, B 0, and A 1 (electricity), but 0
        (abstract) where C is 96 or 97, since service entries and error registers belong to no medium.

        Raises:
            ValueError: no OBIS code, or a group above 255.
        """
        text = text.strip()
        if _HEX.fullmatch(text):
            return cls(bytes.fromhex(text))
        if dotted := _DOTTED.fullmatch(text):
            return cls(_groups(text, [int(group) for group in dotted.groups()]))
        found = _WRITTEN.fullmatch(text)
        # A separator of F needs E before it: "1.8*1" would leave E open.
        if found is None or (found["f"] is not None and found["e"] is None):
            raise ValueError(f"not an OBIS code: {text!r} (expected a form of A-B:C.D.E*F)")
        c, d = (
            _LETTERS.get(group.upper(), -1) if group.isalpha() else int(group)
            for group in found.group("c", "d")
        )
        a = int(found["a"]) if found["a"] is not None else 0 if c in (96, 97) else 1
        b = int(found["b"]) if found["b"] is not None else 0
        e = int(found["e"]) if found["e"] is not None else 0
        f = int(found["f"]) if found["f"] is not None else 255
        return cls(_groups(text, [a, b, c, d, e, f]))

    def to_bytes(self) -> bytes:
        """The six bytes A to F."""
        return self.raw

    def __str__(self) -> str:
        a, b, c, d, e, f = self.raw
        return f"{a}-{b}:{c}.{d}.{e}*{f}"

    def __repr__(self) -> str:
        return f"Obis({str(self)!r})"


def _groups(text: str, groups: list[int]) -> bytes:
    if any(group > 255 for group in groups):
        raise ValueError(f"not an OBIS code: {text!r} (a value group is 0 to 255)")
    return bytes(groups)
