"""Meters at a real broker are given another program in acknowledged chunks, by a campaign."""

import hashlib
import signal
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from concentrator_sim.image import ImageStore, Troubles, simulated_image
from concentrator_sim.mqtt_concentrator import MqttConcentrator
from headend.firmware.package import Manifest, pack
from headend.firmware.upload import upload
from schemas.campaign import MeterProgress
from schemas.job import Selection
from schemas.programs.firmware import FirmwareProgram
from tests.integration.programs.dying import Mortal
from tests.integration.programs.field import EVERYBODY, Works, works
from tests.integration.programs.test_firmware_crash import Upgrades

from .conftest import Mosquitto

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TRUSTED = KEY.public_key().public_bytes_raw().hex()
CHUNK = 1024
SIZE = 20_000
COUNT = -(-SIZE // CHUNK)
IMAGE = simulated_image("2.0.0", SIZE)
PLAN = EVERYBODY.model_copy(
    update={
        "selection": Selection(models=("headend-batch-meter",)),
        "retry": EVERYBODY.retry.model_copy(update={"attempts": 30}),
    }
)


def at(mosquitto: Mosquitto, dsn: str, *, meters: int = 2, restart_s: int = 1, working: bool = True) -> Any:
    station = {"kind": "mqtt", "meters": meters, "spread_m": 50, "history_days": 0}
    settings = {
        "mqtt_url": mosquitto.url, "firmware_keys": [TRUSTED], "response_timeout_s": 1.0,
        "breaker_first_s": 0.1, "breaker_longest_s": 0.2, "answer_shortest_s": 0.5,
    }  # fmt: skip
    image = {"restart_s": restart_s}
    return works(
        dsn, meters=0, stations=[station], mqtt_url=mosquitto.url, image=image, settings=settings,
        working=working,
    )  # fmt: skip


async def uploaded(here: Works, image: bytes = IMAGE, **told: Any) -> FirmwareProgram:
    manifest = Manifest(**{
        "identifier": b"SIM-2.0.0".hex(), "models": ("headend-batch-meter",), "versions_from": ("1.*",),
        "hardware": ("SIM-A",), "version_to": "2.0.0", "image_sha256": hashlib.sha256(image).hexdigest(),
        "image_size": len(image), "created_at": datetime(2026, 11, 1, tzinfo=UTC), **told,
    })  # fmt: skip
    async with here.house.base.pool.connection() as connection, connection.transaction():
        package = await upload(connection, pack(manifest, image, KEY), [TRUSTED], actor="test")
    return FirmwareProgram(package=package.digest)


def stores(here: Works) -> list[ImageStore]:
    (station,) = here.field.stations
    assert isinstance(station, MqttConcentrator)
    return [one.meter.part(ImageStore) for one in station.publishers]


async def test_an_image_arrives_over_a_broken_connection_and_no_chunk_twice(
    mosquitto: Mosquitto, embedded_database: Any
) -> None:
    async with at(mosquitto, embedded_database.dsn) as here:
        memory, other = stores(here)
        cut: list[int] = []

        def breaks(now: float) -> bool:
            """The broker dies with the answer to a chunk that is kept."""
            if not cut and memory.counts.blocks == 7:
                cut.append(memory.counts.initiated)
                mosquitto.stop(signal.SIGKILL)
                mosquitto.start()
            return False

        memory.troubles = Troubles(flash_refuses=breaks)
        found = await here.apply(await uploaded(here), PLAN)
        assert [one.state for one in found] == [MeterProgress.DONE] * 2, [one.reason for one in found]
        assert cut == [1]
        for store in (memory, other):
            assert store.version == "2.0.0"
            assert store.counts == (COUNT, 0, 0, 1)
        for one in found:
            assert (one.proof["version"], one.proof["hardware"]) == ("2.0.0", "SIM-A")
            (held,) = one.proof["held"]
            assert (held["size"], held["signature"]) == (SIZE, hashlib.sha256(IMAGE).hexdigest())
        assert here.rows("SELECT DISTINCT version FROM meter_versions ORDER BY 1") == [("1.0.0",), ("2.0.0",)]
        again = await here.apply(await uploaded(here), PLAN)
        assert {one.state for one in again} == {MeterProgress.UNCHANGED}


async def test_a_head_end_that_dies_at_any_moment_goes_on(
    mosquitto: Mosquitto, embedded_database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the other ways to meters in `test_firmware_crash`."""
    async with at(mosquitto, embedded_database.dsn, meters=1, restart_s=0, working=False) as here:
        (station,) = here.field.stations
        assert isinstance(station, MqttConcentrator)
        (publisher,) = station.publishers
        meter = publisher.meter
        program = await uploaded(here, simulated_image("2.0.0", 16 * CHUNK - 100))
        made = Upgrades(meter, lambda: program, monkeypatch, blocks=16)
        await made.die(await Mortal.at(here, meter.serial), stride=13)
