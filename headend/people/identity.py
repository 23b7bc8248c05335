"""Who acts, by what he comes with."""

from typing import Final

from headend.store.sql import Connection
from schemas.config import Settings
from schemas.people import Permission, Principal

_HOST: Final = Principal("cli", frozenset(Permission))


async def cli_principal(connection: Connection, settings: Settings) -> Principal:
    """Whoever uses the host's command line: everything is permitted there, and no account is behind it."""
    return _HOST
