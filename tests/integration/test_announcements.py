"""What stations announce, on both databases: meters of ours are placed, everything else waits."""

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from headend.ingest.network_import import import_network
from headend.store import announcements, audit, meters, network
from headend.store.announcements import AnnouncementState, announce
from headend.store.errors import UnknownError
from schemas.meter import NewMeter
from schemas.network import Announced, LinkKind

T0 = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
PLC, WIFI = LinkKind.PLC_NARROWBAND, LinkKind.WIFI
FILE = b"""\
node,kind,parent,link,hops,quality
T1,transformer,,,,
T2,transformer,,,,
DC1,concentrator,T1,,,
DC2,concentrator,T2,,,
R1,relay,DC1,plc_narrowband,,
M1,meter,DC1,plc_narrowband,2,61
M2,meter,R1,plc_narrowband,1,40
"""


@pytest.fixture
async def connection(database):
    async with await psycopg.AsyncConnection.connect(database.dsn, autocommit=True) as connection:
        new = [NewMeter(f"M{n}", "generic-dlms") for n in range(1, 5)]
        new.append(NewMeter("M5", "generic-dlms", b"ABC\0\0\0\0\5", "LDN5", "mqtt:plug-5"))
        await meters.add_many(connection, new, since=T0)
        result = await import_network(connection, FILE, since=T0, actor="cli")
        assert result.errors == ()
        yield connection


@pytest.fixture
async def ids(connection):
    found = await network.find(connection, codes=["DC1", "DC2", "R1", "T1"])
    return {one.node.code: one.node.node_id for one in found}


async def hangs(connection, code):
    link = (await network.get(connection, code)).link
    return (link.parent, link.kind, link.hops, link.quality)


async def numbers(connection):
    return {meter.asset_id: meter.meter_id for meter in await meters.page(connection, limit=99)}


async def moves(connection):
    entries = await audit.page(connection, limit=99)
    return [
        (one.actor, one.object, one.detail["from"], one.detail["to"])
        for one in reversed(entries)
        if one.action == "network.moved"
    ]


async def test_a_meter_heard_where_it_is_does_not_move(connection, ids):
    known = await numbers(connection)
    told = [Announced("M1", link=PLC, hops=3, quality=0), Announced("M2", hops=2, quality=41)]
    result = await announce(connection, ids["DC1"], told, now=T0 + DAY)
    assert (result.known, result.moved, result.unknown, result.beyond) == (
        {"M1": known["M1"], "M2": known["M2"]}, (), (), 0,
    )  # fmt: skip
    assert await hangs(connection, "M1") == ("DC1", PLC, 3, 0)
    assert await hangs(connection, "M2") == ("R1", PLC, 1, 41)  # it stays behind its relay
    assert await moves(connection) == []


async def test_a_meter_heard_elsewhere_moves_with_its_past(connection, ids):
    known = await numbers(connection)
    told = [Announced("M1", link=WIFI, quality=9), Announced("M3", link=PLC, hops=2)]
    result = await announce(connection, ids["DC2"], told, now=T0 + DAY)
    assert result.moved == (known["M1"], known["M3"])
    assert await hangs(connection, "M1") == ("DC2", WIFI, 1, 9)
    assert await hangs(connection, "M3") == ("DC2", PLC, 2, None)
    node = (await network.get(connection, "M1")).node
    assert [(h.parent, h.since, h.until) for h in await network.history(connection, node.node_id)] == [
        ("DC1", T0, T0 + DAY), ("DC2", T0 + DAY, None),
    ]  # fmt: skip
    assert await moves(connection) == [
        ("station:DC2", "meter:M1", "DC1", "DC2"), ("station:DC2", "meter:M3", None, "DC2"),
    ]  # fmt: skip
    assert (await meters.by_asset(connection, "M1")).transformer == "T2"
    again = await announce(connection, ids["DC2"], told, now=T0 + 2 * DAY)
    assert again.moved == ()


async def test_old_news_move_nothing(connection, ids):
    told = [Announced("M1", link=PLC)]
    for now in (T0 - DAY, T0):
        assert (await announce(connection, ids["DC2"], told, now=now)).moved == ()
    assert await hangs(connection, "M1") == ("DC1", PLC, 2, 61)


