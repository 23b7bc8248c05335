"""headend parameters: attributes of meters written and read back, or read; scripts run."""

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from headend.cli.campaign_options import Course, Follow
from headend.cli.campaign_submit import submit
from headend.cli.documents import document, mistakes
from headend.cli.meter_options import Which
from headend.cli.option_sets import expanded
from headend.cli.shell import reported
from headend.cli.terminal import CommandError, err, out
from headend.parameters import allowed
from protocols.dlms.obis import Obis
from schemas.campaign import Plan
from schemas.config import load_settings
from schemas.job import Selection
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


@app.command()
@reported
@expanded
async def apply(
    file: Document,
    *,
    which: Which,
    course: Course,
    follow: Follow = True,
    as_json: AsJson = False,
) -> int:
    """Write the items of FILE, each unless it is so already, and read them back. Nothing is rolled back.

    [bold]headend parameters apply push.toml --group residential --canaries 5[/bold]
    """
    program = _program(file)
    return await submit(program, course.plan(which), title=file.stem, follow=follow, as_json=as_json)


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
    plan = Plan(selection=Selection(meters=(meter,)), urgent=True)
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
            found = allowed.dlms_model(name, folders)
        except ModelError as error:
            raise CommandError(str(error)) from error
        if found is None:
            raise CommandError(f"meters of model {name} have no attributes that can be written")
        told = allowed.mistakes(program, found)
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
    told = document(path)
    if isinstance(items := told.get("items"), list):
        told["items"] = [_item(one) for one in items]
    try:
        return ParametersProgram.model_validate({"kind": "parameters"} | told)
    except ValidationError as error:
        raise CommandError("\n  ".join([f"{path} is no parameters program:", *mistakes(error)])) from error


def _item(told: Any) -> Any:
    """A write unless it says otherwise."""
    return {"do": "write", **told} if isinstance(told, dict) else told
