"""How far a job is and when it will be done, from its counts alone. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from headend.store.jobs import Job
from headend.store.results import LATELY, Tally

#: A forecast beyond this says nothing.
_LONGEST: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Progress:
    """A job, its requests counted, and when the last of them will have ended if they go on ending as they did
    of late; None where nothing ended of late, or nothing is open."""

    job: Job
    tally: Tally
    eta: datetime | None


def progress(job: Job, tally: Tally, *, now: datetime) -> Progress:
    """As of ``now``, aware."""
    return Progress(job, tally, None if job.ended_at is not None else _eta(job.created_at, tally, now))


def _eta(began_at: datetime, tally: Tally, now: datetime) -> datetime | None:
    if tally.counts.open == 0 or tally.lately == 0:
        return None
    span = max(min(LATELY, now - began_at), timedelta(milliseconds=1))
    rest = span * (tally.counts.open / tally.lately)
    return now + rest if rest <= _LONGEST else None
