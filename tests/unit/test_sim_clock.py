"""A simulated meter's clock moves what the meter shows: its time, its stamps, its logs."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest

from concentrator_sim.event_log import CLOCK_AFTER, CLOCK_BEFORE, STANDARD
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.meter_clock import MeterClock
from concentrator_sim.object_model import Asked
from concentrator_sim.objects import MANAGEMENT
from protocols.dlms import axdr, cosem
from protocols.dlms.apdu.fields import AttributeItem, Selection
from protocols.dlms.cosem import BY_ENTRY, BY_RANGE, Attribute, EntryDescriptor, Method, RangeDescriptor
from protocols.dlms.cosem import clock as cosem_clock
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import Obis

NOON = int(dt.datetime(2026, 3, 12, 12, 0, tzinfo=dt.UTC).timestamp())
PROFILE = Attribute(7, Obis.parse("1-0:99.1.0*255"), 2)
TIME = cosem.CLOCK_TIME
MANAGEMENT_SAP = 1


def read(meter: SimulatedMeter, attribute: Attribute, now_s: int, selection: Selection | None = None):
    raw = MANAGEMENT.read(AttributeItem(attribute, selection), meter.management, MANAGEMENT_SAP, now_s)
    assert isinstance(raw, bytes), raw
    return axdr.decode_exact(raw).value


def rows(meter: SimulatedMeter, now_s: int, since_s: int) -> list[tuple[int, int, int]]:
    """Stamp, status and active import of what a range gives."""
    bounds = [
        CosemDateTime.from_utc(dt.datetime.fromtimestamp(moment, dt.UTC), -60)
        for moment in (since_s, now_s + 86_400)
    ]
    selection = Selection(BY_RANGE, axdr.encode(RangeDescriptor.between(*bounds).encode()))
    found = []
    for row in read(meter, PROFILE, now_s, selection):
        stamp, status, value = row.value[:3]
        moment = CosemDateTime.from_bytes(stamp.value).to_utc()
        found.append((int(moment.timestamp()), status.value, value.value))
    return found


def shift(meter: SimulatedMeter, by_s: int, now_s: int) -> ActionResult:
    method = Method(8, TIME.obis, cosem_clock.SHIFT_TIME)
    parameter = axdr.encode(axdr.i16(by_s))
    return MANAGEMENT.invoke(method, parameter, meter.management, MANAGEMENT_SAP, now_s).result


def shown(meter: SimulatedMeter, now_s: int) -> int:
    return int(CosemDateTime.from_bytes(read(meter, TIME, now_s)).to_utc().timestamp())


@pytest.mark.parametrize(
    ("at_s", "by_s", "stamps", "adjusted"),
    [
        (NOON + 300, 400, (0, 900, 1800, 2700), 900),  # within a quarter
        (NOON + 600, 400, (0, 1800, 2700), 1800),  # over 12:15: it is jumped over
        (NOON + 1000, -400, (0, 900, 900, 1800, 2700), 900),  # back over 12:15: it comes twice
    ],
)
def test_rows_are_captured_when_the_clock_comes_upon_a_quarter(
    at_s: int, by_s: int, stamps: tuple[int, ...], adjusted: int
):
    meter = SimulatedMeter(1, 1)
    assert shift(meter, by_s, at_s) is ActionResult.SUCCESS
    assert shown(meter, at_s) == at_s + by_s
    now_s = NOON + 2700 - by_s
    found = rows(meter, now_s, NOON)
    assert tuple(stamp - NOON for stamp, _, _ in found) == stamps
    assert [stamp - NOON for stamp, status, _ in found if status & 0x20] == [adjusted]
    captured = [stamp if stamp < at_s and n < 2 else stamp - by_s for n, (stamp, _, _) in enumerate(found)]
    assert [value for _, _, value in found] == [meter.consumption.at(0, moment) for moment in captured]
    assert [value for _, _, value in found] == sorted(value for _, _, value in found)


def test_its_profile_by_entries_and_columns():
    meter = SimulatedMeter(1, 1, entries=8)
    whole = rows(meter, NOON, NOON - 86_400)
    shift(meter, 1, NOON + 1)
    shift(meter, -1, NOON + 2)
    assert len(rows(meter, NOON + 3, NOON - 86_400)) == 8
    assert rows(meter, NOON + 3, NOON - 86_400) == whole
    assert read(meter, Attribute(7, PROFILE.obis, cosem.PROFILE_ENTRIES_IN_USE), NOON + 3) == 8
    last = Selection(BY_ENTRY, axdr.encode(EntryDescriptor(8, 8, 3, 3).encode()))
    ((only,),) = [row.value for row in read(meter, PROFILE, NOON + 3, last)]
    assert only.value == whole[-1][2]
    bad = MANAGEMENT.read(AttributeItem(PROFILE, Selection(9, b"")), meter.management, 1, NOON + 3)
    assert bad is DataAccessResult.SCOPE_OF_ACCESS_VIOLATED


def test_its_log_tells_of_a_change_by_the_clock_before_and_behind():
    meter = SimulatedMeter(1, 1)
    shift(meter, 400, NOON)
    clock = meter.part(MeterClock)
    told = [
        (clock.shows(entry.at_s) - NOON, entry.told)
        for entry in meter.events.entries(STANDARD, NOON + 1)
        if entry.at_s >= NOON - 1 and entry.told in (CLOCK_BEFORE, CLOCK_AFTER)
    ]
    assert told == [(-1, CLOCK_BEFORE), (400, CLOCK_AFTER)]


def test_what_is_no_shift_is_refused():
    meter = SimulatedMeter(1, 1)
    method = Method(8, TIME.obis, cosem_clock.SHIFT_TIME)
    for parameter in (None, axdr.encode(axdr.i16(901)), axdr.encode(axdr.octets(b""))):
        done = MANAGEMENT.invoke(method, parameter, meter.management, MANAGEMENT_SAP, NOON)
        assert done.result is ActionResult.TYPE_UNMATCHED
    assert MANAGEMENT.invoke(method, b"", meter.management, 16, NOON).result is ActionResult.READ_WRITE_DENIED
    assert shown(meter, NOON) == NOON


def test_summer_time_that_is_switched_on_moves_stamps():
    meter = SimulatedMeter(1, 1)
    before = dt.datetime(2026, 3, 29, 0, 45, tzinfo=dt.UTC)
    berlin = cosem_clock.summer_time(ZoneInfo("Europe/Berlin"), 2026)
    assert berlin is not None
    for index, raw in berlin.encoded().items():
        done = MANAGEMENT.write(Attribute(8, TIME.obis, index), raw, meter.management, MANAGEMENT_SAP, NOON)
        assert done is DataAccessResult.SUCCESS
    asked = Asked(meter.management, MANAGEMENT_SAP, int(before.timestamp()))
    assert asked.now_s == shown(meter, asked.now_s)
    locals_ = [
        CosemDateTime.from_bytes(read(meter, TIME, asked.now_s + late_s)).local().hour for late_s in (0, 900)
    ]
    assert locals_ == [1, 3]
    stamps = [stamp for stamp, _, _ in rows(meter, asked.now_s + 1800, asked.now_s)]
    assert stamps == [asked.now_s + n * 900 for n in range(3)]


@pytest.mark.parametrize("by_s", [-7200, -40, 40, 7200])
def test_no_row_is_missed_that_has_a_stamp_or_a_later_one(by_s: int) -> None:
    clock = SimulatedMeter(1, 1).part(MeterClock)
    clock.set(NOON, NOON + by_s)
    clock.set(NOON + 5_000, NOON + 5_000)
    now_s = NOON + 30_000
    whole = clock.rows(now_s, 960)
    for since_s in range(NOON - 10_000, now_s + 10_000, 700):
        few = clock.rows(now_s, clock.entries_since(now_s, since_s))
        wanted = [row for row in whole if row.stamp_s >= since_s]
        assert [row for row in few if row.stamp_s >= since_s] == wanted
