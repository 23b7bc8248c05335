"""Rows of numpy columns in PostgreSQL's binary COPY format.

A row is a count of fields (int16), then for each field its length (int32, -1 for NULL) and its bytes, all
big-endian. Rows with NULL in the same columns have one length: a block of them is one numpy structured array.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

#: Signature, flags, length of the header extension.
HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"
#: PostgreSQL counts microseconds from 2000-01-01 UTC.
EPOCH_US: Final = 946_684_800_000_000

#: Rows laid out at once: a block stays in the processor's cache while column after column goes into it.
_BLOCK_ROWS: Final = 2048


@dataclass(frozen=True, slots=True)
class Column:
    """Integers of ``width`` bytes (2, 4 or 8); ``valid`` is False where NULL (None: nowhere)."""

    values: npt.NDArray[Any]
    width: int
    valid: npt.NDArray[np.bool_] | None = None

    def part(self, rows: slice) -> "Column":
        return Column(self.values[rows], self.width, None if self.valid is None else self.valid[rows])


def timestamps(us: npt.NDArray[np.int64]) -> Column:
    """timestamptz from microseconds since 1970-01-01 UTC, exact."""
    return Column(us - EPOCH_US, 8)


def encode(columns: Sequence[Column]) -> Iterator[bytes]:
    """The COPY stream, header and trailer included, in blocks; all columns have one length."""
    rows = len(columns[0].values)
    yield HEADER
    for start in range(0, rows, _BLOCK_ROWS):
        yield _block([column.part(slice(start, start + _BLOCK_ROWS)) for column in columns])
    yield TRAILER


def _block(columns: Sequence[Column]) -> bytes:
    """Some rows. NULL in all of them costs no bytes; NULL in some is written as a value and then cut out."""
    all_null = [column.valid is not None and not column.valid.any() for column in columns]
    some_null = [column.valid is not None and not column.valid.all() for column in columns]
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for place, column in enumerate(columns):
        fields.append((f"length{place}", ">i4"))
        if not all_null[place]:
            fields.append((f"value{place}", f">i{column.width}"))
    template = np.zeros((), dtype=fields)
    template["fields"] = len(columns)
    for place, column in enumerate(columns):
        template[f"length{place}"] = -1 if all_null[place] else column.width
    # Faster than numpy.full, which copies a structured value field by field.
    table = np.frombuffer(bytearray(template.tobytes()) * len(columns[0].values), dtype=template.dtype)
    keep: npt.NDArray[np.bool_] | None = None
    for place, column in enumerate(columns):
        if all_null[place]:
            continue
        table[f"value{place}"] = column.values
        if some_null[place] and column.valid is not None:
            table[f"length{place}"][~column.valid] = -1
            if keep is None:
                keep = np.ones((len(table), table.dtype.itemsize), dtype=np.bool_)
            at = table.dtype.fields[f"value{place}"][1]  # type: ignore[index]
            keep[:, at : at + column.width] = column.valid[:, None]
    if keep is None:
        return table.tobytes()
    return table.view(np.uint8).reshape(keep.shape)[keep].tobytes()
