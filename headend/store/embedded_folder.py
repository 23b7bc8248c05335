"""Where an embedded server keeps its things, which user that is, and which server works there."""

import contextlib
import hashlib
import logging
import os
import pwd
import signal
import subprocess
import time
from pathlib import Path
from typing import Final, TypedDict

log = logging.getLogger(__name__)

DATABASE: Final = "headend"
USER: Final = "headend"
HOST: Final = "127.0.0.1"
_ROOT_DATA: Final = Path("/var/lib/headend")


class EmbeddedPostgresError(Exception):
    """The embedded server cannot be had; the message says why and what to do."""


class Folder:
    """Where things are: ``root`` is ours; ``cluster`` and below belong to the user the server runs as."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cluster = root / "cluster"
        self.data = self.cluster / "data"
        self.log = root / "postgres.log"
        self.password = root / "password"
        self.user = server_user(self.cluster)

    @classmethod
    def reachable(cls, root: Path) -> "Folder":
        """The folder itself, or as root its stand-in in /var/lib where the server's user cannot enter it."""
        folder = cls(root)
        if folder.user is None:
            return folder
        nearest = root
        while not nearest.exists():
            nearest = nearest.parent
        if can_enter(nearest, folder.user):
            return folder
        stand_in = _ROOT_DATA / f"postgres-{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}"
        log.info("%s is closed to the database's user; its data is in %s", root, stand_in)
        return cls(stand_in)

    def dsn(self, port: int, database: str = DATABASE) -> str:
        """Where a server on ``port`` is reached, password included."""
        return f"postgresql://{USER}:{self.password.read_text().strip()}@{HOST}:{port}/{database}"


def server_user(cluster: Path) -> tuple[int, int] | None:
    """(uid, gid) that the server runs as; None: as ourselves."""
    if os.geteuid() != 0:
        return None
    if cluster.exists() and cluster.stat().st_uid != 0:
        status = cluster.stat()
        return status.st_uid, status.st_gid
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


class Identity(TypedDict, total=False):
    """Arguments of `subprocess` that say as whom."""

    user: int
    group: int
    extra_groups: list[int]


def identity(user: tuple[int, int] | None) -> Identity:
    """What `subprocess` needs to run a program as ``user``, nothing for ourselves."""
    return {} if user is None else {"user": user[0], "group": user[1], "extra_groups": []}


def can_enter(folder: Path, user: tuple[int, int]) -> bool:
    """Whether ``user`` may go into the folder and all those above it."""
    done = subprocess.run(  # noqa: S603 - constant program, path is an argument
        ["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)],
        check=False, cwd="/", stderr=subprocess.DEVNULL, **identity(user),
    )  # fmt: skip
    return done.returncode == 0


def write_private(path: Path, text: str, owner: tuple[int, int] | None = None) -> None:
    """A new file that its owner alone can read. ``owner`` is given the open file, never a path: in a folder
    of that user's the path could be a link to another file by then, which root would give away."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        if owner is not None:
            os.fchown(descriptor, *owner)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def server_pid(data: Path) -> int | None:
    """Pid of the postmaster that works in ``data``: not a zombie, not another process with its number."""
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        if pid > 0 and Path(f"/proc/{pid}/cwd").readlink() == data.resolve():
            return pid
    except (OSError, ValueError):  # no file, half a file, no such process, a zombie, somebody else's
        pass
    return None


def stop_left_over(folder: Folder, timeout_s: float) -> None:
    """Stop the server that a killed holder left. We hold the lock, so nobody else does this."""
    for signal_number in (signal.SIGINT, signal.SIGQUIT):
        pid = server_pid(folder.data)
        if pid is None:
            return
        log.info("stopping PostgreSQL %d, left over from a process that was killed", pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal_number)
        deadline = time.monotonic() + timeout_s
        while server_pid(folder.data) == pid:
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        else:
            return
    raise EmbeddedPostgresError(f"the left-over PostgreSQL {pid} in {folder.data} does not stop")
