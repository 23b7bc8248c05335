"""headend keys: meters' keys changed, and what an operator does to the keys at rest and their counters, each
act in the audit log."""

from datetime import datetime
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from headend.cli.acting import acting
from headend.cli.campaign_options import Course, Follow
from headend.cli.campaign_submit import submit
from headend.cli.meter_options import Which
from headend.cli.option_sets import expanded
from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, out, print_json
from headend.clock import utc_now
from headend.foundation import open_base, sealer
from headend.keys.vault import Vault
from headend.people import second_factor
from headend.store import key_status, keyring
from headend.store.key_status import KeyDue, KeyPolicy, KeyTotals
from schemas.config import Settings, load_settings
from schemas.people import Permission
from schemas.programs.keys import ORDER, KeysProgram

app = typer.Typer(
    help="Meters' keys, master key and invocation counters.", no_args_is_help=True, add_completion=False
)

#: Beyond what any key uses between two backups: a meter read every quarter of an hour takes 8 million
#: counters in 20 years, a block of the largest size is 1 million.
_JUMP: Final = 1 << 24
AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]


@app.command("rotate")
@reported
@expanded
async def rotate(
    *,
    master: Annotated[bool, typer.Option("--master", help="The meters' master keys too.")] = False,
    concentrators: Annotated[
        bool, typer.Option("--concentrators", help="Keys of concentrators, not of meters.")
    ] = False,
    which: Which,
    course: Course,
    follow: Follow = True,
    as_json: AsJson = False,
) -> int:
    """Give meters new encryption and authentication keys, made here for each of them and told to nobody else.

    A campaign as any: it waits for a second person where the policy wants one (exit status 3). A meter is
    reached at every moment, under whichever keys it has. Passwords and HLS secrets are not changed by this.

    headend keys rotate --group north --canaries 10 --waves 10,90 --window 22:00-05:00@Europe/Berlin

    headend keys rotate --concentrators --meter DC-0001
    """
    program = KeysProgram(
        of="concentrators" if concentrators else "meters",
        purposes=ORDER if master else KeysProgram().purposes,
    )
    title = "new keys, the master key too" if master else "new keys"
    return await submit(program, course.plan(which), title=title, follow=follow, as_json=as_json)


@app.command("status")
@reported
async def status(
    limit: Annotated[int, typer.Option(min=0, max=200_000, help="List so many at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show how old the meters' keys are, how far their counters have come, and whose are due.

    Due are keys older than HEADEND_KEYS_ROTATE_AFTER_DAYS (0: never by age) or with counters from
    HEADEND_KEYS_ROTATE_AT_COUNTER on; the scheduler proposes a campaign for them. In doubt are meters that
    were told new keys and have used none of them yet: both are tried.
    """
    settings, now = load_settings(), utc_now()
    async with base(settings) as opened, opened.pool.connection() as connection:
        policy = KeyPolicy.of(settings)
        told = await key_status.totals(connection, policy, now)
        due = await key_status.due(connection, policy, now, limit=limit)
    if as_json:
        print_json(_json(told, due, settings))
        return
    out.print(_totals(told, settings, now))
    if due:
        table = Table("meter", "model", "keys of", "counter", "why")
        for one in due:
            table.add_row(
                one.asset_id, one.model, f"{one.made_at:%F}", f"{one.counter:,}", _why(one, settings)
            )
        out.print(table)


def _totals(told: KeyTotals, settings: Settings, now: datetime) -> Table:
    table = Table(show_header=False, box=None)
    age = "none" if told.oldest is None else f"{told.oldest:%F}, {(now - told.oldest).days} days"
    days = settings.keys_rotate_after_days
    by_age = f"{told.due_by_age:,}" if days else "not asked for"
    for name, value in (
        ("meters with keys", f"{told.meters:,}"),
        ("oldest encryption key", age),
        (f"older than {days} days" if days else "due by age", by_age),
        (f"counter from {settings.keys_rotate_at_counter:,} on", f"{told.due_by_counter:,}"),
        (f"highest counter, of {keyring.COUNTER_END:,}", f"{told.counter or 0:,}"),
        ("without their master key: cannot be changed", f"{told.without_master:,}"),
        ("in doubt: new keys sent, none used yet", f"{told.in_doubt:,}"),
        ("new keys made and not sent", f"{told.unsent:,}"),
        ("former keys kept", f"{told.with_former:,}"),
    ):
        table.add_row(name, value)
    return table


def _json(told: KeyTotals, due: list[KeyDue], settings: Settings) -> dict[str, Any]:
    return {
        "meters": told.meters,
        "oldest": told.oldest,
        "due_by_age": told.due_by_age,
        "due_by_counter": told.due_by_counter,
        "highest_counter": told.counter,
        "without_master": told.without_master,
        "in_doubt": told.in_doubt,
        "unsent": told.unsent,
        "with_former": told.with_former,
        "due": [
            {
                "meter": one.asset_id,
                "model": one.model,
                "made_at": one.made_at,
                "counter": one.counter,
                "why": _why(one, settings),
            }
            for one in due
        ],
    }


def _why(one: KeyDue, settings: Settings) -> str:
    why = []
    if one.in_doubt_since is not None:
        why.append(f"in doubt since {one.in_doubt_since:%F %H:%M}Z")
    if one.counter >= settings.keys_rotate_at_counter:
        why.append("counter")
    days = settings.keys_rotate_after_days
    if days and (utc_now() - one.made_at).days >= days:
        why.append("age")
    if not one.has_master:
        why.append("no master key is stored: import it")
    return ", ".join(why)


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
        who = await acting(
            connection, opened, "master_key.rotated", "master key", needs=Permission.ADMINISTER
        )
        vault = await Vault.open(connection, chosen)
        resealed = await vault.rotate(connection, actor=who.actor) + await second_factor.reseal(
            connection, chosen
        )
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
        who = await acting(connection, opened, "counters.raised", "counters", needs=Permission.ADMINISTER)
        moved = await keyring.jump_all_counters(connection, by=by, actor=who.actor)
    if as_json:
        print_json({"counters": moved, "by": by})
    else:
        out.print(f"{moved} counters moved on by {by:,}")
