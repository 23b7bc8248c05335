"""Events that meters push are stored with their own time, once a list has told who sends them."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from headend.store import events
from headend.store.events import EventFilter
from protocols.dlms import axdr, hdlc, wrapper
from protocols.dlms.apdu.fields import LongInvokeIdAndPriority, Raw
from protocols.dlms.apdu.notification import DataNotification, EventNotificationRequest
from protocols.dlms.cosem import Attribute
from protocols.dlms.obis import Obis
from schemas.event import EventLog, EventMeaning
from schemas.meter import NewMeter
from tests.integration.test_listen_push import AIDON_LINE, ALL, frames, make_bench

__all__ = ["make_bench"]

EVENT = Attribute(1, Obis.parse("0-0:96.11.0*255"), 2)
#: 2026-03-10 12:00:00 at UTC+1
STAMP = bytes.fromhex("07ea030a020c000000ffc400")


def framed(event):
    return hdlc.encode_frame(*AIDON_LINE, 0x13, b"\xe6\xe7\x00" + event.to_bytes())


@pytest.mark.parametrize("time", [STAMP, b"\x19" + STAMP, None], ids=["bare", "tagged", "none"])
async def test_an_event_is_stored_with_its_time(embedded_database, make_bench, time):
    bench = await make_bench(embedded_database)
    await bench.add(NewMeter("7359992892587665", "aidon"))
    event = EventNotificationRequest(time, EVENT, Raw(axdr.encode(axdr.u8(61))))
    await bench.tcp(frames(ALL["aidon_no_list_2"]) + framed(event))
    rows = {obis: row for obis, *row in await bench.rows("7359992892587665")}
    value, text, _, meter_time, *_ = rows["0-0:96.11.0*255"]
    assert (value, text) == (Decimal(61), None)
    assert meter_time == (None if time is None else datetime(2026, 3, 10, 11, tzinfo=UTC))
    assert await bench.inbox() == []
    [stored] = await told(bench)
    assert (stored.asset_id, stored.log, stored.code) == ("7359992892587665", EventLog.STANDARD, 61)
    assert stored.meaning is EventMeaning.OTHER  # the model knows no codes
    assert stored.occurred_at == (None if time is None else datetime(2026, 3, 10, 11, tzinfo=UTC))
    assert stored.source


async def told(bench):
    async with bench.pool.connection() as connection:
        return await events.page(connection, EventFilter(), limit=100)


def pushed(*elements, stamp=STAMP):
    """A list of elements as the simulated meters push it, in a wrapper frame."""
    items = [
        axdr.structure(axdr.octets(Obis.parse(obis).raw), value)
        for obis, value in (("0-0:96.1.0*255", axdr.octets(b"SIM1")), *elements)
    ]
    body = Raw(axdr.encode(axdr.array(items)))
    return wrapper.encode(1, 16, DataNotification(LongInvokeIdAndPriority(1), stamp, body).to_bytes())


async def test_alarms_and_last_gasps_that_are_pushed_are_events(embedded_database, make_bench):
    bench = await make_bench(embedded_database)
    await bench.add(NewMeter("SIM1", "headend-sim"))
    gasp = pushed(("0-0:97.98.21*255", axdr.u32(1)))
    await bench.tcp(gasp)
    await bench.tcp(gasp + pushed(("0-0:97.98.20*255", axdr.u32(2)), ("0-0:96.11.1*255", axdr.u8(44))))
    found = {(one.log, one.meaning, one.code, one.text) for one in await told(bench)}
    assert found == {
        (EventLog.LAST_GASP, EventMeaning.LAST_GASP, 0, "0-0:97.98.1*255"),
        (EventLog.ALARM, EventMeaning.BATTERY_LOW, 1, "0-0:97.98.0*255"),
        (EventLog.FRAUD, EventMeaning.COVER_OPENED, 44, None),
    }
    assert len(await told(bench)) == 3  # the last gasp came twice and is one
    assert {one.occurred_at for one in await told(bench)} == {datetime(2026, 3, 10, 11, tzinfo=UTC)}


async def test_an_alarm_register_among_values_is_a_standing_state(embedded_database, make_bench):
    bench = await make_bench(embedded_database)
    await bench.add(NewMeter("SIM1", "headend-sim"))
    later = STAMP[:5] + b"\x0d" + STAMP[6:]
    await bench.tcp(pushed(("0-0:97.98.0*255", axdr.u32(1))))
    await bench.tcp(pushed(("0-0:97.98.0*255", axdr.u32(1)), stamp=later))
    [one] = await told(bench)
    assert (one.meaning, one.standing, one.occurred_at) == (EventMeaning.CLOCK_INVALID, True, None)


async def test_an_event_of_a_stranger_and_one_without_a_single_value_are_kept(embedded_database, make_bench):
    bench = await make_bench(embedded_database)
    await bench.add(NewMeter("7359992892587665", "aidon"))
    single = EventNotificationRequest(None, EVENT, Raw(axdr.encode(axdr.u8(61))))
    several = EventNotificationRequest(None, EVENT, Raw(axdr.encode(axdr.array([axdr.u8(61)]))))
    await bench.tcp(framed(single))
    await bench.tcp(frames(ALL["aidon_no_list_2"]) + framed(several))
    kept = await bench.inbox()
    assert [one.payload for one in kept] == [single.to_bytes(), several.to_bytes()]
    assert all(one.reason for one in kept)
    assert "0-0:96.11.0*255" not in {row[0] for row in await bench.rows("7359992892587665")}