async def test_relays_are_those_of_the_station(connection, ids):
    await announce(
        connection,
        ids["DC1"],
        [
            Announced("R1", link=PLC),  # a relay is neither a meter nor unknown
            Announced("M1", parent="R1", hops=2, link=PLC),
            Announced("M3", parent="M4", hops=2, link=PLC),  # M4 is placed in the same telling
            Announced("M4", link=PLC),
            Announced("M5", parent="unheard-of", hops=4, link=PLC),
        ],
        now=T0 + DAY,
    )
    assert await hangs(connection, "M1") == ("R1", PLC, 1, None)
    assert await hangs(connection, "M3") == ("M4", PLC, 1, None)
    assert await hangs(connection, "M5") == ("DC1", PLC, 4, None)
    assert await announcements.page(connection, limit=9) == []
    # the relay of another station is none of DC2's, and two meters that relay for each other are a circle
    told = [
        Announced("M1", parent="R1"), Announced("M3", parent="M4"), Announced("M4", parent="M3"),
        Announced("M5", parent="M5"),
    ]  # fmt: skip
    await announce(connection, ids["DC2"], told, now=T0 + 2 * DAY)
    assert [(await hangs(connection, f"M{n}"))[0] for n in (1, 3, 4, 5)] == ["DC2", "M4", "DC2", "DC2"]


@pytest.mark.parametrize(
    "told",
    [
        Announced("LDN5"),
        Announced("4142430000000005"),
        Announced("0x00158d00", address="mqtt:plug-5"),
    ],
)
async def test_a_meter_is_known_by_every_name(connection, ids, told):
    number = (await numbers(connection))["M5"]
    assert (await announce(connection, ids["DC1"], [told], now=T0 + DAY)).known == {told.identity: number}
    assert (await announce(connection, None, [told], now=T0 + DAY)).known == {told.identity: number}
    assert (await hangs(connection, "M5"))[0] == "DC1"


async def test_unknown_devices_wait(connection, ids):
    told = Announced("X1", "generic-dlms", "via:?gateway=0:0A", PLC, 2, 50, "M1")
    result = await announce(connection, ids["DC1"], [told, Announced("X1", hops=9)], now=T0)
    assert (result.known, result.unknown) == ({}, ("X1",))
    await announce(connection, ids["DC1"], [told], now=T0 + DAY)
    await announce(connection, ids["DC2"], [told], now=T0 + DAY)
    await announce(connection, None, [Announced("plug-1", address="mqtt:plug-1")], now=T0 + DAY)
    found = await announcements.page(connection, limit=9)
    assert [(one.station, one.announced.identity, one.times) for one in found] == [
        ("DC1", "X1", 2), ("DC2", "X1", 1), (None, "plug-1", 1),
    ]  # fmt: skip
    assert (found[0].announced, found[0].first_at, found[0].last_at) == (told, T0, T0 + DAY)
    assert await announcements.page(connection, limit=9, after=found[0].number, station="DC1") == []
    assert len(await meters.page(connection, limit=99)) == 5, "never silently in the fleet"
    # a meter that is imported meanwhile is no question any more
    await meters.add(connection, NewMeter("X1", "generic-dlms"), since=T0)
    await announce(connection, ids["DC1"], [told], now=T0 + 2 * DAY)
    assert [one.announced.identity for one in await announcements.page(connection, limit=9)] == ["plug-1"]
    assert await hangs(connection, "X1") == ("M1", PLC, 1, 50)


async def test_the_inbox_is_bounded_for_each_station(connection, ids):
    devices = [Announced(f"X{n}") for n in range(5)]
    result = await announce(connection, ids["DC1"], devices, now=T0, most=3)
    assert (len(result.unknown), result.beyond) == (5, 2)
    assert (await announce(connection, ids["DC1"], devices, now=T0 + DAY, most=3)).beyond == 2
    assert (await announce(connection, ids["DC2"], devices, now=T0, most=5)).beyond == 0
    assert (await announce(connection, None, devices, now=T0, most=4)).beyond == 1
    assert len(await announcements.page(connection, limit=99, station="DC1")) == 3
    assert sorted(await announcements.overflow(connection), key=str) == [
        ("DC1", 4, T0 + DAY), (None, 1, T0),
    ]  # fmt: skip


