"""What the tariff registers of a meter show, by what its calendar said at each moment.

Registers of a meter whose calendar was never changed are a pure function of time
(`concentrator_sim.billing`). From each change on they are what they were then, and what was drawn since,
switch by switch.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from concentrator_sim import billing
from concentrator_sim.generator import MODULUS, Consumption
from schemas.tariff.calendar import Compiled

_DAY_S: Final = 86_400
_DAY: Final = dt.timedelta(days=1)
_EPOCH: Final = dt.date(1970, 1, 1)


class Rules(Protocol):
    """A calendar of any language."""

    def switches(self, date: dt.date) -> Sequence[tuple[int, int]]:
        """(second of the day, tariff) of a date, in order; empty where the calendar says nothing of it."""


class TableRules(NamedTuple):
    """The `Rules` of tables as `schemas.tariff.calendar` has them."""

    tables: Compiled

    def switches(self, date: dt.date) -> Sequence[tuple[int, int]]:
        """See `Rules`."""
        number = self._number(date)
        for one in self.tables.calendar.days:
            if one.number == number:
                return sorted((60 * switch.minute, switch.selector) for switch in one.switches)
        return ()

    def _number(self, date: dt.date) -> int | None:
        calendar, specials = self.tables.calendar, self.tables.specials
        for one in specials:
            if one.year in (None, date.year) and (one.month, one.day) == (date.month, date.day):
                return one.number
        if not calendar.seasons:
            return None
        begun = [one for one in calendar.seasons if (one.month, one.day) <= (date.month, date.day)]
        season = max(begun or calendar.seasons, key=lambda one: (one.month, one.day))
        rest = self.tables.rest
        if rest is not None and date.weekday() in rest.weekdays:
            return rest.number
        week = next((one for one in calendar.weeks if one.name == season.week), None)
        return None if week is None else week.days[date.weekday()]


class _Change(NamedTuple):
    """From ``since_s`` on these rules; the registers then."""

    since_s: int
    registers: tuple[int, ...]
    rules: Rules


class TariffLedger:
    """The registers of one meter. Its local time and ``deviation_min`` minutes are UTC, as COSEM counts."""

    def __init__(self, consumption: Consumption, deviation_min: int) -> None:
        self._consumption = consumption
        self._deviation_min = deviation_min
        self._changes: list[_Change] = []

    @property
    def rules(self) -> Rules | None:
        """What counts now; None where it was never changed."""
        return self._changes[-1].rules if self._changes else None

    def change(self, at_s: int, rules: Rules) -> None:
        """From ``at_s`` (Unix seconds) on these rules count."""
        at_s = max(at_s, self._changes[-1].since_s if self._changes else at_s)
        self._changes.append(_Change(at_s, self.registers(at_s), rules))

    def registers(self, moment_s: int) -> tuple[int, ...]:
        """Energy of each tariff in Wh at ``moment_s``."""
        change = next((one for one in reversed(self._changes) if one.since_s <= moment_s), None)
        if change is None:
            return never_written(self._consumption, moment_s, self._deviation_min)
        return self._counted(change, moment_s)

    def _counted(self, change: _Change, until_s: int) -> tuple[int, ...]:
        """The registers of a change, and what was drawn since."""
        east_s = -self._deviation_min * 60
        out = list(change.registers)
        at_s = change.since_s
        before = self._consumption.at(0, at_s)
        while at_s < until_s:
            local_s = at_s + east_s
            starts = [at for at, _ in change.rules.switches(_date(local_s)) if at > local_s % _DAY_S]
            next_s = min(local_s - local_s % _DAY_S + min([*starts, _DAY_S]) - east_s, until_s)
            after = self._consumption.at(0, next_s)
            place = script_at(change.rules, local_s) - 1
            if 0 <= place < len(out):
                out[place] = (out[place] + (after - before) % MODULUS) % MODULUS
            at_s, before = next_s, after
        return tuple(out)


def script_at(rules: Rules, local_s: int) -> int:
    """Which tariff counts at a local second. Where no day says any, the first."""
    date, second = _date(local_s), local_s % _DAY_S
    found = [script for at, script in rules.switches(date) if at <= second]
    if not found:  # the day before goes on
        found = [script for _, script in rules.switches(date - _DAY)]
    return found[-1] if found else 1


def never_written(consumption: Consumption, moment_s: int, deviation_min: int) -> tuple[int, ...]:
    """The registers of all tariffs by the default calendar, in Wh: day, night, and those not in use."""
    day, night = billing.tariffs(consumption, moment_s, deviation_min)
    return (day, night, *(0 for _ in billing.TARIFFS[2:]))


def _date(local_s: int) -> dt.date:
    return _EPOCH + dt.timedelta(days=local_s // _DAY_S)
