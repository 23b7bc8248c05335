"""What a meter has measured and nobody has read yet: fetched before its clock is changed, since afterwards
stamps might not tell any more what was when."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from headend.drivers.contract import Conversation, Curve, Target
from headend.jobs.ranges import wanted_ranges
from headend.programs.contract import Journal, Later, Task
from headend.session.access import Connect
from headend.store import coverage

#: What is not read of so many days is fetched; older gaps are the ledger's.
FETCHED_DAYS: Final = 7


async def fetch(
    connect: Connect,
    conversation: Conversation,
    target: Target,
    curves: Sequence[Curve],
    task: Task,
    journal: Journal,
    now: Callable[[], datetime],
    *,
    piece: timedelta = timedelta(days=FETCHED_DAYS),
) -> Later | None:
    """Read and store what is due of ``target`` up to now, at most ``piece`` at once; `Later` where the visit
    has to give way.

    Raises the tree of `protocols.errors`, and as `Task.commit`.
    """
    meter, until = target.meter, now()
    wanted = wanted_ranges(meter.model, curves, until - timedelta(days=FETCHED_DAYS), until)
    if not wanted:
        return None
    async with connect() as connection:
        due = await coverage.due(connection, wanted, [meter.meter_id])
    for one in due:
        since = one.since
        while since < one.until:
            end = min(one.until, since + piece)
            await task.commit(await conversation.read_load_curve(one.profile, since, end))
            since = end
            if journal.must_yield():
                return Later(now(), f"intervals of {meter.asset_id} are read before its clock is changed")
    return None
