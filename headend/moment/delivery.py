"""The end of a job is told to whoever asked for that, until it is taken or given up.

::

    job ends ─> queued in that transaction ─> an attempt begins (committed) ─> POST, signed ─> noted
                        └─────────── later, by chance below a growing bound ─────┘

Told at least once: an attempt whose outcome could not be noted is made again. ``Headend-Delivery`` is the
same for all attempts of one job, so that a receiver knows what he had.
"""

import asyncio
import json
import logging
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from headend.keys.seal import SealError
from headend.moment import destination
from headend.moment.destination import BadDestination
from headend.moment.secrets import WebhookSecrets
from headend.moment.signature import HEADER, sign
from headend.moment.watch import Connect
from headend.store import jobs, results, webhooks
from headend.store.jobs import Job
from headend.store.results import Tally
from headend.store.webhooks import Webhook, WebhookState

log = logging.getLogger(__name__)

#: The receiver is gone for good (410), or the address was refused: no further attempt.
_GONE: Final = 410


@dataclass(frozen=True, slots=True)
class Patience:
    """``attempts`` in all, each of ``timeout_s``; after attempt n a pause drawn from the upper half of
    min(longest_s, first_s x 2**(n-1))."""

    attempts: int = 12
    timeout_s: float = 10
    first_s: float = 5
    longest_s: float = 3_600

    def pause(self, attempts: int, chance: float) -> timedelta:
        """After so many attempts; ``chance`` in [0, 1)."""
        bound = min(self.longest_s, self.first_s * 2 ** min(attempts - 1, 30))
        return timedelta(seconds=bound * (0.5 + chance / 2))


PATIENCE: Final = Patience()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one attempt. ``status`` None: no answer."""

    status: int | None
    reason: str | None
    is_final: bool = False

    @property
    def is_taken(self) -> bool:
        """The receiver has it."""
        return self.status is not None and 200 <= self.status < 300


class Deliveries:
    """Tells ends of jobs. ``hosts`` are those of `headend.moment.destination`."""

    def __init__(
        self,
        connect: Connect,
        secrets: WebhookSecrets,
        *,
        hosts: Collection[str],
        clock: Callable[[], datetime],
        patience: Patience = PATIENCE,
    ) -> None:
        self._connect = connect
        self._secrets = secrets
        self._hosts = frozenset(hosts)
        self._clock = clock
        self._patience = patience

    async def deliver(self, job_id: int) -> Outcome | None:
        """Make the attempt that is due for this job; None: none is.

        Raises UnavailableError; the attempt is then made again when it is found overdue.
        """
        now, patience = self._clock(), self._patience
        async with self._connect() as connection:
            # committed before it is sent: whoever is killed in between leaves an attempt that is overdue
            until = now + timedelta(seconds=2 * patience.timeout_s)
            webhook = await webhooks.begin(connection, job_id, now=now, until=until)
            if webhook is None:
                return None
            job = await jobs.find(connection, job_id)
            if job is None:
                return None
            counted = await results.tally(connection, job_id, now=now)
        outcome = await self._send(webhook, job, counted)
        state, now = WebhookState.WAITING, self._clock()
        if outcome.is_taken:
            state = WebhookState.DELIVERED
        elif outcome.is_final or webhook.attempts >= patience.attempts:
            state = WebhookState.FAILED
            log.error(
                "webhook of job %d given up after %d attempts: %s", job_id, webhook.attempts, outcome.reason
            )
        next_at = now + patience.pause(webhook.attempts, random.random())  # noqa: S311 - jitter, not a secret
        async with self._connect() as connection:
            await webhooks.settle(
                connection, webhook, state, next_at=next_at, status=outcome.status, reason=outcome.reason
            )
        return outcome

    async def _send(self, webhook: Webhook, job: Job, counted: Tally) -> Outcome:
        body = json.dumps(told(job, counted), separators=(",", ":")).encode()
        try:
            secret = self._secrets.opened(webhook)
            async with asyncio.timeout(self._patience.timeout_s):
                address = await destination.resolve(webhook.url, self._hosts)
                status = await self._post(webhook.url, address, secret, body, job)
        except BadDestination as error:
            return Outcome(None, f"the address {error}", is_final=True)
        except SealError:
            return Outcome(None, "its secret cannot be opened: is the master key the right one?")
        except (httpx.HTTPError, OSError, TimeoutError) as error:
            return Outcome(None, f"no answer: {type(error).__name__}")  # messages may hold the URL
        if 200 <= status < 300:
            return Outcome(status, None)
        return Outcome(status, f"answered with status {status}", is_final=status == _GONE)

    async def _post(self, url: str, address: str, secret: str, body: bytes, job: Job) -> int:
        """The status of the answer, whose body nobody reads. That very address is called, by its name."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        headers = {
            "Host": parts.netloc,
            "Content-Type": "application/json",
            "User-Agent": "headend",
            "X-Correlation-Id": job.correlation_id,
            "Headend-Delivery": f"job-{job.job_id}",
            HEADER: sign(secret, body, at_s=int(self._clock().timestamp())),
        }
        async with (
            httpx.AsyncClient(
                timeout=self._patience.timeout_s, trust_env=False, follow_redirects=False, verify=True
            ) as client,
            client.stream(
                "POST",
                httpx.URL(url).copy_with(host=address),
                content=body,
                headers=headers,
                extensions={"sni_hostname": host},
            ) as answer,
        ):
            return answer.status_code


def told(job: Job, counted: Tally) -> dict[str, Any]:
    """The body: a summary of the job, in the words of the API, which has the rest at ``path``."""
    return {
        "type": "job.ended",
        "job": job.job_id,
        "path": f"/api/v1/jobs/{job.job_id}",
        "title": job.title,
        "kind": job.kind.value,
        "state": "ended" if job.cancelled_at is None else "cancelled",
        "correlation_id": job.correlation_id,
        "created_at": _rfc3339(job.created_at),
        "ended_at": None if job.ended_at is None else _rfc3339(job.ended_at),
        "counts": {
            "total": counted.counts.total,
            **{name: getattr(counted.counts, name) for name in counted.counts.__slots__},
        },
        "failures": {stage: one.ended for stage, one in counted.failures.items() if one.ended},
    }


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
