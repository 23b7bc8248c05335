"""Buffers written by hand, decoded by the view and by the general decoder alike."""

import datetime as dt
import struct
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from protocols.dlms import axdr, profile_view
from protocols.dlms.axdr import CompactArray, Data, DataType, TypeDescription
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.profile_buffer import (
    BufferLayout,
    Column,
    NullRule,
    Role,
    decode_buffer,
    decode_buffer_general,
    decode_buffers,
)
from protocols.errors import LocalProtocolError, RemoteProtocolError

BERLIN = ZoneInfo("Europe/Berlin")
CLOCK, STATUS, VALUE, OTHER = (Column(role) for role in (Role.CLOCK, Role.STATUS, Role.VALUE, Role.OTHER))
START = dt.datetime(2026, 3, 1, 23, 15, tzinfo=dt.UTC)


def plain_layout(**more):
    return BufferLayout((CLOCK, STATUS, VALUE, VALUE), 900, **more)


def clock(moment, deviation=-60, status=0, hundredths=0):
    local = moment - dt.timedelta(minutes=deviation)
    return struct.pack(">HBBBBBBBhB", local.year, local.month, local.day, local.isoweekday(), local.hour,
                       local.minute, local.second, hundredths, deviation, status)  # fmt: skip


def wall(text, status=0xFF):
    local = dt.datetime.fromisoformat(text)
    return struct.pack(">HBBBBBBBhB", local.year, local.month, local.day, 0xFF, local.hour, local.minute,
                       local.second, 0, -0x8000, status)  # fmt: skip


def buffer(rows):
    """By hand: array of structures of already tagged columns."""
    return axdr.encode_length(len(rows)).join([b"\x01", b""]) + b"".join(
        b"\x02" + bytes([len(row)]) + b"".join(row) for row in rows
    )


def plain_rows(n=96, start=START):
    return [
        (b"\x09\x0c" + clock(start + i * dt.timedelta(minutes=15)), bytes([0x11, i % 3]),
         b"\x06" + (1000 + i).to_bytes(4, "big"), b"\x06" + (0).to_bytes(4, "big"))
        for i in range(n)
    ]  # fmt: skip


def micros(moment):
    return int(moment.timestamp()) * 1_000_000


def same(one, other):
    assert len(one) == len(other)
    for name in ("stamp_us", "deviation_min", "clock_status", "status", "values", "valid"):
        left, right = getattr(one, name), getattr(other, name)
        if left is None or right is None:
            assert left is right is None
            continue
        assert left.dtype == right.dtype, name
        assert left.shape == right.shape, name
        assert (left == right).all(), name
    assert one.exceptions == other.exceptions


def both(raw, layout):
    """Decoded by each decoder, cold and warm, and as a batch; all must agree."""
    general = decode_buffer_general(raw, layout)
    same(decode_buffer(raw, layout), general)
    same(decode_buffer(memoryview(raw), layout), general)
    columns, counts = decode_buffers([raw, raw], layout)
    assert counts == [len(general)] * 2
    same(columns, profile_view.concatenate([general, general]))
    return general


def test_a_plain_day():
    raw = buffer(plain_rows())
    layout = plain_layout()
    found = both(raw, layout)
    assert profile_view.view(raw, layout) is not None
    assert found.stamp_us.tolist() == [micros(START + i * dt.timedelta(minutes=15)) for i in range(96)]
    assert found.values.tolist() == [[1000 + i, 0] for i in range(96)]
    assert found.valid.all()
    assert found.status.tolist() == [i % 3 for i in range(96)]
    assert set(found.deviation_min.tolist()) == {-60}
    assert set(found.clock_status.tolist()) == {0}
    assert found.exceptions == ()


def test_an_empty_buffer():
    found = both(b"\x01\x00", plain_layout())
    assert len(found) == 0
    assert found.values.shape == (0, 2)
    columns, counts = decode_buffers([], plain_layout())
    assert len(columns) == 0
    assert counts == []


