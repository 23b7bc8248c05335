"""The gap ledger, back-fill and reports over a real database."""

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from headend.drivers.contract import Curve, Recall
from headend.store import gaps, jobs, meters, network, reports
from headend.store.gaps import Gap, GapState
from headend.store.jobs import NewJob
from headend.store.network import Hanging, NewNode
from schemas.job import CurveRange, Curves, JobKind
from schemas.meter import MeterState
from schemas.network import LinkKind, NodeKind
from tests.integration.completeness.conftest import DAY, T0, Fleet

HOUR = timedelta(hours=1)


async def ledger(fleet: Fleet, **only: Any) -> list[Gap]:
    async with fleet.pool.connection() as connection:
        return sorted(await gaps.page(connection, limit=100, **only), key=lambda one: one.gap_id)


async def requests(fleet: Fleet) -> list[Any]:
    return await fleet.sql(
        "SELECT r.meter_id, r.lane, r.urgency, r.due_by, r.work, j.kind, r.state FROM requests r JOIN jobs j"
        " USING (job_id) ORDER BY request_id"
    )


async def end_all(fleet: Fleet, state: str = "failed", stage: str | None = "timeout") -> None:
    await fleet.sql(
        "UPDATE requests SET state = %s, stage = %s, reason = 'nothing came', ended_at = now()"
        " WHERE state = 'open'",
        state, stage,
    )  # fmt: skip
    async with fleet.pool.connection() as connection:
        await jobs.end(connection)


async def test_a_gap_is_opened_asked_for_once_and_filled(fleet: Fleet) -> None:
    await fleet.add("A")
    await fleet.store("A", T0, T0 + 10 * HOUR)
    await fleet.store("A", T0 + 12 * HOUR, T0 + 2 * DAY)
    done = await fleet.round()
    assert (done.opened, done.asked) == (1, 1)
    (gap,) = await ledger(fleet)
    assert (gap.during, gap.state, gap.cause, gap.tries) == (
        (T0 + 10 * HOUR, T0 + 12 * HOUR), GapState.OPEN, "not_asked", 1,
    )  # fmt: skip
    ((meter, lane, urgency, _, work, kind, state),) = await requests(fleet)
    assert (meter, urgency, kind, state) == (fleet.ids["A"], 20, "backfill", "open")
    assert fleet.woken == [lane] == [f"lot:{meter // 500}"]
    assert [CurveRange.model_validate(one) for one in work] == [
        CurveRange(profile=1, since=T0 + 10 * HOUR, until=T0 + 12 * HOUR)
    ]
    # nothing is asked for twice, whatever the time
    fleet.now += 30 * HOUR
    await fleet.store("A", T0 + 2 * DAY, fleet.now)
    assert (await fleet.round()).asked == 0
    await end_all(fleet)
    assert (await fleet.round()).asked == 1
    (gap,) = await ledger(fleet)
    assert (gap.tries, gap.cause, gap.reason) == (2, "timeout", "nothing came")
    # a part comes, then the rest
    await fleet.store("A", T0 + 10 * HOUR, T0 + 11 * HOUR)
    assert (await fleet.round()).closed == 0
    (gap,) = await ledger(fleet)
    assert gap.missing == ((T0 + 11 * HOUR, T0 + 12 * HOUR),)
    await fleet.store("A", T0 + 11 * HOUR, T0 + 12 * HOUR, covered=False)
    assert (await fleet.round()).closed == 1
    (gap,) = await ledger(fleet)
    assert (gap.state, gap.missing, gap.lost, gap.closed_at) == (GapState.FILLED, (), (), fleet.now)


async def test_what_the_meter_has_not_is_lost_and_stays_lost(fleet: Fleet) -> None:
    await fleet.add("A")
    await fleet.store("A", T0 + HOUR, T0 + 3 * DAY)
    await fleet.round()
    await fleet.cover("A", T0, T0 + HOUR)
    assert (await fleet.round()).closed == 1
    (gap,) = await ledger(fleet)
    assert (gap.state, gap.lost) == (GapState.LOST, ((T0, T0 + HOUR),))
    assert (await fleet.round()).opened == 0
    assert (await fleet.total(T0, T0 + DAY)).lost == 4


async def test_a_silent_meter_has_one_gap_that_grows(fleet: Fleet) -> None:
    await fleet.add("A")
    await fleet.store("A", T0, T0 + DAY)
    for _ in range(3):
        await fleet.round()
        fleet.now += 5 * HOUR
    (gap,) = await ledger(fleet)
    assert gap.during == gap.missing[0] == (T0 + DAY, fleet.now - 5 * HOUR - DAY)


