from datetime import datetime
from importlib.resources import files

import pytest

from headend.store import sql


def test_every_query_file_reads():
    names = [entry.name for entry in (files("headend.store") / "queries").iterdir()]
    assert {"meters.sql", "points.sql", "keyring.sql", "tokens.sql", "audit.sql", "inbox.sql"} <= set(names)
    for name in names:
        assert sql.load(name.removesuffix(".sql"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SELECT 1", "before the first"),
        ("-- name: a\nSELECT 1", "description"),
        ("-- name: a\n-- only words", "description"),
        ("-- name: a\n-- one\nSELECT 1\n-- name: a\n-- two\nSELECT 2", "twice"),
    ],
)
def test_bad_files_are_refused(text, said):
    with pytest.raises(sql.QueryFileError, match=said):
        sql.parse(text, "x.sql")


def test_blocks_come_apart():
    parsed = sql.parse("-- name: a\n-- one\nSELECT 1;\n\n-- name: b\n-- two\nSELECT 2;\n", "x.sql")
    assert dict(parsed) == {"a": b"SELECT 1;", "b": b"SELECT 2;"}


def test_naive_times_are_refused():
    with pytest.raises(ValueError, match="offset"):
        sql.aware(datetime(2026, 1, 1))  # noqa: DTZ001
