"""What reads on demand need of a process: who is told of jobs, who follows them, who signs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Self

from headend.keys.seal import Sealer
from headend.moment.campaign_feed import CampaignFeeds
from headend.moment.delivery import PATIENCE, Deliveries, Patience
from headend.moment.feed import Feeds
from headend.moment.secrets import WebhookSecrets
from headend.moment.watch import CHANNEL, Watch
from headend.store.notices import listening
from headend.store.pool import Pool
from schemas.config import Settings


@dataclass(frozen=True, slots=True)
class Moment:
    """``watch.run()`` is a task of the process; ``feeds`` and ``campaigns`` are closed
    first when it ends."""

    watch: Watch
    feeds: Feeds
    campaigns: CampaignFeeds
    secrets: WebhookSecrets
    webhook_hosts: tuple[str, ...] = ()
    webhook_url: str | None = None

    @classmethod
    def of(cls, pool: Pool, settings: Settings, sealer: Sealer | None, clock: Callable[[], datetime]) -> Self:
        """As the settings say."""
        watch = Watch(pool.connection, partial(listening, pool, [CHANNEL]))
        return cls(
            watch=watch,
            feeds=Feeds(pool.connection, watch, clock),
            campaigns=CampaignFeeds(pool.connection),
            secrets=WebhookSecrets(sealer, settings.webhook_secret),
            webhook_hosts=settings.webhook_hosts,
            webhook_url=None if settings.webhook_url is None else settings.webhook_url.get_secret_value(),
        )


def deliveries(
    pool: Pool,
    settings: Settings,
    sealer: Sealer | None,
    clock: Callable[[], datetime],
    patience: Patience = PATIENCE,
) -> Deliveries:
    """What tells ends of jobs, as the settings say."""
    secrets = WebhookSecrets(sealer, settings.webhook_secret)
    return Deliveries(pool.connection, secrets, hosts=settings.webhook_hosts, clock=clock, patience=patience)
