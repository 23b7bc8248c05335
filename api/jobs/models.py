"""Jobs and their requests as the API tells them."""

from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field

from api.times import rfc3339
from headend.moment.destination import shown
from headend.moment.progress import Progress
from headend.store.jobs import Counts, Job
from headend.store.results import Failures, Result
from headend.store.webhooks import Webhook, WebhookState
from schemas.failure import Stage
from schemas.job import AnyWork, JobKind, RequestState, Retry
from schemas.read_result import ReadResult

_COUNTS: Final[dict[str, Any]] = {
    "total": 3, "open": 1, "done": 2, "failed": 0, "expired": 0, "cancelled": 0,
}  # fmt: skip
_JOB: Final[dict[str, Any]] = {
    "id": 4711,
    "kind": "on_demand",
    "title": "read of 3 meters",
    "state": "open",
    "schedule_id": None,
    "run_at": None,
    "works": [{"kind": "registers", "obis": ["1-0:1.8.0*255"]}],
    "retry": {"attempts": 3, "first_s": 5, "longest_s": 900, "drop_dead_s": None},
    "priority": 5,
    "deadline": "2026-03-01T09:00:00Z",
    "drop_dead": "2026-03-01T09:00:00Z",
    "actor": "token:3 desk",
    "correlation_id": "4f0c1c3a",
    "created_at": "2026-03-01T08:00:00Z",
    "ended_at": None,
    "counts": _COUNTS,
}
_REQUEST: Final[dict[str, Any]] = {
    "id": 81234,
    "meter": "SIM00000001",
    "state": "done",
    "attempts": 1,
    "stage": None,
    "reason": None,
    "next_at": None,
    "ended_at": "2026-03-01T08:00:01Z",
    "result": {
        "registers": [
            {
                "obis": "1-0:1.8.0*255",
                "attribute": 2,
                "read_at": "2026-03-01T08:00:01Z",
                "meter_time": None,
                "value": "12048950",
                "text": None,
                "unit": "Wh",
                "quality": "measured",
                "from_float": False,
            }
        ],
        "refused": [],
        "intervals": 0,
        "events": 0,
        "stored": None,
    },
}


class JobCounts(BaseModel):
    """Requests by state: one for each meter."""

    total: int
    open: int
    done: int
    failed: int
    expired: int
    cancelled: int

    @classmethod
    def of(cls, counts: Counts) -> Self:
        """As counted."""
        return cls(total=counts.total, **{name: getattr(counts, name) for name in counts.__slots__})


class JobModel(BaseModel):
    """A job: its state, and its requests counted."""

    model_config = ConfigDict(json_schema_extra={"examples": [_JOB]})

    id: int
    kind: JobKind
    title: str
    state: str = Field(description="open, ended or cancelled")
    schedule_id: int | None
    run_at: str | None = Field(description="the time of the schedule that it stands for")
    works: list[AnyWork]
    retry: Retry
    priority: int
    deadline: str
    drop_dead: str = Field(description="no attempt begins later")
    actor: str
    correlation_id: str
    created_at: str
    ended_at: str | None
    counts: JobCounts

    @staticmethod
    def fields(job: Job, counts: Counts) -> dict[str, Any]:
        """Of a stored job."""
        ended = "ended" if job.cancelled_at is None else "cancelled"
        return {
            "id": job.job_id,
            "kind": job.kind,
            "title": job.title,
            "state": "open" if job.ended_at is None else ended,
            "schedule_id": job.schedule_id,
            "run_at": None if job.run_at is None else rfc3339(job.run_at),
            "works": list(job.work),
            "retry": job.retry,
            "priority": job.priority,
            "deadline": rfc3339(job.deadline),
            "drop_dead": rfc3339(job.drop_dead),
            "actor": job.actor,
            "correlation_id": job.correlation_id,
            "created_at": rfc3339(job.created_at),
            "ended_at": None if job.ended_at is None else rfc3339(job.ended_at),
            "counts": JobCounts.of(counts),
        }


