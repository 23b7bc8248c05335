"""The audit trail against whoever has the database: every edit, removal and reordering is found."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import httpx
import psycopg
import pytest
from typer.testing import CliRunner

from api.app import create_app
from api.services import Services
from headend.audit.verify import Verified, link, seal, verify
from headend.cli.main import app
from headend.keys.seal import Fingerprint
from headend.moment.moment import Moment
from headend.store import audit, tokens
from headend.store.audit import Head
from headend.store.pool import open_pool
from headend.store.tokens import Scope

PRINT = Fingerprint(b"k" * 32)
#: Entries 2 and 3 change places.
SWAPPED = """
UPDATE audit_chain SET audit_id = -1 WHERE position = 2;
UPDATE audit_chain SET audit_id = (SELECT audit_id FROM audit_log WHERE object = 'meter:M-1')
 WHERE position = 3;
UPDATE audit_chain SET audit_id = (SELECT audit_id FROM audit_log WHERE object = 'meter:M-2')
 WHERE position = 2
"""
FREED = "SET session_replication_role = replica; "  # as somebody does who may: no trigger stops him


async def written(dsn: str, count: int = 5) -> None:
    async with open_pool(dsn) as pool:
        for n in range(count):
            async with pool.connection() as connection:
                await audit.record(
                    connection,
                    actor=f"token:{n}",
                    action="meter.state",
                    object_=f"meter:M-{n}",
                    detail={"ü": n},
                )


async def looked_at(
    dsn: str, *, anchor: Head | None = None, fingerprint: Fingerprint | None = PRINT
) -> Verified:
    async with open_pool(dsn) as pool, pool.connection() as connection, audit.one_state(connection):
        return await verify(connection, fingerprint, anchor=anchor)


async def sealed(dsn: str) -> Head | None:
    async with open_pool(dsn) as pool, pool.connection() as connection:
        return await seal(connection, PRINT)


def tampered(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for one in statements:
            connection.execute((FREED + one).encode())


async def test_an_untouched_trail_holds(database: Any) -> None:
    await written(database.dsn)
    assert await sealed(database.dsn) is not None
    assert await sealed(database.dsn) is None  # it has not moved
    await written(database.dsn, 2)
    found = await looked_at(database.dsn)
    assert (found.holds, found.head.position, found.sealed) == (True, 7, 5)


@pytest.mark.parametrize("table", ["audit_log", "audit_chain", "audit_seals"])
@pytest.mark.parametrize("what", ["DELETE FROM {}", "TRUNCATE {} CASCADE", "UPDATE {} SET {}"])
async def test_nobody_changes_it_by_the_way(embedded_database: Any, table: str, what: str) -> None:
    column = {"audit_log": "actor = 'me'", "audit_chain": "position = 9", "audit_seals": "position = 9"}[
        table
    ]
    await written(embedded_database.dsn)
    await sealed(embedded_database.dsn)
    with (
        psycopg.connect(embedded_database.dsn) as connection,
        pytest.raises(psycopg.errors.RaiseException, match="append-only"),
    ):
        connection.execute(what.format(table, column).encode())


@pytest.mark.parametrize(
    ("statement", "position", "reason"),
    [
        ("UPDATE audit_log SET actor = 'x' WHERE object = 'meter:M-2'", 3, "was changed"),
        ("UPDATE audit_log SET detail = '{\"ü\": 7}' WHERE object = 'meter:M-2'", 3, "was changed"),
        ("UPDATE audit_log SET at = at - interval '1 us' WHERE object = 'meter:M-2'", 3, "was changed"),
        ("DELETE FROM audit_log WHERE object = 'meter:M-2'", 3, "was removed"),
        ("DELETE FROM audit_chain WHERE position = 3", 3, "places 3 to 3 are gone"),
        ("INSERT INTO audit_log (actor, action, object) VALUES ('x', 'y', 'z')", 0, "slipped in"),
        (SWAPPED, 2, "moved"),
        ("DELETE FROM audit_chain WHERE position = 5", 5, "ends at 4, its head says 5"),
    ],
)
async def test_what_is_changed_is_found_in_its_place(
    embedded_database: Any, statement: str, position: int, reason: str
) -> None:
    await written(embedded_database.dsn)
    tampered(embedded_database.dsn, statement)
    found = await looked_at(embedded_database.dsn, fingerprint=None)
    assert [one.position for one in found.faults if reason in one.reason][:1] == [position], found.faults


def rewrite(dsn: str, *, keep: int) -> None:
    """As somebody does who knows how the chain is made: the first entries stay, the rest is chained anew."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(FREED.encode())
        connection.execute(
            "DELETE FROM audit_log WHERE audit_id IN (SELECT audit_id FROM audit_chain WHERE position > %s)",
            (keep,),
        )
        connection.execute("DELETE FROM audit_chain WHERE position > %s", (keep,))
        connection.execute(
            "UPDATE audit_log SET actor = 'nobody' WHERE audit_id = (SELECT max(audit_id) FROM audit_log)"
        )
        before = bytes(32)
        for position, number in connection.execute(
            "SELECT position, audit_id FROM audit_chain ORDER BY 1"
        ).fetchall():
            row = connection.execute(
                "SELECT audit_text(%s, l) FROM audit_log l WHERE audit_id = %s", (position, number)
            ).fetchone()
            assert row is not None
            before = link(before, row[0])
            connection.execute("UPDATE audit_chain SET hash = %s WHERE position = %s", (before, position))
        connection.execute("UPDATE audit_head SET position = %s, hash = %s", (keep, before))