def test_a_day_of_more_than_127_rows_and_a_long_length():
    rows = plain_rows(300)
    raw = buffer(rows)
    assert raw[:4] == b"\x01\x82\x01\x2c"
    assert len(both(raw, plain_layout())) == 300
    longer = b"\x01\x84\x00\x00\x01\x2c" + raw[4:]
    same(both(longer, plain_layout()), decode_buffer(raw, plain_layout()))


def test_the_date_times_tag_and_other_columns():
    layout = BufferLayout((OTHER, VALUE, CLOCK, OTHER), 900)
    rows = [
        (
            b"\x0a\x03" + name,
            b"\x10\xff\xfe",
            b"\x19" + clock(START + i * dt.timedelta(minutes=15)),
            b"\x03\x01",
        )
        for i, name in enumerate((b"abc", b"xyz", b"\xff\0\1"))
    ]
    raw = buffer(rows)
    found = both(raw, layout)
    assert profile_view.view(raw, layout) is not None
    assert found.values.tolist() == [[-2]] * 3
    assert found.status is None


def test_each_octet_of_every_date_time_is_checked():
    layout = plain_layout()
    good = buffer(plain_rows(8))
    both(good, layout)  # the template is warm
    wrong = {0: 0, 2: 13, 3: 32, 4: 8, 5: 24, 6: 60, 7: 60, 8: 100, 9: 0x7F}
    for row in (0, 3, 7):
        at = 2 + row * 28 + 4
        for place, octet in wrong.items():
            raw = bytearray(good)
            raw[at + place] = octet
            if place == 0:
                raw[at + 1] = 0
            for decode in (decode_buffer, decode_buffer_general):
                with pytest.raises(RemoteProtocolError) as caught:
                    decode(bytes(raw), layout)
                assert caught.value.reason.startswith(f"row {row}: ")
                assert caught.value.offset == at - 2
            with pytest.raises(RemoteProtocolError, match="buffer 1: row"):
                decode_buffers([good, bytes(raw)], layout)


@pytest.mark.parametrize("row", [0, 3])
@pytest.mark.parametrize("place", range(12))
def test_each_octet_of_a_date_time_is_seen_through_a_warm_template(row, place):
    layout = plain_layout()
    raw = bytearray(buffer(plain_rows(4)))
    before = both(bytes(raw), layout)
    raw[2 + 28 * row + 4 + place] ^= 2 if place == 4 else 1  # Monday to Wednesday
    after = both(bytes(raw), layout)
    changed = [name for name in ("stamp_us", "deviation_min", "clock_status")
               if getattr(before, name).tolist() != getattr(after, name).tolist()]  # fmt: skip
    expected = {4: [], 9: None, 10: ["stamp_us", "deviation_min"], 11: ["clock_status"]}.get(
        place, ["stamp_us"]
    )
    assert expected is None or changed == expected


@pytest.mark.parametrize(("deviation", "holds"), [(840, True), (-840, True), (841, False), (-841, False)])
def test_the_deviation_has_its_range(deviation, holds):
    layout = BufferLayout((CLOCK,), 900)
    raw = buffer([(b"\x09\x0c" + clock(START, deviation),)])
    if holds:
        assert both(raw, layout).stamp_us.tolist() == [micros(START)]
        return
    for decode in (decode_buffer, decode_buffer_general):
        with pytest.raises(RemoteProtocolError, match=f"row 0: deviation of {deviation}"):
            decode(raw, layout)


def test_values_of_one_type_at_uneven_distances():
    layout = BufferLayout((VALUE, VALUE, OTHER, VALUE, CLOCK, VALUE, VALUE), 900)
    row = (
        b"\x11\x01",
        b"\x11\x02",
        b"\x11\x09",
        b"\x11\x03",
        b"\x09\x0c" + clock(START),
        b"\x11\x04",
        b"\x12\0\x05",
    )
    raw = buffer([row, row])
    found = both(raw, layout)
    assert profile_view.view(raw, layout) is not None
    assert found.values.tolist() == [[1, 2, 3, 4, 5]] * 2


