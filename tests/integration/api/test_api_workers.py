"""GET /workers."""

from typing import Any

from headend.processes.presence import this_process
from headend.store import workers
from headend.store.workers import Kind


async def test_processes_are_listed_in_pages(house: Any) -> None:
    async with house.pool.connection() as connection:
        for kind in (Kind.API, Kind.WORKER, Kind.INGEST):
            told = this_process(kind, 5)
            await workers.seen(connection, type(told)(f"{kind}:1:2", told.host, kind, told.version, 5))
    async with house.client() as client:
        first = await client.get("/api/v1/workers", params={"limit": 2})
        rest = await client.get(first.headers["link"].split(">")[0].removeprefix("<"))
        only = await client.get("/api/v1/workers", params={"kind": "ingest"})
        wrong = await client.get("/api/v1/workers", params={"kind": "cook"})
    assert [one["worker"] for one in first.json()["workers"]] == ["api:1:2", "ingest:1:2"]
    assert [one["kind"] for one in rest.json()["workers"]] == ["worker"]
    assert rest.json()["next"] is None
    (one,) = only.json()["workers"]
    assert (one["silent"], one["concurrency"], one["lanes"]) == (False, 5, 0)
    assert wrong.status_code == 422
