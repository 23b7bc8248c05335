"""The command ``concentrator-sim``: serve a simulated field, and tell the truth about its meters."""

import asyncio
import datetime as dt
import gc
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer
import uvloop
from rich.console import Console

from concentrator_sim.drawing import drawn
from concentrator_sim.field import Field, clock_from, unix_now
from concentrator_sim.generator import QUANTITIES, moment_of, quarter_of
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.network_file import network_csv
from concentrator_sim.part import WHOLE, Part
from concentrator_sim.scenario import (
    MIXES,
    Framing,
    Scenario,
    ScenarioError,
    find_scenario,
    load_scenario,
    make_scenario,
)
from concentrator_sim.security import MODES
from concentrator_sim.shapes import EPOCH_S, LAST_QUARTER, QUARTER_S

app = typer.Typer(
    name="concentrator-sim",
    help="Simulated meters that speak DLMS/COSEM, for trying out a head-end and testing it.",
    no_args_is_help=True,
    add_completion=False,
)

#: A tree is drawn as if there were a broker; it does not name it.
_SOME_BROKER = "mqtt://127.0.0.1:1883"
_UNITS = ("Wh", "Wh", "varh", "varh")

Meters = Annotated[
    int | None,
    typer.Option(
        "--meters",
        help="How many meters; of a scenario that scales (direct, mixed) all together.  [200]",
        show_default=False,
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", help="What their load comes from.  [1]")]
ScenarioName = Annotated[
    str | None,
    typer.Option(
        "--scenario", help="TOML file, or demo, lossy, direct, mixed; options go before its settings."
    ),
]


@app.command()
def serve(
    meters: Meters = None,
    base_port: Annotated[
        int | None, typer.Option(help="Port of the first meter; 0: the system chooses each.  [20000]")
    ] = None,
    seed: Seed = None,
    mix: Annotated[str | None, typer.Option(help=f"Mixed kinds of meters: {', '.join(MIXES)}.")] = None,
    security: Annotated[
        str | None, typer.Option(help=f"Without a mix, of all meters: {', '.join(MODES)}.  [hls5]")
    ] = None,
    framing: Annotated[Framing | None, typer.Option(help="Without a mix, of all meters.  [wrapper]")] = None,
    shared_port: Annotated[
        bool | None, typer.Option(help="All meters behind one port, by server SAP.")
    ] = None,
    delay_ms: Annotated[int | None, typer.Option(help="Hold each answer back so long.")] = None,
    silent_every: Annotated[int | None, typer.Option(help="Every n-th meter never answers.")] = None,
    dial_in: Annotated[
        str | None, typer.Option(help="Listen nowhere: dial in to this host:port with a heartbeat.")
    ] = None,
    push_to: Annotated[
        str | None, typer.Option(help="Push Data-Notifications to tcp://host:port or udp://host:port.")
    ] = None,
    push_every_s: Annotated[int | None, typer.Option(help="Seconds between a meter's pushes.  [900]")] = None,
    push_confirm: Annotated[bool | None, typer.Option(help="Ask for confirmation (TCP).")] = None,
    scenario: ScenarioName = None,
    write_meters: Annotated[
        Path | None, typer.Option(help="Write the CSV that `headend meters import` takes, keys in the clear.")
    ] = None,
    write_network: Annotated[
        Path | None, typer.Option(help="Write the CSV that `headend network import` takes.")
    ] = None,
    mqtt_url: Annotated[
        str | None,
        typer.Option(help="Broker of stations that publish, mqtt://host:port; else they are silent."),
    ] = None,
    device_dir: Annotated[
        Path | None, typer.Option(help="Folder for lasting names of pseudo-terminals.")
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            help="Serve a share, 1/2 or 2/2 of two processes: its own meters, ports and rows of the files."
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--now",
            help="What the field's clock shows at the start, ISO 8601 with offset; it runs on from there.",
        ),
    ] = None,
    seconds: Annotated[float | None, typer.Option("--for", help="Stop after so many seconds.")] = None,
    until_eof: Annotated[
        bool, typer.Option("--until-eof", help="Stop when standard input ends, as when its holder dies.")
    ] = False,
) -> None:
    """Serve a field until Ctrl-C. Prints one line of JSON on stdout when all meters listen."""
    settings = _scenario(
        scenario,
        meters=meters,
        base_port=base_port,
        seed=seed,
        mix=mix,
        security=security,
        framing=framing,
        shared_port=shared_port,
        delay_ms=delay_ms,
        silent_every=silent_every,
        dial_in=dial_in,
        push_to=push_to,
        push_every_s=push_every_s,
        push_confirm=push_confirm,
        mqtt_url=mqtt_url,
        device_dir=device_dir,
    )
    clock = unix_now if start is None else clock_from(_moment(start))
    try:
        share = WHOLE if part is None else Part.parse(part)
    except ValueError as error:
        _fail(str(error))
    try:
        uvloop.run(_serve(settings, share, clock, write_meters, write_network, seconds, until_eof=until_eof))
    except OSError as error:
        _fail(str(error))


@app.command()
def show(
    meter: Annotated[str, typer.Argument(help="Serial number, or the meter's number from 1.")],
    begin: Annotated[
        str | None, typer.Option("--from", help="First stamp, ISO 8601 with offset.  [a day ago]")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="Last stamp, included.  [now]")] = None,
    seed: Seed = None,
    scenario: ScenarioName = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """What a meter's load profile holds, computed and not read: the truth to compare with."""
    number = _number(meter)
    if meter.startswith("SIM") and seed is None and len(meter) == 15:
        seed = int(meter[3:8])
    settings = _scenario(scenario, seed=seed)
    found = SimulatedMeter(settings.seed, number)
    if meter.startswith("SIM") and meter != found.serial:
        _fail(f"no meter {meter!r} in the field with seed {settings.seed}")
    now = unix_now()
    first = _quarter(begin, now - 86_400, up=True)
    last = _quarter(end, now, up=False)
    columns = found.consumption.quarters(range(4), first, max(0, last - first + 1))
    rows = [
        (dt.datetime.fromtimestamp(moment_of(first + n), dt.UTC), [int(column[n]) for column in columns])
        for n in range(len(columns[0]))
    ]
    if as_json:
        told = [
            {"stamp": stamp.isoformat().replace("+00:00", "Z")} | dict(zip(QUANTITIES, values, strict=True))
            for stamp, values in rows
        ]
        typer.echo(json.dumps({"meter": found.serial, "units": _UNITS, "rows": told}))
        return
    typer.echo(f"{found.serial}  {found.consumption.kind}  {found.consumption.yearly_kwh} kWh a year")
    heads = (f"{name} {unit}" for name, unit in zip(QUANTITIES, _UNITS, strict=True))
    typer.echo("end of interval      " + "".join(f"{head:>14}" for head in heads))
    for stamp, values in rows:
        typer.echo(f"{stamp:%Y-%m-%dT%H:%M:%SZ} " + "".join(f"{value:>14}" for value in values))


@app.command()
def tree(
    scenario: ScenarioName = None,
    seed: Seed = None,
    meters: Meters = None,
    depth: Annotated[
        int, typer.Option(min=1, max=5, help="Levels: substation, feeder, transformer, station, meters.")
    ] = 5,
    write_network: Annotated[
        Path | None, typer.Option(help="Write the CSV that `headend network import` takes, without ports.")
    ] = None,
) -> None:
    """The network of a scenario as it would be served: who hangs below whom, by which links."""
    field = Field(_scenario(scenario, seed=seed, meters=meters, mqtt_url=_SOME_BROKER))
    if write_network is not None:
        _write_private(write_network, network_csv(field))
    if not field.tree.stations:
        _fail("this scenario has no stations: name one, as in --scenario demo")
    Console().print(drawn(field.scenario, field.tree, depth))


async def _serve(
    settings: Scenario,
    part: Part,
    clock: Callable[[], int],
    write_meters: Path | None,
    write_network: Path | None,
    seconds: float | None,
    *,
    until_eof: bool,
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if until_eof:
        loop.add_reader(sys.stdin.fileno(), _stop_at_eof, stop)
    async with Field(settings, clock=clock, part=part) as field:
        if write_meters is not None:
            _write_private(write_meters, field.csv())
        if write_network is not None:
            _write_private(write_network, network_csv(field))
        ports = [item.port for item in field.meters]
        ready = {
            "event": "ready",
            "meters": len(field.meters),
            "host": settings.host,
            "first_port": ports[0] if ports else 0,
            "last_port": ports[-1] if ports else 0,
            "stations": len(field.stations),
            "below_stations": field.tree.meters,
            "part": str(part),
            "seed": settings.seed,
            "pid": os.getpid(),
        }
        gc.collect()
        gc.freeze()  # a field of 100,000 meters stays: nobody need look for garbage in it again
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        if sys.stderr.isatty():
            typer.echo(_summary(field), err=True)
        watch, told = asyncio.create_task(field.watch()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({watch, told}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                watch.result()
        finally:
            watch.cancel()
            told.cancel()
            sys.stdout.write(json.dumps({"event": "ended", "images": field.images()._asdict()}) + "\n")
            sys.stdout.flush()


def _stop_at_eof(stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        stop.set()


def _summary(field: Field) -> str:
    """What is served, for a person to read."""
    kinds = Counter(f"{item.meter.mode.name} over {item.framing}" for item in field.meters)
    parts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    said = [f"{len(field.meters)} meters: {parts}"]
    if field.meters:
        said.append(f"{field.address(field.meters[0])} ... {field.address(field.meters[-1])}")
    for served in field.stations:
        station = served.station
        told = f"{len(station.leaves)} meters, {station.plan.kind}, {served.address or 'silent'}"
        said.append(f"{station.code}: {told}")
    return "\n".join([*said, "Ctrl-C stops them."])


def _write_private(path: Path, text: str) -> None:
    """The file appears whole, and only its owner reads it: there are keys in it."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    part.replace(path)


def _scenario(name: str | None, **options: object) -> Scenario:
    try:
        if name is not None:
            return load_scenario(find_scenario(name), **options)
        return make_scenario({k: v for k, v in options.items() if v is not None}, "options")
    except ScenarioError as error:
        _fail(str(error))


def _number(meter: str) -> int:
    digits = meter[8:] if meter.startswith("SIM") else meter
    if not (digits.isascii() and digits.isdigit()) or int(digits) < 1:
        _fail(f"{meter!r} is no serial number of a simulated meter, and no number from 1")
    return int(digits)


def _moment(text: str) -> int:
    """Unix seconds of a time that somebody wrote."""
    try:
        parsed = dt.datetime.fromisoformat(text)
    except ValueError:
        _fail(f"{text!r} is no time, as in 2026-01-31T00:15:00Z")
    if parsed.utcoffset() is None:
        _fail(f"{text!r} has no offset: write +01:00, or Z for UTC")
    moment = int(parsed.timestamp())
    if not EPOCH_S <= moment <= moment_of(LAST_QUARTER):
        _fail("simulated meters know the years 2020 to 2069")
    return moment


def _quarter(text: str | None, default_s: int, *, up: bool) -> int:
    moment = default_s if text is None else _moment(text)
    return quarter_of(moment + QUARTER_S - 1 if up else moment)


def _fail(reason: str) -> NoReturn:
    typer.echo(f"concentrator-sim: {reason}", err=True)
    raise typer.Exit(2)
