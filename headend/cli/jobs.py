"""headend jobs: what is read, how far it is, and its end by hand."""

from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from headend.cli.acting import acting_on_job
from headend.cli.follow import Ending, follow, stages
from headend.cli.read_view import as_json as result_as_json
from headend.cli.read_view import tell_one
from headend.cli.shell import base, reported
from headend.cli.terminal import err, out, print_json
from headend.clock import utc_now
from headend.moment import progress as forecast
from headend.moment import reads
from headend.moment.destination import shown
from headend.moment.watch import look
from headend.store import jobs, results, webhooks
from headend.store.errors import UnknownError
from headend.store.jobs import Counts, Job
from headend.store.sql import Connection
from headend.store.webhooks import Webhook
from schemas.failure import Stage
from schemas.job import JobKind, RequestState

app = typer.Typer(help="Jobs: what is read of meters.", no_args_is_help=True, add_completion=False)

AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]
Number = Annotated[int, typer.Argument(min=1, max=2**63 - 1, help="The job's number.")]


@app.callback()
def group() -> None:
    """Jobs: what is read of meters."""


@app.command("list")
@reported
async def list_command(
    kind: Annotated[JobKind | None, typer.Option(help="Only jobs of this kind.")] = None,
    is_open: Annotated[
        bool | None, typer.Option("--open/--ended", help="Only those that go on, or have ended.")
    ] = None,
    schedule: Annotated[int | None, typer.Option(help="Only runs of the schedule of this number.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
    before: Annotated[int | None, typer.Option(help="Only jobs with smaller numbers.")] = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    async with base() as opened, opened.pool.connection() as connection:
        found = await jobs.page(
            connection, limit=limit, before=before, kind=kind, schedule_id=schedule, is_open=is_open
        )
        counts = await jobs.counts(connection, [one.job_id for one in found])
    if as_json:
        print_json([_as_dict(one, counts[one.job_id]) for one in found])
        return
    table = Table("job", "kind", "title", "created", "state", box=None, pad_edge=False)
    for head in ("requests", "done", "failed"):
        table.add_column(head, justify="right")
    for one in found:
        number = counts[one.job_id]
        failed = number.failed + number.expired
        table.add_row(
            str(one.job_id),
            one.kind.value.replace("_", " "),
            one.title,
            f"{one.created_at:%F %TZ}",
            _state(one),
            f"{number.total:,}",
            f"{number.done:,}",
            f"{failed:,}",
        )
    out.print(table)


@app.command("show")
@reported
async def show(
    job: Number,
    state: Annotated[RequestState | None, typer.Option(help="Only requests in this state.")] = None,
    stage: Annotated[Stage | None, typer.Option(help="Only those whose last attempt failed there.")] = None,
    limit: Annotated[int, typer.Option(min=0, max=100_000, help="Requests that are shown.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show a job: how far it is, what fails, what came of each meter."""
    async with base() as opened, opened.pool.connection() as connection:
        stored = await _known(connection, job)
        now = utc_now()
        found = forecast.progress(stored, await results.tally(connection, job, now=now), now=now)
        told = await results.page(connection, job, limit=limit, state=state, stage=stage)
        webhook = await webhooks.find(connection, job)
    counts = found.tally.counts
    if as_json:
        print_json(
            {
                **_as_dict(stored, counts),
                "eta": found.eta,
                "failures": {
                    name: {"open": one.open, "ended": one.ended} for name, one in found.tally.failures.items()
                },
                "webhook": None if webhook is None else _webhook(webhook),
                "results": [result_as_json(one) for one in told],
            }
        )
        return
    out.print(f"job {job}  {stored.title}  {_state(stored)}", markup=False, style="bold")
    out.print(f"of {stored.actor}, {stored.created_at:%F %TZ}, until {stored.drop_dead:%F %TZ}", markup=False)
    out.print(f"reads {', '.join(work.kind for work in stored.work)}", markup=False)
    with Progress(BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"), console=out) as bar:
        bar.add_task("", total=counts.total, completed=counts.total - counts.open, told=stages(found))
    if webhook is not None:
        out.print(f"webhook {_webhook(webhook)}", markup=False, soft_wrap=True)
    for one in told:
        if one.state is RequestState.OPEN:
            reason = "" if one.reason is None else f", {one.stage}: {one.reason}"
            out.print(f"{one.meter}  open, next {one.next_at:%F %TZ}{reason}", markup=False, soft_wrap=True)
        else:
            tell_one(one)
    if counts.total > len(told):
        out.print(f"{len(told)} of {counts.total:,} shown")


@app.command("follow")
@reported
async def follow_command(job: Number, as_json: AsJson = False) -> int:
    """Follow a job to its end. Exit status 1 where not all of it was done; Ctrl-C asks."""
    async with base() as opened:
        async with opened.pool.connection() as connection:
            await _known(connection, job)
        ending, last = await follow(opened, job, tell_one if not as_json else lambda _: None, quiet=as_json)
    if last is None:
        return 1
    if as_json:
        print_json(_as_dict(last.job, last.tally.counts))
    elif ending is Ending.LEFT:
        err.print(f"job {job} goes on")
    else:
        counts = last.tally.counts
        out.print(f"job {job} {_state(last.job)}: {counts.done:,} of {counts.total:,} done  {stages(last)}")
    return 0 if ending is Ending.LEFT or last.tally.counts.done == last.tally.counts.total else 1


@app.command("cancel")
@reported
async def cancel(job: Number, as_json: AsJson = False) -> None:
    """Cancel what is open of a job. What is under way at a meter ends by itself and is stored."""
    async with base() as opened, opened.pool.connection() as connection:
        who = await acting_on_job(connection, opened, job)
        closed = await reads.cancel(connection, job, actor=who.actor)
    if as_json:
        print_json({"job": job, "cancelled": closed})
    else:
        out.print(
            f"{closed:,} requests of job {job} cancelled" if closed else f"nothing of job {job} was open"
        )


async def _known(connection: Connection, job_id: int) -> Job:
    found = await look(connection, job_id)
    if found is None:
        raise UnknownError(f"there is no job {job_id}: headend jobs list")
    return found


def _state(job: Job) -> str:
    if job.ended_at is None:
        return "open"
    return "ended" if job.cancelled_at is None else "cancelled"


def _as_dict(job: Job, counts: Counts) -> dict[str, Any]:
    return {
        "job": job.job_id,
        "kind": job.kind.value,
        "title": job.title,
        "state": _state(job),
        "schedule": job.schedule_id,
        "run_at": job.run_at,
        "works": jobs.works_to_json(job.work),
        "priority": job.priority,
        "deadline": job.deadline,
        "drop_dead": job.drop_dead,
        "actor": job.actor,
        "correlation_id": job.correlation_id,
        "created_at": job.created_at,
        "ended_at": job.ended_at,
        "counts": {"total": counts.total, **{name: getattr(counts, name) for name in counts.__slots__}},
    }


def _webhook(webhook: Webhook) -> dict[str, Any]:
    return {
        "url": shown(webhook.url),
        "state": webhook.state.value,
        "attempts": webhook.attempts,
        "last_status": webhook.last_status,
        "last_reason": webhook.last_reason,
    }
