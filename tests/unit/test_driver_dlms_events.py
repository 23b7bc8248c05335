"""Event logs and alarm registers through the driver, against a meter whose every row is known."""

import datetime as dt

import pytest

from headend.drivers.dlms.events import EventReader, status_word
from headend.session.client import MeterSession
from headend.session.plan import plan_session
from headend.transport.memory import memory_pair
from protocols.dlms import axdr
from protocols.dlms.association import ServerSettings
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem import Attribute, CaptureObject, RangeDescriptor
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.obis import Obis
from protocols.errors import DataAccessRefused, LocalProtocolError
from schemas.address import LinkAddress
from schemas.event import EventLog, EventMeaning
from schemas.model import MeterModel, load_model

UTC = dt.UTC
T0 = dt.datetime(2026, 3, 10, 12, tzinfo=UTC)
NOW = T0 + dt.timedelta(days=1)
NULL = Data(DataType.NULL, None)
CLOCK = CaptureObject(8, Obis.parse("0-0:1.0.0*255"), 2)
STANDARD, FRAUD, FAILURES = "0-0:99.98.0*255", "0-0:99.98.1*255", "1-0:99.97.0*255"
ALARMS = "0-0:97.98.0*255"


def us(moment):
    return (moment - dt.datetime(1970, 1, 1, tzinfo=UTC)) // dt.timedelta(microseconds=1)


def clock(moment):
    return axdr.octets(CosemDateTime.from_utc(moment).to_bytes())


def code_of(log):
    return CaptureObject(1, Obis.parse(log.replace("99.98", "96.11")), 2)


DURATION = CaptureObject(3, Obis.parse("0-0:96.7.19*255"), 2)


class Log:
    """A buffer that answers ranges, or refuses them as some meters do."""

    def __init__(self, *rows, refuses=0):
        self.rows = rows
        self.refuses = refuses
        self.asked = []

    def __call__(self, item):
        if item.selection is None:
            self.asked.append(None)
            return axdr.encode(axdr.array(axdr.structure(*row) for row in self.rows))
        bounds = RangeDescriptor.decode(axdr.decode_exact(item.selection.parameters))
        self.asked.append(bounds.low.type)
        if self.refuses:
            self.refuses -= 1
            return DataAccessResult.OTHER_REASON
        return axdr.encode(axdr.array(axdr.structure(*row) for row in self.rows))


def log(obis, buffer, *captures):
    name = Obis.parse(obis)
    columns = axdr.encode(axdr.array(capture.encode() for capture in captures))
    return {Attribute(7, name, 2): buffer, Attribute(7, name, 3): columns}


@pytest.fixture
def read(run_virtual, fake_meter):
    """Read the events of a meter with these objects, as often as ``since`` says, and what it was asked."""

    def read_(objects, the_model=None, *, times=1):
        the_model = the_model or load_model("idis")

        async def main():
            ours, theirs = memory_pair()
            meter = fake_meter(theirs, {1: ServerSettings()}, objects)
            plan = plan_session(the_model, LinkAddress.parse("tcp://192.0.2.1?client=1"), {}, None)
            reader = EventReader(now=lambda: NOW)
            async with MeterSession(plan, stream=ours) as session:
                batches = [await reader.read_events(session, 7, the_model, T0, NOW) for _ in range(times)]
            return batches[-1].events, meter

        return run_virtual(main())

    return read_


def test_codes_become_meanings_and_unknown_ones_are_kept(read):
    buffer = Log((clock(T0), axdr.u8(1)), (clock(T0), axdr.u16(2)), (clock(T0), axdr.u8(200)))
    events, _ = read(log(STANDARD, buffer, CLOCK, code_of(STANDARD)))
    assert [(e.code, e.meaning) for e in events] == [
        (1, EventMeaning.POWER_DOWN),
        (2, EventMeaning.POWER_UP),
        (200, EventMeaning.OTHER),
    ]
    one = events[0]
    assert (one.meter_id, one.log, one.occurred_us, one.received_us) == (
        7,
        EventLog.STANDARD,
        us(T0),
        us(NOW),
    )
    assert (one.duration_s, one.text, one.standing) == (None, None, False)
    assert "192.0.2.1" in one.source
    assert buffer.asked == [DataType.OCTET_STRING]


def test_the_power_failure_log_has_durations_and_its_stamp_is_the_end(read):
    buffer = Log((clock(T0), axdr.u32(240)), (clock(NOW), axdr.u32(0)))
    events, _ = read(log(FAILURES, buffer, CLOCK, DURATION))
    assert [(e.log, e.meaning, e.code, e.duration_s, e.occurred_us) for e in events] == [
        (EventLog.POWER_FAILURE, EventMeaning.POWER_FAILURE, None, 240, us(T0)),
        (EventLog.POWER_FAILURE, EventMeaning.POWER_FAILURE, None, 0, us(NOW)),
    ]


