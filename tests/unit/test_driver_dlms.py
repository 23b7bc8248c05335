"""Load curves and registers through the driver, against a meter whose every row is known."""

import datetime as dt
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from headend.drivers.dlms.reader import DlmsReader
from headend.session.client import MeterSession
from headend.session.plan import plan_session
from headend.transport.memory import memory_pair
from protocols.dlms import axdr
from protocols.dlms.association import ServerSettings
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem import (
    Attribute,
    CaptureObject,
    EntryDescriptor,
    ObjectEntry,
    RangeDescriptor,
    ScalerUnit,
)
from protocols.dlms.cosem_time import ClockStatus, CosemDateTime
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.obis import Obis
from protocols.errors import DataAccessRefused, LocalProtocolError, RemoteProtocolError
from schemas.address import LinkAddress
from schemas.model import MeterModel
from schemas.reading import NO_STATUS, Fragment, Kind

UTC = dt.UTC
DAY = dt.datetime(2026, 3, 10, tzinfo=UTC)
LATER = DAY + dt.timedelta(days=30)
QUARTER = dt.timedelta(minutes=15)
CLOCK, STATUS = "0-0:1.0.0*255", "0-0:96.10.1*255"
ENERGIES = ("1-0:1.8.0*255", "1-0:2.8.0*255", "1-0:3.8.0*255", "1-0:4.8.0*255")
PROFILE = Obis.parse("1-0:99.1.0*255")
WH, VARH = 30, 32


def us(moment):
    return int(moment.timestamp()) * 1_000_000


def model(*, columns=None, clock=None, period_s=900, quirks=None, registers=(), scaling=None, **profile):
    if columns is None:
        columns = [{"role": "clock", "obis": CLOCK}, {"role": "status", "obis": STATUS}] + [
            {"role": "value", "obis": obis, "quantity": quantity}
            for obis, quantity in zip(
                ENERGIES,
                ("active_import", "active_export", "reactive_import", "reactive_export"),
                strict=True,
            )
        ]
    return MeterModel.model_validate(
        {
            "name": "test",
            "title": "Test",
            "clock": clock or {},
            "load_profiles": [
                {"number": 1, "obis": str(PROFILE), "period_s": period_s, "columns": columns, **profile}
            ],
            "registers": list(registers),
            "scaling": scaling or {},
            "quirks": quirks or {},
        }
    )


def capture(class_id, obis, attribute=2):
    return CaptureObject(class_id, Obis.parse(obis), attribute)


CAPTURES = (capture(8, CLOCK), capture(1, STATUS), *(capture(3, obis) for obis in ENERGIES))


class Rows:
    """A profile buffer: (stamp, fields) rows, answering range and entry selections as a meter does."""

    def __init__(self, rows, *, lifo=False, zone=None):
        self.rows = sorted(rows, key=lambda row: row[0], reverse=lifo)
        self.zone = zone
        self.selections = []

    def clock(self, stamp):
        if self.zone is None:
            return axdr.octets(CosemDateTime.from_utc(stamp).to_bytes())
        return axdr.octets(CosemDateTime.from_zone(stamp, self.zone).to_bytes())

    def encode(self, rows):
        return axdr.encode(axdr.array(axdr.structure(self.clock(stamp), *fields) for stamp, fields in rows))

    def __call__(self, item):
        selection = item.selection
        if selection is None:
            return self.encode(self.rows)
        data = axdr.decode_exact(selection.parameters)
        if selection.selector == 2:
            entries = EntryDescriptor.decode(data)
            self.selections.append(entries)
            return self.encode(self.rows[entries.from_entry - 1 : entries.to_entry or None])
        descriptor = RangeDescriptor.decode(data)
        low, high = (
            CosemDateTime.from_bytes(bound.value).to_utc() for bound in (descriptor.low, descriptor.high)
        )
        self.selections.append((low, high, descriptor.low.type))
        return self.encode([row for row in self.rows if low <= row[0] <= high])


def energy_row(number):
    return (axdr.u8(0), *(axdr.u32(1000 * k + number) for k in range(1, 5)))


def day_rows(count=96, first=DAY):
    return [(first + (i + 1) * QUARTER, energy_row(i)) for i in range(count)]


def objects(buffer, *, captures=CAPTURES, period_s=900, sort=1, scaler=0, extra=None):
    found = {
        Attribute(7, PROFILE, 2): buffer,
        Attribute(7, PROFILE, 3): axdr.encode(axdr.array(c.encode() for c in captures)),
        Attribute(7, PROFILE, 4): axdr.encode(axdr.u32(period_s)),
        Attribute(7, PROFILE, 5): axdr.encode(axdr.enum(sort)),
    }
    if isinstance(buffer, Rows):
        found[Attribute(7, PROFILE, 7)] = axdr.encode(axdr.u32(len(buffer.rows)))
    for obis in ENERGIES:
        unit = WH if obis[4] in "12" else VARH
        found[Attribute(3, Obis.parse(obis), 3)] = axdr.encode(ScalerUnit(scaler, unit).encode())
    return found | (extra or {})


