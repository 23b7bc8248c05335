"""What deploy/ says is true: units that systemd takes, commands and settings that there are, a compose file
that hangs together."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml  # comes with schemathesis
from typer.main import get_command

from headend.cli.main import app
from schemas.config import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("headend*.*"))
SERVICES = [one for one in UNITS if one.suffix == ".service"]
KEYED = {one.name for one in SERVICES} - {"headend-api.service"}


def check_command(words: list[str]) -> None:
    """That there is such a command and that it takes such options."""
    name, *rest = words
    group: Any = get_command(app)
    command = group.get_command(None, name)
    assert command is not None, name
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= known, words


def check_settings(names: Iterable[str]) -> None:
    known = {"HEADEND_CONFIG"} | {f"HEADEND_{name.upper()}" for name in Settings.model_fields}
    assert set(names) <= known


@pytest.mark.parametrize("unit", SERVICES, ids=lambda one: one.name)
def test_units_start_what_there_is(unit: Path) -> None:
    text = unit.read_text()
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    check_command(line.replace("%i", "2").split()[1:])
    check_settings(re.findall(r"^Environment=(\w+)=", text, re.MULTILINE))
    assert ("LoadCredential=master.key" in text) == (unit.name in KEYED)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY / "systemd", tmp_path, dirs_exist_ok=True)
    for unit in SERVICES:
        there = tmp_path / unit.name
        there.write_text(there.read_text().replace("/opt/headend/.venv/bin/headend", "/bin/true"))
    names = [one.name.replace("@.", "@2.") for one in UNITS if one.is_file()]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in names)],
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "headend" in line] == []


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def test_compose_runs_each_part(compose: dict[str, Any]) -> None:
    services = compose["services"]
    ours = {name: one for name, one in services.items() if one["image"] == "headend"}
    assert set(ours) == {"api", "worker", "ingest", "scheduler"}
    for name, one in ours.items():
        check_command(one["command"])
        check_settings(one["environment"])
        assert one["command"][0] == name
        assert one["depends_on"]["database"] == {"condition": "service_healthy"}
        assert ("master_key" in one.get("secrets", ())) == (name != "api")
        assert one["read_only"]
        assert one["cap_drop"] == ["ALL"]


def test_compose_hangs_together(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, one in services.items():
        assert set(one.get("depends_on", ())) <= services.keys(), name
        assert set(one.get("secrets", ())) <= compose["secrets"].keys(), name
        for volume in one.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or source.startswith("./"), name
        for port in one.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name
        for value in one.get("environment", {}).values():
            secret = re.search(r"/run/secrets/(\w+)", str(value))
            assert secret is None or secret[1] in one["secrets"], name
            host = re.search(r"://(?:[^@/]*@)?([a-z]+):\d+", str(value))
            assert host is None or host[1] in services, name
    mounted = [v.split(":")[0] for one in services.values() for v in one.get("volumes", ()) if v[0] == "."]
    assert (DEPLOY / "mosquitto.conf").is_file()
    assert set(mounted) == {"./mosquitto.conf", "./secrets/mosquitto.passwd"}
