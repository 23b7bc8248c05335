"""Billing profiles through the driver: against objects whose every cell is known, and the simulated meter."""

import datetime as dt
from decimal import Decimal

import pytest

from concentrator_sim.billing import MAXIMUM_DEMAND, TARIFFS
from concentrator_sim.generator import Consumption
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.objects import MANAGEMENT
from headend.drivers.contract import Refusal
from headend.drivers.dlms.billing import BillingReader
from headend.session.client import MeterSession
from headend.session.plan import plan_session
from headend.transport.memory import memory_pair
from protocols.dlms import axdr, cosem
from protocols.dlms.apdu.fields import AttributeItem, Selection
from protocols.dlms.association import ServerSettings
from protocols.dlms.cosem import BY_RANGE, Attribute, CaptureObject, RangeDescriptor, ScalerUnit
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.obis import Obis
from protocols.errors import DataAccessRefused, LocalProtocolError, RemoteProtocolError
from schemas.address import LinkAddress
from schemas.job import BILLING_PROFILE
from schemas.model import load_model
from schemas.reading import Quality

UTC = dt.UTC
MARCH = dt.datetime(2026, 3, 1, tzinfo=UTC)
APRIL = dt.datetime(2026, 4, 1, tzinfo=UTC)
CLOCK = CaptureObject(8, Obis.parse("0-0:1.0.0*255"), 2)
DAY = CaptureObject(3, Obis.parse("1-0:1.8.1*255"), 2)
MAXIMUM = CaptureObject(4, Obis.parse("1-0:1.6.0*255"), 2)
MAXIMUM_TIME = CaptureObject(4, Obis.parse("1-0:1.6.0*255"), 5)
NAME = Obis.parse(BILLING_PROFILE)


def us(moment):
    return (moment - dt.datetime(1970, 1, 1, tzinfo=UTC)) // dt.timedelta(microseconds=1)


def clock(moment):
    return axdr.octets(CosemDateTime.from_utc(moment).to_bytes())


def objects(columns, rows, scalers=()):
    """A billing profile with these columns and rows, and scalers by capture object."""
    buffer = axdr.encode(axdr.array(axdr.structure(*row) for row in rows))
    found = {
        Attribute(7, NAME, 2): lambda item: buffer,
        Attribute(7, NAME, 3): axdr.encode(axdr.array(column.encode() for column in columns)),
    }
    return found | {
        Attribute(capture.class_id, capture.obis, 3): axdr.encode(scaler.encode())
        for capture, scaler in scalers
    }


@pytest.fixture
def read(run_virtual, fake_meter):
    def read_(objects_, *, since=MARCH, until=APRIL, times=1):
        model = load_model("idis")

        async def main():
            ours, theirs = memory_pair()
            meter = fake_meter(theirs, {1: ServerSettings()}, objects_)
            plan = plan_session(model, LinkAddress.parse("tcp://192.0.2.1?client=1"), {}, None)
            reader = BillingReader(now=lambda: APRIL)
            async with MeterSession(plan, stream=ours) as session:
                for _ in range(times):
                    found = await reader.read_billing(session, 7, model, BILLING_PROFILE, since, until)
            return found, meter

        return run_virtual(main())

    return read_


KNOWN = ((DAY, ScalerUnit(1, 30)), (MAXIMUM, ScalerUnit(-1, 27)))


def test_a_row_is_register_readings_as_of_the_end_of_its_period(read):
    peak = dt.datetime(2026, 2, 11, 18, 15, tzinfo=UTC)
    rows = [(clock(MARCH), axdr.u32(1234), axdr.u32(56_789), clock(peak))]
    readout, _ = read(objects((CLOCK, DAY, MAXIMUM, MAXIMUM_TIME), rows, KNOWN))
    told = [
        (r.obis, r.attribute, r.read_us, r.meter_us, r.value, r.text, r.unit, r.quality)
        for r in readout.batch.registers
    ]
    end = us(MARCH)
    assert told == [
        ("1-0:1.8.1*255", 2, end, end, Decimal(12340), None, "Wh", Quality.BILLING),
        ("1-0:1.6.0*255", 2, end, end, Decimal("5678.9"), None, "W", Quality.BILLING),
        ("1-0:1.6.0*255", 5, end, end, None, "2026-02-11T18:15:00+00:00", None, Quality.BILLING),
    ]
    assert readout.refusals == ()