@pytest.fixture
def read(run_virtual, fake_meter):
    """Open a session on a meter with these objects and call ``work(driver, session, meter)`` in it."""

    def read_(the_objects, work, *, now=LATER, driver=None):
        async def main():
            ours, theirs = memory_pair()
            meter = fake_meter(theirs, {1: ServerSettings()}, the_objects)
            plan = plan_session(model(), LinkAddress.parse("tcp://192.0.2.1?client=1"), {}, None)
            async with MeterSession(plan, stream=ours) as session:
                return await work(driver or DlmsReader(now=lambda: now), session, meter)

        return run_virtual(main())

    return read_


def curve(read, the_model, the_objects, start=DAY, end=DAY + dt.timedelta(days=1), **options):
    return read(the_objects, lambda d, s, _: d.read_load_curve(s, 7, the_model, 1, start, end), **options)


# ---- load curves ----------------------------------------------------------------------------------


def test_a_day_is_96_rows_with_starts_and_exact_raw_values(read):
    buffer = Rows(day_rows(200, DAY - dt.timedelta(hours=10)))
    buffer.rows = [(stamp, energy_row(i)) for i, (stamp, _) in enumerate(buffer.rows)]
    batch = curve(read, model(), objects(buffer, scaler=1))
    assert buffer.selections == [(DAY + QUARTER, DAY + dt.timedelta(days=1), DataType.OCTET_STRING)]
    assert len(batch) == 96
    assert batch.start_us.tolist() == [us(DAY + i * QUARTER) for i in range(96)]
    assert batch.stamp_us.tolist() == [us(DAY + (i + 1) * QUARTER) for i in range(96)]
    assert batch.values[:, 0].tolist() == [1000 + 40 + i for i in range(96)]
    assert batch.values[5].tolist() == [1045, 2045, 3045, 4045]
    assert batch.valid.all()
    assert set(batch.meter_id.tolist()) == {7}
    assert set(batch.profile.tolist()) == {1}
    assert set(batch.period_s.tolist()) == {900}
    assert set(batch.amr_status.tolist()) == {0}
    assert set(batch.clock_status.tolist()) == {0}
    assert not batch.fragment.any()
    assert batch.covered_us == ((7, 1, us(DAY), us(DAY + dt.timedelta(days=1))),)
    first, _, _, fourth = batch.layouts[0].channels
    assert (first.quantity, first.obis, first.scaler, first.unit) == ("active_import", ENERGIES[0], 1, "Wh")
    assert fourth.unit == "varh"
    assert first.kind is Kind.CUMULATIVE
    assert first.exact(1040) == Decimal(10400)
    assert batch.registers == ()
    assert "192.0.2.1" in batch.source


def test_facts_are_asked_once_per_meter_and_shared_between_meters(read):
    buffer = Rows(day_rows())
    the_model = model()

    async def work(driver, session, meter):
        end = DAY + dt.timedelta(days=1)
        first = await driver.read_load_curve(session, 7, the_model, 1, DAY, end)
        asked = len(meter.asked)
        await driver.read_load_curve(session, 7, the_model, 1, DAY, end)
        assert len(meter.asked) == asked + 1  # the buffer alone
        other = await driver.read_load_curve(session, 8, the_model, 1, DAY, end)
        assert len(meter.asked) == 2 * asked + 1
        assert other.layouts[0] is first.layouts[0]
        assert set(other.meter_id.tolist()) == {8}
        assert other.start_us is first.start_us  # same stamps, computed once

    read(objects(buffer), work)


def test_a_model_that_writes_its_scalers_wins_over_the_meter(read, caplog):
    the_model = model(
        columns=[
            {"role": "clock", "obis": CLOCK},
            {"role": "status", "obis": STATUS},
            {
                "role": "value",
                "obis": ENERGIES[0],
                "quantity": "active_import",
                "scaler": 3,
                "unit": "Wh",
                "modulus": 10**8,
            },
        ]
    )
    rows = [(s, f[:2]) for s, f in day_rows(4)]
    batch = curve(read, the_model, objects(Rows(rows), captures=CAPTURES[:3]))
    channel = batch.layouts[0].channels[0]
    assert (channel.scaler, channel.unit, channel.modulus) == (3, "Wh", 10**8)
    assert batch.layouts[0].channels[1:] == (None, None, None)
    assert "10**3 Wh here, the meter says 10**0 Wh" in caplog.text
    assert batch.valid.tolist() == [[True, False, False, False]] * 4


