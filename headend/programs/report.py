"""What came of a campaign, meter by meter, as CSV."""

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final

from headend.session.access import Connect
from headend.store import campaign_views
from headend.store.campaign_views import Named

COLUMNS: Final = ("asset_id", "wave", "state", "stage", "reason", "began_at", "ended_at", "proof")
#: Meters that are fetched at once; no connection is held between two of them.
_AT_ONCE: Final = 1_000
#: What spreadsheets take for the beginning of a formula, or strip before one.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


async def report(connect: Connect, campaign_id: int) -> AsyncIterator[str]:
    """The report in pieces, its heading first, in order of names. Raises UnavailableError."""
    yield _lines([COLUMNS])
    after: str | None = None
    while True:
        async with connect() as connection:
            found = await campaign_views.named(connection, campaign_id, limit=_AT_ONCE, after=after)
        if not found:
            return
        yield _lines([_row(one) for one in found])
        after = found[-1].name


def _row(one: Named) -> tuple[str, ...]:
    meter = one.meter
    return (
        _safe(one.name),
        str(meter.wave),
        meter.state.value,
        "" if meter.stage is None else meter.stage.value,
        _safe(meter.reason or ""),
        _time(meter.began_at),
        _time(meter.ended_at),
        "" if meter.proof is None else _compact(meter.proof),
    )


def _safe(text: str) -> str:
    """Text that no spreadsheet takes for a formula: an apostrophe before what would be one."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _compact(plain: Any) -> str:
    return _safe(json.dumps(plain, separators=(",", ":"), ensure_ascii=False))


def _time(moment: datetime | None) -> str:
    return "" if moment is None else moment.isoformat().replace("+00:00", "Z")


def _lines(rows: "list[tuple[str, ...]]") -> str:
    told = io.StringIO()
    csv.writer(told).writerows(rows)
    return told.getvalue()
