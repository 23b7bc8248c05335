"""headend points: metering points, the meters there, their CT/VT ratios."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import typer
from rich.table import Table

from headend.cli.acting import acting
from headend.cli.shell import base, reported
from headend.cli.terminal import moment, out, print_json
from headend.cli.values import fraction, registers
from headend.store import audit, meters, points
from schemas.meter import Ratio
from schemas.people import Permission

app = typer.Typer(
    help="Metering points: where energy is metered.", no_args_is_help=True, add_completion=False
)

AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]
Since = Annotated[str | None, typer.Option(help="From when on (RFC 3339); default now.")]
Readings = Annotated[
    list[str] | None, typer.Option("--reading", help="A register then, as 1.8.0=12345.6; may be repeated.")
]


@app.command("list")
@reported
async def list_command(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List metering points in order of their codes."""
    async with base() as opened, opened.pool.connection() as connection:
        found = await points.page(connection, limit=limit)
    if as_json:
        print_json([point.code for point in found])
    else:
        for point in found:
            out.print(point.code, markup=False)


@app.command("show")
@reported
async def show(
    code: Annotated[str, typer.Argument(help="The point's code.")], as_json: AsJson = False
) -> None:
    """Show one point: its meters from-to with their readings, its ratios from-to."""
    async with base() as opened, opened.pool.connection() as connection:
        point = await points.get(connection, code)
        installed = await points.at_point(connection, point.point_id)
        ratios = await points.ratios(connection, point.point_id)
        here = await meters.find(connection, ids=[one.meter_id for one in installed])
    names = {meter.meter_id: meter.asset_id for meter in here}
    shown: dict[str, Any] = {
        "point": code,
        "installations": [
            {
                "meter": names[one.meter_id],
                "from": one.since,
                "to": one.until,
                "start_readings": _texts(one.start_registers),
                "removal_readings": None if one.removal_registers is None else _texts(one.removal_registers),
            }
            for one in installed
        ],
        "ratios": [
            {
                "from": one.since,
                "to": one.until,
                "ct": f"{one.ct_numerator}/{one.ct_denominator}",
                "vt": f"{one.vt_numerator}/{one.vt_denominator}",
            }
            for one in ratios
        ],
    }
    if as_json:
        print_json(shown)
        return
    table = Table("meter", "from", "to", "start readings", "removal readings", title=code)
    for one in shown["installations"]:
        readings = (one["start_readings"], one["removal_readings"] or {})
        told = ("\n".join(f"{obis} {value}" for obis, value in some.items()) for some in readings)
        table.add_row(one["meter"], _time(one["from"]), _time(one["to"]), *told)
    out.print(table)
    for one in shown["ratios"]:
        out.print(f"CT {one['ct']}, VT {one['vt']} from {_time(one['from'])} to {_time(one['to']) or 'now'}")


@app.command("install")
@reported
async def install(
    code: Annotated[str, typer.Argument(help="The point's code; made where it is new.")],
    asset_id: Annotated[str, typer.Argument(help="The meter.")],
    since: Since = None,
    reading: Readings = None,
) -> None:
    """Put a meter at a point."""
    begins = datetime.now(UTC) if since is None else moment(since, option="--since")
    async with base() as opened, opened.pool.connection() as connection:
        meter = await meters.by_asset(connection, asset_id)
        # a point is made by who may make points; a meter is put there by who may do that
        is_known = code in await points.known(connection, [code])
        needs = Permission.OPERATE if is_known else Permission.ADMINISTER
        who = await acting(connection, opened, "point.installed", f"point:{code}", needs=needs)
        point_id = (await points.ensure(connection, [code]))[code]
        start = registers(reading)
        await points.install(
            connection, point_id=point_id, meter_id=meter.meter_id, since=begins, registers=start
        )
        await audit.record(
            connection,
            actor=who.actor,
            action="point.installed",
            object_=f"point:{code}",
            detail={"meter": asset_id, "since": begins.isoformat(), "readings": _texts(start)},
        )
    out.print(f"{asset_id} is at {code} since {begins:%F %T}Z")


@app.command("ratio")
@reported
async def ratio(
    code: Annotated[str, typer.Argument(help="The point's code.")],
    ct: Annotated[str, typer.Option(help="Current transformer, as 200/5.")] = "1",
    vt: Annotated[str, typer.Option(help="Voltage transformer, as 20000/100.")] = "1",
    since: Since = None,
) -> None:
    """Let a CT/VT ratio hold from a moment on. It is applied when curves are read; stored values stay."""
    begins = datetime.now(UTC) if since is None else moment(since, option="--since")
    new = Ratio(begins, None, *fraction(ct, option="--ct"), *fraction(vt, option="--vt"))
    async with base() as opened, opened.pool.connection() as connection:
        who = await acting(connection, opened, "point.ratio", f"point:{code}", needs=Permission.ADMINISTER)
        point = await points.get(connection, code)
        await points.set_ratio(connection, point.point_id, new)
        await audit.record(
            connection,
            actor=who.actor,
            action="point.ratio",
            object_=f"point:{code}",
            detail={"ct": ct, "vt": vt, "since": begins.isoformat()},
        )
    out.print(f"{code}: CT {ct}, VT {vt} since {begins:%F %T}Z")


def _texts(values: "dict[str, Decimal] | Any") -> dict[str, str]:
    return {obis: format(value, "f") for obis, value in values.items()}


def _time(value: datetime | None) -> str:
    return "" if value is None else f"{value:%F %R}Z"