def test_a_register_whose_power_of_ten_nobody_knows_is_refused_and_the_others_are_read(read):
    rows = [(clock(MARCH), axdr.u32(1234), axdr.u32(56_789))]
    readout, _ = read(objects((CLOCK, DAY, MAXIMUM), rows, KNOWN[1:]))
    assert [r.obis for r in readout.batch.registers] == ["1-0:1.6.0*255"]
    assert readout.refusals == (Refusal("1-0:1.8.1*255", 2, "its scaler and unit are not known"),)


def test_a_row_that_does_not_tell_its_end_is_refused_by_its_number(read):
    nowhen = axdr.octets(bytes.fromhex("FFFFFFFFFFFFFFFFFF8000FF"))
    rows = [(nowhen, axdr.u32(1)), (clock(MARCH), axdr.u32(2)), (clock(MARCH), axdr.u32(3))]
    readout, _ = read(objects((CLOCK, DAY), rows, KNOWN))
    assert [r.value for r in readout.batch.registers] == [Decimal(20)]
    assert [one.reason for one in readout.refusals] == [
        "row 1 does not tell the end of its period",
        "row 3 does not tell the end of its period",
    ]


def test_a_row_with_other_columns_is_the_meters_fault(read):
    with pytest.raises(RemoteProtocolError, match="row 1 has 1 cells for 2 columns"):
        read(objects((CLOCK, DAY), [(clock(MARCH),)], KNOWN))


def test_a_profile_without_a_clock_is_the_meters_fault(read):
    with pytest.raises(RemoteProtocolError, match="no column tells the end"):
        read(objects((DAY,), [(axdr.u32(1),)], KNOWN))


def test_a_meter_without_the_profile_says_so(read):
    with pytest.raises(DataAccessRefused) as refused:
        read({})
    assert refused.value.result == DataAccessResult.OBJECT_UNDEFINED


@pytest.mark.parametrize("since", [APRIL, dt.datetime(2026, 3, 1)])  # noqa: DTZ001 - a naive one is meant
def test_times_that_make_no_range_are_ours(read, since):
    with pytest.raises(LocalProtocolError):
        read(objects((CLOCK, DAY), [], KNOWN), since=since)


def test_the_simulated_meters_months_equal_what_it_knows():
    meter = SimulatedMeter(1, 4)
    now = int(dt.datetime(2026, 4, 10, tzinfo=UTC).timestamp())
    ends = [dt.datetime(2026, month - 1, last, 23, tzinfo=UTC) for month, last in ((3, 28), (4, 31))]
    bounds = RangeDescriptor.between(
        CosemDateTime.from_utc(ends[0]), CosemDateTime.from_utc(ends[1]), tagged_date_time=False
    )
    item = AttributeItem(Attribute(7, NAME, 2), Selection(BY_RANGE, axdr.encode(bounds.encode())))
    raw = MANAGEMENT.read(item, meter.devices[0], 1, now)
    assert isinstance(raw, bytes)
    rows = axdr.decode_exact(raw).value
    assert len(rows) == 2
    knows: Consumption = meter.consumption
    for row, end in zip(rows, ends, strict=True):
        cells = row.value
        assert CosemDateTime.from_bytes(cells[0].value).to_utc() == end
        assert cells[1].value == knows.at(0, int(end.timestamp()))
        assert (cells[2].value + cells[3].value) % 2**32 == cells[1].value
    # March in its standard time, quarter by quarter
    first, last = (int(end.timestamp()) for end in ends)
    by_hand = max((4 * (knows.at(0, t + 900) - knows.at(0, t)), -t) for t in range(first, last, 900))
    assert rows[1].value[4].value == by_hand[0]
    assert CosemDateTime.from_bytes(rows[1].value[5].value).to_utc().timestamp() == 900 - by_hand[1]
    day = sum(
        knows.at(0, t + 900) - knows.at(0, t)
        for t in range(first, last, 900)
        if 6 <= (t + 3600) // 3600 % 24 < 22
    )
    assert rows[1].value[2].value - rows[0].value[2].value == day
    assert {str(obis) for obis in (*TARIFFS, MAXIMUM_DEMAND)} <= {
        str(entry.obis) for entry in cosem.object_list(axdr.decode_exact(MANAGEMENT.object_list(1)))
    }
