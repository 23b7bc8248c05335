"""Keys and passwords show nowhere: meters of every kind are imported, read and refused with all logs on."""

import logging
from typing import Any

import pytest

from concentrator_sim.field import Field
from concentrator_sim.scenario import make_scenario
from concentrator_sim.security import MODES
from headend.drivers.contract import Target
from headend.store import meters
from tests.integration.test_collect import SINCE, UNTIL, add, altered, collect, house_of


def spellings(secret: bytes) -> set[str]:
    """A secret as it could come to be printed."""
    return {secret.hex(), secret.hex().upper(), secret.hex(" "), repr(secret)[2:-1], repr(bytearray(secret))}


async def test_in_logs_failures_and_reprs(
    embedded_database: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    scenario = make_scenario({"base_port": 0, "meters": 3 * len(MODES), "mix": "all"})
    async with (
        Field(scenario) as field,
        house_of(embedded_database.dsn, read_attempts=1, response_timeout_s=2) as house,
    ):
        wrong = {item.meter.serial: bytes(range(n, n + 16)) for n, item in enumerate(field.meters)}
        csv = field.csv()
        ciphered = [item.meter for item in field.meters if item.meter.mode.name == "hls5"]
        csv = altered(csv, ciphered[0].serial, "encryption_key_plain", wrong[ciphered[0].serial].hex())
        csv = altered(csv, ciphered[1].serial, "authentication_key_plain", wrong[ciphered[1].serial].hex())
        lls = [item.meter for item in field.meters if item.meter.mode.name == "lls"]
        csv = altered(csv, lls[0].serial, "lls_secret_plain", "wrongpass")
        await add(house, csv)
        outcome = await collect(house, SINCE, UNTIL)
        assert (outcome.read, outcome.failed) == (3 * len(MODES) - 3, 3)
        reaches = await house.access.prepare(
            [Target(await _meter(house, item.meter.serial)) for item in field.meters]
        )
        shown = [caplog.text, repr(outcome), repr(outcome.failures), repr(reaches)]
        shown += [repr(vars(record)) for record in caplog.records]
        shown += [repr(reach.plan.settings.cipher) for reach in reaches.values()]  # type: ignore[union-attr]
    shown += capfd.readouterr()
    text = "\n".join(shown)
    assert ciphered[0].serial in text  # the failures are told
    secrets = {b"wrongpass", bytes.fromhex("42" * 32), *(wrong[one.serial] for one in ciphered[:2])}
    for item in field.meters:
        keys = item.meter.keys
        for key in (keys.encryption, keys.authentication, keys.master, keys.lls, keys.hls):
            if key is not None:
                secrets.add(key.reveal())
    assert len(secrets) > 60
    leaked = {spelling for secret in secrets for spelling in spellings(secret) if spelling in text}
    assert leaked == set()


async def _meter(house: Any, asset_id: str) -> Any:
    async with house.base.pool.connection() as connection:
        return await meters.by_asset(connection, asset_id)
