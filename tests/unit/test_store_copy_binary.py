"""The binary COPY format, byte for byte as PostgreSQL documents it."""

import struct

import numpy as np
import pytest

from headend.store.copy_binary import HEADER, Column, encode, timestamps


def stream(*columns: Column) -> bytes:
    return b"".join(encode(columns))


def expected(rows: list[list[tuple[int, int | None]]]) -> bytes:
    """Written by hand: each row a list of (width, value)."""
    codes = {2: "h", 4: "i", 8: "q"}
    out = HEADER
    for row in rows:
        out += struct.pack(">h", len(row))
        for width, value in row:
            out += struct.pack(">i", -1) if value is None else struct.pack(f">i{codes[width]}", width, value)
    return out + b"\xff\xff"


def column(values: list[int | None], width: int) -> Column:
    filled = np.array([0 if value is None else value for value in values], dtype=np.int64)
    return Column(filled, width, np.array([value is not None for value in values]))


@pytest.mark.parametrize("rows", [0, 1, 2, 2047, 2048, 2049])
@pytest.mark.parametrize("pattern", ["none", "all", "first", "second", "mixed"])
def test_every_pattern_of_nulls(rows, pattern):
    wide: list[int | None] = [i * 2**40 - 1 for i in range(rows)]
    small: list[int | None] = [i % 7 for i in range(rows)]
    if pattern in {"all", "first"}:
        wide = [None] * rows
    if pattern in {"all", "second"}:
        small = [None] * rows
    if pattern == "mixed":
        wide = [None if i % 3 == 0 else value for i, value in enumerate(wide)]
        small = [None if i % 5 == 0 else value for i, value in enumerate(small)]
    whole = list(range(rows))
    assert stream(column(wide, 8), Column(np.array(whole, dtype=np.int32), 4), column(small, 2)) == expected(
        [[(8, a), (4, b), (2, c)] for a, b, c in zip(wide, whole, small, strict=True)]
    )


def test_extremes_and_the_epoch():
    extremes = [-(2**63), -1, 0, 2**63 - 1]
    assert stream(Column(np.array(extremes), 8)) == expected([[(8, value)] for value in extremes])
    us_2000 = 946_684_800_000_000
    assert stream(timestamps(np.array([us_2000, us_2000 - 1, 0]))) == expected(
        [[(8, 0)], [(8, -1)], [(8, -us_2000)]]
    )
