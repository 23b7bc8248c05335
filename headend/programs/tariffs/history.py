"""Which tariff program a meter had from when to when, as procedures tell it."""

from datetime import datetime
from typing import Protocol

from headend.session.access import Connect
from headend.store import tariffs
from schemas.tariff.calendar import Compiled


class History(Protocol):
    """Where it is kept what meters had from when to when."""

    async def found(self, meter_id: int, stored: Compiled, at: datetime) -> None:
        """The meter has this, whoever brought it."""

    async def began(
        self, meter_id: int, stored: Compiled, at: datetime, campaign_id: int, *, exact: bool
    ) -> None:
        """From ``at`` on it has what the campaign brought."""


class StoredHistory:
    """The `History` in the database."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    async def found(self, meter_id: int, stored: Compiled, at: datetime) -> None:
        """See `headend.store.tariffs.found`."""
        async with self._connect() as connection, connection.transaction():
            await tariffs.found(connection, meter_id, stored, at=at)

    async def began(
        self, meter_id: int, stored: Compiled, at: datetime, campaign_id: int, *, exact: bool
    ) -> None:
        """See `headend.store.tariffs.began`."""
        async with self._connect() as connection, connection.transaction():
            await tariffs.began(connection, meter_id, stored, at=at, campaign_id=campaign_id, exact=exact)
