"""What meters tell unasked within their sessions, handed to whoever stores it."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, Protocol

from protocols.dlms.association.events import Notification
from schemas.meter import Meter

log = logging.getLogger(__name__)

#: How long the end of the service waits for what is handed over, in seconds.
_DRAIN_S: Final = 20.0


class Notified(Protocol):
    """Stores notifications: values, or the bytes and why they are none."""

    async def __call__(self, meter: Meter, told: Sequence[Notification], *, proven: bool) -> None:
        """Done when all are stored. ``proven``: the association stood, and its peer was this meter."""


class Handover:
    """Hands over in tasks of its own: neither a meter's next request nor its release waits for the commit."""

    def __init__(self, drain_s: float = _DRAIN_S) -> None:
        self._drain_s = drain_s
        self._tasks: set[asyncio.Task[None]] = set()

    def start(
        self, notified: Notified | None, meter: Meter, told: Sequence[Notification], *, proven: bool
    ) -> None:
        """Hand over what one session brought; nothing is done for nothing."""
        if not told:
            return
        if notified is None:
            log.warning(
                "meter %s: %d notifications within its session: nobody stores them", meter.asset_id, len(told)
            )
            return
        task = asyncio.create_task(
            self._hand(notified, meter, tuple(told), proven=proven), name=f"notifications of {meter.asset_id}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait until all are stored, for a while; what is not by then is told and given up."""
        tasks = set(self._tasks)
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=self._drain_s)
        for task in late:
            log.error("%s are not stored: the database did not take them in time", task.get_name())
            task.cancel()
        if late:
            await asyncio.wait(late)

    @staticmethod
    async def _hand(notified: Notified, meter: Meter, told: Sequence[Notification], *, proven: bool) -> None:
        try:
            await notified(meter, told, proven=proven)
        except Exception:
            # The boundary of one session's notifications: nobody waits for this task, so it is told here.
            log.exception(
                "meter %s: %d notifications within its session are not stored", meter.asset_id, len(told)
            )
