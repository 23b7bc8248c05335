"""Events that meters push are stored with their own time, once a list has told who sends them."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from protocols.dlms import axdr, hdlc
from protocols.dlms.apdu.fields import Raw
from protocols.dlms.apdu.notification import EventNotificationRequest
from protocols.dlms.cosem import Attribute
from protocols.dlms.obis import Obis
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
