"""How a clock is put right: left, shifted or set, with what it measured fetched before.

::

    read ──> a change that nobody heard of? ──> did it take effect?
      │
      ├─ within the threshold: done
      └─ off ──> summer time's rules ──> a boundary is near: later ──> unread intervals are read and stored
                 ──> flagged and written down ──> shifted, set, or told with its line ──> read again
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from headend.drivers.commands.clock import (
    ClockChange,
    ClockConversation,
    LineClockConversation,
    SummerTimeConversation,
)
from headend.drivers.registry import Drivers
from headend.programs.clocks import policy, summer_time, unread
from headend.programs.clocks.line import PIECE, Line
from headend.programs.clocks.policy import Shown, Verdict
from headend.programs.contract import (
    Failed,
    Finished,
    Journal,
    Later,
    Outcome,
    Task,
    Unsure,
)
from headend.session.access import Connect
from headend.store import clocks
from headend.store.clocks import Flag
from headend.store.sql import Connection
from protocols.errors import LocalProtocolError, PeerRefused
from schemas.clock import ClockReading, MeterClockReading
from schemas.programs.clock import ClockProgram

log = logging.getLogger(__name__)

#: A clock is changed so often by one campaign, a way that is refused not counted.
MOST_CHANGES: Final = 2
_MS: Final = timedelta(milliseconds=1)


class Turn:
    """One visit of one meter."""

    def __init__(
        self,
        connect: Connect,
        drivers: Drivers,
        now: Callable[[], datetime],
        conversation: ClockConversation,
        task: Task,
        program: ClockProgram,
        journal: Journal,
    ) -> None:
        self._connect = connect
        self._now = now
        self._conversation = conversation
        self._task = task
        self._program = program
        self._journal = journal
        self._curves = drivers.of(task.target.meter.model).curves(task.target.meter.model)
        self._margin = timedelta(seconds=program.boundary_s)
        self._line = (
            Line(self._connect, drivers, conversation, task, journal, self._now)
            if isinstance(conversation, LineClockConversation)
            else None
        )

    async def take(self) -> Outcome:
        """Take it as far as this visit gets. See `headend.programs.contract.Procedure.apply`."""
        reading = await self._read()
        if (unsure := await self._resolve(reading)) is not None:
            return unsure
        if self._line is not None:
            await self._line.join(reading)
            if (later := await self._line.verify()) is not None:
                return later
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
            if (wait := self._wait(reading)) is not None:
                return wait
            if (later := await self._fetch()) is not None:
                return later
            reading = await self._read()
            if policy.verdict(self._program, reading) is not wanted:
                continue
            if (wait := self._wait(reading)) is not None:
                return wait
            others: Sequence[Flag] = ()
            if change is ClockChange.BROADCAST:
                ready = await self._broadcast_line().ready(reading, self._curves, self._margin)
                if isinstance(ready, Later | Failed):
                    return ready
                others = ready
            reading = await self._change(change, reading, others)
            if self._line is not None and (later := await self._line.verify()) is not None:
                return later

    # ---- reading ------------------------------------------------------------------------------------

    async def _read(self) -> ClockReading:
        reading = await self._conversation.read_clock()
        async with self._connect() as connection:
            await clocks.insert(connection, [MeterClockReading(self._task.meter_id, reading, "program")])
        return reading

    async def _fetch(self) -> Later | None:
        whole = timedelta(days=unread.FETCHED_DAYS)
        return await unread.fetch(
            self._connect, self._conversation, self._task.target, self._curves, self._task, self._journal,
            self._now, piece=whole if self._line is None else PIECE,
        )  # fmt: skip

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
            elif (why := await self._broadcast_line().why_not(reading)) is not None:
                why_not.append(why)
            else:
                return change
        reason = "; ".join(why_not) or "its model names no way to change it so far"
        return Failed(f"it is off by {_s(reading)}: {reason}", _told(reading))

    def _broadcast_line(self) -> Line:
        if self._line is None:
            raise LocalProtocolError("its language has no broadcast")
        return self._line

    def _wait(self, reading: ClockReading) -> Later | Failed | None:
        """When it may be changed, where that is not now."""
        now = self._now()
        at = policy.moment(now, [Shown(reading, self._curves)], self._margin)
        if at is None:
            return Failed(
                f"it is off by {_s(reading)}, and its intervals are so short that no moment is away from "
                "their ends: set it at the meter, when what it measured is read"
            )
        if at > now:
            return Later(at, f"it is off by {_s(reading)}, and an interval ends too soon before or after")
        return None

    async def _change(
        self, change: ClockChange, before: ClockReading, others: Sequence[Flag]
    ) -> ClockReading:
        """Change it: what that moves is flagged in the transaction that writes the step down, here and at the
        ``others`` that are told with it."""
        journal, conversation, task = self._journal, self._conversation, self._task
        by = policy.shift_of(before)
        expected = before.offset + by if change is ClockChange.SHIFT else timedelta(0)
        now, number = self._now(), int(journal.facts.get("steps", 0)) + 1
        step = f"{change}-{number}"

        async def flag(connection: Connection) -> None:
            await clocks.intend_change(
                connection, task.campaign_id, task.meter_id, step, at=now, change=change,
                shown=(now + before.offset, now + expected),
            )  # fmt: skip
            for one in others:
                await clocks.intend_change(
                    connection, task.campaign_id, one.meter_id, clocks.step_of_line(step, task.meter_id),
                    at=now, change=change, shown=(now, now + one.low, now + one.high),
                )  # fmt: skip

        open_ = {
            "step": step,
            "change": change,
            "before": _told(before),
            "expected_ms": round(expected / _MS),
        }
        await journal.intend(step, flag, open=open_, steps=number)
        try:
            if change is ClockChange.SHIFT:
                await conversation.shift_clock(by)
            elif isinstance(conversation, LineClockConversation) and change is ClockChange.BROADCAST:
                await conversation.broadcast_clock()
            else:
                await conversation.set_clock(before, change)
        except PeerRefused as refused:
            log.info("meter number %d refused to %s its clock: %s", task.meter_id, change, refused)
            await self._settle(step, took_effect=False, refused=[*self._refused, str(change)])
            return before
        after = await self._read()
        told = {"told": now.isoformat(), "with": len(others)} if change is ClockChange.BROADCAST else {}
        took = change is not ClockChange.BROADCAST or policy.took_effect(before, expected, after) is not False
        await self._settle(step, took_effect=took, made=self._made + 1, after=_told(after), **told)
        return after

    async def _settle(self, step: str, *, took_effect: bool, **facts: Any) -> None:
        task = self._task

        async def settle(connection: Connection) -> None:
            await clocks.settle_change(
                connection, task.campaign_id, task.meter_id, step, took_effect=took_effect
            )

        await self._journal.done(step, settle, took_effect=took_effect, **facts)

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
        if "with" in facts:
            proof["line"] = {"others": facts["with"], **Counter(facts.get("line", {}).values())}
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
