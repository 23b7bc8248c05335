"""Work apart: in a thread and a connection of its own, all of it or nothing."""

import threading
from typing import Any

import pytest

from headend.store import audit
from headend.store.pool import apart, open_pool
from headend.store.sql import Connection


async def test_work_apart_is_committed_and_a_failure_rolled_back(embedded_database: Any) -> None:
    threads: list[int] = []

    async def work(connection: Connection) -> str:
        threads.append(threading.get_ident())
        await audit.record(connection, actor="test", action="apart", object_="it")
        return "done"

    async def fails(connection: Connection) -> None:
        await work(connection)
        raise ValueError("changed its mind")

    async with open_pool(embedded_database.dsn, max_size=1) as pool, pool.connection() as connection:
        # the only connection of the pool is held here: work apart has its own
        assert await apart(pool, work) == "done"
        with pytest.raises(ValueError, match="changed its mind"):
            await apart(pool, fails)
        (number,) = await (await connection.execute("SELECT count(*) FROM audit_log")).fetchone() or (None,)
    assert number == 1
    assert threading.get_ident() not in threads
