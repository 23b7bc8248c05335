"""How a campaign goes on: what of it is due, what is put off, and what ends since its request did."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from headend.store import sql
from headend.store.sql import Connection
from schemas.program import ProgramKind

_QUERIES: Final = sql.load("campaign_course")
#: Channel on which campaigns tell that they may go on: a meter has ended, or a person has decided.
GOES_ON: Final = "headend_campaigns"
#: Whoever may be in the middle of a step, though his request is closed, has so long to say what came of it.
GRACE_S: Final = 120.0
#: Meters that one transaction opens, puts off or cancels: who decides waits for no county, and nobody else
#: waits long for the campaign's row. The rest follows as the campaign tells that it may go on.
MOST: Final = 10_000


class Standing(NamedTuple):
    """How many meters of a wave are where. ``good`` and ``bad`` count from when failures are counted;
    ``ended_at`` (aware UTC) is when the last of them ended."""

    wave: int
    waiting: int
    open: int
    good: int
    bad: int
    ended_at: datetime | None

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left."""
        return not (self.waiting or self.open)


async def active(connection: Connection) -> list[int]:
    """Campaigns of which something may be due."""
    return [one for (one,) in await (await connection.execute(_QUERIES["active"])).fetchall()]


async def of_kinds(connection: Connection, kinds: Sequence[ProgramKind]) -> list[int]:
    """Campaigns of these kinds that are approved, run or are paused."""
    cursor = await connection.execute(_QUERIES["of_kinds"], {"kinds": [one.value for one in kinds]})
    return [one for (one,) in await cursor.fetchall()]


async def standing(connection: Connection, campaign_id: int) -> list[Standing]:
    """By wave, in order; waves without meters are left out."""
    cursor = await connection.execute(_QUERIES["standing"], {"campaign": campaign_id})
    return [Standing(*row) for row in await cursor.fetchall()]


async def judge_anew(connection: Connection, campaign_id: int) -> None:
    """Failures are counted from now on."""
    await connection.execute(_QUERIES["judge_anew"], {"campaign": campaign_id})


async def feed(connection: Connection, campaign_id: int, *, wave: int, per_station: int | None) -> list[int]:
    """Open what waits of the waves up to ``wave``, `MOST` at once and so many meters of each station; those
    that another campaign of the same kind is at go on waiting. The numbers of the meters, in order. The
    campaign is locked by the caller."""
    told: dict[str, Any] = {
        "campaign": campaign_id, "wave": wave, "per_station": per_station, "most": MOST,
    }  # fmt: skip
    cursor = await connection.execute(_QUERIES["engaged"], told)
    told["engaged"] = [meter_id for (meter_id,) in await cursor.fetchall()]
    cursor = await connection.execute(_QUERIES["turn"], told, prepare=False)
    found = [meter_id for (meter_id,) in await cursor.fetchall()]
    if found:
        await connection.execute(_QUERIES["open"], {"campaign": campaign_id, "meters": found}, prepare=False)
    await _go_on(connection, campaign_id, len(found))
    return found


async def bereft(connection: Connection, campaign_id: int) -> list[int]:
    """Open meters that no request works at, and none has failed for."""
    cursor = await connection.execute(_QUERIES["bereft"], {"campaign": campaign_id, "grace_s": GRACE_S})
    return [meter_id for (meter_id,) in await cursor.fetchall()]


async def follow(connection: Connection, campaign_id: int) -> int:
    """End meters whose requests have ended without it; how many."""
    cursor = await connection.execute(_QUERIES["follow"], {"campaign": campaign_id, "grace_s": GRACE_S})
    return cursor.rowcount


async def let_go(connection: Connection, campaign_id: int, *, reason: str) -> int:
    """Cancel `MOST` meters at which no step is in the middle, with their requests; how many."""
    told = {"campaign": campaign_id, "reason": reason, "most": MOST}
    cursor = await connection.execute(_QUERIES["cancel_waiting"], told)
    found = [request_id for (request_id,) in await cursor.fetchall()]
    requests = [one for one in found if one is not None]
    if requests:
        await connection.execute(_QUERIES["cancel_requests"], {"requests": requests, "reason": reason})
    await _go_on(connection, campaign_id, len(found))
    return len(found)


async def put_off(connection: Connection, campaign_id: int, until: datetime, *, midway: bool) -> int:
    """No visit begins before the aware ``until``, of `MOST` meters; with ``midway`` not even where a step is
    in the middle. Of the others none begins either: who is about to looks at the campaign first."""
    cursor = await connection.execute(
        _QUERIES["put_off"],
        {"campaign": campaign_id, "until": sql.aware(until), "midway": midway, "most": MOST},
    )
    await _go_on(connection, campaign_id, cursor.rowcount)
    return cursor.rowcount


async def bring_on(connection: Connection, campaign_id: int, *, midway: bool) -> list[str]:
    """What was put off is due now, with ``midway`` only where a step is in the middle; the lanes, which the
    caller then wakes."""
    cursor = await connection.execute(_QUERIES["bring_on"], {"campaign": campaign_id, "midway": midway})
    return [lane for (lane,) in await cursor.fetchall()]


async def taken(connection: Connection, meters: Sequence[int], kind: ProgramKind) -> dict[int, int]:
    """Which of the meters have a part in another campaign of this kind that goes on: its number by theirs."""
    cursor = await connection.execute(
        _QUERIES["taken"], {"meters": list(meters), "kind": kind.value}, prepare=False
    )
    return dict(reversed(await cursor.fetchall()))


async def rival(connection: Connection, campaign_id: int) -> int | None:
    """Another campaign of the same kind that goes on at meters which this one has not ended with."""
    cursor = await connection.execute(_QUERIES["rival"], {"campaign": campaign_id})
    row = await cursor.fetchone()
    return None if row is None else row[0]


async def say(connection: Connection, campaign_id: int) -> None:
    """Tell, when the transaction is committed, that the campaign may go on."""
    await connection.execute(_QUERIES["say"], {"campaign": campaign_id})


async def _go_on(connection: Connection, campaign_id: int, number: int) -> None:
    if number >= MOST:
        await say(connection, campaign_id)
