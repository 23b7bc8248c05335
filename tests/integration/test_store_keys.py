"""Sealed keys and invocation counters on both databases."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from headend.keys.counters import CounterBlocks, CounterExhausted, CounterJumpRefused
from headend.keys.seal import MasterKey, Sealer, SealError
from headend.keys.vault import Vault
from headend.store import audit, keyring, meters
from protocols.dlms.security import Key
from schemas.meter import KeyPurpose, NewMeter

TITLE = b"HED\0\0\0\0\1"
KEY = b"k" * 32
END = 1 << 32


@pytest.fixture
def connect(database):
    @asynccontextmanager
    async def connect():
        async with await psycopg.AsyncConnection.connect(database.dsn) as connection:
            yield connection

    return connect


@pytest.fixture
async def connection(database):
    async with await psycopg.AsyncConnection.connect(database.dsn, autocommit=True) as connection:
        yield connection


async def two_meters(connection):
    numbers = await meters.add_many(
        connection, [NewMeter("1", "m"), NewMeter("2", "m")], since=datetime.now(UTC)
    )
    return numbers["1"], numbers["2"]


async def test_keys_are_sealed_in_the_database(connection):
    vault = await Vault.open(connection, Sealer(MasterKey(bytes(32))))
    one, two = await two_meters(connection)
    keys = {KeyPurpose.ENCRYPTION: Key(b"e" * 16), KeyPurpose.LLS: Key(b"password")}
    await vault.put(connection, {one: keys})
    assert await vault.get(connection, one) == keys
    assert await vault.get(connection, two) == {}
    stored = await (await connection.execute("SELECT sealed FROM meter_keys")).fetchall()
    assert all(b"e" * 16 not in sealed and b"password" not in sealed for (sealed,) in stored)
    await vault.put(connection, {one: {KeyPurpose.LLS: Key(b"other")}})
    assert (await vault.get(connection, one))[KeyPurpose.LLS] == Key(b"other")
    with pytest.raises(ValueError, match="16 or 32 bytes"):
        await vault.put(connection, {one: {KeyPurpose.ENCRYPTION: Key(b"short")}})
    await connection.execute("UPDATE meter_keys SET meter_id = %s", (two,))
    with pytest.raises(SealError, match="belongs elsewhere"):
        await vault.get(connection, two)


async def test_a_rotation_changes_no_key_and_no_fingerprint(connection):
    old, new = MasterKey(bytes(32)), MasterKey(b"n" * 32)
    before = await Vault.open(connection, Sealer(old))
    one, two = await two_meters(connection)
    key = Key(b"e" * 16)
    await before.put(connection, {one: {KeyPurpose.ENCRYPTION: key}, two: {KeyPurpose.ENCRYPTION: key}})
    with pytest.raises(SealError, match="former_master_keys"):
        await Vault.open(connection, Sealer(new))
    between = await Vault.open(connection, Sealer(new, [old]))
    assert await between.rotate(connection, actor="test") == 2
    assert await between.rotate(connection, actor="test") == 0
    after = await Vault.open(connection, Sealer(new))
    assert await after.get_many(connection, [one, two]) == {
        number: {KeyPurpose.ENCRYPTION: key} for number in (one, two)
    }
    assert after.fingerprint.of(key) == before.fingerprint.of(key)
    (entry,) = await audit.page(connection, limit=9)
    assert (entry.action, entry.detail) == ("keys.resealed", {"keys": 2})


async def test_two_vaults_that_begin_at_once_share_one_fingerprint_key(connect):
    async def begin():
        async with connect() as connection:
            return (await Vault.open(connection, Sealer(MasterKey(bytes(32))))).fingerprint.of(Key(b"k"))

    assert len(set(await asyncio.gather(*(begin() for _ in range(4))))) == 1


async def test_counters_are_reserved_before_use_and_shared_by_all(connect, connection):
    first, second = (CounterBlocks(connect, TITLE, block=4) for _ in range(2))
    other_title = CounterBlocks(connect, b"HED\0\0\0\0\2", block=4)
    used = []
    for blocks in (first, second, first, second):
        await blocks.prepare([KEY], at_least=2)
        used += [blocks.counter(KEY).next() for _ in range(3)]
    assert used == [1, 2, 3, 5, 6, 7, 4, 9, 10, 8, 13, 14]
    (row,) = await (await connection.execute("SELECT next_value FROM invocation_counters")).fetchall()
    assert row[0] == 17
    await other_title.prepare([KEY, b"other" * 4])
    assert other_title.counter(KEY).next() == 1


async def test_who_talks_with_a_meter_after_another_process_uses_higher_counters_only(connect):
    first, second = (CounterBlocks(connect, TITLE, block=8) for _ in range(2))
    used = []
    for blocks in (first, first, second, first, second, second):
        await blocks.catch_up([KEY])
        await blocks.prepare([KEY], at_least=2)
        used += [blocks.counter(KEY).next() for _ in range(2)]
    assert used == sorted(set(used))
    assert used[:4] == [1, 2, 3, 4]  # nothing is lost as long as nobody else comes


async def test_many_tasks_never_get_the_same(connect):
    blocks = CounterBlocks(connect, TITLE, block=3)
    keys = [bytes([n]) * 32 for n in range(5)]
    used = {key: [] for key in keys}

    async def work(key):
        for _ in range(6):
            await blocks.prepare([key], at_least=1)
            used[key].append(blocks.counter(key).next())

    await asyncio.gather(*(work(key) for key in keys for _ in range(4)))
    for counters in used.values():
        assert len(set(counters)) == len(counters) == 24
        assert counters == sorted(counters)


async def test_a_forgotten_key_loses_its_block_and_reuses_nothing(connect):
    blocks = CounterBlocks(connect, TITLE, block=4, most=1)
    await blocks.prepare([KEY], at_least=1)
    assert blocks.counter(KEY).next() == 1
    await blocks.prepare([b"x" * 32], at_least=1)
    await blocks.prepare([KEY], at_least=1)
    assert blocks.counter(KEY).next() == 5


async def test_reservation_is_refused_inside_a_transaction(connection):
    async with connection.transaction():
        with pytest.raises(RuntimeError, match="transaction of their own"):
            await keyring.reserve(connection, [KEY], TITLE, block=1)
        with pytest.raises(RuntimeError, match="transaction of their own"):
            await keyring.raise_counter(connection, KEY, TITLE, value=1, limit=1, actor="t", reason="t")


async def test_the_last_counters_of_a_key(connect, connection):
    blocks = CounterBlocks(connect, TITLE, block=1024)
    await blocks.raise_to(KEY, END - 5, actor="test", reason="test", limit=END)
    used = []
    for _ in range(5):
        await blocks.prepare([KEY], at_least=64)
        used.append(blocks.counter(KEY).next())
    with pytest.raises(CounterExhausted, match="change the meter's key"):
        await blocks.prepare([KEY])
    assert used == [END - 5, END - 4, END - 3, END - 2, END - 1]
    await blocks.prepare([b"y" * 32])  # another key is not hurt
    with pytest.raises(CounterExhausted):
        await blocks.prepare([KEY, b"y" * 32])


async def test_raising_only_raises_within_its_bound_and_is_audited(connect, connection):
    blocks = CounterBlocks(connect, TITLE, block=10)
    await blocks.prepare([KEY], at_least=1)
    await blocks.raise_to(KEY, 5, actor="meter:1", reason="exception response")
    assert blocks.counter(KEY).next() == 5  # what is reserved and not below stays in use
    await blocks.raise_to(KEY, 0, actor="meter:1", reason="exception response")
    assert blocks.counter(KEY).next() == 6
    await blocks.raise_to(KEY, 100, actor="meter:1", reason="exception response")
    await blocks.prepare([KEY], at_least=1)
    assert blocks.counter(KEY).next() == 100
    with pytest.raises(CounterJumpRefused, match="without a person's word"):
        await blocks.raise_to(KEY, END - 1, actor="meter:1", reason="exception response")
    assert blocks.counter(KEY).next() == 101
    entries = await audit.page(connection, limit=9)
    assert [(e.action, e.detail["from"], e.detail["to"]) for e in entries] == [
        ("counter.jump_refused", 110, END - 1),
        ("counter.raised", 11, 100),
    ]
    assert all(KEY.hex() not in str(e) for e in entries)
    for wrong in (-1, END + 1):
        with pytest.raises(ValueError):
            await blocks.raise_to(KEY, wrong, actor="t", reason="t")


async def test_after_a_restore_every_counter_jumps(connect, connection):
    blocks = CounterBlocks(connect, TITLE, block=10)
    await blocks.prepare([KEY, b"z" * 32], at_least=1)
    await blocks.raise_to(b"z" * 32, END - 5, actor="t", reason="t", limit=END)
    assert await keyring.jump_all_counters(connection, by=1000, actor="cli") == 2
    fresh = CounterBlocks(connect, TITLE, block=10)
    await fresh.prepare([KEY], at_least=1)
    assert fresh.counter(KEY).next() == 1011
    with pytest.raises(CounterExhausted):
        await fresh.prepare([b"z" * 32])
    with pytest.raises(ValueError):
        await keyring.jump_all_counters(connection, by=0, actor="cli")


async def test_a_peers_counter_only_rises(connection):
    peer = (KEY, b"MTR\0\0\0\0\1")
    assert await keyring.peer_counters(connection, [peer]) == {}
    for value, last in ((0, 0), (5, 5), (4, 5), (6, 6), (END - 1, END - 1)):
        await keyring.advance_peers(connection, {peer: value})
        assert await keyring.peer_counters(connection, [peer, (KEY, bytes(8))]) == {peer: last}


USER = """
import asyncio, sys
from contextlib import asynccontextmanager
import psycopg
from headend.keys.counters import CounterBlocks

@asynccontextmanager
async def connect():
    async with await psycopg.AsyncConnection.connect(sys.argv[1]) as connection:
        yield connection

async def main():
    blocks = CounterBlocks(connect, b"HED\\0\\0\\0\\0\\1", block=7)
    while True:
        await blocks.prepare([b"k" * 32], at_least=3)
        print(blocks.counter(b"k" * 32).next(), flush=True)

asyncio.run(main())
"""


def test_a_killed_process_never_leads_to_a_reused_counter(database):
    root = Path(__file__).parents[2]
    used = []
    for lines in (1, 10, 23, 5):
        with subprocess.Popen(
            [sys.executable, "-c", USER, database.dsn],
            stdout=subprocess.PIPE,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
        ) as process:
            used += [int(process.stdout.readline()) for _ in range(lines)]
            process.send_signal(signal.SIGKILL)
            # what it printed before it died was used too
            used += [
                int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")
            ]
    assert len(used) > 38
    assert used == sorted(set(used))