def test_the_meters_own_column_order_counts_and_unknown_columns_are_kept(read):
    voltage = "1-0:32.7.0*255"
    captures = (CAPTURES[3], CAPTURES[0], capture(3, voltage), CAPTURES[2])  # export, clock, voltage, import
    rows = Rows([])
    rows.encode = lambda _: axdr.encode(
        axdr.array(
            axdr.structure(
                axdr.u32(20 + i), rows.clock(DAY + (i + 1) * QUARTER), axdr.u16(2301 + i), axdr.u32(10 + i)
            )
            for i in range(2)
        )
    )
    extra = {Attribute(3, Obis.parse(voltage), 3): axdr.encode(ScalerUnit(-1, 35).encode())}
    batch = curve(read, model(), objects(rows, captures=captures, extra=extra))
    assert batch.values[:, :2].tolist() == [[10, 20], [11, 21]]
    assert batch.valid.tolist() == [[True, True, False, False]] * 2
    assert set(batch.amr_status.tolist()) == {NO_STATUS}
    assert [(r.obis, r.value, r.unit, r.meter_us, r.read_us) for r in batch.registers] == [
        (voltage, Decimal("230.1"), "V", us(DAY + QUARTER), us(DAY + QUARTER)),
        (voltage, Decimal("230.2"), "V", us(DAY + 2 * QUARTER), us(DAY + 2 * QUARTER)),
    ]


def test_meters_that_answer_alike_share_what_it_means_and_others_do_not(read):
    driver, the_model = DlmsReader(now=lambda: LATER), model()

    def scaler_of(meter_id, scaler):
        batch = read(
            objects(Rows(day_rows()), scaler=scaler),
            lambda d, s, _: d.read_load_curve(s, meter_id, the_model, 1, DAY, DAY + dt.timedelta(days=1)),
            driver=driver,
        )
        assert set(batch.meter_id.tolist()) == {meter_id}
        return batch.layouts[0].channels[0].scaler, batch.layouts[0]

    first, other, third = scaler_of(1, 0), scaler_of(2, 1), scaler_of(3, 0)
    assert [first[0], other[0], third[0]] == [0, 1, 0]
    assert first[1] is third[1]


def test_columns_beyond_the_model_are_asked_of_each_meter(read):
    # what is asked first is answered alike; the scaler of a column that the model does not name is not in it
    driver, the_model = DlmsReader(now=lambda: LATER), model()
    voltage = "1-0:32.7.0*255"
    captures = (CAPTURES[0], CAPTURES[2], capture(3, voltage))
    told = []
    for meter_id, scaler in ((1, -1), (2, -2), (3, -1)):
        rows = Rows([])
        row = axdr.structure(rows.clock(DAY + QUARTER), axdr.u32(10), axdr.u16(2301))
        rows.encode = lambda _, row=row: axdr.encode(axdr.array([row]))
        extra = {Attribute(3, Obis.parse(voltage), 3): axdr.encode(ScalerUnit(scaler, 35).encode())}
        batch = read(
            objects(rows, captures=captures, extra=extra),
            lambda d, s, _, number=meter_id: d.read_load_curve(
                s, number, the_model, 1, DAY, DAY + dt.timedelta(days=1)
            ),
            driver=driver,
        )
        told += [str(one.value) for one in batch.registers]
    assert told == ["230.1", "23.01", "230.1"]


def test_what_fits_no_cell_is_kept_exactly(read):
    real = axdr.Real(bytes.fromhex("3dcccccd"))  # the float32 nearest to 0.1
    rows = day_rows(5)
    rows[0] = (rows[0][0], (axdr.u8(0), Data(DataType.FLOAT32, real), *rows[0][1][2:]))
    rows[1] = (rows[1][0], (axdr.u8(0), Data(DataType.LONG64_UNSIGNED, 2**64 - 1), *rows[1][1][2:]))
    rows[2] = (rows[2][0], (axdr.u8(0), Data(DataType.VISIBLE_STRING, "fault"), *rows[2][1][2:]))
    rows[3] = (rows[3][0], (axdr.u8(0), Data(DataType.NULL, None), *rows[3][1][2:]))
    rows[4] = (rows[4][0], (Data(DataType.LONG64_UNSIGNED, 2**63), *rows[4][1][1:]))
    batch = curve(read, model(), objects(Rows(rows), scaler=2))
    assert batch.valid[:, 0].tolist() == [False, False, False, False, True]
    assert batch.valid[:, 1:].all()
    assert [(r.obis, r.value, r.text, r.unit, r.meter_us) for r in batch.registers] == [
        (ENERGIES[0], Decimal(10), None, "Wh", us(rows[0][0])),
        (ENERGIES[0], Decimal(2**64 - 1) * 100, None, "Wh", us(rows[1][0])),
        (ENERGIES[0], None, "fault", None, us(rows[2][0])),
        (STATUS, Decimal(2**63), None, None, us(rows[4][0])),
    ]
    assert [r.from_float for r in batch.registers] == [True, False, False, False]
    assert batch.amr_status[4] == NO_STATUS


def test_off_grid_and_repeated_stamps_are_fragments(read):
    rows = day_rows(4)
    rows.insert(2, (DAY + dt.timedelta(minutes=37), energy_row(90)))
    rows.insert(4, (rows[3][0], energy_row(91)))
    batch = curve(read, model(), objects(Rows(rows)))
    kinds = batch.fragment.tolist()
    assert kinds == [
        Fragment.NONE,
        Fragment.NONE,
        Fragment.OFF_GRID,
        Fragment.NONE,
        Fragment.REPEATED,
        Fragment.NONE,
    ]
    assert batch.start_us[2] == us(DAY + 2 * QUARTER)  # ended within [00:30, 00:45)
    assert batch.values[3, 0] == 1002
    assert batch.values[4, 0] == 1091


