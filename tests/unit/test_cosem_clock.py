"""Class 8: forms of its attributes and methods, and rules of summer time against the zone database."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms import axdr
from protocols.dlms.cosem import clock
from protocols.dlms.cosem.clock import Preset, SummerTime
from protocols.dlms.cosem_time import CosemDate, CosemDateTime, CosemTime, standard_offset
from protocols.errors import LocalProtocolError, RemoteProtocolError

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ("Europe/Berlin", "Europe/London", "America/New_York", "Australia/Sydney", "Asia/Shanghai", "UTC")


def test_the_rule_of_central_europe_as_octets():
    # Last Sunday of March 02:00 and of October 03:00, by the Blue Book's forms of dates: year open (FFFF),
    # last day of the month (FE) with a weekday is that weekday's last.
    rules = clock.summer_time(BERLIN, 2026)
    assert rules is not None
    assert rules.begins.to_bytes().hex() == "ffff03fe07" + "02000000" + "8000ff"
    assert rules.ends.to_bytes().hex() == "ffff0afe07" + "03000000" + "8000ff"
    assert (rules.zone_min, rules.ahead_min, rules.enabled) == (-60, 60, True)
    assert {n: raw.hex() for n, raw in rules.encoded().items()} == {
        3: "10ffc4",
        5: "090cffff03fe07020000008000ff",
        6: "090cffff0afe07030000008000ff",
        7: "0f3c",
        8: "0301",
    }


@pytest.mark.parametrize("name", ZONES)
@given(days=st.integers(0, 4 * 365), seconds=st.integers(0, 86_399))
def test_a_clock_with_the_rules_shows_what_the_zone_does(name: str, days: int, seconds: int):
    zone, moment = ZoneInfo(name), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    moment += dt.timedelta(days=days, seconds=seconds)
    rules = clock.summer_time(zone, 2026)
    assert rules is not None
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None
    assert clock.is_summer(rules, moment) is (offset > standard_offset(zone, moment.year))


def test_a_zone_without_such_rules_has_none():
    assert clock.summer_time(ZoneInfo("Africa/Casablanca"), 2026) is None
    still = clock.summer_time(BERLIN, 2026, follows_dst=False)
    assert still is not None
    assert (still.zone_min, still.enabled) == (-60, False)


def rule(month: int | None, day: int | None, weekday: int | None = None, year: int | None = None):
    return CosemDateTime(CosemDate(year, month, day, weekday), CosemTime(2, 0, None, None))


@pytest.mark.parametrize(
    ("which", "wanted"),
    [
        (rule(3, 0xFE, 7), "2026-03-29"),
        (rule(3, 0xFE), "2026-03-31"),
        (rule(3, 0xFD), "2026-03-30"),
        (rule(3, 0xFD, 7), "2026-03-22"),
        (rule(3, 8, 7), "2026-03-08"),
        (rule(11, 1, 7), "2026-11-01"),
        (rule(12, 0xFE, 7), "2026-12-27"),
        (rule(2, 28, None, 2026), "2026-02-28"),
        (rule(2, 30), None),
        (rule(3, 1, None, 2025), None),
        (rule(None, None), None),
        (rule(0xFE, 1), None),
    ],
)
def test_dates_with_open_parts(which: CosemDateTime, wanted: str | None):
    found = clock.occurrence(which, 2026)
    assert found == (None if wanted is None else dt.datetime.fromisoformat(f"{wanted}T02:00:00"))


def test_rules_that_mean_the_same_are_the_same():
    rules = clock.summer_time(BERLIN, 2026)
    assert rules is not None
    wire = [axdr.decode_exact(raw) for raw in rules.encoded().values()]
    assert SummerTime.decode(*wire) == rules
    spelt = SummerTime(-60, rule(3, 0xFE, 7), rules.ends, 60, enabled=True)
    assert rules.means(spelt)
    assert not rules.means(SummerTime(-60, rule(3, 0xFE, 6), rules.ends, 60, enabled=True))
    off = SummerTime(-60, rule(None, None), rule(None, None), 0, enabled=False)
    assert off.means(SummerTime(-60, rules.begins, rules.ends, 60, enabled=False))
    assert not rules.means(off)


def test_methods():
    assert clock.shift_data(-900).hex() == "10fc7c"
    assert clock.nothing_data().hex() == "0f00"
    assert clock.shift_seconds(axdr.decode_exact(clock.shift_data(900))) == 900
    for seconds in (901, -901):
        with pytest.raises(LocalProtocolError, match="900"):
            clock.shift_data(seconds)
        with pytest.raises(RemoteProtocolError, match="900"):
            clock.shift_seconds(axdr.i16(seconds))
    stamps = [CosemDateTime.from_utc(dt.datetime(2026, 3, day, tzinfo=dt.UTC), -60) for day in (1, 2, 3)]
    preset = Preset(*stamps)
    assert Preset.decode(axdr.decode_exact(preset.encode())) == preset
    assert preset.encode().hex().startswith("0203090c07ea0301")


def test_what_is_no_clock_is_refused():
    for bad in (axdr.u8(3), axdr.octets(b"123"), axdr.NULL):
        with pytest.raises(RemoteProtocolError):
            clock.clock_stamp(bad)
    with pytest.raises(RemoteProtocolError, match="121"):
        clock.dst_minutes(axdr.i8(121))
    assert clock.status(axdr.u8(0xFF)) is None
    assert clock.status(axdr.u8(0x80)) == 0x80
    assert clock.clock_base(axdr.enum(1)) is clock.ClockBase.INTERNAL_CRYSTAL
    with pytest.raises(RemoteProtocolError):
        clock.clock_base(axdr.enum(6))
