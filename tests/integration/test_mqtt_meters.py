"""The memory of meters learns from the database: by address, by asset id, and never the wrong one."""

import logging
from datetime import UTC, datetime

import psycopg

from headend.drivers.mqtt.meters import Meters
from headend.store import meters
from schemas.meter import MeterState, NewMeter

SINCE = datetime(2026, 1, 1, tzinfo=UTC)


async def test_devices_are_known_by_address_and_meters_of_batches_by_asset_id(database, caplog):
    now = [0.0]
    memory = Meters(clock=lambda: now[0])
    async with await psycopg.AsyncConnection.connect(database.dsn, autocommit=True) as connection:
        numbers = await meters.add_many(
            connection,
            [
                NewMeter("M-1", "tasmota", address="mqtt:plug-1"),
                NewMeter("plug-1", "headend-sim", address="tcp://10.0.0.1:4059"),
                NewMeter("M-2", "zigbee2mqtt", address="mqtt:hall/plug"),
                NewMeter("M-3", "tasmota", address="mqtt:twice"),
                NewMeter("M-4", "tasmota", address="mqtt:twice"),
                NewMeter("M-5", "tasmota", address="mqtt:moved"),
                NewMeter("M-6", "tasmota", address="mqtt:moved"),
            ],
            since=SINCE,
        )
        await meters.change_state(
            connection, numbers["M-5"], MeterState.REMOVED, since=SINCE.replace(month=2)
        )
        asked = ["plug-1", "hall/plug", "M-1", "twice", "moved", "nobody", "with blank", "x" * 300]
        with caplog.at_level(logging.WARNING):
            await memory.learn(connection, asked)
        assert "several meters" in caplog.text
        found = {name: memory.of(name) and memory.of(name).asset_id for name in asked}
        assert found == {
            "plug-1": "M-1",
            "hall/plug": "M-2",
            "M-1": "M-1",
            "twice": None,
            "moved": "M-6",
            "nobody": None,
            "with blank": None,
            "x" * 300: None,
        }
        assert memory.of("plug-1").meter_id == numbers["M-1"]
        assert memory.of("plug-1").model.name == "tasmota"
        await memory.learn(connection, ["M-2", "plug-1"])
        memory.age()
        assert memory.of("M-2") is not None
        now[0] = 301.0
        memory.age()
        assert memory.of("M-2") is None
        await meters.add(connection, NewMeter("nobody", "headend-sim"), since=SINCE)
        await memory.learn(connection, ["nobody"])
        assert memory.of("nobody").model is None


async def test_a_model_that_was_written_wrongly_harms_its_own_meters_alone(database, tmp_path, caplog):
    (tmp_path / "mqtt").mkdir()
    (tmp_path / "mqtt/broken.toml").write_text('title = "x"\ndriver = "mqtt"\nform = "no such form"\n')
    memory = Meters(profile_folders=(tmp_path,))
    async with await psycopg.AsyncConnection.connect(database.dsn, autocommit=True) as connection:
        new = [NewMeter("M-1", "broken", address="mqtt:a"), NewMeter("M-2", "tasmota", address="mqtt:b")]
        await meters.add_many(connection, new, since=SINCE)
        with caplog.at_level(logging.ERROR):
            await memory.learn(connection, ["a", "b"])
    assert "broken.toml: form" in caplog.text
    assert memory.of("a").model is None
    assert memory.of("b").model.name == "tasmota"
