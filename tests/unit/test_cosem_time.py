# ruff: noqa: DTZ001, DTZ901 - wall clocks are naive on purpose
import datetime as dt
from zoneinfo import ZoneInfo

import pytest

from protocols.dlms.cosem_time import (
    DAY_LAST,
    MONTH_DST_BEGIN,
    MONTH_DST_END,
    ClockStatus,
    CosemDate,
    CosemDateTime,
    CosemTime,
    dst_active,
    local_to_utc,
    standard_offset,
)
from protocols.errors import LocalProtocolError, RemoteProtocolError

BERLIN = ZoneInfo("Europe/Berlin")
DUBLIN = ZoneInfo("Europe/Dublin")


def utc(*parts):
    return dt.datetime(*parts, tzinfo=dt.UTC)


def stamp(text):
    return CosemDateTime.from_bytes(bytes.fromhex(text))


@pytest.mark.parametrize(
    ("raw", "moment"),
    [
        ("07ea0302 01 000000 00 ffc4 00", utc(2026, 3, 1, 23)),  # CET
        ("07ea0702 04 000000 00 ff88 80", utc(2026, 7, 1, 22)),  # CEST
        ("07ea0302 01 000000 00 0000 00", utc(2026, 3, 2)),  # zero deviation is UTC
        ("07ea0302 ff 000000 ff ffc4 ff", utc(2026, 3, 1, 23)),  # weekday, hundredths, status open
        ("07ea0302 01 0c0f1e 63 0000 00", utc(2026, 3, 2, 12, 15, 30, 990_000)),
        ("07e40 21d 06 173b3b 00 0348 00".replace(" ", ""), utc(2020, 3, 1, 13, 59, 59)),  # over a leap day
    ],
)
def test_local_time_plus_deviation_is_utc(raw, moment):
    found = stamp(raw).to_utc()
    assert found == moment
    assert found.tzinfo is dt.UTC
    assert stamp(raw).to_bytes() == bytes.fromhex(raw)


def test_inverted_deviation_is_a_quirk_of_the_reader():
    sent = stamp("07ea0302 01 000000 00 003c 00")
    assert sent.deviation_min == 60
    assert sent.to_utc(inverted_deviation=True) == utc(2026, 3, 1, 23)


def test_every_part_may_be_open():
    raw = b"\xff\xff" + b"\xff" * 7 + b"\x80\x00" + b"\xff"
    found = CosemDateTime.from_bytes(raw)
    assert found == CosemDateTime(CosemDate(), CosemTime(), None, None)
    assert found.to_bytes() == raw
    assert str(found) == "????-??-?? ??:??:??"
    with pytest.raises(RemoteProtocolError, match="not a whole moment"):
        found.to_utc()


@pytest.mark.parametrize("place", [0, 2, 3, 5, 6, 7])
def test_a_moment_needs_all_but_weekday_hundredths_and_status(place):
    raw = bytearray.fromhex("07ea0302010c0f1e00000000")
    raw[place] = 0xFF
    if place == 0:
        raw[1] = 0xFF
    with pytest.raises(RemoteProtocolError, match="not a whole moment"):
        CosemDateTime.from_bytes(bytes(raw)).to_utc()


def test_markers_of_recurring_dates():
    date = CosemDate.from_bytes(bytes.fromhex("fffffdfe07"))
    assert date == CosemDate(None, MONTH_DST_END, DAY_LAST, 7)
    assert str(date) == "????-dst-end-last"
    assert date.to_bytes() == bytes.fromhex("fffffdfe07")
    begin = CosemDate.from_bytes(bytes.fromhex("fffffefd07"))
    assert begin.month == MONTH_DST_BEGIN
    assert str(begin) == "????-dst-begin-second-last"
    with pytest.raises(RemoteProtocolError, match="not a whole moment"):
        CosemDateTime(CosemDate(2026, MONTH_DST_END, 1), CosemTime(0, 0, 0), 0).to_utc()


@pytest.mark.parametrize(
    ("place", "octet"),
    [
        (2, 0),
        (2, 13),
        (2, 0xFC),
        (3, 0),
        (3, 32),
        (3, 0xE0),
        (4, 0),
        (4, 8),
        (5, 24),
        (6, 60),
        (7, 60),
        (8, 100),
    ],
)
def test_each_octet_out_of_its_range_is_refused_where_it_stands(place, octet):
    raw = bytearray.fromhex("07ea0302010c0f1e00000000")
    raw[place] = octet
    with pytest.raises(RemoteProtocolError) as caught:
        CosemDateTime.from_bytes(bytes(raw))
    assert caught.value.offset == place


@pytest.mark.parametrize("deviation", [841, -841, 32767, -32767])
def test_deviation_out_of_range(deviation):
    raw = bytes.fromhex("07ea0302010c0f1e00") + deviation.to_bytes(2, "big", signed=True) + b"\0"
    with pytest.raises(RemoteProtocolError, match="deviation") as caught:
        CosemDateTime.from_bytes(raw)
    assert caught.value.offset == 9


@pytest.mark.parametrize(("cls", "size"), [(CosemDate, 5), (CosemTime, 4), (CosemDateTime, 12)])
def test_other_sizes(cls, size):
    for wrong in (0, size - 1, size + 1):
        with pytest.raises(RemoteProtocolError, match="octets"):
            cls.from_bytes(b"\x01" * wrong)


def test_days_that_do_not_exist():
    for raw in (
        "07ea021e ff 000000 00 0000 00",
        "07ea021d ff 000000 00 0000 00",
        "0000 0101 ff 000000 00 0000 00",
    ):
        with pytest.raises(RemoteProtocolError, match="not a whole moment"):
            stamp(raw).to_utc()


