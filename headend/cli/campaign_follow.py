"""A campaign followed on the terminal until it ends: a bar for each wave, meters as they end.

Where no process reads meters, the campaign is taken on and its lanes are worked at here, by the same code.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

from rich.progress import Progress as Bar
from rich.progress import TaskID

from headend.cli.campaign_view import state_of, wave_name
from headend.cli.follow import bar, is_served, worked_at
from headend.cli.terminal import err
from headend.clock import utc_now
from headend.foundation import Base
from headend.jobs.janitor import tidy
from headend.links.permits import Urgency
from headend.moment.campaign_feed import CampaignFeeds, CampaignProgress
from headend.processes.tasks import cancelled
from headend.programs import waves
from headend.store import campaign_views
from headend.store.campaign_views import Named
from headend.store.pool import Pool
from schemas.campaign import CampaignState, MeterProgress

#: How often a campaign that is worked at here is taken on, in seconds.
_ADVANCE_S: Final = 0.5
_LOOK_S: Final = 0.6
_OPEN: Final = (MeterProgress.WAITING, MeterProgress.OPEN)
OnMeter = Callable[[Named], None]


async def follow(
    opened: Base, campaign_id: int, on_meter: OnMeter, *, quiet: bool = False
) -> CampaignProgress | None:
    """Show the campaign until it ends or is stopped, and what it came to; None where there is none. Ctrl-C
    leaves it as it is: it goes on where a service runs, and with the next `headend campaign follow`."""
    async with AsyncExitStack() as stack:
        if not await is_served(opened.pool):
            await stack.enter_async_context(_taken_on(opened, campaign_id))
        try:
            return await _show(opened.pool, campaign_id, on_meter, quiet=quiet)
        except asyncio.CancelledError:
            err.print(f"campaign {campaign_id} stays: headend campaign follow {campaign_id}")
            raise


@asynccontextmanager
async def _taken_on(opened: Base, campaign_id: int) -> AsyncIterator[None]:
    due = partial(campaign_views.due_lanes, campaign_id=campaign_id)
    async with worked_at(opened, due, urgency=Urgency.PROGRAM):
        task = asyncio.create_task(_advance(opened.pool, campaign_id), name=f"campaign {campaign_id}")
        try:
            yield
        finally:
            await cancelled(task)


async def _advance(pool: Pool, campaign_id: int) -> None:
    while True:
        async with pool.connection() as connection:
            await waves.advance(connection, campaign_id, utc_now())
        await tidy(pool.connection)
        await asyncio.sleep(_ADVANCE_S)


async def _show(pool: Pool, campaign_id: int, on_meter: OnMeter, *, quiet: bool) -> CampaignProgress | None:
    last: CampaignProgress | None = None
    tasks: dict[int, TaskID] = {}
    feeds = CampaignFeeds(pool.connection, look_s=_LOOK_S)
    with bar(quiet=quiet) as shown:
        async with contextlib.aclosing(feeds.follow(campaign_id)) as news:
            async for one in news:
                if isinstance(one, Named):
                    on_meter(one)
                    continue
                last = one
                _draw(shown, tasks, one)
                if one.campaign.state is CampaignState.STOPPED:
                    break
    return last


def _draw(shown: Bar, tasks: dict[int, TaskID], found: CampaignProgress) -> None:
    for wave, counts in sorted(found.waves.items()):
        total = sum(counts.values())
        ended = total - sum(counts.get(state, 0) for state in _OPEN)
        if wave not in tasks:
            tasks[wave] = shown.add_task(wave_name(wave), total=total, told="")
        told = [f"{state} {counts[state]:,}" for state in MeterProgress if counts.get(state)]
        is_newest = wave == (found.campaign.wave if found.campaign.wave is not None else min(found.waves))
        if is_newest and found.campaign.state is not CampaignState.RUNNING:
            told.append(state_of(found.campaign))
        shown.update(tasks[wave], completed=ended, told="  ".join(told))
