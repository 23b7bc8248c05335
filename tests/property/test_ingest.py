"""Any bytes give rows or errors with their lines, and never an exception; a written file reads back."""

import csv
import io
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from headend.ingest.csv_table import read_table
from headend.ingest.meter_rows import COLUMNS, ImportRules, read_meters
from headend.ingest.reading_import import read_readings
from protocols.dlms.security import Key

NOW = datetime(2026, 11, 22, tzinfo=UTC)
RULES = ImportRules(Key(bytes(16)), allow_plain_keys=True)
CELL = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20)


@given(st.binary(max_size=300))
def test_any_bytes(data):
    for head in (b"", b"asset_id,model\n", b"asset_id,obis,time,value\n", b"asset_id,model,lls_secret\n"):
        for lines, errors in (
            read_meters(head + data, RULES),
            read_readings(head + data, now=NOW),
        ):
            most = (head + data).count(b"\n") + (head + data).count(b"\r") + 1
            assert all(0 <= error.line <= most for error in errors)
            assert all(1 <= line.line <= most for line in lines)


@given(st.dictionaries(st.sampled_from(COLUMNS), CELL, min_size=1))
def test_any_cells(cells):
    cells = {"asset_id": "1", "model": "headend-sim"} | cells
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(cells)
    writer.writerow(cells.values())
    lines, errors = read_meters(file.getvalue().encode(), RULES)
    assert len(lines) == (0 if errors else 1)


@given(
    st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=5),
    st.sampled_from(",;\t"),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_a_written_table_reads_back(rows, delimiter, end, mark):
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
    writer.writerow("abc")
    writer.writerows(rows)
    data = file.getvalue().encode("utf-8-sig" if mark else "utf-8")
    table = read_table(data, known="abc", required="abc")
    assert table.errors == ()
    assert [tuple(row.cells.values()) for row in table.rows] == rows
    assert [row.line for row in table.rows] == list(range(2, 2 + len(rows)))