def test_columns_that_the_model_does_not_name_are_kept_as_text(read):
    voltage = CaptureObject(3, Obis.parse("1-0:32.7.0*255"), 2)
    buffer = Log((axdr.u16(2301), axdr.u8(40), clock(T0)))
    events, _ = read(log(FRAUD, buffer, voltage, code_of(FRAUD), CLOCK))
    assert [(e.log, e.meaning, e.text) for e in events] == [
        (EventLog.FRAUD, EventMeaning.TERMINAL_COVER_OPENED, "1-0:32.7.0*255=2301")
    ]


def test_a_null_clock_is_the_stamp_of_the_row_before(read):
    buffer = Log((NULL, axdr.u8(6)), (clock(T0), axdr.u8(1)), (NULL, axdr.u8(2)))
    events, _ = read(log(STANDARD, buffer, CLOCK, code_of(STANDARD)))
    assert [e.occurred_us for e in events] == [None, us(T0), us(T0)]
    assert [e.standing for e in events] == [True, False, False]


def test_a_stamp_that_is_no_moment_keeps_its_bytes(read):
    stamp = axdr.octets(bytes.fromhex("FFFFFFFFFFFFFFFFFF8000FF"))
    events, _ = read(log(STANDARD, Log((stamp, axdr.u8(6))), CLOCK, code_of(STANDARD)))
    [event] = events
    assert (event.code, event.meaning, event.occurred_us) == (6, EventMeaning.CLOCK_INVALID, None)
    assert event.standing
    assert "FFFFFFFFFFFFFFFFFF8000FF".lower() in (event.text or "")


def test_a_row_of_another_shape_is_an_event_and_makes_us_ask_for_the_columns_again(read):
    buffer = Log((clock(T0), axdr.u8(1)), (clock(T0), axdr.u8(1), axdr.u8(9)))
    events, meter = read(log(STANDARD, buffer, CLOCK, code_of(STANDARD)), times=2)
    assert [e.code for e in events] == [1, None]
    assert axdr.encode(axdr.structure(clock(T0), axdr.u8(1), axdr.u8(9))).hex() == events[1].text
    columns = Attribute(7, Obis.parse(STANDARD), 3)
    assert [item.attribute for item in meter.asked].count(columns) == 2


def test_a_log_that_cannot_be_read_is_told_and_the_others_are_read(read):
    objects = {
        **log(STANDARD, b"\x09\x01\x00", CLOCK, code_of(STANDARD)),
        **log(FRAUD, Log((clock(T0), axdr.u8(44))), CLOCK, code_of(FRAUD)),
    }
    events, _ = read(objects)
    assert [(e.log, e.meaning) for e in events] == [
        (EventLog.HEADEND, EventMeaning.OTHER),
        (EventLog.FRAUD, EventMeaning.COVER_OPENED),
    ]
    assert STANDARD in (events[0].text or "")


def test_bounds_that_a_meter_refuses_are_written_otherwise_and_at_last_left_out(read):
    buffer = Log((clock(T0), axdr.u8(1)), refuses=2)
    events, _ = read(log(STANDARD, buffer, CLOCK, code_of(STANDARD)), times=2)
    assert len(events) == 1
    assert buffer.asked == [DataType.OCTET_STRING, DataType.DATE_TIME, None, None]


def test_logs_that_a_meter_has_not_are_asked_for_once(read):
    events, meter = read(log(STANDARD, Log(), CLOCK, code_of(STANDARD)), times=2)
    assert events == ()
    asked = [item.attribute for item in meter.asked]
    assert asked.count(Attribute(7, Obis.parse(FRAUD), 3)) == 1
    assert Attribute(7, Obis.parse(FRAUD), 2) not in asked


def test_a_log_that_is_refused_for_now_fails_so_that_it_is_asked_again(read):
    with pytest.raises(DataAccessRefused):
        read(log(STANDARD, lambda _: DataAccessResult.TEMPORARY_FAILURE, CLOCK, code_of(STANDARD)))


def test_alarm_bits_are_standing_events(read):
    objects = {Attribute(1, Obis.parse(ALARMS), 2): axdr.encode(axdr.u32(0b1000_0011))}
    events, _ = read(objects)
    assert [(e.log, e.code, e.meaning, e.text, e.standing) for e in events] == [
        (EventLog.ALARM, 0, EventMeaning.CLOCK_INVALID, ALARMS, True),
        (EventLog.ALARM, 1, EventMeaning.BATTERY_LOW, ALARMS, True),
        (EventLog.ALARM, 7, EventMeaning.OTHER, ALARMS, True),
    ]
    assert {e.occurred_us for e in events} == {None}


def test_alarm_words_of_any_form():
    assert status_word(axdr.u32(0)) == 0
    assert status_word(axdr.bits("10000000001")) == 0b100_0000_0001
    assert status_word(axdr.octets(b"\x01")) is None
    assert status_word(axdr.i8(-1)) is None


def test_a_model_without_events_asks_nothing(read):
    bare = MeterModel(name="bare", title="Bare")
    events, meter = read({}, bare)
    assert events == ()
    assert not meter.asked


def test_times_must_be_aware_and_in_order(run_virtual):
    for since, until in ((T0.replace(tzinfo=None), NOW), (NOW, T0), (T0, T0)):
        with pytest.raises(LocalProtocolError):
            run_virtual(EventReader().read_events(None, 7, load_model("idis"), since, until))