def test_newest_first_is_stored_alike_and_the_row_captured_first_stands(read):
    rows = day_rows(4)
    buffer = Rows([*rows, (rows[1][0], energy_row(91))], lifo=True)
    # in the buffer, newest first: of the two with one stamp, the later one comes first
    buffer.rows = [rows[3], rows[2], (rows[1][0], energy_row(91)), rows[1], rows[0]]
    batch = curve(read, model(), objects(buffer, sort=2))
    kept = batch.fragment == Fragment.NONE
    assert batch.values[kept, 0].tolist() == [1003, 1002, 1001, 1000]
    assert batch.values[~kept, 0].tolist() == [1091]


def test_null_clocks_go_on_by_the_period(read):
    rows = Rows([])
    clocks = [rows.clock(DAY + QUARTER), Data(DataType.NULL, None), Data(DataType.NULL, None)]
    rows.encode = lambda _: axdr.encode(
        axdr.array(axdr.structure(clock, *energy_row(i)) for i, clock in enumerate(clocks))
    )
    batch = curve(read, model(), objects(rows))
    assert batch.start_us.tolist() == [us(DAY + i * QUARTER) for i in range(3)]
    assert not batch.fragment.any()


def test_local_time_with_deviation_is_on_the_local_grid(read):
    kolkata = ZoneInfo("Asia/Kolkata")  # +05:30: an hour's grid is not UTC's
    start = dt.datetime(2026, 3, 10, tzinfo=kolkata)
    rows = [(start + dt.timedelta(hours=i + 1), energy_row(i)) for i in range(24)]
    buffer = Rows(rows, zone=kolkata)
    the_model = model(period_s=3600, clock={"time_zone": "Asia/Kolkata"})
    batch = curve(read, the_model, objects(buffer, period_s=3600), start, start + dt.timedelta(days=1))
    assert not batch.fragment.any()
    assert batch.start_us.tolist() == [us(start + dt.timedelta(hours=i)) for i in range(24)]
    assert batch.covered_us == ((7, 1, us(start), us(start + dt.timedelta(days=1))),)


def test_inverted_deviations_have_their_own_local_grid(read):
    kathmandu = ZoneInfo("Asia/Kathmandu")
    start = dt.datetime(2026, 3, 10, tzinfo=kathmandu)
    rows = Rows([(start + dt.timedelta(hours=i + 1), energy_row(i)) for i in range(24)])

    def clock(stamp):
        written = CosemDateTime.from_zone(stamp, kathmandu)
        return axdr.octets(CosemDateTime(written.date, written.time, 345, written.status).to_bytes())

    rows.clock = clock
    rows.__class__ = type("All", (Rows,), {"__call__": lambda self, _: self.encode(self.rows)})
    the_model = model(period_s=3600, clock={"time_zone": "Asia/Kathmandu", "deviation": "inverted"})
    batch = curve(read, the_model, objects(rows, period_s=3600), start, start + dt.timedelta(days=1))
    assert not batch.fragment.any()
    assert batch.start_us.tolist() == [us(start + dt.timedelta(hours=i)) for i in range(24)]


def test_a_demand_registers_last_average_has_its_scaler(read):
    demand = "1-0:1.4.0*255"
    captures = (CAPTURES[0], capture(5, demand, 3))
    rows = [(stamp, (axdr.u32(7),)) for stamp, _ in day_rows(1)]
    extra = {Attribute(5, Obis.parse(demand), 4): axdr.encode(ScalerUnit(2, 27).encode())}
    batch = curve(read, model(), objects(Rows(rows), captures=captures, extra=extra))
    assert [(r.obis, r.attribute, r.value, r.unit) for r in batch.registers] == [
        (demand, 3, Decimal(700), "W")
    ]


@pytest.mark.parametrize(("day", "hours"), [((2026, 3, 29), 23), ((2026, 10, 25), 25), ((2026, 6, 1), 24)])
def test_days_of_23_and_25_hours(read, day, hours):
    berlin = ZoneInfo("Europe/Berlin")
    start = dt.datetime(*day, tzinfo=berlin).astimezone(UTC)
    rows = [(start + (i + 1) * QUARTER, energy_row(i)) for i in range(hours * 4)]
    the_model = model(clock={"time_zone": "Europe/Berlin"})
    end = start + dt.timedelta(hours=hours)
    now = end + dt.timedelta(days=5)
    batch = curve(read, the_model, objects(Rows(rows, zone=berlin)), start, end, now=now)
    assert batch.start_us.tolist() == [us(start + i * QUARTER) for i in range(hours * 4)]
    assert not batch.fragment.any()
    assert batch.covered_us == ((7, 1, us(start), us(end)),)


