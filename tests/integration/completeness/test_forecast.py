"""What a forecast is made of, out of a real database: running jobs, their pace, and what attempts came to."""

from datetime import timedelta

from headend.completeness.standing import standing
from headend.store import jobs
from headend.store.completeness import Ahead, By, LanePace, Successes, work
from schemas.job import JobKind
from tests.integration.completeness.conftest import DAY, T0, Fleet
from tests.integration.completeness.test_gaps import HOUR, night

MINUTE = timedelta(minutes=1)


async def test_a_night_under_way_is_foretold(fleet: Fleet) -> None:
    names = [f"M{n}" for n in range(8)]
    await fleet.add(*names)
    job_id = await night(fleet, names)
    now = fleet.now = T0 + DAY + 10 * MINUTE
    lane = f"lot:{fleet.ids['M0'] // 500}"
    await fleet.sql("UPDATE jobs SET created_at = %s", T0 + DAY)
    # four are read in ten minutes, one of them at the second attempt; one failed once and waits
    done = [fleet.ids[name] for name in names[:4]]
    await fleet.sql(
        "UPDATE requests SET state = 'done', ended_at = %s WHERE meter_id = ANY (%s)", now - MINUTE, done
    )
    for name in names[:4]:
        await fleet.store(name, T0, T0 + DAY)
    await fleet.sql("UPDATE requests SET attempts = 1 WHERE meter_id = %s", fleet.ids["M4"])
    await fleet.sql(
        "INSERT INTO attempts SELECT %s, 1, %s, 1, 10, 0, 0, 96, 1, CASE WHEN n <= 10 THEN 'timeout' END,"
        " NULL, NULL, 'w' FROM generate_series(1, 40) n",
        now - MINUTE, job_id,
    )  # fmt: skip
    async with fleet.pool.connection() as connection:
        found = await standing(connection, T0, T0 + DAY, now=now, by=By.NETWORK)
        told = await work(connection, now=now, pace_since=now - 30 * MINUTE, successes_since=now - DAY)
    assert told is not None
    assert told.deadline == T0 + DAY + 6 * HOUR
    assert sorted(told.ahead) == [Ahead(lane, 1, 5, 3, 288), Ahead(lane, 2, 5, 1, 96)]
    assert told.pace == (LanePace(lane, 4, 600.0),)
    assert told.successes == (Successes(1, 40, 30),)
    # all are served by then, and each fails with a quarter to the power of the attempts that are left
    assert found.forecast.at == told.deadline
    assert found.forecast.intervals == 384 + round(288 * (1 - 0.25**5) + 96 * (1 - 0.25**4))
    assert found.now.open == 384


async def test_a_read_on_demand_and_a_night_that_has_ended_foretell_nothing(fleet: Fleet) -> None:
    await fleet.add("A")
    job_id = await night(fleet, ["A"])
    fleet.now = T0 + DAY + HOUR
    async with fleet.pool.connection() as connection:
        await jobs.cancel(connection, job_id)
        assert await jobs.create(
            connection,
            jobs.NewJob(JobKind.ON_DEMAND, "now", (), 9, T0 + 9 * DAY, T0 + 9 * DAY, "test", "c"),
        )
        found = await standing(connection, T0, T0 + DAY, now=fleet.now, by=By.NETWORK)
    assert found.forecast.reason == "no run of a schedule is under way"
