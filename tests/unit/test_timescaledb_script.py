"""deploy/timescaledb.sh with an engine that only pretends: what it keeps, and for whom."""

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "timescaledb.sh"
#: As the image does: a password is set once, on an empty volume; a container forgets all but its volume.
DOCKER = """#!/bin/sh
here=$(dirname "$0")
case $1 in
inspect) if [ -e "$here/container" ]; then echo true; else exit 1; fi ;;
rm) rm -f "$here/container" ;;
run)
    echo "$*" >>"$here/calls"
    echo "$POSTGRES_PASSWORD" >"$here/container"
    [ -e "$here/volume" ] || cp "$here/container" "$here/volume"
    ;;
exec) if [ "$3" = printenv ]; then cat "$here/container"; fi ;;
port) echo 127.0.0.1:5999 ;;
esac
"""


@pytest.fixture
def run(tmp_path: Path):
    docker = tmp_path / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name != "HEADEND_TEST_TIMESCALEDB_URL"}
    changed = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "HEADEND_CACHE_DIR": str(tmp_path / "cache"),
        "HEADEND_TIMESCALEDB_VIA": "docker",
    }

    def call(*arguments: str) -> str:
        done = subprocess.run(
            ["bash", str(SCRIPT), *arguments],
            env=kept | changed, check=True, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return done.stdout.strip()

    return call


def password(dsn: str) -> str:
    found = re.fullmatch(r"postgresql://postgres:([0-9a-f]{32})@127\.0\.0\.1:5999/postgres", dsn)
    assert found is not None, dsn
    return found[1]


def test_what_is_brought_up_again_takes_the_password_of_its_data(run, tmp_path: Path) -> None:
    first = run("up")
    assert run("up") == first
    run("down")
    assert not (tmp_path / "container").exists()
    assert password(run("up")) == (tmp_path / "volume").read_text().strip()
    (kept,) = (tmp_path / "cache").glob("*.password")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_fresh_one_has_a_password_of_its_own_and_leaves_nothing(run, tmp_path: Path) -> None:
    told = [run("test", "--", "sh", "-c", 'echo "$HEADEND_TEST_TIMESCALEDB_URL"') for _ in range(2)]
    (tmp_path / "volume").unlink()
    assert len({password(dsn) for dsn in told}) == 2
    assert not (tmp_path / "container").exists()
    assert not list((tmp_path / "cache").glob("*.password"))
    assert all(password(dsn) not in (tmp_path / "calls").read_text() for dsn in told)