def test_a_daily_profile_begins_at_local_midnight_also_when_clocks_change(read):
    berlin = ZoneInfo("Europe/Berlin")
    midnights = [dt.datetime(2026, 3, day, tzinfo=berlin) for day in (28, 29, 30, 31)]
    rows = [(midnight.astimezone(UTC), energy_row(i)) for i, midnight in enumerate(midnights[1:])]
    the_model = model(period_s=86400, clock={"time_zone": "Europe/Berlin"})
    batch = curve(
        read, the_model, objects(Rows(rows, zone=berlin), period_s=86400), midnights[0], midnights[-1],
    )  # fmt: skip
    assert not batch.fragment.any()
    assert batch.start_us.tolist() == [us(midnight) for midnight in midnights[:-1]]


def test_rows_beyond_the_range_are_kept_and_not_covered(read):
    buffer = Rows(day_rows(8))
    buffer.__class__ = type("Stubborn", (Rows,), {"__call__": lambda self, _: self.encode(self.rows)})
    batch = curve(read, model(), objects(buffer), DAY + 2 * QUARTER, DAY + 4 * QUARTER)
    assert len(batch) == 8
    assert batch.covered_us == ((7, 1, us(DAY + 2 * QUARTER), us(DAY + 4 * QUARTER)),)


def test_an_empty_answer_for_a_past_range_is_an_answer(read):
    batch = curve(read, model(), objects(Rows([])))
    assert len(batch) == 0
    assert batch.covered_us == ((7, 1, us(DAY), us(DAY + dt.timedelta(days=1))),)


def test_what_the_meter_cannot_know_yet_is_not_covered(read):
    now = DAY + dt.timedelta(hours=12, minutes=7)
    batch = curve(read, model(), objects(Rows(day_rows(47))), now=now)
    assert len(batch) == 47
    # 12:00 is due but has not come: the meter's clock is a little slow
    assert batch.covered_us == ((7, 1, us(DAY), us(DAY + 47 * QUARTER)),)
    assert curve(read, model(), objects(Rows([])), now=now).covered_us == ()


def test_a_clock_that_runs_ahead_covers_no_future(read):
    now = DAY + dt.timedelta(hours=12)
    batch = curve(read, model(), objects(Rows(day_rows(96))), now=now)
    assert len(batch) == 96
    assert batch.covered_us == ((7, 1, us(DAY), us(now)),)


def test_ranges_are_moved_inwards_to_the_grid(read):
    buffer = Rows(day_rows())
    batch = curve(
        read,
        model(),
        objects(buffer),
        DAY + dt.timedelta(minutes=1),
        DAY + dt.timedelta(minutes=59, seconds=59),
    )
    assert batch.covered_us == ((7, 1, us(DAY + QUARTER), us(DAY + 3 * QUARTER)),)
    assert batch.start_us.tolist() == [us(DAY + QUARTER), us(DAY + 2 * QUARTER)]
    inside = curve(
        read, model(), objects(buffer), DAY + dt.timedelta(minutes=1), DAY + dt.timedelta(minutes=14)
    )
    assert len(inside) == 0
    assert inside.covered_us == ()


def test_bounds_are_written_in_the_meters_own_time(read):
    berlin = ZoneInfo("Europe/Berlin")
    asked = []

    def buffer(item):
        descriptor = RangeDescriptor.decode(axdr.decode_exact(item.selection.parameters))
        asked.append(CosemDateTime.from_bytes(descriptor.low.value))
        return b"\x01\x00"

    start = dt.datetime(2026, 7, 1, tzinfo=berlin)
    for deviation, expected in (("standard", -120), ("inverted", 120), ("unspecified", None)):
        the_model = model(clock={"time_zone": "Europe/Berlin", "deviation": deviation})
        curve(read, the_model, objects(buffer), start, start + dt.timedelta(days=1))
        assert asked[-1].deviation_min == expected
        assert (asked[-1].time.hour, asked[-1].time.minute) == (0, 15)
        assert asked[-1].status == ClockStatus.DST_ACTIVE


def test_inverted_and_missing_deviations_give_the_same_curve(read):
    berlin = ZoneInfo("Europe/Berlin")
    start = dt.datetime(2026, 10, 25, tzinfo=berlin).astimezone(UTC)
    stamps = [start + (i + 1) * QUARTER for i in range(100)]
    for deviation in ("inverted", "unspecified"):
        rows = Rows([(stamp, energy_row(i)) for i, stamp in enumerate(stamps)])

        def clock(stamp, deviation=deviation):
            written = CosemDateTime.from_zone(stamp, berlin)
            sent = -written.deviation_min if deviation == "inverted" else None
            return axdr.octets(CosemDateTime(written.date, written.time, sent, written.status).to_bytes())

        rows.clock = clock
        rows.__class__ = type("All", (Rows,), {"__call__": lambda self, _: self.encode(self.rows)})
        the_model = model(clock={"time_zone": "Europe/Berlin", "deviation": deviation})
        batch = curve(
            read,
            the_model,
            objects(rows),
            start,
            start + dt.timedelta(hours=25),
            now=start + dt.timedelta(days=9),
        )
        assert batch.stamp_us.tolist() == [us(stamp) for stamp in stamps], deviation
        assert not batch.fragment.any()


