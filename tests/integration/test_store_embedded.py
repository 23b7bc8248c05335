"""The embedded server after every kind of crash: its data is there, and never two servers on one folder."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from headend.store import embedded, embedded_binaries, embedded_folder
from headend.store.embedded import EmbeddedPostgres, running_dsn
from headend.store.embedded_folder import EmbeddedPostgresError
from tests.conftest import server_folder

pytestmark = pytest.mark.storage

PARENT = """
import sys
from pathlib import Path
from headend.store.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
print(server.start(), server.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def empty_folder() -> Iterator[Path]:
    with server_folder() as path:
        yield path


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A cluster that was started and stopped once: copying it is faster than making one for each test."""
    with server_folder() as path:
        with EmbeddedPostgres(path):
            pass
        yield path


@pytest.fixture
def folder(empty_folder: Path, made: Path) -> Path:
    subprocess.run(["cp", "-a", f"{made}/.", str(empty_folder)], check=True)
    return empty_folder


def start_parent(folder: Path) -> tuple[subprocess.Popen[str], str, int]:
    """A process that runs the server, the DSN, and the postmaster's pid."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    dsn, pid = process.stdout.readline().split()
    return process, dsn, int(pid)


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def remember(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE kept (number integer)")
        connection.execute("INSERT INTO kept VALUES (42)")


def recall(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT number FROM kept").fetchone()
        assert row is not None
        return row[0]


def test_stopped_and_started_again_it_has_its_data(folder):
    server = EmbeddedPostgres(folder)
    with server as dsn:
        remember(dsn)
        pid = server.pid
        assert running_dsn(folder) == dsn
        with psycopg.connect(dsn) as connection:
            settings = connection.execute(
                """SELECT current_setting('data_checksums'), current_setting('fsync'), datlocale, datcollate,
                          pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"""
            ).fetchone()
        assert settings == ("on", "on", "C.UTF-8", "C", "UTF8")
    assert pid is not None
    assert not is_running(pid)
    assert running_dsn(folder) is None
    with EmbeddedPostgres(folder) as dsn:
        assert recall(dsn) == 42


@pytest.mark.parametrize("victims", ["parent", "postmaster", "both"])
def test_killed_and_started_again_it_has_its_data(folder, victims):
    process, dsn, pid = start_parent(folder)
    remember(dsn)
    if victims in {"postmaster", "both"}:
        os.kill(pid, signal.SIGKILL)
    if victims in {"parent", "both"}:
        kill(process)
    else:
        process.communicate("")  # the parent outlives its server, and ends
    with EmbeddedPostgres(folder) as dsn:
        assert recall(dsn) == 42
    assert not is_running(pid)


def test_a_second_holder_is_refused_while_the_first_lives(folder):
    process, dsn, pid = start_parent(folder)
    try:
        with pytest.raises(EmbeddedPostgresError, match="another process"):
            EmbeddedPostgres(folder).start()
        remember(dsn)
        assert is_running(pid)
    finally:
        kill(process)
    with EmbeddedPostgres(folder) as dsn:
        assert recall(dsn) == 42


@pytest.mark.parametrize("whose", ["unrelated", "zombie", "dead", "garbage"])
def test_a_pid_file_that_names_no_server_of_this_folder_is_not_believed(folder, whose):
    with EmbeddedPostgres(folder) as dsn:
        remember(dsn)
    user = embedded_folder.identity(embedded_folder.server_user(folder / "cluster"))
    program = "sleep 60" if whose == "unrelated" else "exit"
    other = subprocess.Popen(["/bin/sh", "-c", f"exec {program}"], cwd="/", **user)
    try:
        if whose != "unrelated":
            os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # ended, not yet reaped
        if whose == "dead":
            other.wait()
        file = folder / "cluster" / "data" / "postmaster.pid"
        file.write_text("x" if whose == "garbage" else f"{other.pid}\n/somewhere\n0\n5432\n\n127.0.0.1\n")
        assert running_dsn(folder) is None
        with EmbeddedPostgres(folder) as dsn:
            assert recall(dsn) == 42
        if whose == "unrelated":
            assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_half_made_cluster_is_made_again(empty_folder):
    half = empty_folder / "cluster" / "half"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(empty_folder) as dsn:
        remember(dsn)


def test_the_data_is_closed_to_others_and_the_password_is_needed(folder, made):
    assert (made / "postgres.log").stat().st_mode & 0o077 == 0
    with EmbeddedPostgres(folder) as dsn:
        assert (folder / "password").stat().st_mode & 0o777 == 0o600
        assert (folder / "cluster").stat().st_mode & 0o777 == 0o700
        assert sorted(path.name for path in (folder / "cluster").iterdir()) == ["data"]
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(dsn, password="wrong")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_gives_away_no_path_in_a_folder_of_another_user(empty_folder, monkeypatch):
    """Between making a file and giving its path away, that user could put a link to another file there."""
    given = []
    chown = os.chown

    def noted(path, *owner, **how):
        given.append(Path(path))
        chown(path, *owner, **how)

    monkeypatch.setattr(embedded.os, "chown", noted)
    with EmbeddedPostgres(empty_folder):
        pass
    assert given == [empty_folder / "cluster"]


def test_a_server_that_cannot_start_says_why(folder):
    with pytest.raises(EmbeddedPostgresError, match="no_such_setting"):
        EmbeddedPostgres(folder, settings={"no_such_setting": "1"}).start()
    with EmbeddedPostgres(folder) as dsn:  # and lets go of the folder
        remember(dsn)


async def test_a_cancelled_start_leaves_no_server(empty_folder):
    server = EmbeddedPostgres(empty_folder)

    async def run() -> None:
        async with server:
            pytest.fail("started in spite of the cancellation")

    task = asyncio.create_task(run())
    while not (empty_folder / "lock").exists():  # noqa: ASYNC110 - a thread makes it
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.pid is None
    assert running_dsn(empty_folder) is None
    async with server as dsn:
        remember(dsn)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to step down to another user")
def test_as_root_a_closed_folder_is_replaced_by_one_the_server_can_enter(empty_folder, monkeypatch):
    monkeypatch.setattr(embedded_folder, "_ROOT_DATA", empty_folder / "stand-in")
    closed = empty_folder / "closed"
    closed.mkdir(mode=0o700)
    with EmbeddedPostgres(closed / "data") as dsn:
        remember(dsn)
        assert running_dsn(closed / "data") == dsn
    assert not (closed / "data").exists()
    with EmbeddedPostgres(closed / "data") as dsn:
        assert recall(dsn) == 42


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to step down to another user")
def test_as_root_binaries_that_others_can_write_are_not_run(folder, monkeypatch):
    cache = folder / "cache"
    monkeypatch.setattr(embedded_binaries, "_ROOT_CACHE", cache)
    monkeypatch.setattr(embedded_binaries, "can_enter", lambda path, user: "pginstall" not in str(path))
    with EmbeddedPostgres(folder) as dsn:
        remember(dsn)
    (copy,) = cache.iterdir()
    copy.chmod(0o777)
    with pytest.raises(EmbeddedPostgresError, match="not root's alone"):
        EmbeddedPostgres(folder).start()
