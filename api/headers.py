"""Headers that several slices take: a key that makes a request the same one again, and what it is known
by."""

import re
import uuid
from typing import Annotated, Final

from fastapi import Header, Request

from api.errors import BadValue

_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=128,
        description="the same key with the same body within 24 hours is the same request; of each caller",
    ),
]
CorrelationId = Annotated[
    str | None,
    Header(
        alias="X-Correlation-Id",
        max_length=128,
        description="goes into log, audit trail and answer; one is made where none is given",
    ),
]


def correlation(given: str | None) -> str:
    """What the request is known by."""
    return uuid.uuid4().hex if given is None else visible("X-Correlation-Id", given)


def given_correlation(request: Request) -> str | None:
    """What a request that is refused is known by: the header, where it is usable; None where it is not."""
    given = request.headers.get("X-Correlation-Id")
    return given if given is not None and _TOKEN.fullmatch(given) else None


def visible(name: str, given: str) -> str:
    """The header as it is. BadValue for blanks and what is not ASCII."""
    if _TOKEN.fullmatch(given) is None:
        raise BadValue.parameter(name, "must be 1 to 128 visible ASCII characters without blanks")
    return given