def test_bounds_that_a_meter_refuses_are_written_otherwise_and_remembered(read):
    buffer = Rows(day_rows())
    tried = []

    def picky(item):
        descriptor = RangeDescriptor.decode(axdr.decode_exact(item.selection.parameters))
        tried.append(descriptor.low.type)
        return buffer(item) if descriptor.low.type is DataType.DATE_TIME else DataAccessResult.TYPE_UNMATCHED

    the_model = model()
    driver = DlmsReader(now=lambda: LATER)
    batch = curve(read, the_model, objects(picky), driver=driver)
    assert len(batch) == 96
    curve(read, the_model, objects(picky), driver=driver)
    assert tried == [DataType.OCTET_STRING, DataType.DATE_TIME, DataType.DATE_TIME]


def test_wider_bounds_where_exact_ones_are_refused(read):
    buffer = Rows(day_rows(200, DAY - dt.timedelta(hours=2)))

    def strict(item):
        low, high, _ = (buffer(item), *buffer.selections[-1])[1:]
        return (
            buffer(item) if high - low > dt.timedelta(hours=25) else DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
        )

    batch = curve(read, model(), objects(strict))
    assert len(batch) > 96
    assert batch.covered_us == ((7, 1, us(DAY), us(DAY + dt.timedelta(days=1))),)


def test_a_refusal_that_no_other_bounds_help_comes_out(read):
    for result in (DataAccessResult.READ_WRITE_DENIED, DataAccessResult.TYPE_UNMATCHED):
        with pytest.raises(DataAccessRefused) as caught:
            curve(read, model(), objects(lambda _, result=result: result))
        assert caught.value.result == result


@pytest.mark.parametrize("lifo", [False, True])
def test_by_entry_where_ranges_are_refused(read, lifo):
    total = 96 * 40
    rows = day_rows(total)
    now = DAY + total * QUARTER
    start = DAY + dt.timedelta(days=37)
    buffer = Rows(rows, lifo=lifo)
    batch = curve(
        read, model(quirks={"range_by_entry": True}), objects(buffer, sort=2 if lifo else 1), start,
        start + dt.timedelta(days=1), now=now,
    )  # fmt: skip
    assert {us(start + i * QUARTER) for i in range(96)} <= set(batch.start_us.tolist())
    assert len(batch) < 4 * 96
    assert batch.covered_us == ((7, 1, us(start), us(start + dt.timedelta(days=1))),)


def test_by_entry_asks_for_more_until_the_range_is_reached(read):
    rows = day_rows(96 * 24, DAY - dt.timedelta(days=20))
    # twice as many rows as the time would need: a fragment after each
    rows = sorted(
        rows + [(stamp + dt.timedelta(minutes=3), energy_row(0)) for stamp, _ in rows], key=lambda r: r[0]
    )
    buffer = Rows(rows)
    batch = curve(
        read, model(quirks={"range_by_entry": True}), objects(buffer), now=DAY + dt.timedelta(days=4)
    )
    sizes = [entries.to_entry - entries.from_entry + 1 for entries in buffer.selections]
    assert sizes == [96 * 4 + 8, 2 * (96 * 4 + 8)]
    assert us(DAY) in batch.start_us.tolist()
    assert batch.covered_us == ((7, 1, us(DAY), us(DAY + dt.timedelta(days=1))),)


def test_by_entry_an_empty_buffer(read):
    batch = curve(read, model(quirks={"range_by_entry": True}), objects(Rows([])))
    assert len(batch) == 0
    assert batch.covered_us


def test_a_meter_configured_anew_is_looked_at_again(read):
    driver = DlmsReader(now=lambda: LATER)
    the_model = model()
    curve(read, the_model, objects(Rows(day_rows())), driver=driver)
    rows = [(stamp, fields[:3]) for stamp, fields in day_rows()]
    batch = curve(read, the_model, objects(Rows(rows), captures=CAPTURES[:4]), driver=driver)
    assert batch.valid.tolist() == [[True, True, False, False]] * 96


def test_a_buffer_that_breaks_the_standard_stays_an_error(read):
    driver = DlmsReader(now=lambda: LATER)
    with pytest.raises(RemoteProtocolError):
        curve(
            read,
            model(),
            objects(lambda _: axdr.encode(axdr.array([axdr.structure(axdr.u8(1))]))),
            driver=driver,
        )


def test_what_the_meter_does_not_tell_comes_from_the_model(read):
    found = objects(Rows(day_rows()))
    for index in (3, 4, 5):
        del found[Attribute(7, PROFILE, index)]
    assert len(curve(read, model(), found)) == 96
    for obis in ENERGIES:
        del found[Attribute(3, Obis.parse(obis), 3)]
    with pytest.raises(LocalProtocolError, match=r"scaler and unit of 1-0:1\.8\.0"):
        curve(read, model(), found)
    batch = curve(read, model(scaling={"1-0:x.8.0*255": {"scaler": -2, "unit": "kvarh"}}), found)
    assert batch.layouts[0].channels[0].scaler == -2


