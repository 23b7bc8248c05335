"""Class 8 with a foreign peer: our client sets and shifts a clock of Gurux' code, a Gurux client one of ours.

No recorded trace of a meter whose clock is set exists here: a peer by other hands is the best there is.
"""

import asyncio
import datetime as dt
from typing import Any

import pytest
from gurux_dlms import GXDateTime
from gurux_dlms.enums import ObjectType
from gurux_dlms.objects import GXDLMSClock

from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.meter_clock import MeterClock
from headend.drivers.commands.clock import ClockChange
from headend.drivers.dlms.commands.clock import ClockCommands
from protocols.errors import ActionRefused
from tests.interop import gurux_server as gurux
from tests.interop.gurux_client import Connection, Refused, talking
from tests.interop.gurux_commanded import CommandedMeter
from tests.interop.gurux_server import serving
from tests.interop.test_gurux_client import NOW, client_for, run
from tests.interop.test_gurux_server import model, plan_for, session_of

pytestmark = pytest.mark.interop

CLOCK = "0.0.1.0.0.255"
CET = dt.timezone(dt.timedelta(hours=1))


def commanded(work: Any) -> CommandedMeter:
    """``work`` with our commands in a session with Gurux' meter, which is given back. Its clock stands still
    until it is set or shifted; other methods it does not have."""
    meter = CommandedMeter()
    (clock,) = [item for item in meter.items if item.objectType == ObjectType.CLOCK]

    def shift(seconds: Any) -> None:
        clock.time = GXDateTime(clock.time.value + dt.timedelta(seconds=seconds))

    meter.methods[8, 6] = shift

    async def main(port: int) -> None:
        the_model = model()
        async with session_of(plan_for(f"tcp://127.0.0.1:{port}", the_model)) as session:
            await work(ClockCommands(session, the_model))

    with serving(meter) as port:
        asyncio.run(main(port))
    assert meter.faults == []
    return meter


def test_our_client_shifts_a_foreign_clock() -> None:
    async def work(ours: ClockCommands) -> None:
        before = await ours.read_clock()
        assert before.shown - gurux.CLOCK == dt.timedelta(seconds=0.5)  # the middle of the shown second
        await ours.shift_clock(dt.timedelta(seconds=-899))
        after = await ours.read_clock()
        assert after.shown - before.shown == dt.timedelta(seconds=-899)
        with pytest.raises(ActionRefused):
            await ours.set_clock(after, ClockChange.PRESET)

    meter = commanded(work)
    assert [index for _, index, _ in meter.invoked] == [6, 5]
    assert meter.invoked[0] == (8, 6, -899)
    assert [len(bytes(stamp)) for stamp in meter.invoked[1][2]] == [12, 12, 12]


def test_our_client_sets_a_foreign_clock() -> None:
    async def work(ours: ClockCommands) -> None:
        before = await ours.read_clock()
        await ours.set_clock(before, ClockChange.SET)
        after = await ours.read_clock()
        assert abs(after.offset) <= after.uncertainty + dt.timedelta(seconds=1)

    meter = commanded(work)
    assert meter.written == [(8, 2)]


def test_a_foreign_client_sets_and_shifts_our_clock() -> None:
    def work(meter: SimulatedMeter, port: int) -> None:
        with talking(client_for(meter), port) as connection:
            clock = GXDLMSClock(CLOCK)
            told = dt.datetime(2026, 3, 12, 11, 40, 1, tzinfo=CET)
            clock.time = GXDateTime(told)
            connection.exchange(connection.client.write(clock, 2))
            assert shown(connection) == told
            connection.exchange(clock.shiftTime(connection.client, -400))
            assert shown(connection) == told - dt.timedelta(seconds=400)
            connection.exchange(clock.adjustToQuarter(connection.client))
            assert shown(connection) == dt.datetime(2026, 3, 12, 11, 30, tzinfo=CET)
            connection.exchange(clock.adjustToMeasuringPeriod(connection.client))
            connection.exchange(clock.shiftTime(connection.client, 29))
            connection.exchange(clock.adjustToMinute(connection.client))
            assert shown(connection) == dt.datetime(2026, 3, 12, 11, 30, tzinfo=CET)
            with pytest.raises(Refused):
                connection.exchange(clock.adjustToPresetTime(connection.client))
        assert (
            meter.part(MeterClock).shows(NOW) == dt.datetime(2026, 3, 12, 10, 30, tzinfo=dt.UTC).timestamp()
        )

    run(work)


def test_a_foreign_client_reads_and_writes_our_rules_of_summer_time() -> None:
    def work(meter: SimulatedMeter, port: int) -> None:
        with talking(client_for(meter), port) as connection:
            clock = GXDLMSClock(CLOCK)
            for attribute in (3, 4, 7, 8, 9):
                connection.read(clock, attribute)
            assert (clock.timeZone, clock.deviation, clock.enabled, int(clock.clockBase)) == (
                -60,
                0,
                False,
                1,
            )
            clock.deviation, clock.enabled = 60, True
            for attribute in (7, 8):
                connection.exchange(connection.client.write(clock, attribute))
        rules = meter.part(MeterClock).rules
        assert (rules.ahead_min, rules.enabled) == (60, True)

    run(work)


def shown(connection: Connection) -> dt.datetime:
    clock = GXDLMSClock(CLOCK)
    connection.read(clock, 2)
    found: dt.datetime = clock.time.value
    return found
