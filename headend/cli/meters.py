"""headend meters: the fleet."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from headend.cli.acting import acting
from headend.cli.shell import base, reported
from headend.cli.terminal import err, moment, out, print_json
from headend.cli.values import registers
from headend.foundation import has_master_key, sealer
from headend.ingest.meter_import import import_meters
from headend.keys.transport import transport_key
from headend.keys.vault import Vault
from headend.store import audit, groups, link_states, meters, network, points, tags
from headend.store.meters import MeterFilter
from schemas.config import load_settings
from schemas.meter import Meter, MeterState
from schemas.network import NOWHERE
from schemas.people import Permission

app = typer.Typer(
    help="Meters: import, list, show, change state, exchange.", no_args_is_help=True, add_completion=False
)

AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]


@app.command("import")
@reported
async def import_command(
    file: Annotated[
        Path, typer.Argument(help="CSV file; see README for its columns.", exists=True, dir_okay=False)
    ],
    since: Annotated[str | None, typer.Option(help="From when on (RFC 3339); default now.")] = None,
    allow_plain_keys: Annotated[
        bool, typer.Option("--allow-plain-keys", help="Take keys in plain text columns.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Import meters: all of the file or nothing, every error with its line and column."""
    settings = load_settings()
    begins = datetime.now(UTC) if since is None else moment(since, option="--since")
    transport = None
    if settings.transport_key is not None:
        transport = transport_key(settings.transport_key.get_secret_value())
    async with base(settings) as opened, opened.pool.connection() as connection:
        who = await acting(
            connection, opened, "meters.imported", f"file:{file.name}", needs=Permission.ADMINISTER
        )
        # a file without keys needs no master key
        vault = await Vault.open(connection, sealer(settings)) if has_master_key(settings) else None
        done = await import_meters(
            connection,
            file.read_bytes(),
            vault=vault,
            since=begins,
            actor=who.actor,
            transport=transport,
            allow_plain_keys=allow_plain_keys,
            profile_folders=settings.profile_folders,
        )
    if as_json:
        print_json(
            {
                "added": list(done.added),
                "unchanged": list(done.unchanged),
                "errors": [
                    {"line": one.line, "column": one.column, "reason": one.reason} for one in done.errors
                ],
            }
        )
    elif done.errors:
        for one in done.errors:
            err.print(f"{file}: {one}", markup=False, soft_wrap=True)
        err.print(f"{len(done.errors)} errors; nothing was imported", style="red")
    else:
        out.print(f"{len(done.added)} meters added, {len(done.unchanged)} unchanged")
    return 1 if done.errors else 0