def test_a_batch_checks_the_head_of_each_buffer():
    good = buffer(plain_rows(3))
    with pytest.raises(RemoteProtocolError, match="buffer 1: a profile buffer is an array, not STRUCTURE"):
        decode_buffers([good, b"\x02" + good[1:]], plain_layout())


def test_the_day_of_month_ends_with_its_month():
    layout = BufferLayout((CLOCK,), 900)
    row = (b"\x09\x0c" + clock(START),)
    for text, exists in (("07e4021d", True), ("07ea021d", False), ("07d0021d", True), ("076c021d", False),
                         ("07ea041f", False), ("07ea0c1f", True)):  # fmt: skip
        raw = bytearray(buffer([row]))
        raw[6:10] = bytes.fromhex(text)
        if exists:
            both(bytes(raw), layout)
        else:
            for decode in (decode_buffer, decode_buffer_general):
                with pytest.raises(RemoteProtocolError, match="not a whole moment"):
                    decode(bytes(raw), layout)


@pytest.mark.parametrize(("descending", "step"), [(False, 900), (True, -900)])
def test_a_null_clock_is_the_stamp_before_and_a_period(descending, step):
    rows = plain_rows(4)
    rows = [rows[0], *((b"\x00", *row[1:]) for row in rows[1:])]
    found = both(buffer(rows), plain_layout(descending=descending))
    assert np.diff(found.stamp_us).tolist() == [step * 1_000_000] * 3
    assert found.deviation_min.tolist() == [-60, *[-32768] * 3]
    assert found.clock_status.tolist() == [0, -1, -1, -1]


def test_a_null_clock_with_nothing_to_count_from():
    rows = plain_rows(2)
    with pytest.raises(
        RemoteProtocolError, match="row 0: the clock is null, and there is no row before"
    ) as caught:
        decode_buffer(buffer([(b"\x00", *rows[0][1:])]), plain_layout())
    assert caught.value.offset == 4
    layout = BufferLayout((CLOCK, STATUS, VALUE, VALUE), 0)
    with pytest.raises(RemoteProtocolError, match="no capture period"):
        decode_buffer(buffer([rows[0], (b"\x00", *rows[1][1:])]), layout)


def test_null_values_are_missing_or_repeated_as_the_layout_says():
    one, null = b"\x06\0\0\0\x01", b"\x00"
    cells = [null, one, null, b"\x06\0\0\0\0", null]
    rows = [
        (b"\x09\x0c" + clock(START + i * dt.timedelta(minutes=15)), cell, cell)
        for i, cell in enumerate(cells)
    ]
    layout = BufferLayout((CLOCK, VALUE, Column(Role.VALUE, NullRule.REPEAT)), 900)
    found = both(buffer(rows), layout)
    assert found.valid.tolist() == [[False, False], [True, True], [False, True], [True, True], [False, True]]
    assert found.values.tolist() == [[0, 0], [1, 1], [0, 1], [0, 0], [0, 0]]


def test_a_null_status_is_none_and_zero_is_a_status():
    for rule, expected in ((NullRule.MISSING, [0, -1, 5]), (NullRule.REPEAT, [0, 0, 5])):
        layout = BufferLayout((CLOCK, Column(Role.STATUS, rule)), 900)
        cells = (b"\x11\x00", b"\x00", b"\x12\x00\x05")
        found = both(buffer([(b"\x09\x0c" + clock(START), cell) for cell in cells]), layout)
        assert found.status.tolist() == expected
        assert found.values.shape == (3, 0)


def test_a_status_of_bits_is_a_number_its_first_bit_the_greatest():
    rows = [
        (b"\x09\x0c" + clock(START), axdr.encode(cell), b"\x11\x00", b"\x11\x00")
        for cell in (
            axdr.bits("10000001"),
            axdr.bits("0000000000001"),
            axdr.bits("1" * 63),
            axdr.bits("1" * 64),
            axdr.bits(""),
            Data(DataType.BIT_STRING, axdr.BitString(4, b"\x81")),
            Data(DataType.NULL, None),
        )
    ]
    found = both(buffer(rows), plain_layout())
    assert found.status.tolist() == [0x81, 1, 2**63 - 1, -1, -1, -1, -1]
    assert [row for row, _, _ in found.exceptions] == [3, 4, 5]