async def test_a_gap_begins_and_ends_where_intervals_do(fleet: Fleet) -> None:
    await fleet.add("A", since=T0 + timedelta(minutes=4))
    fleet.now = T0 + 30 * HOUR + timedelta(minutes=9)
    await fleet.round()
    ((_, _, _, _, (work,), _, _),) = await requests(fleet)
    asked = CurveRange.model_validate(work)
    assert (asked.since, asked.until) == (T0 + timedelta(minutes=15), T0 + 6 * HOUR)
    fleet.now += timedelta(minutes=10)
    await fleet.round()
    (gap,) = await ledger(fleet)
    assert gap.missing == ((T0 + timedelta(minutes=15), T0 + timedelta(hours=6, minutes=15)),)


async def test_a_gap_of_days_is_one_of_local_days(fleet: Fleet) -> None:
    zone = ZoneInfo("Europe/Berlin")
    fleet.curves = {"m": (Curve(1, 86400, Recall.STORED, zone),)}
    await fleet.add("A", since=T0 + 26 * DAY)
    fleet.now = T0 + 31 * DAY
    await fleet.round()
    (gap,) = await ledger(fleet)
    assert gap.during == (datetime(2026, 3, 28, tzinfo=zone), datetime(2026, 3, 31, tzinfo=zone))
    assert gap.during[1] - gap.during[0] == timedelta(hours=71)


async def test_what_nobody_expects_any_more_is_excused(fleet: Fleet) -> None:
    await fleet.add("A")
    await fleet.store("A", T0, T0 + DAY)
    await fleet.round()
    async with fleet.pool.connection() as connection:
        await meters.change_state(connection, fleet.ids["A"], MeterState.SUSPENDED, since=T0 + DAY)
    assert (await fleet.round()).closed == 1
    assert [one.state for one in await ledger(fleet)] == [GapState.EXCUSED]


async def test_a_memory_that_has_wrapped_holds_nothing_and_the_first_to_wrap_goes_first(fleet: Fleet) -> None:
    # a day and a half of memory against ten days
    fleet.curves = {
        "m": (Curve(1, 900, Recall.STORED, entries=10 * 96),),
        "short": (Curve(1, 900, Recall.STORED, entries=144),),
    }
    await fleet.add("long")
    await fleet.add("short", model="short")
    fleet.now = T0 + DAY + 6 * HOUR
    await fleet.round()
    of = {one.asset_id: one for one in await ledger(fleet)}
    assert of["short"].wraps_at == T0 + 36 * HOUR
    assert of["long"].wraps_at == T0 + 10 * DAY
    rows = await requests(fleet)
    assert [row[3] for row in sorted(rows)] == [fleet.now + 7 * DAY, fleet.now + 6 * HOUR]
    fleet.now = T0 + 2 * DAY
    await fleet.round()
    await fleet.round()
    gone, short = [one for one in await ledger(fleet) if one.asset_id == "short"]
    assert (gone.state, gone.lost) == (GapState.LOST, ((T0, T0 + 6 * HOUR),))
    assert short.lost == ((T0 + 6 * HOUR, T0 + 12 * HOUR),)
    assert short.missing == ((T0 + 12 * HOUR, T0 + DAY),)
    assert short.wraps_at == T0 + 2 * DAY


async def test_what_nobody_can_be_asked_for_is_not_asked_and_lost_in_the_end(fleet: Fleet) -> None:
    fleet.curves = {"m": (Curve(1, 900, Recall.PUSHED),)}
    await fleet.add("A")
    assert (await fleet.round()).asked == 0
    (gap,) = await ledger(fleet)
    assert (gap.next_try_at, gap.cause) == (None, "not_pushed")
    fleet.now += 40 * DAY
    await fleet.round()
    (gap, *_) = await ledger(fleet)
    assert (gap.state, gap.lost) == (GapState.LOST, ((T0, T0 + 2 * DAY),))


@pytest.mark.parametrize("address", [None, "tcp://192.0.2.1:4059"])
async def test_only_meters_that_can_be_dialled_and_are_commissioned_are_asked(
    fleet: Fleet, address: str | None
) -> None:
    await fleet.add("A", address=address)
    assert (await fleet.round()).asked == (0 if address is None else 1)
    (gap,) = await ledger(fleet)
    assert gap.cause == ("no_address" if address is None else "not_asked")


async def test_a_meter_that_is_about_to_be_read_anyway_is_let_be(fleet: Fleet) -> None:
    await fleet.add("A")
    await night(fleet, ["A"])
    assert (await fleet.round()).asked == 0


async def test_what_a_concentrator_may_yet_hand_on_is_not_asked_of_its_meter(fleet: Fleet) -> None:
    await fleet.add("A", address="via:?gateway=0:0A")
    async with fleet.pool.connection() as connection:
        made = await network.add_nodes(
            connection,
            [
                NewNode("DC", NodeKind.CONCENTRATOR, model="keeps"),
                NewNode("A", NodeKind.METER, fleet.ids["A"]),
            ],
        )
        await network.hang(connection, [Hanging(made["A"], made["DC"], LinkKind.PLC_NARROWBAND)], at=T0 - DAY)
    fleet.now = T0 + 20 * HOUR
    assert (await fleet.round(overdue=HOUR)).asked == 0
    (gap,) = await ledger(fleet)
    assert gap.next_try_at == T0 + 19 * HOUR + DAY
    fleet.now = T0 + 2 * DAY
    assert (await fleet.round(overdue=HOUR)).asked == 1
    ((_, lane, _, _, work, _, _),) = await requests(fleet)
    assert lane.startswith("station:")
    assert CurveRange.model_validate(work[0]).until == T0 + DAY


