"""Completeness: what each meter's curves should hold, what of it is there, and who is missing.

Times are aware, ranges half-open. An interval counts as expected once it has ended (and its curve's grace has
passed), while its meter was commissioned and, where its installations are known, installed. It is *present*
where a row is stored, *lost* where the source was asked and has no row, and *open* otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from headend.store import areas, sql
from headend.store.areas import Within
from headend.store.sql import Connection
from schemas.reading import INTERVAL_QUANTITIES

_QUERIES: Final = sql.load("completeness")
#: Changes that one step of `fold` takes, so that each stays far below any deadline of a statement.
FOLDED_AT_ONCE: Final = 200_000


class By(StrEnum):
    """What meters are grouped by."""

    NETWORK = "network"  # one group of all
    FEEDER = "feeder"
    CONCENTRATOR = "concentrator"
    MODEL = "model"
    PROFILE = "profile"
    CAUSE = "cause"


@dataclass(frozen=True, slots=True)
class ModelCurve:
    """A curve that meters of ``model`` deliver: ``recall`` is stored, sampled or pushed; an interval is
    expected ``grace_s`` seconds after its end; ``entries`` rows fit the meter's memory, None: not known."""

    model: str
    profile: int
    period_s: int
    recall: str
    zone: str = "UTC"
    grace_s: int = 0
    entries: int | None = None


class Group(NamedTuple):
    """Meters of one name (None: those without), and their intervals; ``incomplete`` of the meters lack some.
    expected = present + lost + open."""

    name: str | None
    meters: int
    incomplete: int
    expected: int
    present: int
    lost: int
    open: int

    @property
    def ratio(self) -> float:
        """What part of the expected intervals is there; 1 where nothing is expected."""
        return self.present / self.expected if self.expected else 1.0


NOTHING: Final = Group(None, 0, 0, 0, 0, 0, 0)


class Missing(NamedTuple):
    """A curve that lacks intervals. ``cause`` is a stage of `schemas.failure`, or why nobody asked;
    ``first_open`` begins the first interval that may still come, None: what is missing is lost."""

    asset_id: str
    profile: int
    model: str
    feeder: str | None
    station: str | None
    cause: str
    expected: int
    present: int
    lost: int
    open: int
    first_open: datetime | None


class Channel(NamedTuple):
    """Of the rows that are stored: ``rows`` have a place for this quantity, ``values`` of them a value."""

    quantity: str
    rows: int
    values: int


@dataclass(frozen=True, slots=True)
class MissingFilter:
    """Which missing meters a page shows; None: all."""

    cause: str | None = None
    station: str | None = None
    feeder: str | None = None
    model: str | None = None


async def models(connection: Connection) -> list[str]:
    """Models of all meters that were ever commissioned."""
    cursor = await connection.execute(_QUERIES["models"])
    return [model for (model,) in await cursor.fetchall()]


async def keep_contract(
    connection: Connection, curves: Sequence[ModelCurve], *, unreadable: Sequence[str] = ()
) -> None:
    """Store what meters are expected to deliver; what is not among ``curves`` is expected no longer, but of
    models that cannot be read now it stays as it was."""
    await connection.execute(
        _QUERIES["contract"],
        {
            "unreadable": list(unreadable),
            "models": [one.model for one in curves],
            "profiles": [one.profile for one in curves],
            "periods": [one.period_s for one in curves],
            "recalls": [one.recall for one in curves],
            "zones": [one.zone for one in curves],
            "graces": [one.grace_s for one in curves],
            "entries": [one.entries for one in curves],
        },
    )


async def fold(connection: Connection, *, limit: int = FOLDED_AT_ONCE) -> bool:
    """Fold the next ``limit`` changes, or a few more, into what is present; whether that was all. Readers see
    the same before and after it: it keeps them fast."""
    async with connection.transaction():
        row = await (await connection.execute(_QUERIES["mark"])).fetchone()
        if row is None:
            return True
        mark, xmin = (str(one) for one in row)
        stop = await (
            await connection.execute(_QUERIES["fold_until"], {"mark": mark, "xmin": xmin, "limit": limit})
        ).fetchone()
        until = xmin if stop is None else str(stop[0])
        await connection.execute(_QUERIES["fold"], {"mark": mark, "until": until})
        await connection.execute(_QUERIES["folded"], {"until": until})
    return stop is None


