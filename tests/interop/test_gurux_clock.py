"""Class 8 with a foreign peer: our client sets and shifts a clock of Gurux' code, a Gurux client one of ours.

No recorded trace of a meter whose clock is set exists here: a peer by other hands is the best there is. What
a method does is in Gurux' server for its application to say, and here for the test.
"""

import asyncio
import datetime as dt
from types import SimpleNamespace
from typing import Any

import pytest
from gurux_dlms import GXByteBuffer, GXDateTime
from gurux_dlms.enums import Command, ErrorCode, ObjectType
from gurux_dlms.GXDLMS import GXDLMS
from gurux_dlms.GXDLMSLNParameters import GXDLMSLNParameters
from gurux_dlms.internal._GXCommon import _GXCommon
from gurux_dlms.internal._GXDataInfo import _GXDataInfo
from gurux_dlms.objects import GXDLMSClock

from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.meter_clock import MeterClock
from headend.drivers.commands.clock import ClockChange
from headend.drivers.dlms.commands.clock import ClockCommands
from protocols.errors import ActionRefused
from tests.interop import gurux_server as gurux
from tests.interop.gurux_client import Connection, Refused, talking
from tests.interop.gurux_server import GuruxMeter, serving
from tests.interop.test_gurux_client import NOW, client_for, run
from tests.interop.test_gurux_server import model, plan_for, session_of

pytestmark = pytest.mark.interop

CLOCK = "0.0.1.0.0.255"
CET = dt.timezone(dt.timedelta(hours=1))


class WithClock(GuruxMeter):
    """Its clock stands still until it is set or shifted; other methods it does not have.

    The release's own SET and ACTION stop before they take anything: here requests are taken apart as
    `GuruxMeter` does it, every value by Gurux' decoder, and the clock takes it by Gurux' `setValue`.
    """

    def __init__(self) -> None:
        self.invoked: list[tuple[int, Any]] = []
        self.written: list[int] = []
        super().__init__()
        self.clock = next(item for item in self.items if item.objectType == ObjectType.CLOCK)

    def _taken(self, data: Any) -> tuple[int, int, Any]:
        data.getUInt8()
        invoke = data.getUInt8()
        self.settings.updateInvokeId(invoke)
        assert data.getUInt16() == 8
        data.position = data.position + 6
        index = data.getUInt8()
        is_there = data.getUInt8()  # access selection of a SET: none; parameters of an ACTION: some
        return invoke, index, is_there

    def _answer(self, command: int, invoke: int, error: ErrorCode, out: GXByteBuffer | None = None) -> None:
        parameters = GXDLMSLNParameters(self.settings, invoke, command, 1, None, out, error)
        GXDLMS.getLNPdu(parameters, self.replyData)

    def handle_method(self, data: Any) -> None:
        invoke, index, is_there = self._taken(data)
        value = _GXCommon.getData(self.settings, data, _GXDataInfo()) if is_there else None
        self.invoked.append((index, value))
        error = ErrorCode.OK if index == 6 else ErrorCode.UNDEFINED_OBJECT
        if index == 6:
            self.clock.time = GXDateTime(self.clock.time.value + dt.timedelta(seconds=value))
        out = GXByteBuffer()
        out.setUInt8(0)
        self._answer(Command.METHOD_RESPONSE, invoke, error, out)

    def handleCommand(self, cmd: int, data: Any, sr: Any) -> Any:
        if cmd != Command.SET_REQUEST:
            return super().handleCommand(cmd, data, sr)
        invoke, index, is_selected = self._taken(data)
        assert not is_selected
        value = _GXCommon.getData(self.settings, data, _GXDataInfo())
        self.written.append(index)
        self.clock.setValue(self.settings, SimpleNamespace(index=index, value=value, user=None))
        self._answer(Command.SET_RESPONSE, invoke, ErrorCode.OK)
        return GXDLMS.getWrapperFrame(self.settings, cmd, self.replyData)


def commanded(work: Any) -> WithClock:
    """``work`` with our commands in a session with Gurux' meter, which is given back."""
    meter = WithClock()

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
    assert [index for index, _ in meter.invoked] == [6, 5]
    assert meter.invoked[0] == (6, -899)
    assert [len(bytes(stamp)) for stamp in meter.invoked[1][1]] == [12, 12, 12]


def test_our_client_sets_a_foreign_clock() -> None:
    async def work(ours: ClockCommands) -> None:
        before = await ours.read_clock()
        await ours.set_clock(before, ClockChange.SET)
        after = await ours.read_clock()
        assert abs(after.offset) <= after.uncertainty + dt.timedelta(seconds=1)

    meter = commanded(work)
    assert meter.written == [2]


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
