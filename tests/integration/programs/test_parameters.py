"""Parameters are written where they differ and read back; a script runs once, or a person is asked."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from concentrator_sim.parameters import ALARM_FILTERS, Parameters
from concentrator_sim.push_setup import PUSH_SETUP
from headend.session.client import MeterSession
from headend.store.errors import ConflictError
from protocols.errors import LinkClosed
from schemas.campaign import MeterProgress
from schemas.programs.parameters import ParametersProgram
from tests.integration.programs.field import works

_FILTER = {"class_id": 1, "obis": str(ALARM_FILTERS[0]), "attribute": 2, "value": {"u32": 5}}
_DESTINATION = {
    "class_id": 40,
    "obis": str(PUSH_SETUP),
    "attribute": 3,
    "value": {"destination": {"service": 0, "address": "10.0.0.1:4059"}},
}
_COLUMNS = {
    "class_id": 7,
    "obis": "1-0:99.1.0*255",
    "attribute": 3,
    "value": {
        "objects": [
            {"class_id": 8, "obis": "0-0:1.0.0*255", "attribute": 2},
            {"class_id": 1, "obis": "0-0:96.10.1*255", "attribute": 2},
            {"class_id": 3, "obis": "1-0:1.8.0*255", "attribute": 2},
        ]
    },
}


def _program(*items: dict[str, Any]) -> ParametersProgram:
    return ParametersProgram.model_validate({"items": [{"do": "write", **one} for one in items]})


async def test_what_differs_is_written_and_read_back(embedded_database: Any) -> None:
    async with works(embedded_database.dsn, meters=1) as here:
        (found,) = await here.apply(_program(_FILTER, _DESTINATION))
        assert found.state is MeterProgress.DONE, found.reason
        first, second = found.proof["items"]
        assert (first["before"]["value"], first["after"]["value"]) == ({"u32": 0xFFFFFFFF}, {"u32": 5})
        assert (first["before"]["raw"], first["after"]["raw"]) == ("06ffffffff", "0600000005")
        assert second["what"] == f"40/{PUSH_SETUP}/3"
        assert here.simulated().part(Parameters).filters[0] == 5
        (again,) = await here.apply(_program(_FILTER, _DESTINATION))
        assert again.state is MeterProgress.UNCHANGED
        assert await here.steps(again.campaign_id, again.meter_id) != []
        read = {"do": "read", "class_id": 8, "obis": "0-0:1.0.0*255", "attribute": 3}
        (told,) = await here.apply(_program(read))
        assert (told.state, told.proof["items"][0]["value"]) == (MeterProgress.UNCHANGED, {"i16": -60})


async def test_a_failure_names_its_item_and_what_stays(embedded_database: Any) -> None:
    async with works(embedded_database.dsn, meters=1) as here:
        wrong = {**_DESTINATION, "value": {"u8": 1}, "name": "destination"}
        (found,) = await here.apply(_program(_FILTER, wrong, {**_FILTER, "value": {"u32": 6}}))
        assert found.state is MeterProgress.FAILED
        assert "item 2 of 3 destination" in (found.reason or "")
        assert "nothing is rolled back" in (found.reason or "")
        assert [one["item"] for one in found.proof["items"]] == [1]
        assert here.simulated().part(Parameters).filters[0] == 5
        with pytest.raises(ConflictError, match=r"item 1 .*keys program"):
            await here.propose(_program({**_FILTER, "class_id": 64}))


async def test_a_profile_is_read_before_it_is_cleared(embedded_database: Any) -> None:
    """Writing its columns clears the buffer: every interval that the meter still held is stored before."""
    async with works(embedded_database.dsn, meters=1) as here:
        now = datetime.now(UTC)
        (found,) = await here.apply(_program(_COLUMNS))
        assert found.state is MeterProgress.DONE, found.reason
        ((rows, oldest, newest),) = here.rows("SELECT count(*), min(start), max(start) FROM interval_reads")
        assert rows > 59 * 96
        assert newest >= now - timedelta(minutes=31)
        assert oldest <= now - timedelta(days=59)
        part = here.simulated().part(Parameters)
        assert part.columns == (0, 1, 2)
        assert part.cleared_s is not None
        updated = here.rows("SELECT updated_at > created_at FROM meters")
        assert updated == [(True,)]  # whoever remembers its columns asks again


_RESET = {"do": "run", "script": 1}


@pytest.mark.parametrize("happened", [True, False])
async def test_a_billing_reset_runs_once_though_its_answer_is_lost(
    embedded_database: Any, monkeypatch: pytest.MonkeyPatch, happened: bool
) -> None:
    honest, lost = MeterSession.action, list[int]()

    async def action(self: MeterSession, *args: Any, **kwargs: Any) -> Any:
        if lost:
            return await honest(self, *args, **kwargs)
        lost.append(1)
        if happened:
            await honest(self, *args, **kwargs)
        raise LinkClosed("cut off")

    monkeypatch.setattr(MeterSession, "action", action)
    async with works(embedded_database.dsn, meters=1) as here:
        (found,) = await here.apply(_program(_RESET))
        assert found.state is MeterProgress.DONE, found.reason
        assert len(here.simulated().part(Parameters).resets) == 1


async def test_a_reset_that_nothing_proves_is_a_persons_to_look_at(
    embedded_database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def action(self: MeterSession, *args: Any, **kwargs: Any) -> Any:
        raise LinkClosed("cut off")

    monkeypatch.setattr(MeterSession, "action", action)
    async with works(embedded_database.dsn, meters=1) as here:
        (found,) = await here.apply(_program({**_RESET, "proven_by": "0-0:98.9.0*255"}))
        assert found.state is MeterProgress.UNSURE
        assert "may have run" in (found.reason or "")
        assert here.simulated().part(Parameters).resets == []
