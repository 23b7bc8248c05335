"""What a meter tells within a session that we drive is stored as a push is, or is in the inbox."""

import psycopg
import pytest

from concentrator_sim.field import unix_now
from concentrator_sim.push import framed, notifications
from concentrator_sim.scenario import Framing
from headend.drivers.contract import Target
from headend.store import inbox, meters
from protocols.dlms import apdu as apdus
from protocols.dlms import axdr
from protocols.dlms.apdu.fields import LongInvokeIdAndPriority, Raw
from protocols.dlms.apdu.notification import DataNotification, EventNotificationRequest
from protocols.dlms.association import Notification
from protocols.dlms.cosem import LOGICAL_DEVICE_NAME, Attribute
from protocols.dlms.obis import Obis
from schemas.reading import Quality
from tests.integration.test_collect import add, field_of, house_of

ALARM = Attribute(1, Obis.parse("0-0:97.98.0*255"), 2)
EVENT = EventNotificationRequest(None, ALARM, Raw(axdr.encode(axdr.u32(8))))
NAMELESS = DataNotification(LongInvokeIdAndPriority(9, confirmed=True), None, Raw(axdr.encode(axdr.u32(8))))


def stored(dsn, asset_id):
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "SELECT obis, value, text, quality, source FROM register_reads JOIN meters USING (meter_id)"
            " JOIN batches USING (batch_id) WHERE asset_id = %s ORDER BY obis", [asset_id]
        ).fetchall()  # fmt: skip


async def kept(house):
    async with house.base.pool.connection() as connection:
        return await inbox.unresolved(connection, limit=10)


async def meter_of(house, item):
    async with house.base.pool.connection() as connection:
        return await meters.by_asset(connection, item.meter.serial)


def plain(item, clock=unix_now):
    """The notification that the simulated meter pushes, as an association has opened it."""
    (apdu,) = notifications(item.meter, clock)
    return Notification(apdus.decode(apdu))


@pytest.mark.parametrize("security", ["none", "hls5", "hls5-general"])
async def test_pushes_amid_a_session_are_stored_once_and_the_rest_is_kept(database, security):
    now = unix_now()
    async with field_of(meters=1, security=security) as field:
        (item,) = field.meters
        async with house_of(database.dsn) as house:
            await add(house, field.csv())
            reach = await house.access.prepare_one(Target(await meter_of(house, item)))
            async with house.access.session(reach) as session:
                (connection,) = field._connections
                pushed = [*notifications(item.meter, lambda: now, confirmed=True)]
                pushed += notifications(item.meter, lambda: now, confirmed=True)  # nobody confirmed the first
                if security == "none":
                    pushed += [EVENT.to_bytes(), NAMELESS.to_bytes()]
                for apdu in pushed:
                    connection._transport.write(framed(apdu, Framing.WRAPPER, item.meter.management.sap, 0))
                assert axdr.decode_exact(await session.get(LOGICAL_DEVICE_NAME)).value
                assert session.release_error is None
        rows = stored(database.dsn, item.meter.serial)
        codes = [row[0] for row in rows]
        assert len(codes) == len(set(codes))
        assert set(codes) >= {"1-0:1.8.0*255", "0-0:42.0.0*255"}
        assert {(row[3], row[4]) for row in rows} == {(Quality.PUSHED, f"session {item.meter.serial}")}
        assert ("0-0:97.98.0*255" in codes) == (security == "none")
        async with house_of(database.dsn) as house:
            left = [(one.payload, one.source, one.identity) for one in await kept(house)]
        nameless = (NAMELESS.to_bytes(), f"session {item.meter.serial}", item.meter.serial)
        assert left == ([nameless] if security == "none" else [])


async def test_within_a_session_less_than_its_protection_is_not_believed(embedded_database):
    field, other = field_of(meters=1, security="hls5"), field_of(meters=1, security="none")
    async with field, house_of(embedded_database.dsn) as house:
        await add(house, field.csv())
        meter = await meter_of(house, field.meters[0])
        for proven in (True, False):
            await house.handler.told(meter, [plain(other.meters[0])], proven=proven)
        assert stored(embedded_database.dsn, meter.asset_id) == []
        reasons = [one.reason for one in await kept(house)]
        assert "is not authenticated and encrypted" in reasons[0]
        assert "model headend-sim-hls5 allows no push without ciphering" in reasons[1]
        assert house.handler.totals.everything.confirmed == 0


async def test_what_tells_of_another_meter_is_nobodys(embedded_database):
    async with field_of(meters=2, security="none") as field, house_of(embedded_database.dsn) as house:
        await add(house, field.csv())
        one, two = field.meters
        await house.handler.told(await meter_of(house, one), [plain(two), plain(one)], proven=True)
        assert stored(embedded_database.dsn, two.meter.serial) == []
        assert stored(embedded_database.dsn, one.meter.serial) != []
        (left,) = await kept(house)
        assert left.reason == f"within the session of {one.meter.serial} it tells of {two.meter.serial}"


async def test_without_proof_a_message_stands_for_itself(embedded_database):
    async with field_of(meters=2, security="none") as field, house_of(embedded_database.dsn) as house:
        await add(house, field.csv())
        one, two = field.meters
        await house.handler.told(await meter_of(house, one), [plain(two), Notification(EVENT)], proven=False)
        assert stored(embedded_database.dsn, one.meter.serial) == []
        assert stored(embedded_database.dsn, two.meter.serial) != []
        (left,) = await kept(house)
        assert (left.payload, left.reason) == (EVENT.to_bytes(), "it does not tell which meter it is from")
