"""The rounds as the service has them: the contract of models of every language, without a key."""

from typing import Any

from headend.foundation import open_base
from headend.house import completeness_rounds
from headend.store import meters
from schemas.config import Settings
from schemas.meter import MeterState, NewMeter
from tests.integration.completeness.conftest import T0

CURVES = {
    "headend-sim": (1, 900, "stored", 0),
    "eastron-sdm630": (1, 900, "sampled", 90),
    "shelly-gen2": (1, 900, "pushed", 3600),
    "dlt645-2007-load-records": (2, 900, "stored", 0),
}


async def test_the_contract_of_every_language_is_kept_without_a_key(
    embedded_database: Any, tmp_path: Any
) -> None:
    settings = Settings(database_url=embedded_database.dsn, data_dir=tmp_path)
    async with open_base(settings) as base:
        async with base.pool.connection() as connection:
            for model in CURVES:
                await meters.add_many(
                    connection, [NewMeter(model, model)], since=T0, state=MeterState.COMMISSIONED
                )
        assert (await completeness_rounds(base).once()).alone
        async with base.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT model, profile, period_s, recall, grace_s FROM model_curves"
            )
            found = {model: tuple(rest) for model, *rest in await cursor.fetchall()}
    assert found == CURVES
