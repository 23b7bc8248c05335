"""Where a meter that dialled in is: the last process to which it proved itself; nobody else works at it."""

from typing import Any

import pytest

from headend.store import connections, lanes
from headend.store.lanes import LaneLost
from headend.store.pool import Pool, open_pool

_FILL = """
INSERT INTO meters (asset_id, model) SELECT 'M-' || n, 'headend-sim' FROM generate_series(1, 3) n;
INSERT INTO jobs (kind, title, work, retry, priority, deadline, drop_dead, actor, correlation_id)
VALUES ('scheduled', 't', '[]', '{}', 5, 'tomorrow', 'tomorrow', 'test', 'c');
INSERT INTO lanes (lane) SELECT 'inbound:' || n FROM generate_series(1, 3) n;
INSERT INTO requests (job_id, due_by, next_at, drop_dead, meter_id, urgency, attempts, lane)
VALUES (1, now(), now(), 'tomorrow', 1, 20, 0, 'inbound:1'),
       (1, now(), now() + interval '1 h', 'tomorrow', 2, 20, 1, 'inbound:2'),
       (1, now(), now() + interval '1 h', 'tomorrow', 3, 20, 0, 'inbound:3');
"""


@pytest.fixture
async def pool(embedded_database: Any) -> Any:
    async with open_pool(embedded_database.dsn) as opened:
        async with opened.connection() as connection:
            for statement in _FILL.split(";\n"):
                if statement.strip():
                    await connection.execute(statement.encode())
        yield opened


async def rows(pool: Pool, query: str) -> list[Any]:
    async with pool.connection() as connection:
        return await (await connection.execute(query.encode())).fetchall()


async def test_who_comes_is_worked_at_if_something_is_due_or_failed_while_it_was_away(pool: Pool) -> None:
    async with pool.connection() as connection:
        due = await connections.came(connection, [1, 2, 3], "a")
    # the third's window has not opened yet, and its coming changes nothing of that
    assert sorted(due) == ["inbound:1", "inbound:2"]
    assert await rows(pool, "SELECT meter_id, worker FROM inbound_connections ORDER BY 1") == [
        (1, "a"), (2, "a"), (3, "a"),
    ]  # fmt: skip


async def test_a_holder_whose_meter_is_elsewhere_writes_nothing_more(pool: Pool) -> None:
    names = ["inbound:1", "inbound:2"]
    async with pool.connection() as connection:
        await connections.came(connection, [1, 2], "a")
        held = await lanes.take(connection, names, holder="a", lease_s=60)
        assert len(held) == 2
    async with pool.connection() as connection:
        await connections.came(connection, [1], "b")
        await connections.came(connection, [2], "a")  # it came again to where it was
    async with pool.connection() as connection:
        with pytest.raises(LaneLost) as lost:
            await lanes.hold(connection, held, lease_s=60)
    assert lost.value.lanes == {"inbound:1"}
    async with pool.connection() as connection:
        assert await connections.elsewhere(connection, [1, 2], "a") == [1]
        (lease,) = await lanes.take(connection, names, holder="b", lease_s=60)
        assert lease.lane == "inbound:1"


async def test_who_hangs_up_on_one_stays_with_the_other(pool: Pool) -> None:
    async with pool.connection() as connection:
        await connections.came(connection, [1, 2], "a")
        await connections.came(connection, [1], "b")
        await connections.gone(connection, [1, 2], "a")
    assert await rows(pool, "SELECT meter_id, worker FROM inbound_connections") == [(1, "b")]
