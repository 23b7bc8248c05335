"""A simulated meter does as it was configured: what its load profile captures, and how often."""

import datetime as dt

import pytest

from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.meter_clock import MeterClock
from concentrator_sim.objects import MANAGEMENT
from concentrator_sim.profile import CAPTURE_OBJECTS, PROFILE
from protocols.dlms import axdr
from protocols.dlms.apdu.fields import AttributeItem, Selection
from protocols.dlms.cosem import BY_ENTRY, BY_RANGE, Attribute, EntryDescriptor, RangeDescriptor, date_time
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.enums import DataAccessResult

NOW = int(dt.datetime(2026, 3, 12, 10, 37, 21, tzinfo=dt.UTC).timestamp())
DAY_S = 86_400


def written(meter: SimulatedMeter, index: int, value: axdr.Data, now_s: int = NOW) -> DataAccessResult:
    raw = axdr.encode(value)
    return MANAGEMENT.write(Attribute(7, PROFILE, index), raw, meter.management, 1, now_s)


def buffer(meter: SimulatedMeter, now_s: int, selection: Selection | None = None) -> list[list[int]]:
    """Rows, stamps as Unix seconds."""
    item = AttributeItem(Attribute(7, PROFILE, 2), selection)
    raw = MANAGEMENT.read(item, meter.management, 1, now_s)
    assert isinstance(raw, bytes)
    found = []
    for row in axdr.decode_exact(raw).value:
        stamp = date_time(row.value[0])
        assert stamp is not None
        found.append([int(stamp.to_utc().timestamp()), *(cell.value for cell in row.value[1:])])
    return found


@pytest.mark.parametrize("period_s", [60, 300, 1800, 3600, DAY_S])
def test_rows_are_stamped_with_the_ends_of_its_periods_from_the_writing_on(period_s):
    meter = SimulatedMeter(1, 1)
    later = NOW + 5 * period_s
    assert written(meter, 4, axdr.u32(period_s)) is DataAccessResult.SUCCESS
    assert buffer(meter, NOW) == []
    first = NOW + 3600 - (NOW + 3600) % period_s + period_s - 3600  # of its local time, an hour ahead
    stamps = [first + n * period_s for n in range(5)]
    expected = [[one, 0, *(meter.consumption.at(n, one) for n in range(4))] for one in stamps]
    assert buffer(meter, later) == expected
    assert written(meter, 4, axdr.u32(900), later) is DataAccessResult.SUCCESS
    assert buffer(meter, later) == []
    assert [row[0] % 900 for row in buffer(meter, later + 1800)] == [0, 0]


def test_what_is_asked_of_a_profile_of_another_period_and_fewer_columns():
    meter = SimulatedMeter(1, 1)
    written(meter, 4, axdr.u32(300))
    columns = axdr.array(CAPTURE_OBJECTS[one].encode() for one in (0, 2, 5))
    assert written(meter, 3, columns) is DataAccessResult.SUCCESS
    whole = buffer(meter, NOW + 3600)
    assert [len(row) for row in whole] == [3] * 12
    low, high = (axdr.octets(CosemDateTime.from_utc(dt.datetime.fromtimestamp(whole[n][0], dt.UTC),
                                                    -60).to_bytes()) for n in (2, 5))  # fmt: skip
    chosen = RangeDescriptor(CAPTURE_OBJECTS[0], low, high)
    by_range = Selection(BY_RANGE, axdr.encode(chosen.encode()))
    assert buffer(meter, NOW + 3600, by_range) == whole[2:6]
    by_entry = Selection(BY_ENTRY, axdr.encode(EntryDescriptor(11, 0, 1, 2).encode()))
    assert buffer(meter, NOW + 3600, by_entry) == [row[:2] for row in whole[10:]]


def test_its_memory_holds_so_many_rows_whatever_their_period():
    meter = SimulatedMeter(1, 1, entries=4)
    written(meter, 4, axdr.u32(60))
    assert [row[0] for row in buffer(meter, NOW + 3600)] == [NOW - 21 + 60 * n for n in range(57, 61)]


def test_a_meter_whose_clock_was_set_is_cleared_and_narrowed_as_well():
    meter = SimulatedMeter(1, 1, entries=5)
    meter.part(MeterClock).set(NOW - 5000, NOW - 4990)
    assert len(buffer(meter, NOW)[0]) == 6
    columns = axdr.array(CAPTURE_OBJECTS[one].encode() for one in (0, 2))
    assert written(meter, 3, columns) is DataAccessResult.SUCCESS
    assert buffer(meter, NOW) == []
    (row,) = buffer(meter, NOW + 900)
    assert row == [NOW - NOW % 900 + 900, meter.consumption.at(0, NOW - NOW % 900 + 890)]


@pytest.mark.parametrize("value", [axdr.u32(0), axdr.u32(90), axdr.u32(420), axdr.u32(2 * DAY_S)])
def test_a_period_that_a_day_is_not_made_of_is_refused_and_clears_nothing(value):
    meter = SimulatedMeter(1, 1, entries=3)
    assert written(meter, 4, value) is DataAccessResult.OTHER_REASON
    assert written(meter, 4, axdr.u16(300)) is DataAccessResult.TYPE_UNMATCHED
    assert len(buffer(meter, NOW)) == 3
