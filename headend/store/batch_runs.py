"""Sequence numbers of concentrators' batches: which came, which are missing, which are lost for good.

A run counts from 0. A batch with a higher number than its turn opens a gap; a gap shrinks as its batches
come, or as their concentrator declares them lost, and closes when nothing is missing. A batch below its turn
that no gap misses or has lost is a repeat.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from psycopg.types.multirange import Int8Multirange
from psycopg.types.range import Int8Range

from headend.store import sql
from headend.store.sql import Connection

_QUERIES: Final = sql.load("batch_runs")


class Span(NamedTuple):
    """Sequence numbers ``first`` to ``last``, both included."""

    first: int
    last: int


class Came(NamedTuple):
    """A batch that came (``span`` of one number), or a declaration that a span is lost."""

    concentrator: str
    run: str
    span: Span
    topic: str
    is_lost: bool = False


class Due(NamedTuple):
    """Spans to be asked for again; ``topic`` is where the concentrator's batches come from."""

    concentrator: str
    run: str
    missing: tuple[Span, ...]
    topic: str
    requests: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A gap as people see it. ``next_request_at`` is None where it is closed or given up."""

    gap_id: int
    concentrator: str
    run: str
    gap: Span
    missing: tuple[Span, ...]
    lost: tuple[Span, ...]
    noticed_at: datetime
    requests: int
    next_request_at: datetime | None
    closed_at: datetime | None


@dataclass(slots=True)
class _Gap:
    gap_id: int | None
    span: Span
    missing: list[Span]
    lost: list[Span]
    changed: bool = False


@dataclass(slots=True)
class _Run:
    next: int
    stored: int
    gaps: list[_Gap] = field(default_factory=list)


async def note(connection: Connection, slot: str, came: Sequence[Came]) -> list[bool]:
    """Count what came, in order; for each whether it is news: a batch that was not there, a loss not known.

    The runs are locked until the transaction ends.
    """
    runs = await _lock(connection, slot, came)
    news = [_count(runs[one.concentrator, one.run], one) for one in came]
    moved = {key: state for key, state in runs.items() if state.next != state.stored}
    if moved:
        await connection.execute(
            _QUERIES["advance"],
            {
                "concentrators": [concentrator for concentrator, _ in moved],
                "runs": [run for _, run in moved],
                "nexts": [state.next for state in moved.values()],
            },
        )
    for (concentrator, run), state in runs.items():
        await _save_gaps(connection, concentrator, run, state)
    return news


async def due(
    connection: Connection, slot: str, *, first_s: float, longest_s: float, attempts: int
) -> list[Due]:
    """Gaps of the slot's concentrators to be asked for now; each counts as asked for once more.

    Pauses begin at ``first_s`` and double up to ``longest_s``; after ``attempts`` requests a gap is given up:
    it stays open and is filled by what comes, but nobody asks any more.
    """
    cursor = await connection.execute(
        _QUERIES["due"], {"slot": slot, "first_s": first_s, "longest_s": longest_s, "attempts": attempts}
    )
    return [
        Due(concentrator, run, _spans(missing), topic, requests)
        for concentrator, run, missing, topic, requests in await cursor.fetchall()
    ]


async def gaps(connection: Connection, *, limit: int, closed: bool = False) -> list[Gap]:
    """At most ``limit`` gaps, newest first; with ``closed`` those that are closed too, behind the others."""
    cursor = await connection.execute(_QUERIES["gaps"], {"limit": limit, "all": closed})
    return [
        Gap(number, concentrator, run, _span(gap), _spans(missing), _spans(lost), *rest)
        for number, concentrator, run, gap, missing, lost, *rest in await cursor.fetchall()
    ]


async def _lock(connection: Connection, slot: str, came: Sequence[Came]) -> dict[tuple[str, str], _Run]:
    topics = {(one.concentrator, one.run): one.topic for one in came}
    keys: dict[str, Any] = {
        "concentrators": [concentrator for concentrator, _ in topics],
        "runs": [run for _, run in topics],
    }
    cursor = await connection.execute(
        _QUERIES["lock"], {**keys, "topics": list(topics.values()), "slots": [slot] * len(topics)}
    )
    runs = {(concentrator, run): _Run(next_, next_) for concentrator, run, next_ in await cursor.fetchall()}
    within = Span(min(one.span.first for one in came), max(one.span.last for one in came))
    cursor = await connection.execute(_QUERIES["open_gaps"], {**keys, "came": _range(within)})
    for gap_id, concentrator, run, gap, missing, lost in await cursor.fetchall():
        runs[concentrator, run].gaps.append(
            _Gap(gap_id, _span(gap), list(_spans(missing)), list(_spans(lost)))
        )
    return runs


def _count(run: _Run, came: Came) -> bool:
    """Count one batch or loss in; whether it is news."""
    first, last = came.span
    if last >= run.next:
        # what lies between the turn and this did not come; of a loss, that and itself is settled at once
        until = last if came.is_lost else last - 1
        if until >= run.next:
            gap = Span(run.next, until)
            run.gaps.append(_Gap(None, gap, [gap], [], changed=True))
        run.next = last + 1
        if not came.is_lost:
            return True
    is_news = False
    for gap_ in run.gaps:
        taken = [
            Span(max(one.first, first), min(one.last, last))
            for one in gap_.missing
            if one.first <= last and first <= one.last
        ]
        if taken:
            is_news = gap_.changed = True
            gap_.missing = _without(gap_.missing, came.span)
            if came.is_lost:
                gap_.lost += taken
        if not came.is_lost and any(one.first <= first <= one.last for one in gap_.lost):
            is_news = gap_.changed = True  # it was not lost after all
            gap_.lost = _without(gap_.lost, came.span)
    return is_news


def _without(spans: Sequence[Span], taken: Span) -> list[Span]:
    left: list[Span] = []
    for first, last in spans:
        if last < taken.first or taken.last < first:
            left.append(Span(first, last))
            continue
        if first < taken.first:
            left.append(Span(first, taken.first - 1))
        if taken.last < last:
            left.append(Span(taken.last + 1, last))
    return left


async def _save_gaps(connection: Connection, concentrator: str, run: str, state: _Run) -> None:
    key = {"concentrator": concentrator, "run": run}
    for gap in state.gaps:
        if gap.changed:
            found = {"missing": _multirange(gap.missing), "lost": _multirange(gap.lost)}
            if gap.gap_id is None:
                await connection.execute(_QUERIES["add_gap"], {**key, **found, "gap": _range(gap.span)})
            else:
                await connection.execute(_QUERIES["shrink_gap"], {**found, "gap": gap.gap_id})


def _range(span: Span) -> Int8Range:
    return Int8Range(span.first, span.last + 1)


def _multirange(spans: Sequence[Span]) -> Int8Multirange:
    return Int8Multirange([_range(span) for span in spans])


def _span(found: Any) -> Span:
    return Span(found.lower, found.upper - 1)


def _spans(found: Any) -> tuple[Span, ...]:
    return tuple(_span(one) for one in found)
