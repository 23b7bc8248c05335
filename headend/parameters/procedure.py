"""How a parameters program is applied: item by item, each looked at before and read back behind.

::

    write: read ── has it ─▶ unchanged
             └──▶ (cleared by it, a profile: its unread intervals are read and stored) ─▶ intended ─▶ written
                  ─▶ read back ── equal ─▶ done; other ─▶ failed
    run:   rows of the proving profile noted ─▶ intended ─▶ run ─▶ done
             └── intended and not done: the profile tells, else unsure

What is written twice is the same, so a write needs no memory; a script does. Nothing is rolled back by
itself: items before a failed one stay, and the proof has what they were.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from headend.clock import utc_now
from headend.drivers.commands.parameters import Parameter, Parametrised
from headend.drivers.contract import BillingConversation, Conversation, Curve, Feature, Target
from headend.drivers.registry import Drivers
from headend.jobs.ranges import wanted_ranges
from headend.parameters.allowed import why_not
from headend.programs.contract import Failed, Finished, Journal, Later, Outcome, Task, Unsure
from headend.session.access import Connect
from headend.store import coverage, meters
from protocols.errors import (
    ActionRefused,
    DataAccessRefused,
    LocalProtocolError,
    PeerRefused,
    RemoteProtocolError,
)
from schemas.model import MeterModel, ModelError
from schemas.program import Program, ProgramKind
from schemas.programs.parameters import Item, ParametersProgram, ReadItem, RunItem, WriteItem

#: What is not read of so many days is fetched before a profile is cleared.
FETCHED_DAYS: Final = 60
#: Profile Generic: writing capture objects, capture period, sort method or object, or the number of entries
#: clears the buffer (as class 7 is commonly described; the clause was not at hand).
_CLEARS: Final = frozenset({3, 4, 5, 6, 8})
_PROFILE: Final = 7
_BILLING_RESET: Final = "0-0:10.0.1*255"
_BILLING: Final = "0-0:98.1.0*255"
#: Rows of a proving profile: so far back, so far ahead of us by the meter's clock, so many remembered.
_PERIODS: Final = timedelta(days=93)
_AHEAD: Final = timedelta(days=1)
_KEPT: Final = 3
_HOUR_S: Final = 3600
_STAYS: Final = "what was written before it stays: nothing is rolled back by itself"


class ParametersProcedure:
    """The `headend.programs.contract.Procedure` of parameters.

    Args:
        connect: gives a database connection: what is read of a profile already.
        drivers: what meters of a model can, and which curves they keep.
        model: a meter model by its name; None where its language has no attributes. Raises ModelError.
    """

    kind = ProgramKind.PARAMETERS

    def __init__(
        self,
        connect: Connect,
        drivers: Drivers,
        model: Callable[[str], MeterModel | None],
        *,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._connect = connect
        self._drivers = drivers
        self._model = model
        self._now = now

    def unfit(self, program: Program, target: Target) -> str | None:
        """See `Procedure`."""
        name = target.meter.model
        try:
            model = self._model(name)
            can = model is not None and Feature.PARAMETERS in self._drivers.of(name).features(name)
        except ModelError as error:
            return str(error)
        if model is None or not can:
            return f"meters of model {name} have no attributes that can be written"
        return why_not(_program(program), model)

    async def apply(self, conversation: Conversation, task: Task, journal: Journal) -> Outcome:
        """See `Procedure`."""
        if not isinstance(conversation, Parametrised):
            raise LocalProtocolError("its language has no attributes that can be written")
        items = _program(task.program).items
        name = task.target.meter.model
        curves = self._drivers.of(name).curves(name)
        for number, item in enumerate(items, 1):
            at = _At(number, len(items), item, task, journal)
            if at.key in journal.facts:
                continue
            if journal.must_yield():
                return Later(self._now(), f"{number - 1} of {len(items)} items are done")
            try:
                outcome = await self._item(conversation, at, curves)
            except (DataAccessRefused, ActionRefused) as refused:
                outcome = at.failed(f"the meter refused: {refused.reason}")
            if outcome is not None:
                return outcome
        proof = _proof(journal)
        return Finished(proof, changed=any(one.get("changed") for one in proof["items"]))

    async def _item(self, meter: Parametrised, at: "_At", curves: tuple[Curve, ...]) -> Outcome | None:
        """Do one item; None where the next may follow."""
        match at.item:
            case ReadItem():
                found = await meter.read_parameter(at.item.class_id, at.item.obis, at.item.attribute)
                await at.journal.note(at.key, **{at.key: at.told(value=found.value, raw=found.raw.hex())})
                return None
            case WriteItem():
                return await self._write(meter, at, at.item, curves)
            case RunItem():
                return await self._run(meter, at, at.item)

    # ---- attributes ---------------------------------------------------------------------------------

    async def _write(
        self, meter: Parametrised, at: "_At", item: WriteItem, curves: tuple[Curve, ...]
    ) -> Outcome | None:
        where, journal = (item.class_id, item.obis, item.attribute), at.journal
        found = await meter.read_parameter(*where)
        begun = f"{at.key} before"
        known = journal.facts.get(begun)
        before = _plain(found) if known is None else known
        if meter.is_same(item.value, found):
            told = at.told(before=before, after=_plain(found), changed=known is not None)
            write = journal.done if known is not None else journal.note
            await write(at.key, **{at.key: told})
            return None
        if item.class_id == _PROFILE and item.attribute in _CLEARS:
            later = await self._fetch(meter, at, item.obis, curves)
            if later is not None:
                return later
        if item.class_id == _PROFILE:  # whoever reads it next asks for its columns again
            async with self._connect() as connection:
                await meters.touch(connection, at.task.meter_id)
        await journal.intend(at.key, **{begun: before})
        await meter.write_parameter(*where, item.value)
        after = await meter.read_parameter(*where)
        told = at.told(before=before, after=_plain(after), changed=True)
        if not meter.is_same(item.value, after):
            await journal.done(at.key)
            return at.failed("it was written, and is read back as something else", told)
        await journal.done(at.key, **{at.key: told})
        return None

    async def _fetch(
        self, meter: Parametrised, at: "_At", obis: str, curves: tuple[Curve, ...]
    ) -> Outcome | None:
        """What is not read of the profile yet is read and stored: the writing clears it."""
        task, now = at.task, self._now()
        kept = [curve for curve in curves if curve.obis == obis]
        wanted = wanted_ranges(task.target.meter.model, kept, now - timedelta(days=FETCHED_DAYS), now)
        if not wanted:
            return None
        async with self._connect() as connection:
            due = await coverage.due(connection, wanted, [task.meter_id])
        for one in due:
            await task.commit(await meter.read_load_curve(one.profile, one.since, one.until))
            if at.journal.must_yield():
                return Later(self._now(), "its intervals are read before the profile is cleared")
        return None

    # ---- scripts ------------------------------------------------------------------------------------

    async def _run(self, meter: Parametrised, at: "_At", item: RunItem) -> Outcome | None:
        journal = at.journal
        profile = item.proven_by or (_BILLING if item.obis == _BILLING_RESET else None)
        if journal.is_intended(at.key):
            ran = await self._ran(meter, profile, journal.facts.get(f"{at.key} rows"))
            if ran is None:
                return Unsure(
                    f"{at}: it may have run, and nothing at the meter tells; look at it, and run it by a "
                    "program of its own where it did not. Items before it are done",
                    _proof(journal),
                )
            if ran:
                await journal.done(at.key, **{at.key: at.told(changed=True, proven_by=profile)})
                return None
        rows = None if profile is None else await self._rows(meter, profile)
        await journal.intend(at.key, **{f"{at.key} rows": rows})
        await meter.run_script(item.obis, item.script)
        after = None if profile is None else await self._rows(meter, profile)
        told = at.told(changed=True, rows_before=rows, rows_after=after, proven_by=profile)
        await journal.done(at.key, **{at.key: told})
        return None

    async def _ran(self, meter: Parametrised, profile: str | None, before: Any) -> bool | None:
        """Whether a script ran whose answer was lost, as new rows of its profile tell; None: they do not.
        A new row on a whole hour may be of a period that ended meanwhile by itself."""
        if profile is None or before is None:
            return None
        now = await self._rows(meter, profile)
        if now is None:
            return None
        new = [one for one in now if one > max(before, default=0)]
        if not new:
            return False
        return True if len(new) == 1 and new[0] % _HOUR_S else None

    async def _rows(self, meter: Parametrised, profile: str) -> list[int] | None:
        """When the newest rows of the profile were made, by the meter's clock in Unix seconds; None where the
        meter does not say."""
        if not isinstance(meter, BillingConversation):
            return None
        now = self._now()
        try:
            found = await meter.read_billing(profile, now - _PERIODS, now + _AHEAD)
        except (PeerRefused, RemoteProtocolError):
            return None
        return sorted({one.read_us // 1_000_000 for one in found.batch.registers})[-_KEPT:]


@dataclass(frozen=True, slots=True)
class _At:
    """One item of a program at one meter."""

    number: int
    of: int
    item: Item
    task: Task
    journal: Journal

    @property
    def key(self) -> str:
        """Its name in the journal."""
        return f"item {self.number}"

    def __str__(self) -> str:
        name = f" {self.item.name}" if self.item.name else ""
        return f"item {self.number} of {self.of}{name} ({self.item})"

    def told(self, **facts: Any) -> dict[str, Any]:
        """For the proof."""
        named = {"name": self.item.name} if self.item.name else {}
        return {"item": self.number, "what": str(self.item), **named, **facts}

    def failed(self, why: str, told: Mapping[str, Any] | None = None) -> Failed:
        """It failed here."""
        proof = _proof(self.journal)
        if told is not None:
            proof["items"].append(dict(told))
        reason = f"{self}: {why}" + (f"; {_STAYS}" if self.number > 1 else "")
        return Failed(reason, proof)


def _program(program: Program) -> ParametersProgram:
    if not isinstance(program, ParametersProgram):
        raise TypeError(f"{program.kind} is no parameters program")
    return program


def _plain(found: Parameter) -> dict[str, Any]:
    return {"value": found.value, "raw": found.raw.hex()}


def _proof(journal: Journal) -> dict[str, Any]:
    told = [one for one in journal.facts.values() if isinstance(one, dict) and "what" in one]
    return {"items": sorted(told, key=lambda one: int(one["item"]))}
