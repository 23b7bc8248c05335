"""Rows of numpy columns in PostgreSQL's binary COPY format.

A row is a count of fields (int16), then for each field its length (int32, -1 for NULL) and its bytes, all
big-endian. Where every row is NULL in the same columns, all rows have one length and the whole is one numpy
structured array; else the array is laid out as if nothing were NULL and the bytes of NULLs are then cut out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

#: Signature, flags, length of the header extension.
HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"
#: PostgreSQL counts microseconds from 2000-01-01 UTC.
EPOCH_US: Final = 946_684_800_000_000

_LENGTH: Final = np.dtype(">i4")


@dataclass(frozen=True, slots=True)
class Column:
    """Integers of ``width`` bytes (2, 4 or 8); ``valid`` is False where NULL (None: nowhere)."""

    values: npt.NDArray[Any]
    width: int
    valid: npt.NDArray[np.bool_] | None = None


def timestamps(us: npt.NDArray[np.int64]) -> Column:
    """timestamptz from microseconds since 1970-01-01 UTC, exact."""
    return Column(us - EPOCH_US, 8)


def encode(columns: Sequence[Column]) -> bytes:
    """The whole COPY stream, header and trailer included, for columns of equal length."""
    rows = len(columns[0].values)
    ever_null = [column.valid is not None and not column.valid.all() for column in columns]
    always_null = [
        column.valid is not None and null and not column.valid.any()
        for column, null in zip(columns, ever_null, strict=True)
    ]
    fields: list[tuple[str, Any]] = [("fields", ">i2")]
    for place, column in enumerate(columns):
        fields.append((f"length{place}", _LENGTH))
        if not always_null[place]:
            fields.append((f"value{place}", f">i{column.width}"))
    table = np.empty(rows, dtype=fields)
    table["fields"] = len(columns)
    for place, column in enumerate(columns):
        if always_null[place]:
            table[f"length{place}"] = -1
            continue
        table[f"value{place}"] = column.values
        if ever_null[place]:
            table[f"length{place}"] = np.where(np.asarray(column.valid), column.width, -1)
        else:
            table[f"length{place}"] = column.width
    if ever_null == always_null:
        return HEADER + table.tobytes() + TRAILER
    keep = np.ones((rows, table.dtype.itemsize), dtype=np.bool_)
    for place, column in enumerate(columns):
        if ever_null[place] and not always_null[place] and column.valid is not None:
            at = table.dtype.fields[f"value{place}"][1]  # type: ignore[index]
            keep[:, at : at + column.width] = column.valid[:, None]
    octets = table.view(np.uint8).reshape(rows, table.dtype.itemsize)
    return HEADER + octets[keep].tobytes() + TRAILER
