"""headend keys: what an operator does to the keys at rest and their counters, each act in the audit log."""

from typing import Annotated, Final

import typer

from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, out, print_json
from headend.foundation import open_base, sealer
from headend.keys.vault import Vault
from headend.store import keyring
from schemas.config import load_settings

app = typer.Typer(help="Master key and invocation counters.", no_args_is_help=True, add_completion=False)

ACTOR: Final = "cli"
#: Beyond what any key uses between two backups: a meter read every quarter of an hour takes 8 million
#: counters in 20 years, a block of the largest size is 1 million.
_JUMP: Final = 1 << 24
AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]


@app.command("rotate-master")
@reported
async def rotate_master(as_json: AsJson = False) -> None:
    """Seal all keys under the present master key.

    Give the new key as HEADEND_MASTER_KEY or HEADEND_MASTER_KEY_FILE and the old one among
    HEADEND_FORMER_MASTER_KEYS; once this has ended the old one is needed for older backups alone. May be
    stopped and started again at any time, and runs beside the service, which needs both keys too until
    then.
    """
    settings = load_settings()
    chosen = sealer(settings)
    async with base(settings) as opened, opened.pool.connection() as connection:
        vault = await Vault.open(connection, chosen)
        resealed = await vault.rotate(connection, actor=ACTOR)
    if as_json:
        print_json({"master_key": chosen.current_id, "resealed": resealed})
    else:
        out.print(f"{resealed} keys sealed anew; all are under master key {chosen.current_id} now")


@app.command("raise-counters")
@reported
async def raise_counters(
    by: Annotated[
        int, typer.Option(min=1, max=keyring.COUNTER_END - 1, help="How far; more than was used since.")
    ] = _JUMP,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only tell what it is.")] = False,
    as_json: AsJson = False,
) -> None:
    """Move every invocation counter on: after a restore, or on a standby that was promoted.

    Such a database may be older than the last counter that was used, and a counter used twice under one key
    gives the key away. Run it before the service starts on that database, with every other user of it
    stopped: a service that runs goes on with the blocks it has. There is no way back.
    """
    if not yes:
        raise CommandError(
            f"this moves every counter on by {by:,} of the {keyring.COUNTER_END:,} that a key has, for good: "
            "stop the service, then repeat it with --yes"
        )
    # not shared: an embedded database that a service holds means that the service runs
    async with open_base(load_settings(), share=False) as opened, opened.pool.connection() as connection:
        moved = await keyring.jump_all_counters(connection, by=by, actor=ACTOR)
    if as_json:
        print_json({"counters": moved, "by": by})
    else:
        out.print(f"{moved} counters moved on by {by:,}")
