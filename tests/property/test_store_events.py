"""Events told in any order, in any pieces, any number of times: the database holds each once."""

import asyncio
from typing import Any

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headend.store.events import identity, without_repeats
from headend.store.pool import open_pool
from headend.store.writer import write
from schemas.event import EventLog, EventMeaning, MeterEvent
from schemas.reading import registers_only

US = 1_772_323_200_000_000
SECOND = 1_000_000

timed = st.builds(
    MeterEvent,
    meter_id=st.sampled_from([1, 2]),
    log=st.sampled_from([EventLog.STANDARD, EventLog.FRAUD]),
    meaning=st.sampled_from([EventMeaning.POWER_DOWN, EventMeaning.OTHER]),
    code=st.sampled_from([None, 0, 1]),
    occurred_us=st.sampled_from([US, US + 1, US + SECOND]),
    received_us=st.sampled_from([US + 10 * SECOND, US + 3600 * SECOND]),
    source=st.sampled_from(["a", "b"]),
    duration_s=st.sampled_from([None, 0, 1]),
    text=st.sampled_from([None, "", "L1"]),
    node=st.sampled_from([None, "DC"]),
)


def key(event: MeterEvent) -> tuple[object, ...]:
    """What makes it one event, said anew."""
    what = event.meaning if event.code is None else event.code
    return (
        event.meter_id, event.node, event.log, type(what), what, event.duration_s, event.text,
        event.occurred_us,
    )  # fmt: skip


@given(st.lists(timed, max_size=30))
def test_identities_tell_apart_what_differs_and_nothing_else(told: list[MeterEvent]) -> None:
    assert len({(identity(e), e.occurred_us) for e in told}) == len({key(e) for e in told})
    assert len(without_repeats(told)) == len({key(e) for e in told})


@st.composite
def tellings(draw: Any) -> list[list[MeterEvent]]:
    """Batches in which every event of a set comes at least once."""
    told = draw(st.lists(timed, min_size=1, max_size=12))
    more = draw(st.lists(st.sampled_from(told), max_size=12))
    order = draw(st.permutations([*told, *more]))
    cuts = sorted(draw(st.lists(st.integers(0, len(order)), max_size=4)))
    return [order[a:b] for a, b in zip([0, *cuts], [*cuts, len(order)], strict=True)]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=tellings())
def test_any_order_and_any_repetition_give_the_same_set(
    database: Any, batches: list[list[MeterEvent]]
) -> None:
    with psycopg.connect(database.dsn) as connection:
        connection.execute("TRUNCATE meters, batches, events CASCADE")
        connection.execute(
            "INSERT INTO meters (meter_id, asset_id, model) OVERRIDING SYSTEM VALUE"
            " VALUES (1, 'M1', 'headend-sim'), (2, 'M2', 'headend-sim')"
        )

    async def store(some: list[list[MeterEvent]]) -> int:
        new = 0
        async with open_pool(database.dsn, max_size=1) as pool:
            for told in some:
                new += (await write(pool, registers_only([], source="t", events=told))).events
        return new

    def stored() -> set[tuple[Any, ...]]:
        with psycopg.connect(database.dsn) as connection:
            rows = connection.execute(
                "SELECT meter_id, node, log, code, meaning, duration_s, text, occurred_at, at FROM events"
            ).fetchall()
        return {row if row[3] is None else (*row[:4], None, *row[5:]) for row in rows}

    expected = {key(event) for told in batches for event in told}
    assert asyncio.run(store(batches)) == len(expected)
    found = stored()
    assert len(found) == len(expected)
    assert asyncio.run(store([*reversed(batches), *batches])) == 0
    assert stored() == found
