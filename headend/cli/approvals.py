"""headend approvals: what waits for a second person."""

import sys
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from headend.approvals.four_eyes import NotYours, decide, why_not
from headend.cli.campaign_view import approval_card, approval_json
from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, out, print_json
from headend.people.identity import cli_principal
from headend.store import approvals
from headend.store.approvals import Approval, ApprovalState

app = typer.Typer(
    help="Approvals: what a second person has to see before it is done.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)

Number = Annotated[int, typer.Argument(min=1, help="The approval's number.")]
Digest = Annotated[
    str | None,
    typer.Option(help="The digest of what you saw; without it, it is shown now and you are asked."),
]
AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]


@app.command("list")
@reported
async def list_command(
    everything: Annotated[bool, typer.Option("--all", help="Decided ones too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List what waits for a second person, newest first."""
    state = None if everything else ApprovalState.WAITING
    async with base() as opened, opened.pool.connection() as connection:
        found = await approvals.page(connection, limit=limit, state=state)
    if as_json:
        print_json([approval_json(one) for one in found])
        return
    if not found:
        out.print("nothing waits for a second person")
        return
    table = Table("approval", "of", "what", "meters", "asked for by", "waits until", "state")
    for one in found:
        table.add_row(
            str(one.approval_id),
            one.subject,
            str(one.shown.get("title", "")),
            str(one.shown.get("meters", "")),
            one.requested_by,
            f"{one.expires_at:%F %R}Z",
            one.state,
        )
    out.print(table)


@app.command("show")
@reported
async def show(number: Number, as_json: AsJson = False) -> None:
    """Show exactly what would be done."""
    async with base() as opened, opened.pool.connection() as connection:
        found = await approvals.find(connection, number)
    _tell(found, as_json=as_json)


@app.command("approve")
@reported
async def approve(
    number: Number,
    digest: Digest = None,
    reason: Annotated[str | None, typer.Option(help="Why; it goes into the audit trail.")] = None,
) -> None:
    """Approve exactly what is shown. Who asked for it cannot; nor can the host without `headend login`."""
    await _decide(number, digest, reason, approving=True)


@app.command("refuse")
@reported
async def refuse(
    number: Number,
    reason: Annotated[str, typer.Option(help="Why; whoever asked will read it.")],
    digest: Digest = None,
) -> None:
    """Refuse it: it is never done."""
    await _decide(number, digest, reason, approving=False)


async def _decide(number: int, digest: str | None, reason: str | None, *, approving: bool) -> None:
    async with base() as opened:
        async with opened.pool.connection() as connection:
            principal = await cli_principal(connection, opened.settings)
            found = await approvals.find(connection, number)
        if digest is not None:
            seen = _digest(digest)
        elif why_not(found, principal) is not None:
            seen = found.digest  # it is refused below, and audited: nothing is to be shown or asked
        else:
            seen = _asked(found, approving=approving)
        try:
            done = await decide(
                opened.pool.connection,
                number,
                principal,
                approve=approving,
                seen=seen,
                reason=reason,
                now=datetime.now(UTC),
            )
        except NotYours as error:
            raise CommandError(f"{error}; you are {principal.actor}") from error
    out.print(f"{done.subject} is {done.state}")


def _digest(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise CommandError(f"--digest: {text!r} is none; headend approvals show tells it") from error


def _asked(found: Approval, *, approving: bool) -> bytes:
    """The digest of what was shown now, if the person says so."""
    if not sys.stdin.isatty():
        raise CommandError(
            f"nobody can be asked here: look with `headend approvals show {found.approval_id}`, and give the "
            "--digest that it tells"
        )
    _tell(found, as_json=False)
    if found.state is ApprovalState.WAITING:
        what = "Approve" if approving else "Refuse"
        if not typer.confirm(f"{what} exactly this?"):
            raise CommandError("nothing was decided")
    return found.digest


def _tell(found: Approval, *, as_json: bool) -> None:
    if as_json:
        print_json(approval_json(found))
    else:
        out.print(approval_card(found))
