"""headend parameters: attributes of meters written and read back, or read; scripts run."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from headend.cli import campaign_options as when
from headend.cli import schedule_options as options
from headend.cli.campaigns import submit
from headend.cli.schedule_options import selected
from headend.cli.shell import reported
from headend.cli.terminal import CommandError, err, out
from headend.parameters.allowed import dlms_model, mistakes
from protocols.dlms.obis import Obis
from schemas.config import load_settings
from schemas.model import ModelError
from schemas.programs.parameters import ParametersProgram, ReadItem

app = typer.Typer(
    help="Parameters: attributes by class and OBIS code, written and read back; scripts.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)

Document = Annotated[
    Path, typer.Argument(help="TOML or JSON with items.", exists=True, dir_okay=False, metavar="FILE")
]
AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]
NoFollow = Annotated[bool, typer.Option("--no-follow", help="Do not wait for its end.")]


@app.command()
@reported
async def apply(
    file: Document,
    meters: options.Meters = None,
    group: options.Groups = None,
    model: options.Models = None,
    station: options.Stations = None,
    query: options.Query = None,
    meters_file: options.MetersFile = None,
    all_meters: when.AllMeters = False,
    starts: when.Starts = None,
    window: when.WindowText = None,
    waves: when.Waves = None,
    canaries: when.Canaries = None,
    no_follow: NoFollow = False,
    as_json: AsJson = False,
) -> int:
    """Write the items of FILE, each unless it is so already, and read them back. Nothing is rolled back.

    [bold]headend parameters apply push.toml --group residential --canaries 5[/bold]
    """
    plan = when.plan(
        selected(group, None, None, None, station, model, query, meters, meters_file),
        all_meters=all_meters,
        starts=starts,
        window=window,
        waves=waves,
        canaries=canaries,
    )
    program = _program(file)
    return await submit(program, plan, title=file.stem, follow=not no_follow, as_json=as_json)


@app.command()
@reported
async def read(
    meter: Annotated[str, typer.Argument(help="Asset id.", metavar="METER")],
    class_id: Annotated[int, typer.Argument(min=0, max=0xFFFF, help="Interface class.", metavar="CLASS")],
    obis: Annotated[str, typer.Argument(help="Logical name.", metavar="OBIS")],
    attribute: Annotated[int, typer.Argument(min=2, max=127, help="Its number.", metavar="ATTR")],
    as_json: AsJson = False,
) -> int:
    """Read one attribute now, by a program that writes nothing.

    [bold]headend parameters read SIM000010000001 40 0-0:25.9.0 3[/bold]
    """
    item = ReadItem(do="read", class_id=class_id, obis=_obis(obis), attribute=attribute)
    program = ParametersProgram(items=(item,))
    plan = when.plan({"meters": [meter]}, urgent=True)
    return await submit(program, plan, title=f"read {item}", as_json=as_json)


@app.command()
@reported
async def check(
    file: Document,
    model: Annotated[list[str] | None, typer.Option(help="A meter model; may be repeated.")] = None,
) -> int:
    """Check FILE, and whether meters of a model may be given it; nothing is sent."""
    program = _program(file)
    out.print(f"{file}: {len(program.items)} items")
    for n, item in enumerate(program.items, 1):
        out.print(f"  {n} {item.do} {item} {item.name}", markup=False, highlight=False)
    wrong = 0
    folders = load_settings().profile_folders
    for name in model or ():
        try:
            found = dlms_model(name, folders)
        except ModelError as error:
            raise CommandError(str(error)) from error
        if found is None:
            raise CommandError(f"meters of model {name} have no attributes that can be written")
        told = mistakes(program, found)
        wrong += len(told)
        for one in told:
            err.print(f"headend: {name}: {one}", style="red", markup=False, soft_wrap=True)
        if not told:
            out.print(f"meters of model {name} may be given it")
    return int(wrong > 0)


def _obis(text: str) -> str:
    try:
        return str(Obis.parse(text))
    except ValueError as error:
        raise CommandError(f"{text!r} is no OBIS code: {error}") from error


def _program(path: Path) -> ParametersProgram:
    try:
        text = path.read_text("utf-8")
        told: Any = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        if isinstance(told, dict):
            told = {"kind": "parameters", **told, "items": [_item(one) for one in told.get("items", ())]}
        return ParametersProgram.model_validate(told)
    except (UnicodeDecodeError, json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        raise CommandError(f"{path}: {error}") from error
    except ValidationError as error:
        raise CommandError("\n  ".join([f"{path} is no parameters program:", *when.wrong(error)])) from error


def _item(told: Any) -> Any:
    """A write unless it says otherwise."""
    return {"do": "write", **told} if isinstance(told, dict) else told
