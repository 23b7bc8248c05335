"""Meters of a line that are told the time all at once: who they are, what is done for each of them before,
and behind it.

::

    who hangs there ── not all are in the campaign ──> not told
      └─> each: what is not read is stored, its clock is read ──> a moment that is clear for all
            ──> flags of all, and the step ──> told ──> each: its clock is read, its flag settled
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from headend.drivers.commands.clock import ClockConversation, LineClockConversation
from headend.drivers.contract import Curve, Target
from headend.drivers.registry import Drivers
from headend.drivers.targets import targets_of
from headend.programs.clocks import policy, unread
from headend.programs.clocks.policy import Shown
from headend.programs.contract import Failed, Journal, Later, Task
from headend.session.access import Connect
from headend.store import clocks, lines
from headend.store.clocks import Flag, Told
from headend.store.sql import Connection
from protocols.errors import LinkTimeout, LocalProtocolError, PeerRefused, RemoteProtocolError
from schemas.clock import ClockReading, MeterClockReading
from schemas.model import ModelError

#: Readings of meters whose intervals are stored up to then, on the way to a broadcast.
READY: Final = "line"
#: A meter that does not answer is asked so often, so much apart; then its line waits for it no longer.
_ASKED: Final = 3
_APART: Final = timedelta(minutes=5)
#: A line is shared: so much of a load curve is asked for at once.
PIECE: Final = timedelta(days=1)
#: A reading so long before a broadcast tells how far a clock was off then.
_RECENT: Final = timedelta(hours=24)
_NEVER: Final = "1970-01-01T00:00:00+00:00"
#: Names that a reason tells.
_TOLD: Final = 5
#: What a journal remembers of each that was told.
VERIFIED: Final = "verified"
SILENT: Final = "silent"
_MUTE: Final = (LinkTimeout, RemoteProtocolError, PeerRefused, LocalProtocolError)


class Line:
    """The line of a meter, at the meter's turn."""

    def __init__(
        self,
        connect: Connect,
        drivers: Drivers,
        conversation: LineClockConversation,
        task: Task,
        journal: Journal,
        now: Callable[[], datetime],
    ) -> None:
        self._connect = connect
        self._drivers = drivers
        self._conversation = conversation
        self._task = task
        self._journal = journal
        self._now = now

    # ---- before -------------------------------------------------------------------------------------

    async def why_not(self, reading: ClockReading) -> str | None:
        """Why it is not to be told the time now; None where it may be."""
        most, now = self._conversation.clock_rules.most, self._now()
        if abs(reading.offset) + reading.uncertainty > most:
            return f"by broadcast it takes {most.total_seconds():.0f} s at most"
        async with self._connect() as connection:
            others = await self._others(connection)
            numbers = [self._task.meter_id, *(one.meter_id for one in others)]
            waves = await lines.waves(connection, self._task.campaign_id, numbers)
            told = await clocks.told_since(connection, numbers, self._conversation.day_began(now))
        outside = [str(one) for one in others if one.meter_id not in waves]
        if outside:
            return not_alone(outside)
        mine = waves.get(self._task.meter_id, 0)
        later = [str(one) for one in others if waves[one.meter_id] > mine]
        if later:
            return f"a broadcast to its line reaches {some(later)} too, whose wave has not begun"
        mine_at = datetime.fromisoformat(self._journal.facts.get("told", _NEVER))
        if mine_at >= self._conversation.day_began(now):
            return f"its line was told the time today, at {mine_at:%T} UTC, and it did not take it"
        if told is not None:
            return f"its line was told the time today, at {told:%T} UTC, and meters take it once a day"
        return None

    async def ready(
        self, reading: ClockReading, curves: Sequence[Curve], margin: timedelta
    ) -> Later | Failed | list[Flag]:
        """See that what all others of the line measured is stored, and that now is a good moment for all of
        them, this one with ``reading`` and ``curves`` among them: then what of theirs is to be flagged."""
        began = self._now()
        midnight = self._conversation.takes_broadcast(began)
        if midnight > began:
            return Later(midnight, f"it is off by {_s(reading)}, and meters take no time near midnight")
        shown, unheard = [Shown(reading, curves)], list[int]()
        if isinstance(wait := self._moment(shown, margin), Later | Failed):
            return wait
        async with self._connect() as connection:
            others = [one.meter_id for one in await self._others(connection)]
            targets = await targets_of(connection, others)
        found: dict[int, Shown] = {}
        for target in targets:
            one = await self._ready(target)
            if isinstance(one, Later):
                return one
            if one is None:
                unheard.append(target.meter.meter_id)
            else:
                found[target.meter.meter_id] = one
        now, most = self._now(), self._conversation.clock_rules.most
        if not all(policy.is_of_now(one.reading, now, one.curves) for one in (shown[0], *found.values())):
            return Later(now, "an interval ended while the meters of its line were read")
        shown += [one for one in found.values() if abs(one.reading.offset) - one.reading.uncertainty <= most]
        if isinstance(wait := self._moment(shown, margin), Later | Failed):
            return wait
        flags = [Flag(meter_id, one.reading.offset, one.reading.offset) for meter_id, one in found.items()]
        return flags + [Flag(meter_id, -most, most) for meter_id in unheard]

    async def _ready(self, target: Target) -> "Shown | Later | None":
        """One other meter: what it has not given yet is stored, and what its clock shows then is known. None
        where it does not answer: it is gone on without."""
        meter_id, name = target.meter.meter_id, target.meter.asset_id
        silent: dict[str, int] = dict(self._journal.facts.get("silent", {}))
        times = silent.get(str(meter_id), 0)
        if times >= _ASKED:
            return None
        try:
            curves = self._drivers.of(target.meter.model).curves(target.meter.model)
            async with self._connect() as connection:
                known = await clocks.newest(connection, meter_id, source=READY)
            if known is not None and policy.is_of_now(known, self._now(), curves):
                return Shown(known, curves)
            conversation = self._conversation.of(target)
            later = await unread.fetch(
                self._connect, conversation, target, curves, self._task, self._journal, self._now, piece=PIECE
            )
            if later is not None:
                return later
            reading = await self._read(conversation, meter_id, READY)
        except (*_MUTE, ModelError) as error:
            await self._journal.note(f"{name} did not answer", silent={**silent, str(meter_id): times + 1})
            if times + 1 >= _ASKED:
                return None
            return Later(
                self._now() + _APART, f"{name} hears what its line is told, and was not read before: {error}"
            )
        if self._journal.must_yield():
            return Later(self._now(), "the meters of its line are read before they are told the time")
        return Shown(reading, curves)

    def _moment(self, shown: Sequence[Shown], margin: timedelta) -> Later | Failed | None:
        """When it is not now."""
        now = self._now()
        at = policy.moment(now, shown, margin)
        if at is None:
            return Failed(
                f"it is off by {_s(shown[0].reading)}, and no moment is clear of the ends of intervals of "
                f"{len(shown)} meters of its line: put right by itself who is off furthest"
            )
        if at > now:
            return Later(
                at, f"it is off by {_s(shown[0].reading)}, and an interval ends too soon before or after"
            )
        return None

    # ---- behind -------------------------------------------------------------------------------------

    async def verify(self) -> Later | None:
        """Read the clocks of the others that were told at this meter's turns, and settle what is flagged of
        them; who does not answer stays flagged, and is named."""
        while True:
            looked: dict[str, str] = dict(self._journal.facts.get("line", {}))
            async with self._connect() as connection:
                pending = await clocks.pending(connection, self._task.campaign_id, self._task.meter_id)
                left = [one for one in pending if key_of(one) not in looked]
                targets = await targets_of(connection, [one.meter_id for one in left[:1]])
            if not left:
                return None
            change = left[0]
            try:
                if not targets:
                    raise LocalProtocolError("there is no such meter any more")
                conversation = self._conversation.of(targets[0])
                reading = await self._read(conversation, change.meter_id, "program")
            except _MUTE as error:
                what = f"meter number {change.meter_id} was told and did not answer: {error}"
                await self._journal.note(what, line={**looked, key_of(change): SILENT})
            else:
                await self._settle(change, reading, line={**looked, key_of(change): VERIFIED})
            if self._journal.must_yield():
                return Later(self._now(), "the clocks of its line are verified")

    async def join(self, reading: ClockReading) -> None:
        """What it was told at the turn of another meter of the campaign: settle it by ``reading``."""
        if "joined" in self._journal.facts:
            return
        async with self._connect() as connection:
            told = await clocks.told_by_others(connection, self._task.campaign_id, self._task.meter_id)
        for change in told:
            if change.took_effect is not False:
                await self._settle(change, reading, joined=change.at.isoformat())

    async def _settle(self, change: Told, reading: ClockReading, **facts: Any) -> None:
        """Where the reading tells: else it stays flagged."""
        since = change.at - _RECENT
        async with self._connect() as connection:
            before = await clocks.series(connection, change.meter_id, since, change.at, limit=1)
        found = policy.took_effect(before[0].reading, timedelta(0), reading) if before else None

        async def settle(connection: Connection) -> None:
            if found is not None and change.took_effect is None:
                await clocks.settle_change(
                    connection, self._task.campaign_id, change.meter_id, change.step, took_effect=found
                )

        await self._journal.note(f"clock of meter number {change.meter_id} read", settle, **facts)

    # ---- meters -------------------------------------------------------------------------------------

    async def _others(self, connection: Connection) -> list[lines.OnLine]:
        line = lines.line_of(self._task.target.meter.address or "")
        there = (await lines.meters(connection, [line])).get(line, [])
        return [one for one in there if one.meter_id != self._task.meter_id]

    async def _read(self, conversation: ClockConversation, meter_id: int, source: str) -> ClockReading:
        reading = await conversation.read_clock()
        async with self._connect() as connection:
            await clocks.insert(connection, [MeterClockReading(meter_id, reading, source)])
        return reading


def key_of(change: Told) -> str:
    """As a journal remembers what became of it."""
    return f"{change.meter_id} {change.step}"


def not_alone(outside: Sequence[str]) -> str:
    """That a line is not told the time since others hang on it."""
    return (
        f"a broadcast to its line reaches {some(outside)} too, which the campaign is not for: select all "
        "meters of the line, or give its model a password for its clock"
    )


def some(names: Sequence[str]) -> str:
    """The first ones, and how many more."""
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return ", ".join(names[:_TOLD]) + more


def _s(reading: ClockReading) -> str:
    return f"{reading.offset.total_seconds():+.1f} s"