def test_a_profile_without_its_clock_is_refused_by_name(read):
    with pytest.raises(RemoteProtocolError, match=r"must capture its clock 0-0:1\.0\.0"):
        curve(read, model(), objects(Rows([]), captures=CAPTURES[1:]))


def test_bad_requests_are_ours(read):
    for start, end, number in (
        (DAY.replace(tzinfo=None), DAY, 1),
        (DAY, DAY, 1),
        (DAY, DAY + QUARTER, 2),
    ):
        with pytest.raises(LocalProtocolError):
            read(
                objects(Rows([])),
                lambda d, s, _, a=(start, end, number): d.read_load_curve(s, 7, model(), a[2], a[0], a[1]),
            )


def test_the_meters_period_counts(read, caplog):
    rows = [(DAY + dt.timedelta(minutes=30 * (i + 1)), energy_row(i)) for i in range(48)]
    batch = curve(read, model(), objects(Rows(rows), period_s=1800))
    assert set(batch.period_s.tolist()) == {1800}
    assert batch.start_us[1] - batch.start_us[0] == 1800 * 1_000_000
    assert "period of 1800 s, not 900 s" in caplog.text


# ---- registers ------------------------------------------------------------------------------------


def registers(read, the_model, the_objects, obis=(), **options):
    return read(the_objects, lambda d, s, _: d.read_registers(s, 7, the_model, obis), **options)


def stamp(moment):
    return axdr.octets(CosemDateTime.from_utc(moment).to_bytes())


OBJECTS = {
    Attribute(3, Obis.parse("1-0:1.8.0*255"), 2): axdr.encode(axdr.u32(1204895)),
    Attribute(3, Obis.parse("1-0:1.8.0*255"), 3): axdr.encode(ScalerUnit(1, WH).encode()),
    Attribute(4, Obis.parse("1-0:1.6.0*255"), 2): axdr.encode(axdr.u32(0)),
    Attribute(4, Obis.parse("1-0:1.6.0*255"), 3): axdr.encode(ScalerUnit(-3, 27).encode()),
    Attribute(4, Obis.parse("1-0:1.6.0*255"), 5): axdr.encode(stamp(DAY)),
    Attribute(5, Obis.parse("1-0:1.4.0*255"), 2): axdr.encode(axdr.u32(5)),
    Attribute(5, Obis.parse("1-0:1.4.0*255"), 3): axdr.encode(axdr.u32(6)),
    Attribute(5, Obis.parse("1-0:1.4.0*255"), 4): axdr.encode(ScalerUnit(0, 27).encode()),
    Attribute(5, Obis.parse("1-0:1.4.0*255"), 6): axdr.encode(stamp(DAY)),
    Attribute(8, Obis.parse(CLOCK), 2): axdr.encode(stamp(DAY)),
    Attribute(1, Obis.parse("0-0:96.1.0*255"), 2): axdr.encode(axdr.octets(b"METER0007")),
    Attribute(1, Obis.parse("0-0:96.1.1*255"), 2): b"\x00",
    Attribute(3, Obis.parse("1-0:9.9.9*255"), 2): axdr.encode(axdr.u32(1)),
}
LIST = axdr.encode(
    axdr.array(
        ObjectEntry(class_id, 0, obis, (), ()).encode()
        for class_id, obis in {(a.class_id, a.obis) for a in OBJECTS}
        | {(7, PROFILE), (3, Obis.parse("1-0:8.8.8*255"))}
    )
)
OBJECTS[Attribute(15, Obis.parse("0-0:40.0.0*255"), 2)] = LIST


def test_registers_of_every_class_are_exact(read):
    found = registers(
        read, model(), OBJECTS, ["1-0:1.8.0", "1-0:1.6.0", "1-0:1.4.0", CLOCK, "0-0:96.1.0", "1-0:1.8.0*255"]
    )
    assert found.refusals == ()
    assert [(r.obis, r.attribute, r.value, r.text, r.unit, r.meter_us) for r in found.batch.registers] == [
        ("1-0:1.8.0*255", 2, Decimal(12048950), None, "Wh", None),
        ("1-0:1.6.0*255", 2, Decimal(0), None, "W", us(DAY)),
        ("1-0:1.4.0*255", 2, Decimal(5), None, "W", us(DAY)),
        ("1-0:1.4.0*255", 3, Decimal(6), None, "W", us(DAY)),
        (CLOCK, 2, None, "2026-03-10T00:00:00+00:00", None, us(DAY)),
        ("0-0:96.1.0*255", 2, None, "METER0007", None, None),
    ]
    assert {r.read_us for r in found.batch.registers} == {us(LATER)}
    assert len(found.batch) == 0