def test_a_column_that_is_always_null():
    layout = plain_layout()
    raw = buffer([(row[0], b"\x00", row[2], b"\x00") for row in plain_rows(5)])
    found = both(raw, layout)
    assert profile_view.view(raw, layout) is not None
    assert found.valid.tolist() == [[True, False]] * 5
    assert found.status.tolist() == [-1] * 5


def test_what_fits_no_column_is_told_exactly():
    clocked = b"\x09\x0c" + clock(START)
    big = axdr.u64(2**63)
    odd = [axdr.float32(0.1), axdr.octets(b"abc"), big, axdr.boolean(True), Data(DataType.DONT_CARE, None)]
    rows = [
        (clocked, b"\x11\x01", axdr.encode(cell), b"\x15" + (2**63 - 1).to_bytes(8, "big")) for cell in odd
    ]
    found = both(buffer(rows), plain_layout())
    assert found.exceptions == tuple((row, 2, cell) for row, cell in enumerate(odd))
    assert not found.valid[:, 0].any()
    assert found.values[:, 0].tolist() == [0] * 5
    assert found.valid[:, 1].all()
    assert set(found.values[:, 1].tolist()) == {2**63 - 1}
    # one buffer of a fixed shape, where only the size of the integer stands against the view
    rows = [(clocked, b"\x11\x01", b"\x15" + n.to_bytes(8, "big"), b"\x11\x00") for n in (1, 2**64 - 1)]
    assert both(buffer(rows), plain_layout()).exceptions == ((1, 2, axdr.u64(2**64 - 1)),)
    rows = [
        (clocked, b"\x06" + n.to_bytes(4, "big"), b"\x11\x00", b"\x11\x00") for n in (2**31 - 1, 2**32 - 1)
    ]
    found = both(buffer(rows), plain_layout())
    assert profile_view.view(buffer(rows), plain_layout()) is not None
    assert (found.status.tolist(), found.exceptions) == ([2**31 - 1, 2**32 - 1], ())
    rows = [(clocked, b"\x15" + n.to_bytes(8, "big"), b"\x11\x00", b"\x11\x00") for n in (2**63 - 1, 2**63)]
    found = both(buffer(rows), plain_layout())
    assert found.exceptions == ((1, 1, axdr.u64(2**63)),)
    assert found.status.tolist() == [2**63 - 1, -1]
    rows = [(clocked, b"\x0f\xff", b"\x11\x00", b"\x11\x00")]
    assert both(buffer(rows), plain_layout()).exceptions == ((0, 1, axdr.i8(-1)),)


def test_a_repeated_odd_value_is_told_again():
    layout = BufferLayout((CLOCK, Column(Role.VALUE, NullRule.REPEAT)), 900)
    clocked = b"\x09\x0c" + clock(START)
    found = both(buffer([(clocked, axdr.encode(axdr.u64(2**63))), (clocked, b"\x00")]), layout)
    assert found.exceptions == ((0, 1, axdr.u64(2**63)), (1, 1, axdr.u64(2**63)))


def test_delta_values_count_from_the_value_before():
    layout = BufferLayout((CLOCK, VALUE), 900)
    clocked = b"\x09\x0c" + clock(START)
    cells = [b"\x06\0\0\x01\0", b"\x1c\xff", b"\x00", b"\x20\x00\x02", b"\x1e\x80\x00\x00\x00"]
    found = both(buffer([(clocked, cell) for cell in cells]), layout)
    assert found.values[:, 0].tolist() == [256, 255, 0, 257, 257 - 2**31]
    assert found.valid[:, 0].tolist() == [True, True, False, True, True]
    # nothing to count from: told, not guessed
    found = both(buffer([(clocked, b"\x1f\x01")]), layout)
    assert found.exceptions == ((0, 1, Data(DataType.DELTA_UNSIGNED, 1)),)


