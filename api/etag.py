"""Strong entity tags: equal tags mean equal bytes."""

import hashlib
import json
from typing import Any


def strong(*parts: Any) -> str:
    """A tag over everything that decides an answer's bytes; parts must be JSON or have a telling ``str``."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def matches(if_none_match: str | None, tag: str) -> bool:
    """Whether the client already has it (RFC 9110, If-None-Match: weak comparison, list or ``*``)."""
    if if_none_match is None:
        return False
    given = [item.strip() for item in if_none_match.split(",")]
    return "*" in given or any(item.removeprefix("W/") == tag for item in given)
