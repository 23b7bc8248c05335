"""The network and the announced devices over REST, against a real database."""

from datetime import timedelta
from typing import Any

from headend.store import network
from headend.store.announcements import announce
from headend.store.tokens import Scope
from schemas.network import Announced, LinkKind

FILE = """\
node,kind,parent,link,hops,quality,address,model,title
F1,feeder,,,,,,,Mill
T1,transformer,F1,,,,,,
T2,transformer,F1,,,,,,
DC1,concentrator,T1,cellular,,80,tcp://10.0.0.1,generic-dlms,
M1,meter,DC1,plc_narrowband,2,61,,,
M2,meter,DC1,plc_narrowband,,,,,
"""
NODES, IMPORTS, TREE = "/api/v1/network/nodes", "/api/v1/network/imports", "/api/v1/network/tree"
CSV = {"content-type": "text/csv"}


async def brought(house: Any) -> None:
    for code in ("M1", "M2", "M3"):
        await house.add_meter(code)
    async with house.client(Scope.ADMIN) as client:
        params = {"since": "2026-03-01T00:00:00Z"}
        answer = await client.post(IMPORTS, content=FILE, headers=CSV, params=params)
        assert answer.json() == {"added": 6, "moved": 0, "changed": 0, "unchanged": 0, "dry_run": False}


async def test_an_import_is_all_or_nothing(house: Any) -> None:
    await brought(house)
    async with house.client(Scope.ADMIN) as client:
        again = await client.post(IMPORTS, content=FILE, headers=CSV, params={"dry_run": True})
        assert again.json() == {"added": 0, "moved": 0, "changed": 0, "unchanged": 6, "dry_run": True}
        wrong = (
            "node,kind,parent\n" + "".join(f"X{n},relay,nowhere\n" for n in range(150)) + "T9,transformer,\n"
        )
        answer = await client.post(IMPORTS, content=wrong, headers=CSV)
        assert answer.status_code == 422
        body = answer.json()
        assert body["detail"] == "the file has 150 errors; nothing was imported"
        assert len(body["errors"]) == 100
        assert body["errors"][0] == {"detail": "line 2, parent: there is no node nowhere, here or stored"}
        assert (await client.get(f"{NODES}/T9")).status_code == 404
        since = await client.post(IMPORTS, content=FILE, headers=CSV, params={"since": "2026-03-01"})
        assert since.json()["errors"][0]["parameter"] == "since"
        large = await client.post(IMPORTS, content=b"node,kind\n" + b"\n" * (2 << 20), headers=CSV)
        assert large.status_code == 200
        for rubbish in (b"", b"\xff\xfe\0", b'node,kind\n"', b"," * 5000, b"node,kind\nA\0B,relay\n"):
            assert (await client.post(IMPORTS, content=rubbish, headers=CSV)).status_code == 422, rubbish
        over = await client.post(IMPORTS, content=b"\n" * ((32 << 20) + 1), headers=CSV)
        assert over.status_code == 413
    async with house.client(Scope.READ) as client:
        assert (await client.post(IMPORTS, content=FILE, headers=CSV)).status_code == 403
    assert [line[1:3] for line in house.audit()] == [
        ("network.imported", "network"),
        ("request.refused", f"POST {IMPORTS}"),
    ]
    assert house.audit()[0][0] == "token:3 admin"


async def test_nodes_are_paged_filtered_and_shown(house: Any) -> None:
    await brought(house)
    async with house.client() as client:
        first = (await client.get(NODES, params={"limit": 4})).json()
        rest = (await client.get(NODES, params={"limit": 4, "after": first["next"]})).json()
        codes = [one["code"] for one in first["nodes"] + rest["nodes"]]
        assert (codes, rest["next"]) == (["DC1", "F1", "M1", "M2", "T1", "T2"], None)
        below = (await client.get(NODES, params={"parent": "DC1", "kind": "meter"})).json()
        assert [one["code"] for one in below["nodes"]] == ["M1", "M2"]
        assert (await client.get(NODES, params={"parent": "X"})).status_code == 404
        assert (await client.get(NODES, params={"kind": "lake"})).status_code == 422
        one = (await client.get(f"{NODES}/DC1")).json()
        link = {"parent": "T1", "link": "cellular", "hops": 1, "quality": 80, "since": "2026-03-01T00:00:00Z"}
        assert one == {
            "code": "DC1", "kind": "concentrator", "title": None, "model": "generic-dlms",
            "address": "tcp://10.0.0.1:4059", "hangs_on": link, "below": {"meter": 2},
            "history": [{**link, "until": None}],
        }  # fmt: skip
        assert (await client.get(f"{NODES}/F1")).json()["hangs_on"] is None


async def test_trees(house: Any) -> None:
    await brought(house)
    async with house.client() as client:
        (root,) = (await client.get(TREE, params={"depth": 1})).json()["roots"]
        assert [one["code"] for one in root["children"]] == ["T1", "T2"]
        assert root["children"][0]["children"] == []
        assert root["below"] == {"transformer": 2, "concentrator": 1, "meter": 2}
        (below,) = (await client.get(TREE, params={"root": "DC1", "depth": 3})).json()["roots"]
        assert [one["hangs_on"]["quality"] for one in below["children"]] == [61, None]
        assert (await client.get(TREE, params={"root": "X"})).status_code == 404
        assert (await client.get(TREE, params={"depth": -1})).status_code == 422
    async with house.pool.connection() as connection:
        new = [network.NewNode(f"R{n}", "relay") for n in range(5000)]  # type: ignore[arg-type]
        await network.add_nodes(connection, new)
    async with house.client() as client:
        answer = await client.get(TREE)
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, "depth")


