"""What is expected, present, lost and open: against an oracle that goes through it interval by interval."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.integration.completeness.conftest import DAY, QUARTER, T0, Fleet

BERLIN = ZoneInfo("Europe/Berlin")
#: Two weeks around each change of the clock in 2026.
CHANGES = (datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC))


class Case(NamedTuple):
    """One meter's world: minutes are counted from the beginning of the window's week."""

    period_s: int
    change: datetime
    states: list[tuple[int, bool]]
    installed: list[tuple[int, int]]
    rows: list[int]
    covered: list[tuple[int, int]]
    window: tuple[int, int]
    now: int


minutes = st.integers(0, 14 * 1440)
spans = st.lists(st.tuples(minutes, minutes).filter(lambda s: s[0] < s[1]), max_size=2)


@st.composite
def cases(draw: Any) -> Case:
    moments = sorted(set(draw(st.lists(minutes, min_size=1, max_size=3))))
    begin, end = sorted(draw(st.tuples(minutes, minutes)))
    installed = sorted(draw(spans))
    if len(installed) == 2 and installed[0][1] > installed[1][0]:
        installed = installed[:1]
    return Case(
        draw(st.sampled_from([900, 1800, 3600, 86400])),
        draw(st.sampled_from(CHANGES)),
        [(moment, place % 2 == 0) for place, moment in enumerate(moments)],
        installed,
        draw(st.lists(st.integers(0, 60), max_size=12, unique=True)),
        draw(spans),
        (begin, max(end, begin + 1)),
        draw(minutes),
    )


def grid(case: Case, origin: datetime) -> list[tuple[datetime, datetime]]:
    """Every interval of three weeks around the change, on the meter's own grid."""
    if case.period_s < 86400:
        step = timedelta(seconds=case.period_s)
        return [(origin + n * step, origin + (n + 1) * step) for n in range(21 * 86400 // case.period_s)]
    local = origin.astimezone(BERLIN).replace(tzinfo=None)
    midnight = local.replace(hour=0, minute=0, second=0)
    days = [(midnight + n * DAY).replace(tzinfo=BERLIN).astimezone(UTC) for n in range(22)]
    return list(pairwise(days))


def oracle(case: Case) -> tuple[int, int, int]:
    origin = case.change - 7 * DAY - timedelta(hours=1)
    at = lambda minute: origin + timedelta(minutes=minute)  # noqa: E731
    life = [
        (at(since), at(case.states[n + 1][0]) if n + 1 < len(case.states) else origin + 99 * DAY)
        for n, (since, on) in enumerate(case.states)
        if on
    ]
    there = [(at(a), at(b)) for a, b in case.installed] or [(origin - DAY, origin + 99 * DAY)]
    had = merged([(at(a), at(b)) for a, b in case.covered])
    slots = grid(case, origin)
    rows = {slots[n][0] for n in case.rows if n < len(slots)}
    expected = present = lost = 0
    for begin, end in slots:
        inside = at(case.window[0]) <= begin and end <= min(at(case.window[1]), at(case.now))
        if not inside or not within(begin, end, life) or not within(begin, end, there):
            continue
        expected += 1
        present += begin in rows
        lost += begin not in rows and within(begin, end, had)
    return expected, present, lost


def merged(ranges: list[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    found: list[tuple[datetime, datetime]] = []
    for begin, end in sorted(ranges):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((begin, end))
    return found


def within(begin: datetime, end: datetime, ranges: list[tuple[datetime, datetime]]) -> bool:
    return any(since <= begin and end <= until for since, until in merged(ranges))


def stored(connection: Any, case: Case) -> tuple[int, int, int]:
    origin = case.change - 7 * DAY - timedelta(hours=1)
    at = lambda minute: origin + timedelta(minutes=minute)  # noqa: E731
    connection.execute(
        "TRUNCATE meters, meter_states, installations, metering_points, coverage, changes, presence,"
        " model_curves, gaps CASCADE"
    )
    connection.execute(
        "INSERT INTO model_curves VALUES ('m', 1, %s, 'stored', 'Europe/Berlin', 0)", (case.period_s,)
    )
    (meter,) = connection.execute(
        "INSERT INTO meters (asset_id, model) VALUES ('M', 'm') RETURNING meter_id"
    ).fetchone()
    for since, on in case.states:
        connection.execute(
            "INSERT INTO meter_states VALUES (%s, %s, %s)",
            (meter, "commissioned" if on else "suspended", at(since)),
        )
    for place, (since, until) in enumerate(case.installed):
        connection.execute(
            "WITH p AS (INSERT INTO metering_points (code) VALUES (%s) RETURNING point_id)"
            " INSERT INTO installations (point_id, meter_id, during) SELECT point_id, %s, tstzrange(%s, %s)"
            " FROM p",
            (f"P{place}", meter, at(since), at(until)),
        )
    slots = grid(case, origin)
    for n in case.rows:
        if n < len(slots):
            # rows tell starts and nominal periods: on days of 23 and 25 hours an end of its own
            begin = slots[n][0]
            connection.execute(
                "INSERT INTO changes (meter_id, profile, during, kind, batch_id)"
                " VALUES (%s, 1, tstzrange(%s, %s), 'new', 1)",
                (meter, begin, begin + timedelta(seconds=case.period_s)),
            )
    for since, until in case.covered:
        connection.execute(
            "INSERT INTO coverage VALUES (%s, 1, tstzmultirange(tstzrange(%s, %s)))"
            " ON CONFLICT (meter_id, profile) DO UPDATE SET covered = coverage.covered + excluded.covered",
            (meter, at(since), at(until)),
        )
    row = connection.execute(
        "SELECT expected, present, lost, expected - present - lost - open"
        " FROM completeness_of(%s, %s, %s, NULL)",
        (at(case.window[0]), at(case.window[1]), at(case.now)),
    ).fetchone()
    if row is None:
        return 0, 0, 0
    assert row[3] == 0
    return row[:3]


@pytest.fixture(scope="module")
def connection(_embedded_server: Any) -> Any:
    for database in _embedded_server.fresh():
        with psycopg.connect(database.dsn, autocommit=True, options="-c timezone=UTC") as opened:
            yield opened


WHOLE = {"states": [(0, True)], "installed": [], "rows": [], "covered": [], "now": 14 * 1440}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# the days of the change: from local midnight to local midnight
@example(Case(900, CHANGES[0], window=(6 * 1440, 6 * 1440 + 23 * 60), **WHOLE))
@example(Case(900, CHANGES[1], window=(6 * 1440 - 60, 7 * 1440), **WHOLE))
@example(Case(86400, CHANGES[0], window=(0, 14 * 1440), **(WHOLE | {"rows": [5, 6, 7]})))
@example(Case(86400, CHANGES[1], window=(0, 14 * 1440), **(WHOLE | {"rows": [5, 6, 8]})))
@given(cases())
def test_the_database_counts_as_the_oracle_does(connection: Any, case: Case) -> None:
    assert stored(connection, case) == oracle(case)


@pytest.mark.parametrize(("day", "quarters"), [(28, 96), (29, 92), (30, 96)])
def test_a_local_day_has_as_many_quarters_as_it_has(connection: Any, day: int, quarters: int) -> None:
    since, until = (datetime(2026, 3, one, tzinfo=BERLIN).astimezone(UTC) for one in (day, day + 1))
    row = connection.execute("SELECT intervals_within(%s, %s, 900, 'UTC')", (since, until)).fetchone()
    assert row == (quarters,)


async def test_rows_are_seen_at_once_and_stay_seen_when_they_are_folded(fleet: Fleet) -> None:
    await fleet.add("A", "B")
    await fleet.store("A", T0, T0 + DAY)
    await fleet.cover("B", T0, T0 + 6 * QUARTER)
    for _ in range(2):
        found = await fleet.total(T0, T0 + DAY)
        assert (found.meters, found.incomplete, found.expected, found.present) == (2, 1, 192, 96)
        assert (found.lost, found.open) == (6, 90)
        await fleet.round()
    await fleet.store("B", T0 + 12 * QUARTER, T0 + DAY)
    assert (await fleet.total(T0, T0 + DAY)).open == 6
    assert await fleet.sql("SELECT count(*) FROM presence") == [(1,)]


async def test_what_is_folded_is_what_the_table_holds(fleet: Fleet) -> None:
    """A read over a part that is there, pushes without coverage, a hole: presence is what is stored."""
    await fleet.add("A")
    for since, until, covered in (
        (4, 9, True),
        (0, 12, True),
        (20, 22, False),
        (21, 30, False),
        (25, 26, True),
    ):
        await fleet.store("A", T0 + since * QUARTER, T0 + until * QUARTER, covered=covered)
    await fleet.round()
    rows = await fleet.sql(
        "SELECT range_agg(tstzrange(start, start + make_interval(secs => period_s))) FROM interval_reads"
    )
    assert await fleet.sql("SELECT present FROM presence") == rows


async def test_a_fold_in_small_steps_ends_where_one_step_does(fleet: Fleet) -> None:
    from headend.store import completeness

    await fleet.add("A")
    for n in range(8):
        await fleet.store("A", T0 + 2 * n * QUARTER, T0 + (2 * n + 1) * QUARTER)
    ((last,),) = await fleet.sql("SELECT pg_current_xact_id()")
    older = f"SELECT pg_snapshot_xmin(pg_current_snapshot()) < '{last}'::xid8"
    async with asyncio.timeout(60):  # what is younger than a transaction of whoever shares the server waits
        while await fleet.sql(older) != [(False,)]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    steps = 0
    async with fleet.pool.connection() as connection:
        while not await completeness.fold(connection, limit=3):
            steps += 1
    assert steps == 2
    assert await fleet.sql("SELECT intervals_within(present, 900, 'UTC') FROM presence") == [(8,)]


async def test_a_database_that_was_restored_elsewhere_is_folded_anew(fleet: Fleet) -> None:
    await fleet.add("A")
    await fleet.store("A", T0, T0 + DAY)
    await fleet.sql("UPDATE presence_mark SET below = '999999999999'")
    await fleet.round()
    assert (await fleet.total(T0, T0 + DAY)).present == 96
