"""headend api, ingest: the parts of the service as processes of their own, on any number of hosts."""

from typing import Annotated

import typer

from headend.cli.shell import log_to_terminal, reported
from headend.cli.terminal import out
from schemas.config import Settings, load_settings


@reported
async def api(
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="The API's port.")] = None,
) -> None:
    """Serve the API by itself. Ctrl-C stops it.

    It dials no meter and opens no key, so it needs no master key. `headend run` does the same inside.
    """
    from headend import app as service

    await service.serve(_settings() if port is None else _settings(api_port=port), _tell)


@reported
async def ingest() -> None:
    """Store what comes by itself: the broker's messages, and pushes. Ctrl-C stops it.

    Any number of these share the slots of one database: each slot is read by one of them, and by another one
    when that ends. `headend run` does the same inside.
    """
    from headend import app as service

    await service.ingest(_settings(), _tell)


def _settings(**given: int) -> Settings:
    settings = load_settings(**given)
    log_to_terminal(settings)
    return settings


def _tell(what: str, where: str) -> None:
    out.print(f"{what:<9} {where}", soft_wrap=True)
