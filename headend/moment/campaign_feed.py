"""Campaigns followed as they go on.

Nobody tells of each of their steps, for a campaign lasts days: one that is followed is looked at every
second or two, once for all who follow it. Meters are told of campaigns with at most `SMALL` meters; for
larger ones there are pages.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from headend.moment.feed import SMALL
from headend.moment.following import Feed, Following
from headend.moment.watch import Connect, Waiter
from headend.store import campaign_views, campaigns
from headend.store.campaign_views import Named
from headend.store.campaigns import Campaign
from headend.store.errors import UnknownError
from headend.store.sql import Connection
from schemas.campaign import FINAL, CampaignState, MeterProgress

#: Longest wait between two looks, in seconds; each is drawn from half of it on.
_LOOK_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class CampaignProgress:
    """A campaign, and how many of its meters are in which state, by wave."""

    campaign: Campaign
    waves: Mapping[int, Mapping[MeterProgress, int]]

    @property
    def totals(self) -> dict[MeterProgress, int]:
        """Of all waves together."""
        return {
            state: found
            for state in MeterProgress
            if (found := sum(counts.get(state, 0) for counts in self.waves.values()))
        }

    @property
    def total(self) -> int:
        """Meters in all."""
        return sum(self.totals.values())

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        if self.campaign.state not in FINAL:
            return False
        return self.campaign.state is CampaignState.REFUSED or not self.totals.get(MeterProgress.OPEN)


async def look(connection: Connection, campaign_id: int) -> CampaignProgress:
    """The campaign as it is now. Raises UnknownError."""
    campaign = await campaigns.find(connection, campaign_id)
    return CampaignProgress(campaign, (await campaigns.counts(connection, [campaign_id]))[campaign_id])


class CampaignFeeds(Following[CampaignProgress, Named]):
    """All campaigns that somebody follows in this process."""

    noun = "campaign"

    def __init__(self, connect: Connect, *, look_s: float = _LOOK_S) -> None:
        super().__init__()
        self._connect = connect
        self._look_s = look_s

    @contextmanager
    def _waiting(self, number: int) -> Iterator[Waiter]:
        yield Waiter(self._look_s)

    async def _look(self, number: int, feed: Feed[CampaignProgress, Named]) -> None:
        fresh: list[Named] = []
        async with self._connect() as connection:
            try:
                found = await look(connection, number)
            except UnknownError:
                feed.is_over = True
                return
            if found.total <= SMALL:
                fresh = await campaign_views.ended(connection, number, limit=SMALL, known=feed.known)
        feed.results += fresh
        feed.known.update(one.meter.meter_id for one in fresh)
        if feed.progress != found:
            feed.progress = found
            feed.number += 1
        feed.is_over = found.is_over
