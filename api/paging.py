"""Paging by cursor: an opaque ``after`` says where the last page ended; a Link header leads to the next."""

import base64
import binascii
import json
from typing import Any

from fastapi import Request, Response
from starlette.datastructures import URL

from api.errors import BadValue


def encode(position: list[str | int]) -> str:
    """A position in an ordering, as an opaque, URL-safe text."""
    return base64.urlsafe_b64encode(json.dumps(position, separators=(",", ":")).encode()).decode().rstrip("=")


def decode(cursor: str, *types: type) -> list[Any]:
    """The position a cursor of ours stands for. BadValue for anything else."""
    try:
        position = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        position = None
    if not isinstance(position, list) or [type(part) for part in position] != list(types):
        raise BadValue.parameter(
            "after", "is no cursor of this list; use the one that the last page's answer has"
        )
    if any(type(part) is int and not -(2**63) <= part < 2**63 for part in position):
        raise BadValue.parameter(
            "after", "is no cursor of this list; use the one that the last page's answer has"
        )
    if any(isinstance(part, str) and ("\0" in part or not part.isprintable()) for part in position):
        raise BadValue.parameter(
            "after", "is no cursor of this list; use the one that the last page's answer has"
        )
    return position


def link_next(request: Request, response: Response, cursor: str | None) -> None:
    """Add ``Link: <...>; rel="next"`` (RFC 8288) where there is a next page."""
    if cursor is not None:
        url = URL(f"{request.url.path}?{request.url.query}").include_query_params(after=cursor)
        response.headers["Link"] = f'<{url}>; rel="next"'


def number(cursor: str) -> int:
    """The number that a cursor of ours stands for, within what the database can hold. BadValue for others."""
    found: int = decode(cursor, int)[0]
    return max(0, min(found, 2**63 - 1))