def test_a_compact_array_gives_the_same_columns():
    kinds = (
        DataType.OCTET_STRING,
        DataType.UNSIGNED,
        DataType.DOUBLE_LONG_UNSIGNED,
        DataType.DOUBLE_LONG_UNSIGNED,
    )
    description = TypeDescription(DataType.STRUCTURE, 0, tuple(TypeDescription(kind) for kind in kinds))
    raw = buffer(plain_rows())
    packed = Data(DataType.COMPACT_ARRAY, CompactArray.of(description, axdr.decode_exact(raw).value))
    same(both(axdr.encode(packed), plain_layout()), decode_buffer(raw, plain_layout()))


def test_hundredths_and_open_parts():
    layout = BufferLayout((CLOCK,), 900)
    raw = buffer(
        [
            (b"\x09\x0c" + clock(START, hundredths=99, status=0xFF),),
            (b"\x09\x0c" + clock(START, hundredths=0xFF),),
        ]
    )
    found = both(raw, layout)
    assert found.stamp_us.tolist() == [micros(START) + 990_000, micros(START)]
    assert found.clock_status.tolist() == [-1, 0]


def test_inverted_deviation():
    layout = BufferLayout((CLOCK,), 900, inverted_deviation=True)
    found = both(
        buffer([(b"\x09\x0c" + CosemDateTime.from_utc(START, 60, inverted_deviation=True).to_bytes(),)]),
        layout,
    )
    assert found.stamp_us.tolist() == [micros(START)]
    assert found.deviation_min.tolist() == [60]


# ---- no deviation: the zone tells ----------------------------------------------------------------


def zoned(texts, **more):
    rows = [(b"\x09\x0c" + wall(*text),) for text in texts]
    found = both(buffer(rows), BufferLayout((CLOCK,), 900, **{"zone": BERLIN, **more}))
    return [dt.datetime.fromtimestamp(us / 1e6, dt.UTC).strftime("%H:%M") for us in found.stamp_us.tolist()]


AUTUMN = "2026-10-25T"


def test_zone_and_clocks_that_stay_on_standard_time():
    assert zoned([("2026-07-01T12:00",)]) == ["10:00"]
    assert zoned([("2026-07-01T12:00",)], follows_dst=False) == ["11:00"]
    assert zoned([(AUTUMN + "02:30", 0x00)], follows_dst=False) == ["01:30"]


def test_the_repeated_hour_by_the_dst_bit():
    rows = [(AUTUMN + "02:30", 0x80), (AUTUMN + "02:30", 0x00)]
    assert zoned(rows) == ["00:30", "01:30"]


@pytest.mark.parametrize("descending", [False, True])
def test_the_repeated_hour_by_row_order(descending):
    hour = ["02:00", "02:15", "02:30", "02:45"]
    texts = [(AUTUMN + t,) for t in ("01:45", *hour, *hour, "03:00")]
    expected = ["23:45", "00:00", "00:15", "00:30", "00:45", "01:00", "01:15", "01:30", "01:45", "02:00"]
    if descending:
        texts, expected = texts[::-1], expected[::-1]
    assert zoned(texts, descending=descending) == expected


def test_the_repeated_hour_at_the_start_of_a_buffer():
    after = [(AUTUMN + t,) for t in ("02:30", "02:45", "03:00")]
    assert zoned(after) == ["01:30", "01:45", "02:00"]  # joins what follows
    alone = [(AUTUMN + t,) for t in ("02:30", "02:45")]
    assert zoned(alone) == ["00:30", "00:45"]
    twice = [(AUTUMN + t,) for t in ("02:45", "02:00", "02:45", "03:00")]
    assert zoned(twice) == ["00:45", "01:00", "01:45", "02:00"]


def test_local_times_that_cannot_be():
    skipped = buffer([(b"\x09\x0c" + wall("2026-03-29T02:30"),)])
    layout = BufferLayout((CLOCK,), 900, zone=BERLIN)
    for decode in (decode_buffer, decode_buffer_general):
        with pytest.raises(RemoteProtocolError, match=r"row 0: .* does not exist") as caught:
            decode(skipped, layout)
        assert caught.value.offset == 4
        with pytest.raises(RemoteProtocolError, match="no time zone is known"):
            decode(skipped, BufferLayout((CLOCK,), 900))


