"""Keys that are due: told in figures, and put forward by the scheduler, once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from headend.keys.due import EVERY, Rotations
from headend.store import key_status
from headend.store.key_status import KeyPolicy
from schemas.campaign import CampaignState
from schemas.config import load_settings
from tests.integration.programs.field import Works, works


def age(dsn: str, days: int, *, meters: int) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "UPDATE meter_keys SET created_at = now() - make_interval(days => %s) "
            "WHERE meter_id IN (SELECT meter_id FROM meters ORDER BY meter_id LIMIT %s)",
            (days, meters),
        )


def count(dsn: str, asset_id: str, value: int) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO invocation_counters SELECT key_id, '\\x4845440000000001', %s FROM meter_keys "
            "JOIN meters USING (meter_id) WHERE asset_id = %s AND purpose = 'encryption'",
            (value, asset_id),
        )


def campaigns_of(here: Works) -> list[Any]:
    return here.rows("SELECT campaign_id, state, actor FROM campaigns ORDER BY 1")


async def test_what_is_due_is_put_forward_once(embedded_database: Any) -> None:
    settings = {"keys_rotate_after_days": 365}
    async with works(embedded_database.dsn, meters=5, settings=settings) as here:
        now = datetime.now(UTC)
        rotations = Rotations(here.house.base, here.house.procedures)
        assert await rotations.tick(now) is None
        assert campaigns_of(here) == []
        age(here.dsn, 400, meters=2)
        count(here.dsn, here.simulated(4).serial, 2_000_000_001)
        assert await rotations.tick(now + timedelta(minutes=1)) is None, "it looks once an hour"
        number = await rotations.tick(now + EVERY)
        assert number is not None
        assert campaigns_of(here) == [(number, "proposed", "scheduler")]
        assert {one.meter_id for one in await here.standing(number)} == {
            here.meters[here.simulated(n).serial] for n in (0, 1, 4)
        }
        again = Rotations(here.house.base, here.house.procedures)
        assert await again.tick(now + 2 * EVERY) is None, "one is open"
        await here.approve(number)
        assert {one.state for one in await here.ended(number)} == {"done"}
        for after in (timedelta(hours=23), timedelta(hours=25)):
            age(here.dsn, 400, meters=1)
            made = await again.tick(datetime.now(UTC) + after)
            assert (made is None) == (after < timedelta(days=1))


async def test_what_people_refused_is_not_put_forward_again_the_next_day(embedded_database: Any) -> None:
    settings = {"keys_rotate_after_days": 365}
    async with works(embedded_database.dsn, meters=1, settings=settings, working=False) as here:
        age(here.dsn, 400, meters=1)
        rotations = Rotations(here.house.base, here.house.procedures)
        number = await rotations.tick(datetime.now(UTC))
        assert number is not None
        async with here.house.base.pool.connection() as connection:
            await key_status.rotation_turn(connection)
            await connection.execute(
                "UPDATE campaigns SET state = %s, ended_at = now()", (CampaignState.REFUSED,)
            )
        assert await rotations.tick(datetime.now(UTC) + timedelta(days=2)) is None
        assert await rotations.tick(datetime.now(UTC) + timedelta(days=8)) is not None


async def test_figures_of_the_fleet(embedded_database: Any) -> None:
    async with works(embedded_database.dsn, meters=4, working=False) as here:
        age(here.dsn, 400, meters=1)
        count(here.dsn, here.simulated(3).serial, 3_000_000_000)
        with psycopg.connect(here.dsn) as connection:
            connection.execute(
                "DELETE FROM meter_keys WHERE purpose = 'master' "
                "AND meter_id = (SELECT max(meter_id) FROM meters)"
            )
        now, policy = datetime.now(UTC), KeyPolicy(after_days=365)
        async with here.house.base.pool.connection() as connection:
            told = await key_status.totals(connection, policy, now)
            due = await key_status.due(connection, policy, now, limit=10)
            nobody = await key_status.due(connection, KeyPolicy(counter=2**32 - 1), now, limit=10)
        assert (told.meters, told.due_by_age, told.due_by_counter) == (4, 1, 1)
        assert (told.counter, told.without_master, told.in_doubt) == (2_999_999_999, 1, 0)
        assert [one.asset_id for one in due] == [here.simulated(3).serial, here.simulated(0).serial]
        assert [one.has_master for one in due] == [False, True]
        assert nobody == []
        assert load_settings(database_url=here.dsn).keys_rotate_at_counter == 2_000_000_000
