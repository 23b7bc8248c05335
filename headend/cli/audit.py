"""headend audit: who did what, and whether anybody tampered with the trail of it."""

import re
from typing import Annotated, Final

import typer
from rich.table import Table

from headend.audit.verify import Verified, verify
from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, err, out, print_json
from headend.store import audit
from headend.store.audit import AuditEntry, Head

app = typer.Typer(help="The audit trail: read and verify it.", no_args_is_help=True, add_completion=False)

_ANCHOR: Final = re.compile(r"([1-9]\d{0,18}):([0-9a-f]{64})", re.ASCII)
AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]


@app.command("list")
@reported
async def list_command(
    object_: Annotated[
        str | None, typer.Option("--object", help="Only what was done to this, as meter:4711 or campaign:12.")
    ] = None,
    actor: Annotated[str | None, typer.Option(help="Only what this actor did, as 'token:3 nightly'.")] = None,
    before: Annotated[int | None, typer.Option(min=1, help="Only entries with smaller numbers.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: AsJson = False,
) -> None:
    """Show entries, newest first."""
    async with base() as opened, opened.pool.connection() as connection:
        found = await audit.page(connection, limit=limit, object_=object_, actor=actor, before=before)
    if as_json:
        print_json([_shown(one) for one in found])
        return
    table = Table("number", "at", "actor", "action", "object", "detail")
    for one in found:
        detail = ", ".join(f"{name}: {value}" for name, value in one.detail.items())
        table.add_row(str(one.audit_id), f"{one.at:%F %T}Z", one.actor, one.action, one.object, detail)
    out.print(table)


@app.command("head")
@reported
async def head(as_json: AsJson = False) -> None:
    """Show the end of the chain, to be kept elsewhere: `headend audit verify --anchor` takes it."""
    async with base() as opened, opened.pool.connection() as connection:
        end = await audit.head(connection)
    if as_json:
        print_json({"position": end.position, "hash": end.hash.hex()})
    else:
        out.print(f"{end.position}:{end.hash.hex()}", soft_wrap=True)


@app.command("verify")
@reported
async def verify_command(
    anchor: Annotated[
        str | None, typer.Option(help="What `headend audit head` said earlier, kept elsewhere since.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Find any edit, removal or reordering of the audit trail; exit status 1 where there is one.

    Entries are chained by hashes, and the service seals the end of the chain each minute under a key that the
    database alone does not give away. What was cut off behind the last seal is found only with --anchor.
    """
    wanted = None
    if anchor is not None:
        told = _ANCHOR.fullmatch(anchor.strip())
        if told is None:
            raise CommandError(
                "--anchor is a position and 64 hexadecimal digits, as `headend audit head` says"
            )
        wanted = Head(int(told[1]), bytes.fromhex(told[2]))
    async with base() as opened:
        vault = await opened.vault_if_any()
        async with opened.pool.connection() as connection, audit.one_state(connection):
            found = await verify(connection, None if vault is None else vault.fingerprint, anchor=wanted)
    if as_json:
        print_json(_verified(found, seals_checked=vault is not None))
    else:
        _tell(found, seals_checked=vault is not None)
    return 0 if found.holds else 1


def _tell(found: Verified, *, seals_checked: bool) -> None:
    for one in found.faults:
        err.print(f"at {one.position}: {one.reason}", style="red", markup=False, soft_wrap=True)
    end = found.head
    if not found.holds:
        err.print(f"the audit trail does NOT hold: {len(found.faults)} faults")
        return
    out.print(f"{end.position} entries, each where it was written; head {end.hash.hex()}", soft_wrap=True)
    if seals_checked:
        out.print(f"sealed up to {found.sealed}; the {end.position - found.sealed} behind are chained alone")
    else:
        err.print("no master key is set: seals were not looked at")


def _verified(found: Verified, *, seals_checked: bool) -> dict[str, object]:
    return {
        "holds": found.holds,
        "entries": found.head.position,
        "head": found.head.hash.hex(),
        "seals_checked": seals_checked,
        "sealed": found.sealed,
        "faults": [
            {"position": one.position, "entry": one.audit_id, "reason": one.reason} for one in found.faults
        ],
    }


def _shown(one: AuditEntry) -> dict[str, object]:
    return {
        "id": one.audit_id,
        "at": one.at.isoformat(),
        "actor": one.actor,
        "action": one.action,
        "object": one.object,
        "detail": dict(one.detail),
    }
