"""Named SQL: each noun of the store has its queries in ``queries/<noun>.sql``, read when it is loaded.

A file is a run of blocks::

    -- name: by_asset
    -- One meter by its asset id, with its current state.
    SELECT ...

The description line is compulsory: SQL is a text that people read.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from importlib.resources import files
from types import MappingProxyType

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

#: What every function of the store takes. Other packages name the type from here: only the store imports
#: psycopg.
Connection = AsyncConnection[TupleRow]

_NAME = re.compile(r"^-- name: *([a-z][a-z0-9_]*) *$", re.MULTILINE)


class QueryFileError(ValueError):
    """A query file that does not keep to the form above. A defect of ours."""


def parse(text: str, where: str) -> Mapping[str, bytes]:
    """Queries of one file by name, as bytes (psycopg takes str for literals only).

    Raises QueryFileError for text before the first name, a name used twice, or a query without description or
    body.
    """
    head, *blocks = _NAME.split(text)
    if head.strip():
        raise QueryFileError(f"{where}: text before the first '-- name:'")
    queries: dict[str, bytes] = {}
    for name, block in zip(blocks[::2], blocks[1::2], strict=True):
        description, _, body = block.strip().partition("\n")
        if name in queries:
            raise QueryFileError(f"{where}: {name} is there twice")
        if not description.startswith("-- ") or not body.strip():
            raise QueryFileError(f"{where}: {name} needs a description line and a query")
        queries[name] = body.strip().encode()
    return MappingProxyType(queries)


def load(noun: str) -> Mapping[str, bytes]:
    """Queries of ``queries/<noun>.sql`` by name."""
    path = files("headend.store") / "queries" / f"{noun}.sql"
    return parse(path.read_text("utf-8"), f"{noun}.sql")


def aware(moment: datetime) -> datetime:
    """The moment unchanged. Raises ValueError for a naive one: PostgreSQL would take its own zone."""
    if moment.tzinfo is None:
        raise ValueError("a time needs its offset from UTC")
    return moment
