"""Tariff programs over real sockets: stored, proven, activated, kept in the history; wrong ones found."""

from datetime import UTC, datetime
from typing import Any

import pytest

from headend.store import tariffs
from headend.store.errors import ConflictError
from schemas.campaign import MeterProgress
from tests.integration.programs.field import EVERYBODY, Works, works
from tests.integration.programs.tariffs import program

TO_THE_END = EVERYBODY.model_copy(update={"stop_percent": 100.0})


async def _history(here: Works, meter_id: int, at: datetime | None = None) -> list[Any]:
    async with here.house.base.pool.connection() as connection:
        return await tariffs.history(connection, meter_id, at=at)


async def test_every_meter_has_it_and_the_wrong_ones_are_found(embedded_database: Any) -> None:
    wrong = {"kind": "wrong_tariff", "targets": "*[0-4]7"}
    before = datetime.now(UTC)
    async with works(embedded_database.dsn, meters=60, seed=3, faults=[wrong]) as here:
        found = await here.apply(program(), TO_THE_END)
        failed = {one.meter_id for one in found if one.state is MeterProgress.FAILED}
        assert failed == {here.meters[f"SIM00003{n:07d}"] for n in (7, 17, 27, 37, 47)}
        assert {one.state for one in found if one.meter_id not in failed} == {MeterProgress.DONE}
        for one in found:
            if one.meter_id in failed:
                assert "day 2 has 21:15 -> script 2; day 2 has not 21:00 -> script 2" in (one.reason or "")
                assert [row.calendar for row in await _history(here, one.meter_id)] == ["DAYNIGHT"]
        good = next(one for one in found if one.meter_id not in failed)
        assert good.proof is not None
        assert good.proof["name"] == "THREE"
        newest, oldest = await _history(here, good.meter_id)
        assert (newest.title, newest.until, newest.is_exact) == ("THREE", None, True)
        assert (oldest.title, oldest.until) == ("unknown calendar DAYNIGHT", newest.since)
        assert before < oldest.since < newest.since
        assert [one.title for one in await _history(here, good.meter_id, newest.since)] == ["THREE"]
        assert await _history(here, good.meter_id, before) == []
        steps = [(one.step, one.phase) for one in await here.steps(good.campaign_id, good.meter_id)]
        assert steps == [
            ("numbers", "noted"),
            ("write", "intended"),
            ("write", "done"),
            ("activate", "intended"),
            ("activate", "done"),
            ("special_days", "intended"),
            ("special_days", "done"),
        ]
        with pytest.raises(ConflictError, match="is past"):
            await here.propose(program(before))
        again = await here.apply(program(), TO_THE_END)
        assert {one.state for one in again if one.meter_id not in failed} == {MeterProgress.UNCHANGED}
        assert len(await _history(here, good.meter_id)) == 2