@app.command("list")
@reported
async def list_command(
    model: Annotated[str | None, typer.Option(help="Only of this model.")] = None,
    feeder: Annotated[str | None, typer.Option(help="Only on this feeder.")] = None,
    transformer: Annotated[str | None, typer.Option(help="Only at this transformer.")] = None,
    state: Annotated[MeterState | None, typer.Option(help="Only in this state.")] = None,
    search: Annotated[str | None, typer.Argument(help="A part of the asset id or device name.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List meters in order of their asset ids."""
    only = MeterFilter(model, feeder, transformer, state, search)
    async with base() as opened, opened.pool.connection() as connection:
        found = await meters.page(connection, limit=limit, only=only)
    if as_json:
        print_json([_shown(meter) for meter in found])
        return
    table = Table("asset id", "model", "state", "address", "feeder", "transformer")
    for meter in found:
        table.add_row(
            meter.asset_id,
            meter.model,
            meter.state,
            meter.address or "",
            meter.feeder or "",
            meter.transformer or "",
        )
    out.print(table)
    if len(found) == limit:
        out.print(f"the first {limit}; more with --limit")


@app.command("show")
@reported
async def show(
    asset_id: Annotated[str, typer.Argument(help="The meter's asset id.")], as_json: AsJson = False
) -> None:
    """Show one meter: identity, life, metering points, and whether it is silent."""
    async with base() as opened, opened.pool.connection() as connection:
        meter = await meters.by_asset(connection, asset_id)
        life = await meters.states(connection, meter.meter_id)
        places = await points.codes_at(connection, [meter.meter_id], datetime.now(UTC))
        stands = (await network.places(connection, [meter.meter_id])).get(meter.meter_id, NOWHERE)
        silent = await link_states.silent(connection, asset_id, stands.station)
        belongs = await groups.of_meter(connection, meter.meter_id)
        tagged = await tags.of_meter(connection, meter.meter_id)
    shown = _shown(meter) | {
        "point": places.get(meter.meter_id),
        "station": stands.station,
        "link": stands.link,
        "hops": stands.hops,
        "quality": stands.quality,
        "groups": belongs,
        "tags": tagged,
        "silent": None
        if silent is None
        else f"{silent.state.kind} {silent.name} since {silent.state.since:%F %T}Z: {silent.state.reason}",
        "life": [{"state": state, "since": since} for state, since in life],
    }
    if as_json:
        print_json(shown)
        return
    table = Table(show_header=False)
    for name, value in shown.items():
        if name == "life":
            value = "\n".join(f"{state} since {since:%F %R}Z" for state, since in life)
        elif isinstance(value, datetime):
            value = f"{value.astimezone(UTC):%F %R}Z"
        elif isinstance(value, list):
            value = ", ".join(value)
        table.add_row(name.replace("_", " "), "" if value is None else str(value))
    out.print(table)


@app.command("state")
@reported
async def state_command(
    asset_id: Annotated[str, typer.Argument(help="The meter's asset id.")],
    state: Annotated[MeterState, typer.Argument(help="The new state.")],
    since: Annotated[str | None, typer.Option(help="From when on (RFC 3339); default now.")] = None,
) -> None:
    """Move a meter along its life cycle."""
    begins = datetime.now(UTC) if since is None else moment(since, option="--since")
    async with base() as opened, opened.pool.connection() as connection:
        meter = await meters.by_asset(connection, asset_id)
        who = await acting(connection, opened, "meter.state", f"meter:{asset_id}", on=[meter.meter_id])
        await meters.change_state(connection, meter.meter_id, state, since=begins)
        await audit.record(
            connection,
            actor=who.actor,
            action="meter.state",
            object_=f"meter:{asset_id}",
            detail={"from": meter.state, "to": state, "since": begins.isoformat()},
        )
    out.print(f"{asset_id} is {state} since {begins:%F %T}Z")


@app.command("exchange")
@reported
async def exchange(
    old: Annotated[str, typer.Argument(help="Asset id of the meter that is taken off its point.")],
    new: Annotated[str, typer.Argument(help="Asset id of the meter that is put there.")],
    at: Annotated[str | None, typer.Option(help="When (RFC 3339); default now.")] = None,
    removed: Annotated[
        list[str] | None, typer.Option(help="Register of the old one, as 1.8.0=12345.6; may be repeated.")
    ] = None,
    started: Annotated[
        list[str] | None, typer.Option(help="Register of the new one, as 1.8.0=0; may be repeated.")
    ] = None,
) -> None:
    """Exchange a meter: one installation ends and another begins, at the same moment or not at all."""
    moment_ = datetime.now(UTC) if at is None else moment(at, option="--at")
    removal, start = registers(removed), registers(started)
    async with base() as opened, opened.pool.connection() as connection:
        who = await acting(connection, opened, "meter.exchanged", f"meter:{old}")
        before = await meters.by_asset(connection, old)
        after = await meters.by_asset(connection, new)
        await points.exchange(
            connection,
            old_meter_id=before.meter_id,
            new_meter_id=after.meter_id,
            at=moment_,
            removal_registers=removal,
            start_registers=start,
        )
        await audit.record(
            connection,
            actor=who.actor,
            action="meter.exchanged",
            object_=f"meter:{old}",
            detail={
                "by": new,
                "at": moment_.isoformat(),
                "removed": {obis: format(value, "f") for obis, value in removal.items()},
                "started": {obis: format(value, "f") for obis, value in start.items()},
            },
        )
    out.print(f"{new} is in the place of {old} since {moment_:%F %T}Z")


def _shown(meter: Meter) -> dict[str, object]:
    return {
        "asset_id": meter.asset_id,
        "model": meter.model,
        "state": meter.state,
        "state_since": meter.state_since,
        "system_title": None if meter.system_title is None else meter.system_title.hex().upper(),
        "logical_device_name": meter.logical_device_name,
        "address": meter.address,
        "feeder": meter.feeder,
        "transformer": meter.transformer,
        "created_at": meter.created_at,
        "updated_at": meter.updated_at,
    }
