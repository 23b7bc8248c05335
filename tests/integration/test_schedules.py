"""Schedules become jobs, and selections meters, in a real database."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from headend.schedules import changes
from headend.schedules.builtin import CURVES, EVENTS, STATIONS, ensure_builtin
from headend.schedules.changes import ChangedError
from headend.schedules.check import ScheduleError
from headend.schedules.planner import plan_due, run_now
from headend.store import groups, jobs, meters, network, schedules, selection, tags
from headend.store.errors import ConflictError, UnknownError
from headend.store.groups import UnknownMeters
from headend.store.pool import Pool, open_pool
from headend.store.sql import Connection
from schemas.config import Settings
from schemas.job import Curves, Forwarded, Registers, Retry, Selection
from schemas.meter import MeterState, NewMeter
from schemas.schedule import Missed, Schedule, Window

T0 = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 3, 10, 12, 0, 30, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


async def woken(connection: Connection) -> list[str]:
    """Lanes that somebody shall look after."""
    cursor = await connection.execute("SELECT args ->> 'lane' FROM procrastinate_jobs ORDER BY 1")
    return [lane for (lane,) in await cursor.fetchall()]


@pytest.fixture
async def pool(database: Any) -> Any:
    async with open_pool(database.dsn, max_size=4) as opened:
        yield opened


def schedule(**told: Any) -> Schedule:
    return Schedule(
        **{"name": "night", "cron": "0 1 * * *", "works": (Curves(),), "deadline": "06:00"} | told
    )


async def fleet(connection: Connection) -> dict[str, int]:
    """Two feeders below a substation, a transformer with a concentrator each, three meters below each."""
    told = [("S1", "substation", None), ("F1", "feeder", "S1"), ("F2", "feeder", "S1"),
            ("T1", "transformer", "F1"), ("T2", "transformer", "F2"),
            ("DC1", "concentrator", "T1"), ("DC2", "concentrator", "T2")]  # fmt: skip
    names = ["A_1", "A2", "A3", "B1", "B2", "B3", "DC1"]
    new = [
        NewMeter(
            name,
            "headend-dc" if name == "DC1" else "headend-sim" if name < "B" else "idis",
            address="tcp://127.0.0.1:4059",
            feeder=None if name == "DC1" else "F1" if name < "B" else "F2",
            transformer=None if name == "DC1" else "T1" if name < "B" else "T2",
        )
        for name in names
    ]
    ids = await meters.add_many(connection, new, since=T0, state=MeterState.COMMISSIONED)
    for code, kind, parent in told:
        address = "tcp://127.0.0.1:4000" if kind == "concentrator" else None
        model = {"DC1": "headend-dc", "DC2": "idis"}.get(code)
        await _node(connection, code, kind, parent, model=model, address=address)
    for name in names[:-1]:
        await _node(connection, name, "meter", "DC1" if name < "B" else "DC2", meter_id=ids[name])
    return ids


async def _node(connection: Connection, code: str, kind: str, parent: str | None, **more: Any) -> None:
    told = {"meter_id": None, "model": None, "address": None} | more
    await connection.execute(
        "INSERT INTO network_nodes (code, kind, meter_id, model, address) VALUES (%s, %s, %s, %s, %s)",
        (code, kind, told["meter_id"], told["model"], told["address"]),
    )
    if parent is not None:
        await connection.execute(
            """INSERT INTO network_links (child, parent, hops, during)
               SELECT c.node_id, p.node_id, 1, '[2020-01-01,)' FROM network_nodes c, network_nodes p
                WHERE c.code = %s AND p.code = %s""",
            (code, parent),
        )


async def asked(connection: Connection, job_id: int) -> list[int]:
    cursor = await connection.execute(
        "SELECT meter_id FROM requests WHERE job_id = %s ORDER BY meter_id", (job_id,)
    )
    return [meter for (meter,) in await cursor.fetchall()]


async def test_a_selection_is_what_meets_every_condition_now(pool: Pool) -> None:
    async with pool.connection() as connection:
        ids = await fleet(connection)
        names = {number: name for name, number in ids.items()}
        await groups.add(connection, "homes", meters=["A_1", "B1"], actor="test")
        await groups.add(connection, "shops", meters=["A2"], actor="test")
        await tags.change(connection, ["A_1", "A2"], add=["rate=day", "vip"], actor="test")
        await tags.change(connection, ["A3"], add=["rate=night"], actor="test")

        async def meant(at: datetime = NOW, **told: Any) -> str:
            found = await selection.meters(connection, Selection(**told), at=at)
            return " ".join(names[number] for number in found)

        assert await meant() == "A_1 A2 A3 B1 B2 B3", "a concentrator that has keys is no meter"
        assert await meant(meters=("B2", "A_1", "X")) == "A_1 B2"
        assert await meant(models=("idis",)) == "B1 B2 B3"
        assert await meant(feeders=("F2",)) == await meant(transformers=("T2", "T9")) == "B1 B2 B3"
        assert await meant(stations=("DC1",)) == "A_1 A2 A3"
        assert await meant(stations=("S1",)) == await meant(stations=("DC1", "DC2")) == "A_1 A2 A3 B1 B2 B3"
        assert await meant(groups=("homes", "shops")) == "A_1 A2 B1"
        assert await meant(tags=("vip",)) == await meant(tags=("rate=day",)) == "A_1 A2"
        assert await meant(tags=("rate",)) == "A_1 A2 A3"
        assert await meant(tags=("rate=",)) == ""
        assert await meant(query="A?") == "A2 A3"
        assert await meant(query="A_*") == "A_1", "_ and % are themselves"
        assert await meant(query="?_1") == "A_1"
        assert await meant(query="%") == ""
        assert await meant(groups=("homes",), feeders=("F1",)) == "A_1"
        # a meter that moves goes with its new station, and the life cycle is that of the time
        await network.move(connection, "A2", "DC2", kind=None, at=NOW - DAY)
        assert await meant(stations=("DC2",)) == "A2 B1 B2 B3"
        await meters.change_state(connection, ids["B1"], MeterState.SUSPENDED, since=NOW - HOUR)
        assert await meant(feeders=("F2",), models=("idis",)) == "B2 B3"
        assert await meant(at=NOW - DAY, models=("idis",)) == "B1 B2 B3"
        nodes = dict(await selection.stations(connection, Selection()))
        assert sorted(nodes.values()) == ["headend-dc", "idis"]
        for told in ({"feeders": ("F1",)}, {"stations": ("DC1",)}, {"meters": ("DC1",)}, {"query": "?C1"}):
            assert [model for _, model in await selection.stations(connection, Selection(**told))] == [
                "headend-dc"
            ]
        assert await selection.stations(connection, Selection(groups=("homes",))) == []


async def test_names_that_nobody_has_are_told_with_their_place(pool: Pool) -> None:
    async with pool.connection() as connection:
        await fleet(connection)
        many = ["A_1"] * 3712 + ["X"] + ["B1"] * 1000 + ["Y"]
        plan = schedule(
            selection=Selection(
                meters=tuple(many), groups=("nobody",), tags=("vip", "rate=day"), feeders=("F1", "F3"),
                transformers=("T3",), stations=("T1",), models=("idis", "nokia"),
            ),
            works=(Registers(obis=("1.8.0", "hello")), Curves(profiles=(1,))),
        )  # fmt: skip
        with pytest.raises(ScheduleError) as told:
            await changes.add(connection, plan, now=NOW, actor="test")
        assert [(one.pointer, one.reason) for one in told.value.wrong if "/works" not in one.pointer] == [
            ("/selection/models/1", "no model 'nokia'"),
            ("/selection/feeders/1", "no feeder 'F3'"),
            ("/selection/groups/0", "no group 'nobody'"),
            ("/selection/meters/3712", "no meter 'X'"),
            ("/selection/meters/4713", "no meter 'Y'"),
            ("/selection/stations/0", "no concentrator, gateway or substation 'T1'"),
            ("/selection/tags/0", "no tag 'vip'"),
            ("/selection/tags/1", "no tag 'rate=day'"),
            ("/selection/transformers/0", "no transformer 'T3'"),
        ]
        assert any(one.pointer == "/works/0/obis/1" for one in told.value.wrong)
        assert await schedules.page(connection, limit=10) == []
        with pytest.raises(ScheduleError, match=r"/works/0/profiles/1: no meter model.* profile 77"):
            await changes.add(connection, schedule(works=(Curves(profiles=(1, 77)),)), now=NOW, actor="test")
        with pytest.raises(ScheduleError, match="/works/1: 'forwarded' asks concentrators"):
            await changes.add(connection, schedule(works=(Curves(), Forwarded())), now=NOW, actor="test")


async def test_a_run_becomes_a_job_once(pool: Pool) -> None:
    async with pool.connection() as connection:
        ids = await fleet(connection)
        plan = schedule(
            selection=Selection(feeders=("F1",)), priority=2, window=Window(opens="30m"),
            retry=Retry(attempts=3, drop_dead_s=6 * 3600),
        )  # fmt: skip
        stored = await changes.add(connection, plan, now=NOW, actor="test")
        run = datetime(2026, 3, 11, 1, tzinfo=UTC)
        assert stored.next_at == run
        assert await plan_due(connection, run - timedelta(seconds=1)) == []
        (made,) = await plan_due(connection, run + timedelta(seconds=10))
        assert (made.schedule, made.requests, made.times.run) == ("night", 3, run)
        assert await asked(connection, made.job_id) == [ids["A_1"], ids["A2"], ids["A3"]]
        job = await jobs.find(connection, made.job_id)
        assert job is not None
        assert (job.run_at, job.deadline, job.drop_dead) == (run, run + 5 * HOUR, run + 6 * HOUR)
        assert job.retry == plan.retry
        row = await (
            await connection.execute(
                "SELECT DISTINCT due_by, next_at, drop_dead, urgency, state FROM requests"
            )
        ).fetchone()
        assert row == (run + 3 * HOUR, run + timedelta(minutes=30), run + 6 * HOUR, 20, "open")
        assert await woken(connection) == [], "the window is not open yet"
        stored = await schedules.get(connection, "night")
        assert (stored.next_at, stored.last_at) == (run + DAY, run)
        assert await plan_due(connection, run + HOUR) == []
        # the same run again, as after a restore of the schedule alone, is no second job
        await schedules.advance(connection, stored.schedule_id, next_at=run, last_at=None)
        assert await plan_due(connection, run + timedelta(minutes=1)) == []
        assert len(await jobs.page(connection, limit=10)) == 1


async def test_two_schedulers_make_one_job(pool: Pool, database: Any) -> None:
    async with pool.connection() as connection:
        await fleet(connection)
        for number in range(6):
            await changes.add(
                connection, schedule(name=f"s{number}", every_min=1, cron=None), now=NOW, actor="t"
            )

    async def plan() -> int:
        async with pool.connection() as connection:
            return len(await plan_due(connection, NOW + timedelta(minutes=1)))

    assert sum(await asyncio.gather(plan(), plan(), plan())) == 6
    with psycopg.connect(database.dsn) as connection:
        assert connection.execute("SELECT count(*), count(DISTINCT schedule_id) FROM jobs").fetchone() == (
            6,
            6,
        )


async def test_missed_runs_are_caught_up_once_or_skipped(pool: Pool) -> None:
    async with pool.connection() as connection:
        await fleet(connection)
        await changes.add(connection, schedule(), now=NOW, actor="test")
        await changes.add(connection, schedule(name="skips", missed=Missed.SKIP), now=NOW, actor="test")
        back = NOW + 3 * DAY
        (made,) = await plan_due(connection, back)
        assert made.schedule == "night"
        newest = datetime(2026, 3, 13, 1, tzinfo=UTC)
        # its deadline of that morning is over: the times count from now
        assert made.times.run == newest
        assert made.times.deadline == datetime(2026, 3, 14, 6, tzinfo=UTC)
        assert await woken(connection)
        for name, last in (("night", newest), ("skips", None)):
            stored = await schedules.get(connection, name)
            assert (stored.next_at, stored.last_at) == (newest + DAY, last)
        # a tick that is some minutes late has missed nothing
        both = await plan_due(connection, newest + DAY + timedelta(minutes=4))
        assert {one.schedule for one in both} == {"night", "skips"}
        assert {one.times.deadline for one in both} == {datetime(2026, 3, 14, 6, tzinfo=UTC)}


async def test_a_bad_schedule_costs_no_other(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    async with pool.connection() as connection:
        await fleet(connection)
        bad = await changes.add(connection, schedule(name="bad"), now=NOW, actor="test")
        await changes.add(connection, schedule(name="good"), now=NOW, actor="test")
        await connection.execute(
            """UPDATE schedules SET plan = jsonb_set(plan, '{zone}', '"Europe/Atlantis"')
                WHERE schedule_id = %s""",
            (bad.schedule_id,),
        )
        (made,) = await plan_due(connection, NOW + DAY)
        assert made.schedule == "good"
        assert connection.info.transaction_status.name == "IDLE", "each is committed by itself"
        assert f"schedule number {bad.schedule_id} was not planned" in caplog.text


async def test_concentrators_are_asked_for_what_they_keep(pool: Pool) -> None:
    async with pool.connection() as connection:
        await fleet(connection)
        await changes.add(connection, schedule(works=(Forwarded(),)), now=NOW, actor="test")
        made = await run_now(connection, "night", NOW, actor="test", correlation_id="c")
        (node,) = await asked(connection, made.job_id)
        row = await (
            await connection.execute("SELECT code FROM network_nodes WHERE node_id = %s", (-node,))
        ).fetchone()
        assert row == ("DC1",), "the model of DC2 does not forward"


async def test_a_run_of_nobody_is_over_at_once(pool: Pool) -> None:
    async with pool.connection() as connection:
        await changes.add(connection, schedule(enabled=False), now=NOW, actor="test")
        made = await run_now(connection, "night", NOW, actor="test", correlation_id="c")
        job = await jobs.find(connection, made.job_id)
        assert job is not None
        assert made.requests == 0
        assert job.ended_at is not None
        with pytest.raises(UnknownError):
            await run_now(connection, "day", NOW, actor="test", correlation_id="c")


async def test_changes_are_checked_versioned_and_audited(pool: Pool) -> None:
    async with pool.connection() as connection:
        await fleet(connection)
        first = await changes.add(connection, schedule(), now=NOW, actor="eve")
        with pytest.raises(ConflictError):
            await changes.add(connection, schedule(), now=NOW, actor="eve")
        await changes.add(connection, schedule(name="other"), now=NOW, actor="eve")
        later = schedule(cron="0 2 * * *")
        second = await changes.change(connection, "night", later, now=NOW, actor="eve", version=first.version)
        assert (second.version, second.next_at) == (2, datetime(2026, 3, 11, 2, tzinfo=UTC))
        with pytest.raises(ChangedError):
            await changes.change(connection, "night", schedule(), now=NOW, actor="eve", version=first.version)
        with pytest.raises(ConflictError):
            await changes.change(connection, "night", schedule(name="other"), now=NOW, actor="eve")
        with pytest.raises(ScheduleError):
            await changes.change(connection, "night", schedule(cron="0 0 30 2 *"), now=NOW, actor="eve")
        paused = await changes.enable(connection, "night", enabled=False, now=NOW, actor="eve")
        assert (paused.plan.enabled, paused.next_at) == (False, None)
        assert await changes.enable(connection, "night", enabled=False, now=NOW, actor="eve") == paused
        assert await plan_due(connection, NOW + HOUR) == []
        resumed = await changes.enable(connection, "night", enabled=True, now=NOW + 2 * DAY, actor="eve")
        assert resumed.next_at == datetime(2026, 3, 13, 2, tzinfo=UTC), "nothing of the pause is made up for"
        await changes.remove(connection, "night", actor="eve")
        with pytest.raises(UnknownError):
            await schedules.get(connection, "night")
        cursor = await connection.execute(
            "SELECT action, detail FROM audit_log WHERE object = 'schedule:night' ORDER BY audit_id"
        )
        log = await cursor.fetchall()
        assert [action.removeprefix("schedule.") for action, _ in log] == [
            "added", "changed", "paused", "resumed", "removed",
        ]  # fmt: skip
        assert log[1][1] == {"cron": {"from": "0 1 * * *", "to": "0 2 * * *"}}


async def test_the_schedules_of_the_house_follow_the_settings(pool: Pool) -> None:
    def settings(**told: Any) -> Settings:
        return Settings(**{"read_period_s": 900, "events_period_s": 0, "stations_period_s": 30} | told)

    async def there(connection: Connection) -> dict[str, schedules.StoredSchedule]:
        return {one.plan.name: one for one in await schedules.page(connection, limit=10)}

    async def ensure() -> None:
        async with pool.connection() as connection:
            await ensure_builtin(connection, settings(), NOW)

    await asyncio.gather(ensure(), ensure(), ensure())
    async with pool.connection() as connection:
        first = await there(connection)
        assert set(first) == {CURVES, EVENTS, STATIONS}
        assert first[CURVES].next_at == NOW.replace(minute=15, second=0)
        assert first[CURVES].plan.works == (Curves(days=7),)
        assert first[EVENTS].next_at is None
        assert first[STATIONS].plan.every_min == 1, "the tick comes each minute"
        await ensure_builtin(connection, settings(), NOW + HOUR)
        assert await there(connection) == first
        await ensure_builtin(connection, settings(read_days=3, events_period_s=3600), NOW)
        second = await there(connection)
        assert second[CURVES].plan.works == (Curves(days=3),)
        assert second[EVENTS].next_at == NOW.replace(hour=13, minute=0, second=0)
        assert second[STATIONS] == first[STATIONS]
        with pytest.raises(ConflictError, match="read_period_s"):
            await changes.enable(connection, CURVES, enabled=False, now=NOW, actor="eve")
        with pytest.raises(ScheduleError, match="/name"):
            await changes.add(connection, schedule(name="house-x"), now=NOW, actor="eve")


async def test_groups_and_tags_are_all_or_nothing(pool: Pool) -> None:
    async with pool.connection() as connection:
        await fleet(connection)
        with pytest.raises(UnknownMeters) as told:
            await groups.add(connection, "homes", meters=["A_1", "X", "B1", "Y"], actor="eve")
        assert told.value.places == ((1, "X"), (3, "Y"))
        assert await groups.page(connection, limit=10) == []
        made = await groups.add(connection, "homes", meters=["A_1", "B1", "A_1"], title="Homes", actor="eve")
        assert (made.meters, made.title) == (2, "Homes")
        with pytest.raises(ConflictError):
            await groups.add(connection, "homes", actor="eve")
        assert await groups.change_members(
            connection, "homes", add=["A2", "B1"], remove=["A_1"], actor="eve"
        ) == (1, 1)
        with pytest.raises(UnknownMeters):
            await groups.change_members(connection, "homes", add=["A3"], remove=["Z"], actor="eve")
        assert await groups.members(connection, made.group_id) == ["A2", "B1"]
        assert await groups.members(connection, made.group_id, limit=1, after="A2") == ["B1"]
        assert await groups.set_members(connection, "homes", ["B1", "B2", "B3"], actor="eve") == (2, 1)
        assert [one.name for one in await groups.page(connection, limit=10, meter="B3")] == ["homes"]
        await changes.add(connection, schedule(selection=Selection(groups=("homes",))), now=NOW, actor="eve")
        with pytest.raises(ConflictError, match="night"):
            await groups.remove(connection, "homes", actor="eve")
        await changes.remove(connection, "night", actor="eve")
        await groups.remove(connection, "homes", actor="eve")
        assert await tags.change(connection, ["A2", "A3"], add=["vip", "rate=1"], actor="eve") == 4
        assert await tags.change(connection, ["A2"], add=["rate=2"], remove=["vip"], actor="eve") == 2
        assert await tags.change(connection, ["A2"], add=["rate=2"], actor="eve") == 0
        with pytest.raises(UnknownMeters):
            await tags.change(connection, ["A2", "Q"], add=["x"], actor="eve")
        with pytest.raises(ConflictError):
            await tags.change(connection, ["A2"], add=["x=1", "x=2"], actor="eve")
        assert await tags.all_used(connection, limit=9) == [("rate=1", 1), ("rate=2", 1), ("vip", 1)]
        row = await (
            await connection.execute("SELECT count(*) FROM audit_log WHERE actor = 'eve'")
        ).fetchone()
        assert row == (9,)
