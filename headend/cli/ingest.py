"""headend ingest: a process that stores what the broker brings."""

import logging

from rich.logging import RichHandler

from headend.cli.shell import reported
from headend.cli.terminal import CommandError, err, flags, out
from schemas.config import load_settings


@reported
async def ingest() -> None:
    """Store what the broker of the settings brings. Ctrl-C stops it.

    Any number of these share the slots of one database: each slot is read by one of them, and by another one
    when that ends. `headend run` does the same inside when HEADEND_MQTT_URL is set.
    """
    from headend import app as service

    settings = load_settings()
    logging.basicConfig(
        level=logging.DEBUG if flags.debug else settings.log_level.upper(),
        format="%(message)s",
        handlers=[RichHandler(console=err, show_path=False, markup=False)],
    )
    try:
        await service.ingest(settings, lambda url: out.print(f"ingest    {url}", soft_wrap=True))
    except service.ServiceError as error:
        raise CommandError(str(error)) from error
