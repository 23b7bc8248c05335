"""How a clock is put right: left, shifted or set, with what it measured fetched before.

::

    read ──> a change that nobody heard of? ──> did it take effect?
      │
      ├─ within the threshold: done
      └─ off ──> summer time's rules ──> a boundary is near: later ──> unread intervals are read and stored
                 ──> flagged and written down ──> shifted or set ──> read again
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from headend.clock import utc_now
from headend.drivers.commands.clock import (
    ClockChange,
    ClockConversation,
    LineClockConversation,
    SummerTimeConversation,
)
from headend.drivers.contract import Conversation, Curve, Feature, Target
from headend.drivers.registry import Drivers
from headend.jobs.ranges import wanted_ranges
from headend.programs import clock_policy
from headend.programs.clock_policy import Verdict
from headend.programs.contract import Failed, Finished, Journal, Later, Outcome, Task, Unfit, Unsure
from headend.session.access import Connect
from headend.store import clocks, coverage
from headend.store.clocks import Broadcast
from protocols.errors import DataAccessRefused, LocalProtocolError, PeerRefused
from schemas.clock import ClockReading, MeterClockReading
from schemas.model import ModelError
from schemas.program import Program, ProgramKind
from schemas.programs.clock import ClockProgram

log = logging.getLogger(__name__)

#: What is not read of so many days is fetched before a clock is changed.
FETCHED_DAYS: Final = 7
#: A clock is changed so often by one campaign, a way that is refused not counted.
MOST_CHANGES: Final = 2
_MS: Final = timedelta(milliseconds=1)
_SUMMER: Final = "summer-time"
_JOINED: Final = "broadcast-joined"
#: A reading so long before a broadcast tells how far a clock was off then.
_RECENT: Final = timedelta(hours=24)


class ClockProcedure:
    """The `headend.programs.contract.Procedure` of clocks.

    Args:
        connect: gives a database connection.
        drivers: know models' features and load curves.
        now: aware, UTC.
    """

    kind = ProgramKind.CLOCK

    def __init__(self, connect: Connect, drivers: Drivers, *, now: Callable[[], datetime] = utc_now) -> None:
        self.connect = connect
        self._drivers = drivers
        self.now = now

    def unfit(self, program: Program, target: Target) -> str | None:
        """Where the model's clock cannot be changed."""
        model = target.meter.model
        try:
            features = self._drivers.of(model).features(model)
        except ModelError as error:
            return str(error)
        return None if Feature.CLOCK in features else f"clocks of model {model} cannot be changed"

    async def apply(self, conversation: Conversation, task: Task, journal: Journal) -> Outcome:
        """See `Procedure`."""
        program = task.program
        if not isinstance(program, ClockProgram):
            raise TypeError(f"not a program for clocks: {type(program).__name__}")
        if not isinstance(conversation, ClockConversation):
            return Unfit(f"clocks of model {task.target.meter.model} cannot be changed")
        return await _Turn(self, conversation, task, program, journal).take()

    def curves(self, target: Target) -> Sequence[Curve]:
        """The load curves of the meter's model, whose boundaries are kept clear."""
        return self._drivers.of(target.meter.model).curves(target.meter.model)