# ---- form, caches, batches -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "cut short"),
        (b"\x00", "is an array, not NULL"),
        (b"\x01\x01\x11\x01", "row 0 is not a structure of 4"),
        (b"\x01\x01\x02\x01\x00", "row 0 is not a structure of 4"),
        (b"\x01\x01\x02\x04\x11\x00\x00\x00\x00", "row 0: clock is UNSIGNED"),
        (b"\x01\x01\x02\x04\x09\x00\x00\x00\x00", "row 0: a date-time has 12 octets"),
        (buffer(plain_rows(3)) + b"\0", "1 bytes after the value"),
        (buffer(plain_rows(3))[:-1], "cut short"),
    ],
)
def test_what_is_no_buffer_is_refused(raw, reason):
    layout = plain_layout()
    for _ in range(2):
        for decode in (decode_buffer, decode_buffer_general):
            with pytest.raises(RemoteProtocolError, match=reason):
                decode(raw, layout)
        with pytest.raises(RemoteProtocolError, match=f"buffer 0: .*{reason}"):
            decode_buffers([raw], layout)


@pytest.mark.parametrize(
    ("columns", "period"),
    [((VALUE,), 900), ((CLOCK, CLOCK), 900), ((CLOCK, STATUS, STATUS), 900), ((CLOCK,), -1)],
)
def test_layouts_that_cannot_be(columns, period):
    with pytest.raises(LocalProtocolError):
        BufferLayout(columns, period)


def test_caches_stay_bounded_and_results_read_only():
    layout = plain_layout()
    for day in range(profile_view.MAX_TEMPLATES + 10):
        found = decode_buffer(buffer(plain_rows(3, START + dt.timedelta(days=day))), layout)
    (shape,) = layout.shapes.values()
    assert len(shape.templates) == profile_view.MAX_TEMPLATES
    for n in range(1, profile_view.MAX_SHAPES + 5):
        decode_buffer(buffer(plain_rows(n)), layout)
    assert len(layout.shapes) == profile_view.MAX_SHAPES
    with pytest.raises(ValueError, match="read-only"):
        found.stamp_us[0] = 0


def test_buffers_of_one_length_and_different_types():
    layout = plain_layout()
    one = buffer(plain_rows(3))
    other = one.replace(b"\x06\0\0", b"\x05\0\0")
    for raw in (one, other, one):
        assert profile_view.view(raw, layout) is not None
        both(raw, layout)
    columns, counts = decode_buffers([one, other], layout)
    assert counts == [3, 3]
    same(columns, profile_view.concatenate([decode_buffer_general(raw, layout) for raw in (one, other)]))


def test_batches_of_the_same_other_and_odd_days(monkeypatch):
    layout = plain_layout()
    monkeypatch.setattr(profile_view, "_CHUNK", 1000)  # several chunks
    days = [buffer(plain_rows(8, START + dt.timedelta(days=day))) for day in (0, 0, 1, 0, 2, 0, 0, 0, 0, 3)]
    short = buffer(plain_rows(5))
    odd = buffer([*plain_rows(7), (b"\x00", b"\x00", b"\x00", axdr.encode(axdr.float64(0.1)))])
    for raws in (days, days[:1] * 9, [*days, short], [short, odd, *days, odd], [b"\x01\x00", short]):
        columns, counts = decode_buffers(raws, layout)
        parts = [decode_buffer_general(raw, layout) for raw in raws]
        assert counts == [len(part) for part in parts]
        same(columns, profile_view.concatenate(parts))


def test_a_batch_without_deviations_settles_each_buffer_by_itself():
    layout = BufferLayout((CLOCK,), 900, zone=BERLIN)
    hour = [(b"\x09\x0c" + wall(AUTUMN + t),) for t in ("02:30", "02:45")]
    columns, _ = decode_buffers([buffer(hour)] * 3, layout)
    assert len(set(columns.stamp_us.tolist())) == 2
