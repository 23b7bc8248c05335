"""The network on both databases: places, moves with history, import and export, trees."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from headend.ingest.network_import import export_network, import_network
from headend.store import audit, meters, network
from headend.store.errors import ConflictError, UnknownError
from headend.store.network_tree import TooLargeError, tree
from schemas.meter import MeterState, NewMeter
from schemas.network import LinkKind, NodeKind, Place

T0 = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)

#: Parents come later in the file; M3 is heard through a relay, M4 through M3, M5 answers directly.
FILE = """\
node,kind,parent,link,hops,quality,address,model,title
M1,meter,DC1,plc_narrowband,2,61,,,
M2,meter,DC1,plc_narrowband,,0,,,
M3,meter,R1,plc_narrowband,1,40,,,
M4,meter,M3,plc_narrowband,1,30,,,
M5,meter,T1,cellular,,77,,,
R1,relay,DC1,plc_narrowband,1,90,,,
DC1,concentrator,T1,cellular,1,80,tcp://10.0.0.1,generic-dlms,Mill Street
DC2,concentrator,T2,,,,tcp://10.0.0.2:4059,generic-dlms,
T1,transformer,F1,,,,,,
T2,transformer,F2,,,,,,
F1,feeder,S1,,,,,,
F2,feeder,S1,,,,,,
S1,substation,,,,,,,"North, old"
"""


@pytest.fixture
async def connection(database):
    async with await psycopg.AsyncConnection.connect(database.dsn, autocommit=True) as connection:
        await meters.add_many(
            connection, [NewMeter(f"M{n}", "generic-dlms", feeder="F9") for n in range(1, 8)], since=T0
        )
        yield connection


@pytest.fixture
def run(connection):
    async def run(text=FILE, since=T0, **more):
        return await import_network(connection, text.encode(), since=since, actor="cli", **more)

    return run


async def dump(connection):
    tables = ("network_nodes", "network_links", "audit_log", "meters")
    return [await (await connection.execute(f"SELECT * FROM {t} ORDER BY 1")).fetchall() for t in tables]


async def number(connection, asset_id):
    return (await meters.by_asset(connection, asset_id)).meter_id


async def place(connection, asset_id):
    meter_id = await number(connection, asset_id)
    return (await network.places(connection, [meter_id])).get(meter_id)


async def station_id(connection, code):
    return (await network.get(connection, code)).node.node_id


async def test_a_file_becomes_the_network(connection, run):
    result = await run()
    assert (result.added, result.moved, result.changed, result.unchanged, result.errors) == (13, 0, 0, 0, ())
    one = await station_id(connection, "DC1")
    below = {
        "station_id": one,
        "station": "DC1",
        "station_address": "tcp://10.0.0.1:4059",
        "station_model": "generic-dlms",
        "link": LinkKind.PLC_NARROWBAND,
        "transformer": "T1",
        "feeder": "F1",
    }
    assert await place(connection, "M1") == Place(hops=2, quality=61, **below)
    assert await place(connection, "M2") == Place(hops=1, quality=0, **below)
    assert await place(connection, "M3") == Place(hops=2, quality=40, **below)
    assert await place(connection, "M4") == Place(hops=3, quality=30, **below)
    assert await place(connection, "M5") == Place(
        link=LinkKind.CELLULAR, quality=77, transformer="T1", feeder="F1"
    )
    assert await place(connection, "M6") is None
    assert [one.code for one in await network.stations(connection)] == ["DC1", "DC2"]
    below_dc1 = [await number(connection, f"M{n}") for n in range(1, 5)]
    assert await network.meters_of(connection, one) == below_dc1
    assert await network.meters_of(connection, await station_id(connection, "DC2")) == []
    assert await network.nowhere(connection) == 2
    await meters.change_state(connection, await number(connection, "M7"), MeterState.REMOVED, since=T0 + DAY)
    assert await network.nowhere(connection) == 1
    assert [(m.feeder, m.transformer) for m in await meters.page(connection, limit=9)] == [
        ("F1", "T1")
    ] * 5 + [("F9", None)] * 2
    assert (await audit.page(connection, limit=1))[0].detail == {
        "added": 13, "moved": 0, "changed": 0, "since": T0.isoformat(),
    }  # fmt: skip


async def test_the_same_file_and_an_export_again_have_no_effect(connection, run):
    await run()
    before = await dump(connection)
    text = await export_network(connection)
    for again in (FILE, text):
        result = await run(again, since=T0 + DAY)
        assert (result.added, result.moved, result.changed, result.unchanged) == (0, 0, 0, 13)
        assert await dump(connection) == before
    assert text.splitlines()[:3] == [
        "node,kind,parent,link,hops,quality,address,model,title",
        'S1,substation,,,,,,,"North, old"',
        "F1,feeder,S1,,1,,,,",
    ]


async def test_what_a_later_file_says(connection, run):
    await run()
    later = T0 + DAY
    result = await run(
        "node,kind,parent,link,hops,quality,title\n"
        "DC1,concentrator,T2,cellular,,,\n"  # moves, with all that is below
        "M1,meter,DC1,plc_broadband,,,\n"  # another kind of link is a move too
        "M2,meter,DC1,,3,50,\n"  # measurements are not; an empty link says nothing
        "M5,meter,,,,,\n"
        "M6,meter,DC2,wifi,1,10,\n"
        "S1,substation,,,,,North\n",
        since=later,
    )
    assert (result.added, result.moved, result.changed, result.unchanged, result.errors) == (1, 2, 2, 1, ())
    assert (await place(connection, "M4")).transformer == "T2"
    assert [(m.feeder, m.transformer) for m in await meters.page(connection, limit=9)][:6] == [
        ("F2", "T2"), ("F2", "T2"), ("F2", "T2"), ("F2", "T2"), ("F1", "T1"), ("F2", "T2"),
    ]  # fmt: skip
    one, two = await network.get(connection, "M1"), await network.get(connection, "M2")
    past = await network.history(connection, one.node.node_id)
    assert [(h.parent, h.kind, h.since, h.until) for h in past] == [
        ("DC1", LinkKind.PLC_NARROWBAND, T0, later), ("DC1", LinkKind.PLC_BROADBAND, later, None),
    ]  # fmt: skip
    (link,) = await network.history(connection, two.node.node_id)
    assert (link.kind, link.hops, link.quality) == (LinkKind.PLC_NARROWBAND, 3, 50)
    assert (await network.get(connection, "S1")).node.title == "North"


async def test_a_move_dated_before_the_last_one_is_refused(connection, run):
    await run(since=T0 + DAY)
    before = await dump(connection)
    result = await run("node,kind,parent\nDC1,concentrator,T2\n", since=T0 + DAY)
    assert [str(error) for error in result.errors] == [
        "file: DC1 moved at that time or later; give a later time"
    ]
    assert await dump(connection) == before
    with pytest.raises(ValueError, match="offset"):
        await run("node,kind,parent\nDC1,concentrator,T2\n", since=datetime(2026, 5, 1))  # noqa: DTZ001


async def test_all_errors_are_told_and_nothing_is_stored(connection, run):
    await run("node,kind,parent\nT1,transformer,\nDC9,concentrator,T1\n")
    before = await dump(connection)
    result = await run(
        "node,kind,parent,link,hops,quality,address,model,title\n"  # 1
        "M1,meter,T1,smoke,0,101,tcp://h,generic-dlms,\n"
        ",feeder,,,,,,,\n"
        "F1,lake,,,,,,,\n"
        "T1,feeder,,,,,,,\n"
        "M9,meter,T1,,,,,,\n"  # 6
        "DC1,concentrator,nowhere,,,,via:?gateway=0:01,unheard-of,\n"
        "DC2,concentrator,DC2,,,,,,\n"
        "DC3,concentrator,M2,,,,,,\n"
        "M2,meter,F1,,,,,,\n"  # its parent's line is wrong, and that is told there
        "M2,meter,F1,,,,,,\n"
        "M3,relay,T1,,,,,,\n"  # 12
        "R1,relay,,wifi,2,,,,\n"
    )
    assert [(error.line, error.column) for error in result.errors] == [
        (2, "address"), (2, "hops"), (2, "link"), (2, "model"), (2, "quality"),
        (3, "node"), (4, "kind"), (5, "kind"), (6, "node"), (7, "address"), (7, "model"), (8, "parent"),
        (9, "parent"), (11, "node"), (12, "node"), (13, "hops"), (13, "link"),
    ]  # fmt: skip
    assert "a concentrator does not stand below a meter" in str(result.errors[12])
    assert await dump(connection) == before


async def test_circles_are_refused(connection, run):
    await run()
    before = await dump(connection)
    result = await run("node,kind,parent\nM3,meter,M4\n", since=T0 + DAY)
    assert [str(error) for error in result.errors] == [
        "line 2, parent: stands below the node itself: a circle"
    ]
    result = await run(
        "node,kind,parent\nM1,meter,M2\nM6,meter,M1\nM2,meter,M6\nM7,meter,M2\n", since=T0 + DAY
    )
    assert [(error.line, error.column) for error in result.errors] == [
        (2, "parent"), (3, "parent"), (4, "parent"),
    ]  # fmt: skip
    assert await dump(connection) == before


async def test_a_dry_run_stores_nothing(connection, run):
    before = await dump(connection)
    assert (await run(dry_run=True)).added == 13
    assert await dump(connection) == before


async def test_one_node_is_moved(connection, run):
    await run()
    before, after = await network.move(connection, "M1", "DC2", kind=LinkKind.PLC_NARROWBAND, at=T0 + DAY)
    assert (before.link.parent, after.link.parent, after.link.since) == ("DC1", "DC2", T0 + DAY)
    assert (await place(connection, "M1")).feeder == "F2"
    for code, parent, error, said in (
        ("M1", "DC2", ConflictError, "hangs on DC2 by that link already"),
        ("M3", "M4", ConflictError, "M4 is below M3"),
        ("S1", "F1", ConflictError, "does not stand below a feeder; above it may be: nothing"),
        ("X", "DC1", UnknownError, "no node 'X'"),
        ("M1", "X", UnknownError, "no node 'X'"),
    ):
        with pytest.raises(error, match=said):
            await network.move(connection, code, parent, kind=LinkKind.PLC_NARROWBAND, at=T0 + 2 * DAY)
    with pytest.raises(ConflictError, match="M1 moved at that time or later"):
        await network.move(connection, "M1", "DC1", kind=None, at=T0 + DAY)


async def test_trees_are_folded_at_their_depth(connection, run):
    await run()
    (root,) = await tree(connection, None, depth=2, most=100)
    assert [one.standing.node.code for one in root.children] == ["F1", "F2"]
    (transformer,) = root.children[0].children
    assert transformer.children == []
    assert transformer.below == {NodeKind.METER: 5, NodeKind.RELAY: 1, NodeKind.CONCENTRATOR: 1}
    assert root.below == {
        NodeKind.METER: 5, NodeKind.RELAY: 1, NodeKind.CONCENTRATOR: 2, NodeKind.TRANSFORMER: 2,
        NodeKind.FEEDER: 2,
    }  # fmt: skip
    (whole,) = await tree(connection, "DC1", depth=9, most=6)
    assert [one.standing.node.code for one in whole.children] == ["M1", "M2", "R1"]
    assert whole.below == {NodeKind.METER: 4, NodeKind.RELAY: 1}
    (alone,) = await tree(connection, "DC1", depth=0, most=6)
    assert (alone.children, alone.below) == ([], whole.below)
    with pytest.raises(TooLargeError, match="more than 5 nodes"):
        await tree(connection, "DC1", depth=9, most=5)
    with pytest.raises(UnknownError):
        await tree(connection, "X", depth=9, most=5)


async def test_pages_of_nodes(connection, run):
    await run()
    first = await network.page(connection, limit=5)
    rest = await network.page(connection, limit=50, after=first[-1].node.code)
    assert [one.node.code for one in first + rest] == sorted(
        ["S1", "F1", "F2", "T1", "T2", "DC1", "DC2", "R1", "M1", "M2", "M3", "M4", "M5"]
    )
    dc1 = await station_id(connection, "DC1")
    found = await network.page(connection, limit=50, kind=NodeKind.METER, parent_id=dc1)
    assert [one.node.code for one in found] == ["M1", "M2"]
