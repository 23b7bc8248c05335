"""One visit for a tariff program: written beside what holds, read back, compared, activated, confirmed.

::

    read ──> passive side is as it shall be? ──no──> (disarm) write the tables that differ ──> read back
                        │ yes                                                          │ differs: FAILED
                        ▼                                                              ▼
    special days that are good for both calendars ──> activate: at once, or at its time ──> Later
                                                                                       │
    FINISHED <── special days as they shall be <── active calendar is the wanted one <─┘

Nothing counts before it is activated, so that tables may be written again at will; what is there is not. A
calendar that was activated is known by the meter's active side, whatever our journal lost.

Special days have no passive side. The days of the new calendar get numbers that the old one has not, where
the meter takes enough; then until the activation the table has the old entries that fall before it and the
new ones that fall behind it, and at the confirmation the new ones alone. Where numbers do not suffice, the
new entries are written at the confirmation.

Rest days of meters that know no weeks have no passive side either: they are written at the confirmation. A
calendar that has special days of its own (`MeterTariff.passive_specials`) has them activated with it.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final

from headend.drivers.commands.tariff import TariffConversation, TariffPart
from headend.programs.contract import Failed, Finished, Journal, Later, Outcome, Task, Unfit
from protocols.errors import PeerRefused
from schemas.model.tariff import TariffLimits
from schemas.tariff.calendar import (
    CalendarSpecial,
    Compiled,
    MeterTariff,
    compiled,
    differences,
    ordered_specials,
    rest_differences,
    special_differences,
)
from schemas.tariff.document import TariffDocument

#: After its time an activation is looked for so much later: meters' clocks differ. Each at another second.
_CONFIRM_S: Final = (30.0, 120.0)
#: So long after its time a calendar that is not active is taken for one that will not be.
_GRACE: Final = timedelta(minutes=20)
_LOOK_AGAIN: Final = timedelta(minutes=5)
_TABLES: Final = (TariffPart.DAYS, TariffPart.WEEKS, TariffPart.SEASONS, TariffPart.NAME)
#: Differences that are told of one meter.
MOST_TOLD: Final = 20


class Visit:
    """One visit at one meter, whose day numbers are settled."""

    def __init__(
        self,
        meter: TariffConversation,
        task: Task,
        journal: Journal,
        document: TariffDocument,
        limits: TariffLimits,
        has: MeterTariff,
        now: Callable[[], datetime],
    ) -> None:
        self._meter = meter
        self._task, self._journal, self._document, self._limits = task, journal, document, limits
        self._tariffs = {
            selector: number
            for number in document.periods.values()
            if (selector := limits.selector(number)) is not None
        }
        self._has = has
        self._now = now
        self.wanted = self._meter.tariff_as_stored(compiled(document, limits, journal.facts["numbers"]))

    async def go_on(self) -> Outcome:
        """As far as this visit gets."""
        if not self._is_active:
            if self._journal.is_done("activate"):
                return self._not_yet()
            ended = await self._prepare()
            if ended is not None:
                return ended
            ended = await self._activate()
            if ended is not None:
                return ended
        return await self._confirm()

    @property
    def _is_active(self) -> bool:
        if differences(self.wanted.calendar, self._has.active):
            return False
        return not self._has_own_specials or not special_differences(self.wanted.specials, self._has.specials)

    @property
    def _has_own_specials(self) -> bool:
        """Whether each calendar has special days of its own."""
        return self._has.passive_specials is not None

    @property
    def _waiting_specials(self) -> tuple[CalendarSpecial, ...]:
        """Those that are written before the activation."""
        own = self._has.passive_specials
        return self._has.specials if own is None else own

    # ---- before -----------------------------------------------------------------------------------------

    async def _prepare(self) -> Outcome | None:
        """The passive side and the special days, proven; None where all is well."""
        journal, wanted = self._journal, self.wanted
        if not journal.is_intended("write") and not journal.is_done("write"):
            misfits = await self._meter.tariff_misfits(wanted, self._tariffs)
            if misfits:
                return Unfit("; ".join(misfits[:MOST_TOLD]))
        parts = self._parts()
        specials = wanted.specials if self._has_own_specials else self._before_activation()
        if specials is not None and special_differences(specials, self._waiting_specials):
            parts.append(TariffPart.SPECIAL_DAYS)
        if not parts:
            return None
        await journal.intend("write", parts=[str(part) for part in parts])
        written = wanted if specials is None else wanted._replace(specials=specials)
        try:
            if self._has.activates_at is not None and self._has.activates_at > self._task.now:
                await self._meter.disarm_tariff()  # a calendar half written must not become the active one
            await self._meter.write_tariff(parts, written)
        except PeerRefused:
            await journal.done("write", refused=True)  # an answer: nobody need wonder what came of it
            raise
        await journal.done("write")
        await self._look()
        passive = self._has.passive
        wrong = ["no passive calendar"] if passive is None else differences(wanted.calendar, passive)
        if specials is not None:
            wrong += special_differences(specials, self._waiting_specials)
        if wrong:
            told = "; ".join(wrong[:MOST_TOLD])
            return Failed(
                f"the meter has not stored what was written: {told}. It was not activated.",
                {
                    "differences": wrong,
                    "read": Compiled(passive or self._has.active, self._waiting_specials).as_json(),
                },
            )
        return None

    def _parts(self) -> list[TariffPart]:
        """Tables of the passive side that are not as they shall be."""
        has, wanted = self._has.passive, self.wanted.calendar
        if has is None:
            return list(_TABLES)
        return [part for part in _TABLES if getattr(has, part) != getattr(wanted, part)]

    def _before_activation(self) -> tuple[CalendarSpecial, ...] | None:
        """The special days until the activation; None where they stay as they are."""
        at = self._later
        if at is None or not self._journal.facts["apart"]:
            return None
        zone = self._document.tz
        today, then = self._task.now.astimezone(zone).date(), at.astimezone(zone).date()
        found = _in_between(self._has.specials, self.wanted, today, then)
        return found if len(found) <= self._limits.special_days else None

    @property
    def _later(self) -> datetime | None:
        """The activation, where it is still to come."""
        at = self._document.activates_at
        return at if at is not None and at > self._task.now else None

    async def _activate(self) -> Outcome | None:
        at, journal = self._later, self._journal
        if at is None:
            await journal.intend("activate", at="at once")
            will_be = await self._meter.activate_tariff(None)
            await journal.done("activate", activated=(will_be or self._now()).isoformat())
            await self._look()
            return None if self._is_active else self._not_yet()
        if self._has.activates_at != at:
            await journal.intend("activate", at=at.isoformat())
            await self._meter.activate_tariff(at)
            await self._look()
            if self._has.activates_at != at and not self._is_active:
                return Failed(
                    f"the meter has {_time(self._has.activates_at)} as time of activation, not {at}"
                )
        await journal.done("activate", activated=at.isoformat())
        return None if self._is_active else self._not_yet()

    def _not_yet(self) -> Outcome:
        """Activated, by our journal, and not active."""
        began, now = datetime.fromisoformat(self._journal.facts["activated"]), self._task.now
        name = self._has.active.name
        if now < began:
            confirm = timedelta(seconds=random.uniform(*_CONFIRM_S))  # noqa: S311 - to be spread, not guessed
            return Later(began + confirm, f"it is activated at {began}; until then it has {name!r}")
        if now < began + _GRACE:
            return Later(now + _LOOK_AGAIN, f"it was to be activated at {began} and still has {name!r}")
        wrong = differences(self.wanted.calendar, self._has.active)
        return Failed(
            f"it was to be activated at {began}, and the active calendar is another: "
            f"{'; '.join(wrong[:MOST_TOLD])}",
            {"differences": wrong, "read": self._has.stored.as_json()},
        )

    # ---- behind -----------------------------------------------------------------------------------------

    async def _confirm(self) -> Outcome:
        """The active calendar is the wanted one: so shall be its special days and rest days."""
        journal, wanted = self._journal, self.wanted
        if "activated" not in journal.facts:  # the answer was lost, or we were
            at = self._document.activates_at
            began = self._now() if at is None or at > self._task.now else at
            await journal.done("activate", activated=began.isoformat())
        wrong = self._common_differences()
        if wrong:
            await journal.intend("special_days", parts=[str(part) for part in wrong])
            await self._meter.write_tariff(list(wrong), wanted)
            await journal.done("special_days")
            await self._look()
            told = [one for several in self._common_differences().values() for one in several]
            if told:
                return Failed(
                    f"the calendar is active, what belongs to it is not: {'; '.join(told[:MOST_TOLD])}",
                    {"differences": told, "read": self._has.stored.as_json()},
                )
        began = journal.facts["activated"]
        return Finished({**proof(self._has.stored), "active_since": began})

    def _common_differences(self) -> dict[TariffPart, list[str]]:
        """What of special days and rest days, which have no passive side, is not as it shall be."""
        found = {
            TariffPart.SPECIAL_DAYS: special_differences(self.wanted.specials, self._has.specials),
            TariffPart.REST_DAYS: rest_differences(self.wanted.rest, self._has.rest),
        }
        return {part: differ for part, differ in found.items() if differ}

    async def _look(self) -> None:
        self._has = await self._meter.read_tariff(self.wanted.numbers)


def _in_between(
    old: Sequence[CalendarSpecial], wanted: Compiled, today: date, then: date
) -> tuple[CalendarSpecial, ...]:
    """Of the old entries those that still fall before the activation, of the new ones those that fall behind
    it before they come again."""
    ours = wanted.calendar.numbers
    stay = [one for one in old if one.number not in ours and one.happens(today, then)]
    dates = {(one.month, one.day) for one in stay}
    come = [
        one for one in wanted.specials if (one.month, one.day) not in dates and not one.happens(today, then)
    ]
    return ordered_specials([*stay, *come])


def proof(stored: Compiled) -> Mapping[str, Any]:
    """What was read back, as a campaign keeps it: JSON."""
    return {"name": stored.calendar.name, **stored.as_json()}


def _time(at: datetime | None) -> str:
    return "none" if at is None else at.isoformat()