class _Turn:
    """One visit."""

    def __init__(
        self,
        procedure: ClockProcedure,
        conversation: ClockConversation,
        task: Task,
        program: ClockProgram,
        journal: Journal,
    ) -> None:
        self._connect = procedure.connect
        self._now = procedure.now
        self._conversation = conversation
        self._task = task
        self._program = program
        self._journal = journal
        self._curves = procedure.curves(task.target)

    async def take(self) -> Outcome:
        reading = await self._read()
        if (unsure := await self._resolve(reading)) is not None:
            return unsure
        await self._joined(reading)
        if (later := await self._summer_time()) is not None:
            return later
        while True:
            wanted = clock_policy.verdict(self._program, reading)
            if wanted is Verdict.LEAVE:
                return self._finished(reading)
            change = await self._way(wanted, reading)
            if not isinstance(change, ClockChange):
                return change
            step = self._step(reading, change)
            if isinstance(step, Later):
                return step
            if (later := await self._fetch()) is not None:
                return later
            reading = await self._read()
            if clock_policy.verdict(self._program, reading) is not wanted:
                continue
            if isinstance(again := self._step(reading, change), Later):
                return again
            reading = await self._change(again, change, reading)

    # ---- reading ------------------------------------------------------------------------------------

    async def _read(self) -> ClockReading:
        reading = await self._conversation.read_clock()
        async with self._connect() as connection:
            await clocks.insert(connection, [MeterClockReading(self._task.meter_id, reading, "program")])
        return reading

    async def _fetch(self) -> Later | None:
        """What is not read yet, up to now: afterwards stamps may not tell any more what was when."""
        task, now = self._task, self._now()
        model, meter_id = task.target.meter.model, task.meter_id
        wanted = wanted_ranges(model, self._curves, now - timedelta(days=FETCHED_DAYS), now)
        if not wanted:
            return None
        async with self._connect() as connection:
            due = await coverage.due(connection, wanted, [meter_id])
        for one in due:
            batch = await self._conversation.read_load_curve(one.profile, one.since, one.until)
            await task.commit(batch)
            if self._journal.must_yield():
                return Later(self._now(), "its intervals are read before its clock is changed")
        return None

    # ---- changing -----------------------------------------------------------------------------------

    @property
    def _refused(self) -> list[str]:
        return list(self._journal.facts.get("refused", ()))

    @property
    def _made(self) -> int:
        return int(self._journal.facts.get("made", 0))

    async def _way(self, wanted: Verdict, reading: ClockReading) -> ClockChange | Outcome:
        """How it is changed; or why it is not."""
        rules, refused = self._conversation.clock_rules, self._refused
        if self._made >= MOST_CHANGES:
            return Failed(f"it was changed {self._made} times and is off by {_s(reading)}", _told(reading))
        if wanted is Verdict.SET and not self._program.may_set:
            reason = f"it is off by {_s(reading)}: the program shifts by {self._program.shift_s} s at most"
            return Failed(f"{reason} and may not set it", _told(reading))
        why_not = [f"it refused {' and '.join(refused)}"] if refused else []
        for change in rules.changes:
            if change in refused:
                continue
            if change is ClockChange.SHIFT:
                if wanted is Verdict.SHIFT:
                    return change
            elif change is not ClockChange.BROADCAST:
                if self._program.may_set:
                    return change
            elif abs(reading.offset) + reading.uncertainty > rules.most:
                why_not.append(f"by broadcast it takes {rules.most.total_seconds():.0f} s at most")
            elif (told := await self._told_today()) is not None and told.at < reading.at:
                why_not.append(
                    f"its line was told the time today, at {told.at:%T} UTC, and it did not take it"
                )
            else:
                return change
        reason = "; ".join(why_not) or "its model names no way to change it so far"
        return Failed(f"it is off by {_s(reading)}: {reason}", _told(reading))

    def _step(self, reading: ClockReading, change: ClockChange) -> "str | Later":
        """The step that may be taken now; else when."""
        margin = timedelta(seconds=self._program.boundary_s)
        now = self._now()
        if isinstance(self._conversation, LineClockConversation):
            after_midnight = self._conversation.takes_broadcast(now)
            if after_midnight > now:
                return Later(
                    after_midnight, f"it is off by {_s(reading)}, and meters take no time near midnight"
                )
        at = clock_policy.moment(now, reading, self._curves, margin)
        if at > now:
            return Later(at, f"it is off by {_s(reading)}, and an interval ends too soon before or after")
        return f"{change}-{self._journal.facts.get('steps', 0) + 1}"

    async def _change(self, step: str, change: ClockChange, before: ClockReading) -> ClockReading:
        journal, conversation, task = self._journal, self._conversation, self._task
        by = clock_policy.shift_of(before)
        expected = before.offset + by if change is ClockChange.SHIFT else timedelta(0)
        now = self._now()
        async with self._connect() as connection:
            await clocks.intend_change(
                connection, task.campaign_id, task.meter_id, step, at=now, change=change,
                shown=(now + before.offset, now + expected),
            )  # fmt: skip
        open_ = {
            "step": step,
            "change": change,
            "before": _told(before),
            "expected_ms": round(expected / _MS),
        }
        await journal.intend(step, open=open_, steps=journal.facts.get("steps", 0) + 1)
        try:
            if change is ClockChange.SHIFT:
                await conversation.shift_clock(by)
            elif change is ClockChange.BROADCAST:
                await self._broadcast()
            else:
                await conversation.set_clock(before, change)
        except PeerRefused as refused:
            log.info("meter number %d refused to %s its clock: %s", task.meter_id, change, refused)
            await self._settle(step, took_effect=False, refused=[*self._refused, str(change)])
            return before
        after = await self._read()
        await self._settle(step, took_effect=True, made=self._made + 1, after=_told(after))
        return after

    async def _settle(self, step: str, *, took_effect: bool, **facts: Any) -> None:
        async with self._connect() as connection:
            await clocks.settle_change(
                connection, self._task.campaign_id, self._task.meter_id, step, took_effect=took_effect
            )
        await self._journal.done(step, took_effect=took_effect, **facts)

    async def _resolve(self, reading: ClockReading) -> Unsure | None:
        """A change that was sent, and nobody heard what came of it."""
        open_ = self._journal.facts.get("open")
        if open_ is None or not self._journal.is_intended(open_["step"]):
            return None
        before = _reading(open_["before"])
        found = clock_policy.took_effect(before, open_["expected_ms"] * _MS, reading)
        is_absolute = open_["change"] != ClockChange.SHIFT
        if found is None and is_absolute and clock_policy.verdict(self._program, reading) is Verdict.LEAVE:
            found = True
        if found is None and not is_absolute:
            return Unsure(
                f"it was shifted perhaps: it was off by {_s(before)} and now is by {_s(reading)}",
                _told(reading),
            )
        # set, and neither as it was nor right: setting it again with the time of then is the same as once
        made = self._made + (found is not False)
        await self._settle(open_["step"], took_effect=found is not False, made=made, after=_told(reading))
        return None

    # ---- lines that are told the time at once -------------------------------------------------------

    def _line(self) -> LineClockConversation:
        if not isinstance(self._conversation, LineClockConversation):
            raise LocalProtocolError("its language has no broadcast")
        return self._conversation

    async def _told_today(self) -> Broadcast | None:
        line = self._line()
        async with self._connect() as connection:
            return await clocks.broadcast_of(connection, line.line, line.day(self._now()))

    async def _broadcast(self) -> None:
        """Written down behind it: a line that is told twice takes it once."""
        line, now = self._line(), self._now()
        await line.broadcast_clock()
        async with self._connect() as connection:
            await clocks.note_broadcast(
                connection, line.line, line.day(now), at=now, campaign_id=self._task.campaign_id,
                meter_id=self._task.meter_id,
            )  # fmt: skip

    async def _joined(self, reading: ClockReading) -> None:
        """Its line was told the time at the turn of another meter of the campaign. How far off it was is
        known where its clock was read that day before, else by no more than a meter takes."""
        conversation, task = self._conversation, self._task
        if not isinstance(conversation, LineClockConversation) or "joined" in self._journal.facts:
            return
        told = await self._told_today()
        if told is None or told.campaign_id != task.campaign_id or told.meter_id == task.meter_id:
            return
        async with self._connect() as connection:
            before = await clocks.series(connection, task.meter_id, told.at - _RECENT, told.at, limit=1)
            off = before[0].reading.offset if before else None
            if off is None or abs(off) > timedelta(seconds=self._program.leave_s):
                most = conversation.clock_rules.most
                shown = (told.at - most, told.at + most) if off is None else (told.at, told.at + off)
                await clocks.intend_change(
                    connection, task.campaign_id, task.meter_id, _JOINED, at=told.at,
                    change=ClockChange.BROADCAST, shown=shown,
                )  # fmt: skip
                took = clock_policy.verdict(self._program, reading) is Verdict.LEAVE
                await clocks.settle_change(
                    connection, task.campaign_id, task.meter_id, _JOINED, took_effect=took
                )
        await self._journal.note(_JOINED, joined=told.at.isoformat())

    # ---- summer time --------------------------------------------------------------------------------

    async def _summer_time(self) -> Outcome | None:
        """Its own rules of summer time. Setting them twice is the same as once."""
        conversation, journal = self._conversation, self._journal
        if not self._program.summer_time or not isinstance(conversation, SummerTimeConversation):
            return None
        if "rules" in journal.facts and not journal.is_intended(_SUMMER):
            return None
        try:
            told, right = await conversation.summer_time()
        except DataAccessRefused as refused:
            await journal.note("rules of summer time", rules=f"not told: {refused.reason}")
            return None
        if right:
            if journal.is_intended(_SUMMER):
                await journal.done(_SUMMER, rules=told)
            else:
                await journal.note("rules of summer time", rules=told)
            return None
        await journal.intend(_SUMMER, rules_before=told)
        try:
            await conversation.set_summer_time()
        except PeerRefused as refused:
            await journal.done(_SUMMER, rules=told)
            return Failed(f"it does not take the rules of summer time of its zone: {refused.reason}")
        told, right = await conversation.summer_time()
        await journal.done(_SUMMER, rules=told)
        if not right:
            return Failed(f"it took the rules of summer time, and tells others: {told}", {"rules": told})
        return None

    def _finished(self, reading: ClockReading) -> Finished:
        facts = self._journal.facts
        proof: dict[str, Any] = {**_told(reading)}
        if "rules" in facts:
            proof["rules"] = facts["rules"]
        if "rules_before" in facts:
            proof["rules_before"] = facts["rules_before"]
        if "joined" in facts:
            proof["broadcast_at"] = facts["joined"]
        if (open_ := facts.get("open")) is not None and self._made:
            proof["changed"] = {"by": open_["change"], "before": open_["before"]}
        return Finished(proof, changed=bool(self._made) or bool({"joined", "rules_before"} & facts.keys()))


def _told(reading: ClockReading) -> dict[str, Any]:
    """As facts and proofs have it."""
    return {
        "at": reading.at.isoformat(),
        "offset_ms": round(reading.offset / _MS),
        "uncertainty_ms": -(-reading.uncertainty // _MS),
    }


def _reading(told: Any) -> ClockReading:
    return ClockReading(
        datetime.fromisoformat(told["at"]), told["offset_ms"] * _MS, told["uncertainty_ms"] * _MS
    )


def _s(reading: ClockReading) -> str:
    return f"{reading.offset.total_seconds():+.1f} s"
