"""Meters of a line that are told the time all at once: by whose turn, on which day, and what that means for
the others."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from headend.drivers.commands.clock import ClockChange, LineClockConversation
from headend.programs.clocks import policy
from headend.programs.clocks.policy import Verdict
from headend.programs.contract import Journal, Task
from headend.session.access import Connect
from headend.store import clocks
from headend.store.clocks import Broadcast
from schemas.clock import ClockReading
from schemas.programs.clock import ClockProgram

_JOINED: Final = "broadcast-joined"
#: A reading so long before a broadcast tells how far a clock was off then.
_RECENT: Final = timedelta(hours=24)


class Line:
    """The line of a meter, at the meter's turn."""

    def __init__(
        self, connect: Connect, conversation: LineClockConversation, task: Task, now: Callable[[], datetime]
    ) -> None:
        self._connect = connect
        self._conversation = conversation
        self._task = task
        self._now = now

    def takes_broadcast(self, now: datetime) -> datetime:
        """From when on its meters take the time: ``now``, or when it is no longer around midnight."""
        return max(now, self._conversation.takes_broadcast(now))

    async def told_today(self) -> Broadcast | None:
        """When it was told the time today."""
        line = self._conversation
        async with self._connect() as connection:
            return await clocks.broadcast_of(connection, line.line, line.day(self._now()))

    async def tell(self) -> None:
        """Tell all its meters the time; written down behind it: what is told twice is taken once."""
        line, now = self._conversation, self._now()
        await line.broadcast_clock()
        async with self._connect() as connection:
            await clocks.note_broadcast(
                connection, line.line, line.day(now), at=now, campaign_id=self._task.campaign_id,
                meter_id=self._task.meter_id,
            )  # fmt: skip

    async def join(self, program: ClockProgram, journal: Journal, reading: ClockReading) -> None:
        """It was told the time at the turn of another meter of the campaign: flag what that moved here. How
        far off it was is known where its clock was read that day before, else by no more than a meter takes.
        """
        task = self._task
        if "joined" in journal.facts:
            return
        told = await self.told_today()
        if told is None or told.campaign_id != task.campaign_id or told.meter_id == task.meter_id:
            return
        async with self._connect() as connection:
            before = await clocks.series(connection, task.meter_id, told.at - _RECENT, told.at, limit=1)
            off = before[0].reading.offset if before else None
            if off is None or abs(off) > timedelta(seconds=program.leave_s):
                most = self._conversation.clock_rules.most
                shown = (told.at - most, told.at + most) if off is None else (told.at, told.at + off)
                await clocks.intend_change(
                    connection, task.campaign_id, task.meter_id, _JOINED, at=told.at,
                    change=ClockChange.BROADCAST, shown=shown,
                )  # fmt: skip
                took = policy.verdict(program, reading) is Verdict.LEAVE
                await clocks.settle_change(
                    connection, task.campaign_id, task.meter_id, _JOINED, took_effect=took
                )
        await journal.note(_JOINED, joined=told.at.isoformat())