class FailuresModel(BaseModel):
    """Requests whose last attempt failed at one stage."""

    stage: Stage
    open: int = Field(description="tried again")
    ended: int = Field(description="given up")


class WebhookModel(BaseModel):
    """Who is told of the end, without secret and query, and how that went."""

    url: str
    state: WebhookState
    attempts: int
    last_at: str | None
    last_status: int | None
    last_reason: str | None

    @classmethod
    def of(cls, webhook: Webhook) -> Self:
        """As it is stored."""
        return cls(
            url=shown(webhook.url),
            state=webhook.state,
            attempts=webhook.attempts,
            last_at=None if webhook.last_at is None else rfc3339(webhook.last_at),
            last_status=webhook.last_status,
            last_reason=webhook.last_reason,
        )


class JobDetail(JobModel):
    """A job with what is known of its progress."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_JOB,
                    "progress": "66.7",
                    "eta": "2026-03-01T08:00:09Z",
                    "failures": [{"stage": "timeout", "open": 1, "ended": 0}],
                    "webhook": None,
                }
            ]
        }
    )

    progress: str = Field(description="percentage of the requests that are not open any more")
    eta: str | None = Field(
        description="when the last will have ended, at the rate of the last minute; null: nothing is known"
    )
    failures: list[FailuresModel]
    webhook: WebhookModel | None = None

    @classmethod
    def of(cls, found: Progress, webhook: Webhook | None = None) -> Self:
        """As of now."""
        counts = found.tally.counts
        ended = counts.total - counts.open
        fields = JobModel.fields(found.job, counts) | {
            "progress": f"{1000 * ended // counts.total / 10:.1f}" if counts.total else "100.0",
            "eta": None if found.eta is None else rfc3339(found.eta.replace(microsecond=0)),
            "failures": [_failures(stage, one) for stage, one in found.tally.failures.items()],
            "webhook": None if webhook is None else WebhookModel.of(webhook),
        }
        return cls.model_validate(fields)


class JobPage(BaseModel):
    """Jobs, newest first; ``next`` is the cursor of the next page, null on the last."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"jobs": [_JOB], "next": None}]})

    jobs: list[JobModel]
    next: str | None


class RequestModel(BaseModel):
    """What a job wants of one meter, and what came of it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_REQUEST]})

    id: int
    meter: str = Field(description="asset id, or the code of a concentrator")
    state: RequestState
    attempts: int
    stage: Stage | None = Field(description="where the last attempt failed")
    reason: str | None
    next_at: str | None = Field(description="the next attempt is not before; null where none follows")
    ended_at: str | None
    result: ReadResult | None = Field(description="what came, where somebody asked for it")

    @classmethod
    def of(cls, found: Result) -> Self:
        """As it is stored."""
        return cls(
            id=found.request_id,
            meter=found.meter,
            state=found.state,
            attempts=found.attempts,
            stage=found.stage,
            reason=found.reason,
            next_at=rfc3339(found.next_at) if found.state is RequestState.OPEN else None,
            ended_at=None if found.ended_at is None else rfc3339(found.ended_at),
            result=None if found.result is None else ReadResult.model_validate(found.result),
        )


class RequestPage(BaseModel):
    """Requests of a job in their order; ``next`` is the cursor of the next page, null on the last."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"requests": [_REQUEST], "next": None}]})

    requests: list[RequestModel]
    next: str | None


class JobAnswer(BaseModel):
    """A read on demand: its job, and what came of each meter as far as the job has ended."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "job": {**_JOB, "progress": "100.0", "eta": None, "failures": [], "webhook": None},
                    "results": [_REQUEST],
                }
            ]
        }
    )

    job: JobDetail
    results: list[RequestModel]


def _failures(stage: str, one: Failures) -> FailuresModel:
    return FailuresModel(stage=Stage(stage), open=one.open, ended=one.ended)
