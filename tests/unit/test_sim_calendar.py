"""The simulated meter's calendar really switches its tariff registers, to the second."""

from datetime import UTC, datetime, timedelta

from concentrator_sim import billing
from concentrator_sim.calendar import TariffBook, follow_faults, tariffs
from concentrator_sim.faults import Fault, FaultKind, Faults
from concentrator_sim.meter import SimulatedMeter
from headend.drivers.commands.tariff import TariffPart
from headend.drivers.dlms.commands.tariff import TariffCommands
from schemas.model import load_model
from schemas.model.tariff import TariffLimits
from schemas.tariff.calendar import Compiled, compiled, differences
from schemas.tariff.document import TariffDocument
from schemas.tariff.explain import explain
from tests.integration.programs.tariffs import THREE
from tests.unit.test_tariff_procedure import Clock, Session

#: The simulated meter's clock is on Central European Time all the year.
DOCUMENT = TariffDocument.model_validate({**THREE, "zone": "Etc/GMT-1"})
LIMITS = TariffLimits(selectors={1: 1, 2: 2, 3: 3})
WANTED = compiled(DOCUMENT, LIMITS, {"work": 7, "rest": 9})
#: COSEM has weeks, and so no rest days.
COSEM = [one for one in TariffPart if one is not TariffPart.REST_DAYS]
BEFORE = datetime(2026, 12, 23, 10, 0, tzinfo=UTC)
ACTIVE = datetime(2026, 12, 23, 18, 20, tzinfo=UTC)


async def _written(meter: SimulatedMeter, clock: Clock) -> TariffCommands:
    talk = TariffCommands(Session(meter, clock), load_model("headend-sim"))  # type: ignore[arg-type]
    await talk.write_tariff(COSEM, WANTED)
    await talk.activate_tariff(ACTIVE)
    return talk


def test_a_meter_that_was_never_written_to_is_a_pure_function() -> None:
    meter = SimulatedMeter(3, 11)
    for hours in range(48):
        at = int(BEFORE.timestamp()) + 3600 * hours
        assert tariffs(meter, at)[:2] == billing.tariffs(meter.consumption, at, meter.deviation_min)
    assert meter.part_if_any(TariffBook) is None


async def test_each_hour_counts_where_the_calendar_says() -> None:
    meter, clock = SimulatedMeter(3, 11), Clock(BEFORE)
    await _written(meter, clock)
    # nobody asks the meter at that moment: it is activated then all the same
    known = (*billing.tariffs(meter.consumption, int(ACTIVE.timestamp()), meter.deviation_min), 0, 0)
    expected = dict.fromkeys((1, 2, 3), 0)
    step = timedelta(minutes=10)
    at = ACTIVE
    while at < ACTIVE + timedelta(days=4):  # Christmas, and a weekend, in them
        begin, end = int(at.timestamp()), int((at + step).timestamp())
        used = meter.consumption.at(0, end) - meter.consumption.at(0, begin)
        expected[explain(DOCUMENT, at).tariff] += used
        at += step
    found = tariffs(meter, int(at.timestamp()))
    assert [after - before for before, after in zip(known, found, strict=True)] == [*expected.values(), 0]
    assert min(expected.values()) > 0
    total = meter.consumption.at(0, int(at.timestamp()))
    assert sum(found) % 2**32 == total


async def test_the_passive_calendar_becomes_the_active_one_at_its_time_and_both_can_be_read() -> None:
    meter, clock = SimulatedMeter(3, 11), Clock(BEFORE)
    talk = await _written(meter, clock)
    has = await talk.read_tariff()
    assert (has.active.name, has.activates_at) == ("DAYNIGHT", ACTIVE)
    assert has.passive is not None
    assert not differences(WANTED.calendar, has.passive)
    clock.now = ACTIVE
    has = await talk.read_tariff()
    assert not differences(WANTED.calendar, has.active)
    assert has.activates_at is None
    assert has.specials == WANTED.specials
    script = meter.part(TariffBook).script
    assert [script(int(datetime(2026, 12, day, 16, 30, tzinfo=UTC).timestamp())) for day in (24, 25)] == [
        1,
        2,
    ]


async def test_a_meter_that_stores_wrongly_does_so_while_its_fault_lasts() -> None:
    meter, clock = SimulatedMeter(3, 11), Clock(BEFORE)
    fault = Fault(kind=FaultKind.WRONG_TARIFF, after_s=0, for_s=60)
    faults = Faults(meter.serial, [fault], seed=1, started=clock.seconds)
    follow_faults(meter, faults, lambda: clock.seconds)
    for later, wrong in ((0, True), (60, False)):
        clock.now = BEFORE + timedelta(seconds=later)
        has = await (await _written(meter, clock)).read_tariff()
        assert has.passive is not None
        assert bool(differences(WANTED.calendar, has.passive)) == wrong


async def test_names_padded_and_tables_in_another_order_are_the_same() -> None:
    """What a meter may write otherwise; see `headend.drivers.dlms.commands.tariff`."""
    meter, clock = SimulatedMeter(3, 11), Clock(BEFORE)
    turned = Compiled(
        WANTED.calendar._replace(
            name="THREE\0\0",
            days=tuple(day._replace(switches=day.switches[::-1]) for day in WANTED.calendar.days[::-1]),
            weeks=WANTED.calendar.weeks[::-1],
            seasons=WANTED.calendar.seasons[::-1],
        ),
        WANTED.specials,
    )
    talk = TariffCommands(Session(meter, clock), load_model("headend-sim"))  # type: ignore[arg-type]
    await talk.write_tariff(COSEM, turned)
    has = await talk.read_tariff()
    assert has.passive == WANTED.calendar