async def test_a_node_is_moved(house: Any) -> None:
    await brought(house)
    async with house.client(Scope.OPERATE) as client:
        answer = await client.patch(f"{NODES}/M1", json={"parent": "T2", "link": "wifi"})
        assert answer.status_code == 200
        assert answer.json()["hangs_on"] == {
            "parent": "T2", "link": "wifi", "hops": 1, "quality": None, "since": "2026-03-10T12:00:00Z",
        }  # fmt: skip
        assert [one["until"] for one in answer.json()["history"]] == ["2026-03-10T12:00:00Z", None]
        for status, body in (
            (409, {"parent": "T2", "link": "wifi", "since": "2026-03-10T12:00:00Z"}),
            (409, {"parent": "DC1", "since": "2026-03-10T12:00:00Z"}),
            (422, {"parent": "X"}),
            (422, {"parent": "DC1", "since": "2026-03-10T12:00:01Z"}),
            (422, {"parent": "DC1", "hops": 2}),
            (422, {}),
        ):
            assert (await client.patch(f"{NODES}/M1", json=body)).status_code == status, body
        assert (await client.patch(f"{NODES}/X", json={"parent": "T2"})).status_code == 404
        assert (await client.patch(f"{NODES}/T1", json={"parent": "M2"})).status_code == 409
        assert (await client.get("/api/v1/meters/M1")).json()["transformer"] == "T2"
    assert house.audit()[-1] == (
        "token:2 operate", "network.moved", "meter:M1",
        {"from": "DC1", "to": "T2", "link": "wifi", "at": "2026-03-10T12:00:00Z"},
    )  # fmt: skip


async def test_an_announced_device_is_accepted_or_rejected(house: Any) -> None:
    await brought(house)
    now = house.app.state.services.clock() - timedelta(hours=1)
    plc = LinkKind.PLC_NARROWBAND
    devices = [
        Announced("X1", "generic-dlms", "via:?gateway=0:0a", plc, 2, 50),
        Announced("X2"),
        Announced("X3", "unheard-of"),
    ]
    async with house.pool.connection() as connection:
        (station,) = await network.stations(connection)
        await announce(connection, station.node_id, devices, now=now)
    path = "/api/v1/announcements"
    async with house.client(Scope.OPERATE) as client:
        first = (await client.get(path, params={"limit": 2})).json()
        rest = (await client.get(path, params={"limit": 2, "after": first["next"]})).json()
        told = first["announcements"] + rest["announcements"]
        assert [one["identity"] for one in told] == ["X1", "X2", "X3"]
        one, two, three = (item["number"] for item in told)
        assert (await client.get(path, params={"station": "DC2"})).json()["announcements"] == []
        made = await client.post(f"{path}/{one}/accept", json={"state": "commissioned"})
        assert (made.status_code, made.json()["state"], made.json()["meter"]) == (200, "accepted", "X1")
        meter = (await client.get("/api/v1/meters/X1")).json()
        assert (meter["address"], meter["state"]) == ("via:?gateway=0:0A", "commissioned")
        assert meter["transformer"] == "T1"
        hangs = (await client.get(f"{NODES}/X1")).json()["hangs_on"]
        assert (hangs["parent"], hangs["hops"], hangs["quality"]) == ("DC1", 2, 50)
        for number, status, body, where in (
            (one, 409, {}, None),
            (two, 422, {}, "/model"),
            (two, 409, {"asset_id": "M1", "model": "generic-dlms"}, None),
            (two, 409, {"asset_id": "DC1", "model": "generic-dlms"}, None),
            (two, 422, {"model": "generic-dlms", "address": "http://x"}, "/address"),
            (two, 422, {"model": "generic-dlms", "state": "removed"}, "/state"),
            (three, 422, {}, "/model"),
            (999, 404, {}, None),
        ):
            answer = await client.post(f"{path}/{number}/accept", json=body)
            assert answer.status_code == status, (number, body, answer.text)
            if where is not None:
                assert answer.json()["errors"][0]["pointer"] == where
        gone = await client.post(f"{path}/{two}/reject")
        assert (gone.status_code, gone.json()["state"]) == (200, "rejected")
        assert (await client.post(f"{path}/{two}/reject")).status_code == 409
        assert (await client.post(f"{path}/{one}/reject")).status_code == 409
        renamed = {"asset_id": "M9", "model": "generic-dlms"}
        assert (await client.post(f"{path}/{two}/accept", json=renamed)).status_code == 200
        waiting = (await client.get(path)).json()["announcements"]
        assert [item["identity"] for item in waiting] == ["X3"]
    async with house.pool.connection() as connection:
        again = await announce(connection, station.node_id, devices, now=now + timedelta(days=1))
    assert (sorted(again.known), again.unknown) == (["X1", "X2"], ("X3",)), "its new name is remembered"
    lines = [(actor, action, object_) for actor, action, object_, _ in house.audit()[1:]]
    assert lines == [
        ("station:DC1", "network.moved", "meter:X1"),
        ("token:2 operate", "announcement.accepted", "meter:X1"),
        ("token:2 operate", "announcement.rejected", f"announcement:{two}"),
        ("station:DC1", "network.moved", "meter:M9"),
        ("token:2 operate", "announcement.accepted", "meter:M9"),
    ]