async def count(
    connection: Connection,
    since: datetime,
    until: datetime,
    *,
    now: datetime,
    meter_ids: Sequence[int] | None = None,
) -> None:
    """Count the intervals in [since, until), aware, of all meters or of these. `groups`, `missing` and `work`
    then tell of them until the transaction ends or another count begins: over a county counting is what
    takes long."""
    await connection.execute(_QUERIES["forget"])
    await connection.execute(_QUERIES["make"])
    await connection.execute(
        _QUERIES["count"],
        {
            "since": sql.aware(since),
            "until": sql.aware(until),
            "now": sql.aware(now),
            "meters": None if meter_ids is None else list(meter_ids),
        },
    )
    await connection.execute(_QUERIES["analyze"])


async def groups(
    connection: Connection, by: By = By.NETWORK, *, limit: int = 1000, skip: int = 0
) -> tuple[Group, list[Group]]:
    """What was counted: all together, and by groups, the least complete first, ``limit`` of them behind
    ``skip``. By cause, a curve counts where its missing intervals do; None: it lacks none."""
    cursor = await connection.execute(_QUERIES["groups"], {"by": by.value, "limit": limit, "skip": skip})
    whole, found = NOTHING, []
    for place, *row in await cursor.fetchall():
        if place == 0:
            whole = Group(*row)
        else:
            found.append(Group(*row))
    return whole, found


async def missing(
    connection: Connection,
    *,
    limit: int,
    only: MissingFilter | None = None,
    after: tuple[str, int] | None = None,
) -> list[Missing]:
    """At most ``limit`` of the counted curves that lack intervals, behind ``after``: asset id, profile."""
    only = only or MissingFilter()
    cursor = await connection.execute(
        _QUERIES["missing"],
        {
            "cause": only.cause,
            "station": only.station,
            "feeder": only.feeder,
            "model": only.model,
            "after": None if after is None else after[0],
            "after_profile": None if after is None else after[1],
            "limit": limit,
        },
    )
    return [_missing(row) for row in await cursor.fetchall()]


def _missing(row: Sequence[Any]) -> Missing:
    found = Missing(*row)
    moment = found.first_open
    return found if moment is None else found._replace(first_open=moment.astimezone(UTC))


async def channels(
    connection: Connection, since: datetime, until: datetime, *, within: Within | None = None
) -> list[Channel]:
    """Rows and values by quantity, of the rows that begin in [since, until). Reads those rows."""
    told = areas.told(within) | {"since": sql.aware(since), "until": sql.aware(until)}
    cursor = await connection.execute(_QUERIES["channels"], told)
    return [
        Channel(INTERVAL_QUANTITIES[place], rows, values) for place, rows, values in await cursor.fetchall()
    ]


class Ahead(NamedTuple):
    """Open requests of one lane whose next attempt is number ``attempt`` of ``attempts`` allowed, and the
    intervals that lack at their meters."""

    lane: str
    attempt: int
    attempts: int
    requests: int
    intervals: int


class LanePace(NamedTuple):
    """Requests of a lane that were settled in the last ``seconds`` in which it had work."""

    lane: str
    settled: int
    seconds: float


class Successes(NamedTuple):
    """Attempts of this number that were made, and those that gave all that was asked."""

    attempt: int
    made: int
    good: int


@dataclass(frozen=True, slots=True)
class Work:
    """What a forecast is made of: `headend.completeness.forecast`."""

    deadline: datetime
    ahead: tuple[Ahead, ...]
    pace: tuple[LanePace, ...]
    successes: tuple[Successes, ...]


async def work(
    connection: Connection,
    *,
    now: datetime,
    pace_since: datetime,
    successes_since: datetime,
    within: Within | None = None,
) -> Work | None:
    """What is under way for the counted intervals, how fast work went on since ``pace_since``, and what came
    of attempts since ``successes_since``; None where no run of a schedule is under way. ``within``: for his
    meters; pace and attempts are those of all."""
    cut = areas.told(within)
    row = await (await connection.execute(_QUERIES["deadline"], cut | {"now": sql.aware(now)})).fetchone()
    if row is None or row[0] is None:
        return None
    ahead = await (await connection.execute(_QUERIES["ahead"], cut)).fetchall()
    pace = await (
        await connection.execute(_QUERIES["pace"], {"since": sql.aware(pace_since), "now": now})
    ).fetchall()
    good = await (
        await connection.execute(_QUERIES["successes"], {"since": sql.aware(successes_since)})
    ).fetchall()
    return Work(
        row[0].astimezone(UTC),
        tuple(Ahead(*one) for one in ahead),
        tuple(LanePace(*one) for one in pace),
        tuple(Successes(*one) for one in good),
    )


async def alone(connection: Connection) -> bool:
    """Whether nobody else keeps the ledger while this transaction lasts: rounds may run on any host."""
    row = await (await connection.execute(_QUERIES["alone"])).fetchone()
    return row is not None and bool(row[0])
