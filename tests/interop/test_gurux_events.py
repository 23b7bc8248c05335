"""Our head-end reads the event logs and the alarm register of a meter made of Gurux' code."""

import asyncio
import datetime as dt

import pytest

from headend.drivers.dlms.events import EventReader
from schemas.event import EventLog, EventMeaning
from schemas.model import load_model
from tests.interop import gurux_server as gurux
from tests.interop.gurux_server import GuruxMeter, serving
from tests.interop.test_gurux_server import METER_ID, plan_for, session_of, us

pytestmark = pytest.mark.interop


def test_event_logs_by_range_and_alarms():
    the_model = load_model("idis")
    since, until = gurux.START, gurux.START + dt.timedelta(hours=5)
    meter = GuruxMeter(lists=False)  # its answer to a list that names an unknown object is cut short

    async def main(port):
        async with session_of(plan_for(f"tcp://127.0.0.1:{port}", the_model)) as session:
            return await EventReader().read_events(session, METER_ID, the_model, since, until)

    with serving(meter) as port:
        events = asyncio.run(main(port)).events
    assert not meter.faults
    standard = [(e.occurred_us, e.code) for e in events if e.log is EventLog.STANDARD]
    assert standard == [(us(stamp), code) for stamp, code in gurux.EVENTS]
    assert [e.meaning for e in events if e.log is EventLog.STANDARD] == [
        EventMeaning.POWER_DOWN, EventMeaning.POWER_UP, EventMeaning.OTHER, EventMeaning.LOG_CLEARED,
        EventMeaning.CLOCK_INVALID, EventMeaning.OTHER,
    ]  # fmt: skip
    failures = [e for e in events if e.log is EventLog.POWER_FAILURE]
    assert [(e.occurred_us, e.duration_s, e.meaning) for e in failures] == [
        (us(gurux.FAILURES[0][0]), 3600, EventMeaning.POWER_FAILURE)  # the other lies beyond the range
    ]
    alarms = [(e.code, e.meaning) for e in events if e.log is EventLog.ALARM]
    assert alarms == [(1, EventMeaning.BATTERY_LOW), (7, EventMeaning.OTHER)]
    assert meter.selections == [(1, (since, until))] * 2
