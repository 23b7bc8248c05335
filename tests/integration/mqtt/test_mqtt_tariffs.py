"""Meters at a real broker are given a tariff program by a campaign, and count by it."""

import signal
from typing import Any

from concentrator_sim.mqtt_concentrator import MqttConcentrator
from concentrator_sim.tariff_talk import ProgramBook
from schemas.campaign import MeterProgress
from schemas.job import Selection
from tests.integration.programs.field import EVERYBODY, Works, works
from tests.integration.programs.tariffs import program

from .conftest import Mosquitto

PLAN = EVERYBODY.model_copy(
    update={
        "selection": Selection(models=("headend-batch-meter",)),
        "retry": EVERYBODY.retry.model_copy(update={"attempts": 30}),
        "stop_percent": 100.0,
    }
)


def at(mosquitto: Mosquitto, dsn: str) -> Any:
    station = {"kind": "mqtt", "meters": 3, "spread_m": 50, "history_days": 0}
    settings = {
        "mqtt_url": mosquitto.url, "response_timeout_s": 1.0, "answer_shortest_s": 0.5,
        "breaker_first_s": 0.1, "breaker_longest_s": 0.2,
    }  # fmt: skip
    wrong = {"kind": "wrong_tariff", "targets": "*3"}
    return works(dsn, meters=0, stations=[station], mqtt_url=mosquitto.url, faults=[wrong], settings=settings)


def station(here: Works) -> MqttConcentrator:
    (found,) = here.field.stations
    assert isinstance(found, MqttConcentrator)
    return found


async def test_a_program_arrives_over_a_broken_connection_and_wrong_ones_are_found(
    mosquitto: Mosquitto, embedded_database: Any
) -> None:
    async with at(mosquitto, embedded_database.dsn) as here:
        first, *_ = station(here).publishers
        book = first.meter.part(ProgramBook)
        written: list[str] = []

        def breaks() -> bool:
            """The broker dies with the answer to the program that is kept."""
            written.append("")
            if len(written) == 1:
                mosquitto.stop(signal.SIGKILL)
                mosquitto.start()
            return False

        book.is_wrong = breaks
        found = await here.apply(program(), PLAN)
        wrong = {number for asset, number in here.meters.items() if asset.endswith("3")}
        states = {one.meter_id: one.state for one in found}
        assert {number for number, state in states.items() if state is MeterProgress.FAILED} == wrong
        assert set(states.values()) == {MeterProgress.DONE, MeterProgress.FAILED}
        assert len(written) == 1  # it was there when the head-end looked again
        assert (book.active.calendar.name, book.passive) == ("THREE", None)
        (told,) = (one.reason for one in found if one.meter_id in wrong)
        assert "day 2 has 21:15 -> script 2" in (told or "")
        kept = here.rows(
            "SELECT meter_id, name, upper_inf(during) FROM meter_tariffs JOIN tariff_calendars"
            " USING (calendar_id) ORDER BY meter_id, during"
        )
        ours = here.meters[first.serial]
        assert [row[1:] for row in kept if row[0] == ours] == [("DAYNIGHT", False), ("THREE", True)]
        again = await here.apply(program(), PLAN)
        assert {one.state for one in again if one.meter_id not in wrong} == {MeterProgress.UNCHANGED}
