"""Taking campaigns on ends when it is asked to, whatever the database does at that moment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from headend.programs import campaigning as module
from headend.programs.campaigning import campaigning
from headend.store.errors import UnavailableError

GUARD_S = 10.0


@asynccontextmanager
async def _nobody_tells(*_: Any) -> AsyncIterator[AsyncIterator[Any]]:
    async def notices() -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield

    yield notices()


async def test_it_ends_although_the_database_goes_away_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = []

    async def advance_all(*_: Any) -> None:
        rounds.append("a round")
        if len(rounds) == 1:
            task.cancel()
            raise UnavailableError("the database is away")
        await asyncio.Event().wait()

    monkeypatch.setattr(module, "listening", _nobody_tells)
    monkeypatch.setattr(module, "advance_all", advance_all)
    monkeypatch.setattr(module, "_LISTEN_AGAIN_S", 0.0)
    task = asyncio.create_task(campaigning(SimpleNamespace(connection=None)))  # type: ignore[arg-type]
    await asyncio.wait([task], timeout=GUARD_S)
    assert task.cancelled()
    assert len(rounds) == 1
