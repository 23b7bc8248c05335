"""What the README shows must work: its meter model loads, its commands and settings exist."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headend.cli.main import app
from schemas.address import LinkAddress, Scheme
from schemas.config import Settings
from schemas.model import load_model

README = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")


def test_the_example_model_loads(tmp_path: Path) -> None:
    example = README.split("## Add a meter model")[1].split("```toml\n")[1].split("```")[0]
    (tmp_path / "example.toml").write_text(example, "utf-8")
    model = load_model("example", (tmp_path,))
    assert model.association.protection == "authenticated+encrypted"
    assert [one.number for one in model.load_profiles] == [1]


SHOWN = [
    (name, *sub)
    for name, rest in re.findall(r"^\| `headend (\w+)([^`]*)`", README, re.MULTILINE)
    for sub in ([(one,) for one in rest.strip().split("\\|")] if re.match(r" [a-z]+(\\\||$)", rest) else [()])
]


@pytest.mark.parametrize("command", SHOWN, ids=" ".join)
def test_every_command_shown_exists(command: tuple[str, ...]) -> None:
    told = CliRunner().invoke(app, [*command, "--help"])
    assert told.exit_code == 0, told.output


def test_all_commands_are_looked_at() -> None:
    assert {("meters", "exchange"), ("db", "status"), ("run",), ("decode",)} <= set(SHOWN)


@pytest.mark.parametrize("name", re.findall(r"`HEADEND_([A-Z_]+)`|HEADEND_([A-Z_]+)=", README))
def test_every_variable_shown_is_a_setting(name: tuple[str, str]) -> None:
    variable = name[0] or name[1]
    assert variable == "CONFIG" or variable.lower() in Settings.model_fields


def test_an_address_of_every_scheme_is_shown_and_is_one() -> None:
    table = README.split("| address | link |")[1].split("\n\n")[0]
    shown = [one for line in table.splitlines()[2:] for one in re.findall(r"`([^`]+)`", line.split("|")[1])]
    assert {LinkAddress.parse(address).scheme for address in shown} == set(Scheme)
