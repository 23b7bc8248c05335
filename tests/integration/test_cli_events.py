"""headend events, as a person and as a script use it."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from concentrator_sim.event_log import FRAUD, TERMINAL_COVER_OPENED
from concentrator_sim.field import Field
from headend.store import meters
from headend.store.pool import open_pool
from headend.store.writer import write
from schemas.event import EventLog, EventMeaning, MeterEvent
from schemas.meter import NewMeter
from schemas.reading import registers_only
from tests.integration.test_cli import Headend, field, headend, meters_file, told, told_out

__all__ = ["field", "headend"]

T0 = datetime(2026, 3, 1, tzinfo=UTC)
US = round(T0.timestamp()) * 1_000_000


@pytest.fixture
def stored(embedded_database: Any) -> None:
    async def store() -> None:
        async with open_pool(embedded_database.dsn, max_size=2) as pool:
            async with pool.connection() as connection:
                new = NewMeter("M-1", "headend-sim", feeder="F-1")
                meter = await meters.add(connection, new, since=T0)
            number = meter.meter_id
            failure, fraud = EventLog.POWER_FAILURE, EventLog.FRAUD
            events = [
                MeterEvent(number, failure, EventMeaning.POWER_FAILURE, None, US, US, "t", duration_s=240),
                MeterEvent(number, fraud, EventMeaning.MAGNET, 42, US + 10**6, US, "t", text="\x1b[31mred"),
                MeterEvent(
                    None, EventLog.STATION, EventMeaning.METER_SILENT, None, None, US, "t", node="DC-1"
                ),
            ]
            await write(pool, registers_only([], source="t", events=events))

    asyncio.run(store())


def test_a_table_for_people(headend: Headend, stored: None) -> None:
    said = told_out(headend("events"))
    assert "2026-03-01 00:00:00Z" in said
    assert "0:04:00" in said
    assert "~2026-03-01 00:00:00Z" in said  # the concentrator told no time
    assert "(DC-1)" in said
    assert "\x1b[31m" not in said
    assert said.index("power_failure") < said.index("magnet")


def test_json_for_scripts_and_filters(headend: Headend, stored: None) -> None:
    whole = json.loads(headend("events", "--json").stdout)
    assert len(whole) == 3
    [magnet] = json.loads(headend("events", "M-1", "--meaning", "magnet", "--json").stdout)
    assert (magnet["code"], magnet["at"], magnet["text"]) == (42, "2026-03-01T00:00:01Z", "\x1b[31mred")
    assert len(json.loads(headend("events", "--below", "F-1", "--json").stdout)) == 2
    until = json.loads(headend("events", "M-1", "--until", "2026-03-01T00:00:01Z", "--json").stdout)
    assert [one["duration_s"] for one in until] == [240]
    assert json.loads(headend("events", "--log", "fraud", "--log", "quality", "--json").stdout) == [magnet]


def test_what_cannot_be_is_told_in_one_line(headend: Headend, stored: None) -> None:
    assert "is none of power_down, power_up" in told(headend("events", "--meaning", "magic", status=1))
    assert "no meter 'M-9'" in told(headend("events", "M-9", status=1))
    assert "has no offset" in told(headend("events", "--since", "2026-03-01", status=1))
    assert "--follow" in told(headend("events", "--follow", "--json", status=1))


def test_a_meter_is_asked_first(headend: Headend, field: Field, tmp_path: Path) -> None:
    (tmp_path / "field.csv").write_text(field.csv())
    headend("meters", "import", str(tmp_path / "field.csv"), "--allow-plain-keys")
    meter = field.meters[0].meter
    meter.events.add(FRAUD, field.now() - 60, TERMINAL_COVER_OPENED)
    assert headend("events", meter.serial, "--json").stdout.strip() == "[]"
    found = json.loads(headend("events", meter.serial, "--read", "--json").stdout)
    assert ("terminal_cover_opened", 40) in {(one["meaning"], one["code"]) for one in found}
    assert {one["meter"] for one in found} == {meter.serial}


def test_a_meter_that_cannot_be_asked_says_why(headend: Headend, tmp_path: Path) -> None:
    headend("meters", "import", meters_file(tmp_path))
    assert "not read" in told(headend("events", "A1", "--read", status=1))
    assert "has no address" in told(headend("events", "A2", "--read", status=1))
    assert "name it" in told(headend("events", "--read", status=1))
