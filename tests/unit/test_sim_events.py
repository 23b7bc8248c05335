"""Events of simulated meters: repeatable, in their logs, by range and entry, and pushed."""

import datetime as dt

import pytest

from concentrator_sim import event_log, push
from concentrator_sim.event_log import Entry, EventBook
from concentrator_sim.meter import SimulatedMeter
from protocols.dlms import apdu as apdus
from protocols.dlms import axdr, cosem
from protocols.dlms.apdu.fields import AttributeItem, Selection
from protocols.dlms.cosem import BY_ENTRY, BY_RANGE, Attribute, EntryDescriptor, RangeDescriptor
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.enums import DataAccessResult

NOW = 1_772_400_000


def book_with(log):
    """A meter's book with some rows in this log."""
    return next(book for n in range(5000) if len((book := EventBook(7, n)).entries(log, NOW)) > 1)


def test_the_past_is_the_same_each_time_and_no_future_is_told():
    book = book_with(event_log.STANDARD)
    entries = book.entries(event_log.STANDARD, NOW)
    assert entries == sorted(entries)
    assert entries == book_with(event_log.STANDARD).entries(event_log.STANDARD, NOW)
    assert all(NOW - 31 * 86_400 <= entry.at_s <= NOW for entry in entries)
    before = entries[-1].at_s - 1
    known = [e for e in book.entries(event_log.STANDARD, before) if e.at_s >= entries[0].at_s]
    assert known == [e for e in entries if e.at_s <= before]


def test_a_power_failure_is_told_by_both_logs_and_stamped_with_its_end():
    book = EventBook(1, 1)
    standard = book.entries(event_log.STANDARD, NOW)
    failures = book.entries(event_log.POWER_FAILURES, NOW)
    book.power_failure(NOW - 1000, NOW - 400)
    book.power_failure(NOW - 100, NOW - 90)  # short: the log of long failures has it not
    assert book.entries(event_log.STANDARD, NOW) == [
        *standard,
        Entry(NOW - 1000, event_log.POWER_DOWN),
        Entry(NOW - 400, event_log.POWER_UP),
        Entry(NOW - 100, event_log.POWER_DOWN),
        Entry(NOW - 90, event_log.POWER_UP),
    ]
    assert book.entries(event_log.POWER_FAILURES, NOW) == [*failures, Entry(NOW - 400, 600)]


def read(meter, log, selection=None, attribute=2):
    item = AttributeItem(Attribute(7, log, attribute), selection)
    return meter.management.model.read(item, meter.management, 1, NOW)


@pytest.fixture
def meter():
    found = SimulatedMeter(3, 1)
    for n in range(4):
        found.events.add(event_log.FRAUD, NOW - 100 * (4 - n), 40 + n)
    return found


def test_the_logs_answer_whole_by_range_and_by_entry(meter):
    def codes(raw):
        return [row.value[1].value for row in axdr.decode_exact(raw).value]

    def by_range(low, high):
        stamps = [CosemDateTime.from_utc(dt.datetime.fromtimestamp(s, dt.UTC)) for s in (low, high)]
        return Selection(BY_RANGE, axdr.encode(RangeDescriptor.between(*stamps).encode()))

    whole = codes(read(meter, event_log.FRAUD))
    assert whole[-4:] == [40, 41, 42, 43]
    assert codes(read(meter, event_log.FRAUD, by_range(NOW - 300, NOW - 200))) == [41, 42]  # both included
    last = Selection(BY_ENTRY, axdr.encode(EntryDescriptor(len(whole)).encode()))
    assert codes(read(meter, event_log.FRAUD, last)) == [43]
    none = Selection(BY_ENTRY, axdr.encode(EntryDescriptor(0).encode()))
    assert read(meter, event_log.FRAUD, none) is DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
    assert read(meter, event_log.FRAUD, Selection(9, b"\x00")) is DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
    assert read(meter, event_log.FRAUD, Selection(BY_RANGE, b"\x00")) is DataAccessResult.TYPE_UNMATCHED


def test_a_row_has_the_meters_own_stamp(meter):
    row = axdr.decode_exact(read(meter, event_log.FRAUD)).value[-1].value
    assert CosemDateTime.from_bytes(row[0].value).to_utc() == dt.datetime.fromtimestamp(NOW - 100, dt.UTC)
    assert CosemDateTime.from_bytes(row[0].value).deviation_min == meter.deviation_min
    columns = cosem.capture_objects(axdr.decode_exact(read(meter, event_log.FRAUD, attribute=3)))
    assert [str(column.obis) for column in columns] == ["0-0:1.0.0*255", "0-0:96.11.1*255"]
    assert axdr.decode_exact(read(meter, event_log.FRAUD, attribute=4)).value == 0


def test_some_meters_want_a_new_battery():
    words = {EventBook(1, n).alarms(0) for n in range(500)}
    assert words == {0, 1 << event_log.REPLACE_BATTERY}


def test_a_last_gasp_tells_who_when_and_that_the_power_is_gone(meter):
    [raw] = push.last_gasp(meter, lambda: NOW)
    message = apdus.decode(raw)
    elements = [item.value for item in axdr.decode_exact(message.body.data).value]
    told = {bytes(parts[0].value): parts[1].value for parts in elements}
    assert told[event_log.DESCRIPTORS[1].raw] == 1
    assert bytes.fromhex("0000600100ff") in told
    stamp = CosemDateTime.from_bytes(message.date_time)
    assert stamp.to_utc() == dt.datetime.fromtimestamp(NOW, dt.UTC)
    assert not message.long_invoke.confirmed
