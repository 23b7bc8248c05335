"""OBIS codes as profiles write them: the full form ``1-0:1.8.0*255``, in patterns ``x`` for any number."""

import re
from typing import Final

_CODE: Final = re.compile(r"(\d{1,3})-(\d{1,3}):(\d{1,3})\.(\d{1,3})\.(\d{1,3})\*(\d{1,3})", re.ASCII)
_PATTERN: Final = re.compile(
    r"(\d{1,3}|x)-(\d{1,3}|x):(\d{1,3}|x)\.(\d{1,3}|x)\.(\d{1,3}|x)\*(\d{1,3}|x)", re.ASCII
)
_FORM: Final = "A-B:C.D.E*F with six numbers of 0..255, as in 1-0:1.8.0*255"


def _groups(text: str) -> tuple[str, ...] | None:
    found = _PATTERN.fullmatch(text)
    if found is None or any(
        group != "x" and (int(group) > 255 or str(int(group)) != group) for group in found.groups()
    ):
        return None
    return found.groups()


def check_obis(text: str) -> str:
    """The code unchanged. Raises ValueError where it is not the full written form."""
    if _CODE.fullmatch(text) is None or _groups(text) is None:
        raise ValueError(f"{text!r} is no OBIS code: {_FORM}")
    return text


def check_pattern(text: str) -> str:
    """The pattern unchanged. Raises ValueError where it is no code, with or without ``x`` for numbers."""
    if _groups(text) is None:
        raise ValueError(f"{text!r} is no OBIS pattern: {_FORM}; x stands for any number")
    return text


def matches(pattern: str, obis: str) -> bool:
    """Whether a full code falls under a pattern; False for what is no code."""
    wanted, given = _groups(pattern), _groups(obis)
    if wanted is None or given is None:
        return False
    return all(want in ("x", have) for want, have in zip(wanted, given, strict=True))


def wildcards(pattern: str) -> int:
    """How many of the six numbers a pattern leaves open."""
    return pattern.count("x")
