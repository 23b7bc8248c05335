"""Options that many commands share: what typer sees of them, and what commands are given."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from headend.cli.campaign_options import Course
from headend.cli.meter_options import Which
from headend.cli.option_sets import expanded
from headend.cli.terminal import CommandError
from schemas.job import Selection


@dataclass(frozen=True, slots=True)
class Colours:
    red: Annotated[int, typer.Option(help="So much red.")] = 1
    named: Annotated[list[str] | None, typer.Option("--colour", help="This one.")] = None


def test_a_dataclass_stands_for_its_options() -> None:
    app = typer.Typer()

    @app.command()
    @expanded
    def paint(
        what: str, *, size: Annotated[int, typer.Option()], colours: Colours, deep: bool = False
    ) -> None:
        typer.echo(f"{what} {size} {colours.red} {colours.named} {deep}")

    def run(*arguments: str) -> str:
        return CliRunner().invoke(app, arguments).output.strip()

    assert run("wall", "--size", "3") == "wall 3 1 None False"
    told = run("wall", "--size", "3", "--red", "0", "--colour", "a", "--colour", "b", "--deep")
    assert told == "wall 3 0 ['a', 'b'] True"
    told = run("--help")
    assert told.index("--size") < told.index("--red") < told.index("--colour") < told.index("--deep")
    assert "So much red" in told


def test_two_options_of_one_name_are_refused() -> None:
    def paint(red: int, colours: Colours) -> None: ...

    with pytest.raises(ValueError, match="red"):
        expanded(paint)


def test_meters_are_named_in_three_ways(tmp_path: Path) -> None:
    (tmp_path / "some.csv").write_text("asset_id\nM3\n")
    said = Which(meters=["M1"], tags=["rate=2"], meters_file=tmp_path / "some.csv").selection(["M2"])
    assert Selection.model_validate(said) == Selection(meters=("M1", "M2", "M3"), tags=("rate=2",))
    assert Which().selection() == {}


def test_options_go_before_a_document() -> None:
    document = {"selection": {"groups": ["g"]}, "canaries": 5, "soak_s": 0, "retry": {"first_s": 7}}
    plan = Course(canaries=0, attempts=2).plan(Which(), document=document)
    assert (plan.canaries, plan.soak_s, plan.selection.groups) == (0, 0, ("g",))
    assert (plan.retry.attempts, plan.retry.first_s) == (2, 7)
    assert Course().plan(Which(meters=["M"]), document=document).selection == Selection(meters=("M",))


def test_all_meters_are_meant_by_saying_so_alone() -> None:
    with pytest.raises(CommandError, match="--all-meters"):
        Course(canaries=1).plan(Which())
    assert Course(all_meters=True).plan(Which()).selection == Selection()


def test_named_meters_are_urgent_unless_they_are_for_later() -> None:
    assert Course().plan(Which(), named=["M"]).urgent
    assert not Course(starts="2027-01-01T00:00:00Z").plan(Which(), named=["M"]).urgent
    assert not Course().plan(Which(meters=["M"])).urgent