async def test_rejected_ones_stay_quiet(connection, ids):
    await announce(connection, ids["DC1"], [Announced("X1")], now=T0)
    (one,) = await announcements.page(connection, limit=9)
    await announcements.decide(connection, one.number, AnnouncementState.REJECTED, now=T0)
    result = await announce(connection, ids["DC1"], [Announced("X1")], now=T0 + DAY, most=0)
    assert (result.unknown, result.beyond) == (("X1",), 0)
    assert await announcements.page(connection, limit=9) == []
    again = await announcements.get(connection, one.number)
    assert (again.state, again.times, again.last_at) == (AnnouncementState.REJECTED, 2, T0 + DAY)


async def test_only_stations_announce(connection, ids):
    for number in (ids["T1"], 10**6):
        with pytest.raises(UnknownError, match="no concentrator or gateway"):
            await announce(connection, number, [Announced("X1")], now=T0)
    assert (await announce(connection, ids["DC1"], [], now=T0)).unknown == ()
    assert await announcements.page(connection, limit=9) == []


async def test_two_stations_at_once(database, connection, ids):
    """Both hear the same meters new to the network: one after the other, none fails, none is doubled."""
    told = [Announced(f"M{n}", link=PLC) for n in range(1, 6)]

    async def tell(station, now):
        async with await psycopg.AsyncConnection.connect(database.dsn) as own:
            await announce(own, ids[station], told, now=now)

    await asyncio.gather(tell("DC1", T0 + DAY), tell("DC2", T0 + DAY), tell("DC1", T0 + DAY))
    assert len({(await hangs(connection, f"M{n}"))[0] for n in range(3, 6)}) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"identity": ""}, {"identity": "a\0"}, {"hops": 0}, {"hops": 256}, {"quality": -1}, {"quality": 101},
     {"address": "x" * 257}],
)  # fmt: skip
def test_what_no_device_is_called(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Announced(**({"identity": "X"} | wrong))
    assert Announced("X", hops=255, quality=0).quality == 0


async def test_a_station_with_keys_is_no_meter_below_itself(connection, ids):
    """It is in the meters' table too, under its code; it tells of itself and is left where it is."""
    await meters.add(connection, NewMeter("DC1", "generic-dlms"), since=T0)
    result = await announce(connection, ids["DC1"], [Announced("DC1", link=PLC)], now=T0 + DAY)
    assert (result.moved, result.unknown) == ((), ())
    assert (await hangs(connection, "DC1"))[0] == "T1"
    assert await network.nowhere(connection) == 3


async def test_a_meter_is_reached_as_its_station_calls_it_now(connection, ids):
    known = await numbers(connection)
    await meters.set_address(connection, known["M1"], "via:?gateway=0:0A&server=17")
    await meters.set_address(connection, known["M2"], "tcp://10.0.0.9:4059")

    async def addresses():
        return [(await meters.by_asset(connection, f"M{n}")).address for n in (1, 2)]

    async def tell(station, now, address):
        told = [Announced("M1", address=address), Announced("M2", address=address)]
        await announce(connection, ids[station], told, now=now)

    for address in (None, "via:?gateway=0:0a", "mqtt:M1", "via:?gateway=zz", "rubbish"):
        await tell("DC1", T0 + DAY, address)
        assert (await addresses())[0] == "via:?gateway=0:0A&server=17"
    await tell("DC2", T0 - DAY, "via:?gateway=1:0B")  # old news of a station that it is not below
    assert (await addresses())[0].startswith("via:?gateway=0:0A")
    await tell("DC2", T0 + 2 * DAY, "via:?gateway=1:0B")
    new = (await addresses())[0]
    assert sorted(new.removeprefix("via:?").split("&")) == ["gateway=1:0B", "server=17"]
    assert (await addresses())[1] == "tcp://10.0.0.9:4059"
    (line,) = [one for one in await audit.page(connection, limit=99) if one.action == "meter.address"]
    assert (line.actor, line.object) == ("station:DC2", "meter:M1")
    assert line.detail == {"from": "via:?gateway=0:0A&server=17", "to": new}
