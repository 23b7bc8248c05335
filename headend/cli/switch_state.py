"""Where breakers stand: read now by whoever works at their meters' lanes, and told."""

from contextlib import AsyncExitStack
from datetime import UTC, timedelta
from functools import partial
from typing import Any, Final
from uuid import uuid4

from rich.table import Table

from headend.cli.acting import acting
from headend.cli.follow import follow, is_served, worked_at
from headend.cli.terminal import out
from headend.clock import utc_now
from headend.foundation import Base
from headend.moment.reads import Ask, begin
from headend.store import results, switching
from headend.store.results import Result
from schemas.job import Breaker, RequestState, Retry
from schemas.meter import Meter

_WITHIN: Final = timedelta(minutes=10)


async def read_breakers(opened: Base, known: dict[str, Meter]) -> dict[str, str]:
    """Have them read by whoever works at their lanes, here where no service runs; why not, of those that were
    not."""
    failed = {name: "it has no address: it only pushes" for name, one in known.items() if one.address is None}
    numbers = tuple(one.meter_id for name, one in known.items() if name not in failed)
    if not numbers:
        return failed
    async with opened.pool.connection() as connection:
        about = f"meter:{next(iter(known))}"
        who = await acting(connection, opened, "breaker.read", about, on=numbers)
        before = {number: await switching.state(connection, number) for number in numbers}
    ask = Ask(
        numbers, (Breaker(),), f"breakers of {len(numbers)} meters", f"meter:{next(iter(known))}", who.actor,
        uuid4().hex, _WITHIN, retry=Retry(attempts=1),
    )  # fmt: skip
    async with opened.pool.connection() as connection:
        begun = await begin(connection, ask, now=utc_now())
    ended: list[Result] = []
    async with AsyncExitStack() as stack:
        if not await is_served(opened.pool):
            await stack.enter_async_context(
                worked_at(opened, partial(results.due_lanes, job_id=begun.job_id))
            )
        await follow(opened, begun.job_id, ended.append, quiet=True, may_leave=False)
    for one in ended:
        if one.state is not RequestState.DONE:
            failed[one.meter] = f"{one.state}: {one.reason or 'its turn did not come'}"
    async with opened.pool.connection() as connection:
        for name, meter in known.items():
            if name not in failed:
                found = await switching.state(connection, meter.meter_id)
                if found == before[meter.meter_id]:
                    failed[name] = f"meters of model {meter.model} have no breaker that this head-end knows"
    return failed


def tell_state(one: dict[str, Any]) -> None:
    """One meter for people: where its breaker stood when, and what was switched."""
    found = one["state"]
    if found is None:
        out.print(f"{one['meter']}: its breaker was never read")
    else:
        where = "connected" if found["output"] else "not connected"
        mode = "" if found["mode"] is None else f", mode {found['mode']}"
        out.print(
            f"{one['meter']}: {where} (control: {found['control']}{mode}), read {found['read_at']:%F %T}Z"
        )
    if one["critical"]:
        out.print(f"  critical customer: {one['critical']}", markup=False)
    if not one["history"]:
        return
    table = Table("sent", "what", "reason", "by", "approved by", "campaign", "came to")
    for row in one["history"]:
        table.add_row(
            f"{row['sent_at'].astimezone(UTC):%F %T}Z",
            row["action"],
            row["reason"] + (f": {row['note']}" if row["note"] else ""),
            row["actor"],
            row["approved_by"] or "",
            str(row["campaign_id"]),
            " ".join(part for part in (row["state"], row["failure"]) if part),
        )
    out.print(table)
