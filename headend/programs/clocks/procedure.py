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
from headend.programs.clocks import policy, summer_time
from headend.programs.clocks.line import Line
from headend.programs.clocks.policy import Verdict
from headend.programs.contract import Failed, Finished, Journal, Later, Outcome, Task, Unfit, Unsure
from headend.session.access import Connect
from headend.store import clocks, coverage
from protocols.errors import LocalProtocolError, PeerRefused
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
        self._line = (
            Line(self._connect, conversation, task, self._now)
            if isinstance(conversation, LineClockConversation)
            else None
        )

    async def take(self) -> Outcome:
        reading = await self._read()
        if (unsure := await self._resolve(reading)) is not None:
            return unsure
        if self._line is not None:
            await self._line.join(self._program, self._journal, reading)
        if self._program.summer_time and isinstance(self._conversation, SummerTimeConversation):
            failed = await summer_time.correct(self._conversation, self._journal)
            if failed is not None:
                return failed
        while True:
            wanted = policy.verdict(self._program, reading)
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
            if policy.verdict(self._program, reading) is not wanted:
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
                return Later(task.now, "its intervals are read before its clock is changed")
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
            elif (told := await self._broadcast_line().told_today()) is not None and told.at < reading.at:
                why_not.append(
                    f"its line was told the time today, at {told.at:%T} UTC, and it did not take it"
                )
            else:
                return change
        reason = "; ".join(why_not) or "its model names no way to change it so far"
        return Failed(f"it is off by {_s(reading)}: {reason}", _told(reading))

    def _broadcast_line(self) -> Line:
        if self._line is None:
            raise LocalProtocolError("its language has no broadcast")
        return self._line

    def _step(self, reading: ClockReading, change: ClockChange) -> "str | Later":
        """The step that may be taken now; else when."""
        margin = timedelta(seconds=self._program.boundary_s)
        now = self._now()
        if self._line is not None:
            after_midnight = self._line.takes_broadcast(now)
            if after_midnight > now:
                return Later(
                    after_midnight, f"it is off by {_s(reading)}, and meters take no time near midnight"
                )
        at = policy.moment(now, reading, self._curves, margin)
        if at > now:
            return Later(at, f"it is off by {_s(reading)}, and an interval ends too soon before or after")
        return f"{change}-{self._journal.facts.get('steps', 0) + 1}"

    async def _change(self, step: str, change: ClockChange, before: ClockReading) -> ClockReading:
        journal, conversation, task = self._journal, self._conversation, self._task
        by = policy.shift_of(before)
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
                await self._broadcast_line().tell()
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
        found = policy.took_effect(before, open_["expected_ms"] * _MS, reading)
        is_absolute = open_["change"] != ClockChange.SHIFT
        if found is None and is_absolute and policy.verdict(self._program, reading) is Verdict.LEAVE:
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