@pytest.mark.parametrize(("version", "policy"), [(0, 3), (1, 0x6C), (0, 0), (1, 0x20)])
def test_security_setup_and_sap_assignment_in_words(read, version, policy):
    setup, saps = Obis.parse("0-0:43.0.0*255"), Obis.parse("0-0:41.0.0*255")
    entries = [ObjectEntry(64, version, setup, (), ()), ObjectEntry(17, 0, saps, (), ())]
    devices = [axdr.structure(axdr.u16(sap), axdr.octets(name)) for sap, name in ((1, b"MAN1"), (18, b"GAS"))]
    objects_ = {
        Attribute(15, Obis.parse("0-0:40.0.0*255"), 2): axdr.encode(
            axdr.array(entry.encode() for entry in entries)
        ),
        Attribute(17, saps, 2): axdr.encode(axdr.array(devices)),
        Attribute(64, setup, 2): axdr.encode(axdr.enum(policy)),
        Attribute(64, setup, 3): axdr.encode(axdr.enum(1)),
        Attribute(64, setup, 4): axdr.encode(axdr.octets(b"")),
        Attribute(64, setup, 5): axdr.encode(axdr.octets(b"MAN\0\0\0\0\7")),
    }
    found = registers(read, model(), objects_, ["0-0:43.0.0", "0-0:41.0.0"])
    assert found.refusals == ()
    words = {
        3: "authenticated request, encrypted request, authenticated response, encrypted response",
        0: "none",
        0x20: "authenticated response",
    }
    words[0x6C] = words[3]
    assert [(r.obis, r.attribute, r.value, r.text) for r in found.batch.registers] == [
        ("0-0:43.0.0*255", 2, None, words[policy]),
        ("0-0:43.0.0*255", 3, Decimal(1), None),
        ("0-0:43.0.0*255", 4, None, ""),
        ("0-0:43.0.0*255", 5, None, "4D414E0000000007"),
        ("0-0:41.0.0*255", 2, None, "1 MAN1, 18 GAS"),
    ]


def test_a_policy_that_its_version_does_not_know_is_refused_by_name(read):
    setup = Obis.parse("0-0:43.0.0*255")
    entry = ObjectEntry(64, 0, setup, (), ()).encode()
    objects_ = {
        Attribute(15, Obis.parse("0-0:40.0.0*255"), 2): axdr.encode(axdr.array([entry])),
        Attribute(64, setup, 2): axdr.encode(axdr.enum(0x6C)),
    }
    found = registers(read, model(), objects_, ["0-0:43.0.0"])
    assert found.refusals[-1].obis == "0-0:43.0.0*255"
    assert "none of version 0" in " ".join(refusal.reason for refusal in found.refusals)


def test_each_refusal_is_told_and_harms_no_other(read):
    found = registers(
        read, model(), OBJECTS, ["0-0:96.1.1", "1-0:9.9.9", "1-0:8.8.8", "1-0:7.7.7", "1-0:1.8.0"]
    )
    assert [r.obis for r in found.batch.registers] == ["1-0:1.8.0*255"]
    reasons = {refusal.obis: refusal.reason for refusal in found.refusals}
    assert "null" in reasons["0-0:96.1.1*255"]
    assert "scaler" in reasons["1-0:9.9.9*255"]
    assert "object undefined" in reasons["1-0:8.8.8*255"]
    assert "object list" in reasons["1-0:7.7.7*255"]


def test_the_models_registers_need_no_object_list(read):
    the_model = model(registers=[{"obis": "1-0:1.8.0*255"}, {"obis": CLOCK, "class_id": 8}])

    async def work(driver, session, meter):
        found = await driver.read_registers(session, 7, the_model)
        assert all(item.attribute.class_id != 15 for item in meter.asked)
        return found

    found = read(OBJECTS, work)
    assert [r.obis for r in found.batch.registers] == ["1-0:1.8.0*255", CLOCK]


def test_the_object_list_is_read_once(read):
    async def work(driver, session, meter):
        for _ in range(2):
            await driver.read_registers(session, 7, model(), ["1-0:1.8.0"])
        assert [item.attribute.class_id for item in meter.asked].count(15) == 1

    read(OBJECTS, work)


def test_makers_scaling_serves_where_the_meter_tells_none(read):
    the_model = model(scaling={"1-0:9.9.9*255": {"scaler": -1, "unit": "V"}})
    (reading,) = registers(read, the_model, OBJECTS, ["1-0:9.9.9"]).batch.registers
    assert (reading.value, reading.unit) == (Decimal("0.1"), "V")


def test_a_float_is_its_shortest_decimal_and_flagged(read):
    objects_ = {**OBJECTS, Attribute(3, Obis.parse("1-0:1.8.0*255"), 2): axdr.encode(axdr.float32(0.1))}
    found = registers(read, model(), objects_, ["1-0:1.8.0", "1-0:1.6.0"]).batch.registers
    assert [(r.value, r.from_float) for r in found] == [(Decimal(1), True), (Decimal(0), False)]


def test_no_obis_code_is_ours(read):
    with pytest.raises(LocalProtocolError, match="no OBIS code"):
        registers(read, model(), OBJECTS, ["energy"])


def test_columns_are_of_the_schemas_types(read):
    batch = curve(read, model(), objects(Rows(day_rows())))
    assert batch.start_us.dtype == np.int64
    assert batch.values.dtype == np.int64
    assert batch.amr_status.dtype == np.int64
    assert batch.clock_status.dtype == np.int16
    assert batch.fragment.dtype == np.int8