async def test_a_chain_that_was_written_anew_breaks_its_seals(embedded_database: Any) -> None:
    await written(embedded_database.dsn)
    await sealed(embedded_database.dsn)
    rewrite(embedded_database.dsn, keep=5)
    assert (await looked_at(embedded_database.dsn, fingerprint=None)).holds  # the chain alone cannot tell
    found = await looked_at(embedded_database.dsn)
    assert [(one.position, "not the one that was sealed" in one.reason) for one in found.faults] == [
        (5, True)
    ]


async def test_an_end_that_was_cut_off_breaks_its_seals(embedded_database: Any) -> None:
    await written(embedded_database.dsn)
    await sealed(embedded_database.dsn)
    rewrite(embedded_database.dsn, keep=3)
    assert not (await looked_at(embedded_database.dsn)).holds


async def test_a_seal_of_somebody_else_is_found(embedded_database: Any) -> None:
    await written(embedded_database.dsn)
    await sealed(embedded_database.dsn)
    found = await looked_at(embedded_database.dsn, fingerprint=Fingerprint(b"other".ljust(32)))
    assert "not made by this service" in found.faults[0].reason


async def test_a_head_that_was_kept_elsewhere_finds_what_seals_do_not(embedded_database: Any) -> None:
    await written(embedded_database.dsn)
    async with open_pool(embedded_database.dsn) as pool, pool.connection() as connection:
        kept = await audit.head(connection)
    assert (await looked_at(embedded_database.dsn, anchor=kept)).holds
    rewrite(embedded_database.dsn, keep=4)
    assert (await looked_at(embedded_database.dsn)).holds
    found = await looked_at(embedded_database.dsn, anchor=kept)
    assert "whose head 5 was kept" in found.faults[0].reason


async def test_transactions_that_cross_are_chained_without_waiting_in_a_circle(database: Any) -> None:
    """One audits and then changes a meter, the other the other way round: nobody is ended by a deadlock."""
    async with open_pool(database.dsn) as pool:
        async with pool.connection() as connection:
            await connection.execute("INSERT INTO meters (asset_id, model) VALUES ('A', 'headend-sim')")
        both = asyncio.Barrier(2)

        async def first() -> None:
            async with pool.connection() as connection:
                await audit.record(connection, actor="first", action="a", object_="o")
                await both.wait()
                await connection.execute("UPDATE meters SET feeder = '1'")

        async def second() -> None:
            async with pool.connection() as connection:
                await connection.execute("UPDATE meters SET feeder = '2'")
                await both.wait()
                await audit.record(connection, actor="second", action="a", object_="o")

        async with asyncio.timeout(30):
            await asyncio.gather(first(), second())
            await asyncio.gather(*(written(database.dsn, 20) for _ in range(5)))
    found = await looked_at(database.dsn)
    assert (found.holds, found.head.position) == (True, 102)


async def test_what_is_rolled_back_is_in_no_place(embedded_database: Any) -> None:
    async with open_pool(embedded_database.dsn) as pool, pool.connection() as connection:
        with suppress(ZeroDivisionError):
            async with connection.transaction():
                await audit.record(connection, actor="a", action="a", object_="o")
                raise ZeroDivisionError
    found = await looked_at(embedded_database.dsn)
    assert (found.holds, found.head.position) == (True, 0)


async def test_the_command_tells(embedded_database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dsn = embedded_database.dsn
    monkeypatch.setenv("HEADEND_DATABASE_URL", dsn)
    monkeypatch.setenv("HEADEND_MASTER_KEY", "42" * 32)

    async def told(*arguments: str) -> tuple[int, str]:
        done = await asyncio.to_thread(CliRunner().invoke, app, ["audit", *arguments], env={"COLUMNS": "200"})
        return done.exit_code, done.output

    await written(dsn)
    status, output = await told("verify")
    assert (status, "5 entries, each where it was written" in output) == (0, True), output
    _, kept = await told("head")
    assert (await told("verify", "--anchor", kept.strip()))[0] == 0
    assert "64 hexadecimal digits" in (await told("verify", "--anchor", "5:abc"))[1]
    assert "meter:M-4" in (await told("list", "--actor", "token:4"))[1]
    tampered(dsn, "UPDATE audit_log SET actor = 'x' WHERE object = 'meter:M-1'")
    status, output = await told("verify", "--json")
    assert status == 1
    assert [one["position"] for one in json.loads(output)["faults"]] == [2]


async def test_it_is_read_by_those_who_may(embedded_database: Any) -> None:
    await written(embedded_database.dsn)
    async with open_pool(embedded_database.dsn) as pool:
        async with pool.connection() as connection:
            admin = await tokens.create(connection, name="a", scopes=[Scope.ADMIN])
            reader = await tokens.create(connection, name="r", scopes=[Scope.OPERATE])
        transport = httpx.ASGITransport(create_app(Services(pool, Moment.__new__(Moment))))
        async with httpx.AsyncClient(transport=transport, base_url="http://test/api/v1") as client:
            client.headers["Authorization"] = f"Bearer {reader.secret}"
            assert (await client.get("/audit")).status_code == 403
            client.headers["Authorization"] = f"Bearer {admin.secret}"
            first = (await client.get("/audit?limit=3")).json()
            second = (await client.get("/audit", params={"limit": 3, "after": first["next"]})).json()
            assert [one["object"] for one in first["entries"] + second["entries"]] == [
                f"meter:M-{n}" for n in (4, 3, 2, 1, 0)
            ]
            assert second["next"] is None
            (entry,) = (await client.get("/audit?object=meter:M-2")).json()["entries"]
            assert entry["actor"] == "token:2"
            head = (await client.get("/audit/head")).json()
    kept = Head(head["position"], bytes.fromhex(head["hash"]))
    assert (await looked_at(embedded_database.dsn, anchor=kept)).holds