async def test_two_hosts_keep_one_ledger(fleet: Fleet) -> None:
    await fleet.add("A")
    async with fleet.pool.connection() as other:
        await other.execute("SELECT pg_advisory_xact_lock(1313166421)")
        assert not (await fleet.round()).alone
    assert (await fleet.round()).opened == 1


async def test_a_model_that_cannot_be_read_excuses_nobody(fleet: Fleet) -> None:
    from schemas.model import ModelError

    await fleet.add("A")
    await fleet.round()

    def broken(model: str) -> Any:
        raise ModelError("no such file")

    rounds = fleet.rounds()
    rounds._curves_of = broken
    assert (await rounds.once()).closed == 0
    assert (await fleet.total(T0, T0 + DAY)).expected == 96


async def night(fleet: Fleet, names: list[str], *, run_at: Any = T0 + DAY, schedule_id: int = 7) -> int:
    async with fleet.pool.connection() as connection:
        job_id = await jobs.create(
            connection,
            NewJob(
                JobKind.SCHEDULED, "night", (Curves(days=2),), 5, run_at + 6 * HOUR, run_at + 8 * HOUR,
                "test", "c", schedule_id=schedule_id, run_at=run_at,
            ),
        )  # fmt: skip
        assert job_id is not None
        await jobs.add_requests(
            connection, job_id, [fleet.ids[name] for name in names],
            urgency=20, due_by=run_at, next_at=run_at, drop_dead=run_at + 8 * HOUR,
        )  # fmt: skip
    return job_id


async def reported(fleet: Fleet) -> list[Any]:
    async with fleet.pool.connection() as connection:
        found = await reports.page(connection, limit=10)
        return [await reports.find(connection, one.report_id) for one in reversed(found)]


async def test_a_night_is_reported_at_its_deadline_and_at_its_end(fleet: Fleet) -> None:
    await fleet.add("A", "B", "C")
    await fleet.sql("UPDATE jobs SET created_at = %s", T0)
    job_id = await night(fleet, ["A", "B"])
    await fleet.store("A", T0, T0 + DAY)
    fleet.now = T0 + DAY + 5 * HOUR
    assert (await fleet.round(overdue=3 * DAY)).reports == 0
    # the deadline passes: what is missing is a gap now, though no day is over yet
    fleet.now = T0 + DAY + 6 * HOUR
    done = await fleet.round(overdue=3 * DAY)
    assert (done.reports, done.asked) == (1, 0)
    assert [one.asset_id for one in await ledger(fleet)] == ["B"]
    (first,) = await reported(fleet)
    assert (first.job_id, first.occasion, first.since, first.until) == (job_id, "deadline", T0, T0 + DAY)
    assert first.body["requests"] == {"open": 2, "done": 0, "failed": 0, "expired": 0, "cancelled": 0}
    assert first.body["completeness"]["ratio"] == 0.5
    assert first.body["missing"] == [
        {"meter": "B", "profile": 1, "station": None, "cause": "waiting", "open": 96, "lost": 0}
    ]
    assert [(one["name"], one["open"]) for one in first.body["causes"]] == [("waiting", 96)]
    await fleet.sql(
        "UPDATE requests SET state = 'done', ended_at = now() WHERE meter_id = %s", fleet.ids["A"]
    )
    await end_all(fleet)
    assert (await fleet.round(overdue=3 * DAY)).reports == 1
    assert (await fleet.round(overdue=3 * DAY)).reports == 0
    _, second = await reported(fleet)
    assert (second.occasion, second.body["causes"][0]["name"]) == ("end", "timeout")
    # the next night speaks of what came between
    await night(fleet, ["A"], run_at=T0 + 3 * DAY)
    fleet.now = T0 + 4 * DAY
    await fleet.round()
    *_, third = await reported(fleet)
    assert (third.since, third.until) == (T0 + DAY, T0 + 3 * DAY)


async def test_runs_of_each_quarter_are_no_nights(fleet: Fleet) -> None:
    await fleet.add("A")
    for n in range(3):
        await night(fleet, ["A"], run_at=T0 + DAY + n * timedelta(minutes=15))
    fleet.now = T0 + 2 * DAY
    assert (await fleet.round()).reports == 1


async def test_a_run_that_was_cancelled_is_not_reported(fleet: Fleet) -> None:
    await fleet.add("A")
    job_id = await night(fleet, ["A"])
    async with fleet.pool.connection() as connection:
        await jobs.cancel(connection, job_id)
    fleet.now = T0 + 2 * DAY
    assert (await fleet.round()).reports == 0