@pytest.mark.parametrize("raw", ["00010101 ff 000000 00 ffc4 00", "270f0c1f ff 173b3b 00 003c 00"])
def test_moments_that_leave_the_calendar(raw):
    with pytest.raises(RemoteProtocolError, match="years 1 to 9999"):
        stamp(raw).to_utc()


def test_without_deviation_the_zone_tells():
    winter, summer = stamp("07ea0302010c0000008000ff"), stamp("07ea0702040c0000008000ff")
    assert winter.to_utc(zone=BERLIN) == utc(2026, 3, 2, 11)
    assert summer.to_utc(zone=BERLIN) == utc(2026, 7, 2, 10)
    assert summer.to_utc(zone=BERLIN, follows_dst=False) == utc(2026, 7, 2, 11)
    with pytest.raises(RemoteProtocolError, match="no time zone is known"):
        winter.to_utc()


def test_a_deviation_counts_more_than_the_zone():
    assert stamp("07ea0302 01 000000 00 0000 00").to_utc(zone=BERLIN) == utc(2026, 3, 2)


def test_the_repeated_autumn_hour():
    # 25 October 2026, 02:30 local exists twice in Berlin
    text = "07ea0a19 07 021e00 00 8000 "
    assert stamp(text + "80").to_utc(zone=BERLIN) == utc(2026, 10, 25, 0, 30)
    assert stamp(text + "00").to_utc(zone=BERLIN) == utc(2026, 10, 25, 1, 30)
    assert stamp(text + "00").to_utc(zone=BERLIN, follows_dst=False) == utc(2026, 10, 25, 1, 30)
    for undecided in ("ff", "88"):  # not specified; a status that calls itself invalid
        with pytest.raises(RemoteProtocolError, match="exists twice"):
            stamp(text + undecided).to_utc(zone=BERLIN)


def test_the_hour_that_spring_skips():
    for status in ("00", "80", "ff"):
        with pytest.raises(RemoteProtocolError, match="does not exist"):
            stamp("07ea031d 07 021e00 00 8000 " + status).to_utc(zone=BERLIN)
    assert stamp("07ea031d 07 030000 00 8000 80").to_utc(zone=BERLIN) == utc(2026, 3, 29, 1)


def test_a_zone_whose_winter_is_the_exception():
    # Dublin's tz data calls winter the time with a (negative) dst()
    assert standard_offset(DUBLIN, 2026) == dt.timedelta(0)
    assert local_to_utc(dt.datetime(2026, 7, 1, 12), DUBLIN, follows_dst=False) == utc(2026, 7, 1, 12)
    assert local_to_utc(dt.datetime(2026, 10, 25, 1, 30), DUBLIN, dst_active=True) == utc(2026, 10, 25, 0, 30)


@pytest.mark.parametrize("zone", [BERLIN, ZoneInfo("Pacific/Apia"), ZoneInfo("America/New_York")])
@pytest.mark.parametrize("follows", [True, False])
@pytest.mark.parametrize("local", [dt.datetime.min, dt.datetime.max])
def test_ends_of_the_calendar_in_a_zone(zone, follows, local):
    try:
        assert local_to_utc(local, zone, follows_dst=follows).tzinfo is dt.UTC
    except RemoteProtocolError as exc:
        assert "years 1 to 9999" in exc.reason  # noqa: PT017 - one of the two ends leaves the calendar


def test_from_utc():
    made = CosemDateTime.from_utc(utc(2026, 3, 1, 23, 15, 0, 129_999), -60)
    assert made.to_bytes() == bytes.fromhex("07ea0302 01 000f00 0c ffc4 00")
    assert str(made) == "2026-03-02 00:15:00.12+01:00"
    assert str(CosemDateTime.from_utc(utc(2026, 1, 1), 210)) == "2025-12-31 20:30:00-03:30"
    inverted = CosemDateTime.from_utc(utc(2026, 3, 1, 23), 60, inverted_deviation=True)
    assert inverted.to_bytes() == bytes.fromhex("07ea0302 01 000000 00 003c 00")
    assert CosemDateTime.from_utc(utc(2026, 1, 1), status=None).to_bytes()[-3:] == b"\0\0\xff"


def test_from_zone():
    summer = CosemDateTime.from_zone(utc(2026, 7, 1, 22), BERLIN)
    assert summer.to_bytes() == bytes.fromhex("07ea0702 04 000000 00 ff88 80")
    winter = CosemDateTime.from_zone(utc(2026, 1, 1), BERLIN, deviation=False)
    assert winter.to_bytes() == bytes.fromhex("07ea0101 04 010000 00 8000 00")
    standard = CosemDateTime.from_zone(utc(2026, 7, 1, 22), BERLIN, follows_dst=False)
    assert standard.to_bytes() == bytes.fromhex("07ea0701 03 170000 00 ffc4 00")


def test_our_own_mistakes_are_ours():
    with pytest.raises(LocalProtocolError, match="naive"):
        CosemDateTime.from_utc(dt.datetime(2026, 1, 1))
    with pytest.raises(LocalProtocolError, match="naive"):
        CosemDateTime.from_zone(dt.datetime(2026, 1, 1), BERLIN)
    with pytest.raises(LocalProtocolError, match="years 1 to 9999"):
        CosemDateTime.from_utc(dt.datetime.max.replace(tzinfo=dt.UTC), -60)
    with pytest.raises(LocalProtocolError, match="does not fit"):
        CosemTime(256).to_bytes()


def test_what_a_status_says_about_daylight_saving():
    assert dst_active(None) is None
    assert dst_active(0) is False
    assert dst_active(ClockStatus.DST_ACTIVE) is True
    assert dst_active(ClockStatus.DST_ACTIVE | ClockStatus.INVALID_STATUS) is None
