"""Tariff programs of DL/T 645 meters on a simulated line; both ends of it are ours."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from headend.cli.conversation import conversation
from headend.store import meters, tariffs
from headend.store.errors import ConflictError
from schemas.campaign import MeterProgress
from tests.integration.programs.field import works
from tests.integration.programs.tariffs import program

LINE = [{"kind": "dlt645_tcp", "count": 1, "meters": 2}]
PROFILE = """
inherit = "dlt645-2007"
title = "with tariffs"
[load_records]
identifier = "06-04-00-01"
period_s = 900
at_once = 8
[tariff]
password = "{password}"
"""
ONCE = [{"date": "2027-02-08", "day": "rest"}, {"date": "2027-02-09", "day": "rest"}]


def house(tmp_path: Path, password: str) -> dict[str, Any]:
    folder = tmp_path / "dlt645"
    folder.mkdir()
    (folder / "dlt645-2007-load-records.toml").write_text(PROFILE.format(password=password))
    return {"profiles_dir": tmp_path}


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The minute to switch at is this one, not that behind the next."""
    monkeypatch.setattr("headend.drivers.dlt645.tariff._SOON", timedelta(0))


@pytest.mark.usefixtures("_at_once")
async def test_weekends_and_holidays_arrive_and_are_kept(embedded_database: Any, tmp_path: Path) -> None:
    settings = house(tmp_path, "02000000")
    wanted = program(zone="Asia/Shanghai", special_days=ONCE)
    async with works(embedded_database.dsn, meters=0, stations=LINE, settings=settings) as here:
        found = await here.apply(wanted)
        assert [one.state for one in found] == [MeterProgress.DONE] * 2, found[0].reason
        for one in found:
            assert one.proof["rest_days"] == [[5, 6], 3]
            assert one.proof["special_days"] == [[2027, 2, 8, 3], [2027, 2, 9, 3]]
        async with here.house.base.pool.connection() as connection:
            newest, *_ = await tariffs.history(connection, found[0].meter_id)
            meter = await meters.get(connection, found[0].meter_id)
        assert (newest.title, newest.is_exact, newest.until) == ("THREE", True, None)
        assert newest.content["rest_days"] == [[5, 6], 3]
        again = await here.apply(wanted)
        assert {one.state for one in again} == {MeterProgress.UNCHANGED}
        async with conversation(here.house, meter) as talk:
            told = await talk.read_registers(["1-0:1.8.0*255", *(f"1-0:1.8.{n}*255" for n in range(1, 5))])
        values = {one.obis: one.value for one in told.batch.registers}
        assert values.pop("1-0:1.8.0*255") == pytest.approx(sum(values.values()), abs=20)  # each cut to 10 Wh
        assert len(values) == 4
        with pytest.raises(ConflictError, match="special days with their year"):
            await here.propose(program(zone="Asia/Shanghai"))


async def test_a_wrong_password_is_told(embedded_database: Any, tmp_path: Path) -> None:
    settings = house(tmp_path, "02999999")
    async with works(embedded_database.dsn, meters=0, stations=LINE, settings=settings) as here:
        found = await here.apply(program(zone="Asia/Shanghai", special_days=ONCE))
        assert {one.state for one in found} == {MeterProgress.FAILED}
        assert "wrong password" in (found[0].reason or "")
