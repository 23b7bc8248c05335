"""The billing profile of a simulated meter: tariff registers and maximum demand at the end of each month.

Two of its tariffs are used until a calendar is written (`concentrator_sim.calendar`): 06:00 to 22:00 of the
meter's standard time, and the night. What a meter showed when the field's time begins counts as night energy.
A month ends at its local midnight.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from concentrator_sim.event_log import stamp_of
from concentrator_sim.generator import MODULUS, Consumption, moment_of, quarter_of
from concentrator_sim.shapes import EPOCH_S, QUARTER_S
from protocols.dlms import axdr
from protocols.dlms.axdr import Data
from protocols.dlms.cosem import CLOCK_TIME, CaptureObject, ClassId
from protocols.dlms.obis import Obis

BILLING: Final = Obis.parse("0-0:98.1.0*255")
TOTAL: Final = Obis.parse("1-0:1.8.0*255")
#: Active energy import by tariff: day, night, and two that only a calendar uses.
TARIFFS: Final = tuple(Obis.parse(f"1-0:1.8.{tariff}*255") for tariff in range(1, 5))
MAXIMUM_DEMAND: Final = Obis.parse("1-0:1.6.0*255")
COLUMNS: Final = (
    CaptureObject(ClassId.CLOCK, CLOCK_TIME.obis, 2),
    CaptureObject(ClassId.REGISTER, TOTAL, 2),
    *(CaptureObject(ClassId.REGISTER, obis, 2) for obis in TARIFFS[:2]),
    CaptureObject(ClassId.EXTENDED_REGISTER, MAXIMUM_DEMAND, 2),
    CaptureObject(ClassId.EXTENDED_REGISTER, MAXIMUM_DEMAND, 5),
    *(CaptureObject(ClassId.REGISTER, obis, 2) for obis in TARIFFS[2:]),
)
#: Months that are kept.
MONTHS: Final = 13
_DAY_S: Final = 86_400
_DAY_TARIFF: Final = (6 * 3600, 22 * 3600)


class Period(NamedTuple):
    """One row: the month ended at ``at_s`` (Unix seconds); energies in Wh, the maximum in W, and when its
    quarter ended."""

    at_s: int
    total: int
    tariffs: tuple[int, ...]
    maximum: int
    maximum_s: int


def tariffs(consumption: Consumption, moment_s: int, deviation_min: int) -> tuple[int, int]:
    """The registers of day and night at ``moment_s`` (Unix seconds), in Wh; together they are the total."""
    newest = quarter_of(moment_s)
    energy = np.diff(consumption.series(0, 0, newest + 1)) % MODULUS
    begins_s = (EPOCH_S - deviation_min * 60 + np.arange(newest) * QUARTER_S) % _DAY_S
    is_day = (begins_s >= _DAY_TARIFF[0]) & (begins_s < _DAY_TARIFF[1])
    total = consumption.at(0, moment_s)
    day = int(energy[is_day].sum())
    local_s = (moment_of(newest) - deviation_min * 60) % _DAY_S
    if _DAY_TARIFF[0] <= local_s < _DAY_TARIFF[1]:
        day += (total - consumption.at(0, moment_of(newest))) % MODULUS
    return day % MODULUS, (total - day) % MODULUS


def maximum(consumption: Consumption, since_s: int, until_s: int) -> tuple[int, int]:
    """Highest mean power of a quarter within [since_s, until_s) in W, and when that quarter ended."""
    first, newest = quarter_of(since_s), quarter_of(until_s)
    if newest <= first:
        return 0, moment_of(first)
    energy = np.diff(consumption.series(0, first, newest - first + 1)) % MODULUS
    best = int(energy.argmax())
    return int(energy[best]) * 3600 // QUARTER_S, moment_of(first + best + 1)


def month_of(moment_s: int, deviation_min: int) -> int:
    """Unix seconds at which the month of ``moment_s`` began, by the meter's standard time."""
    local = dt.datetime.fromtimestamp(moment_s - deviation_min * 60, dt.UTC)
    begun = local.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return int(begun.timestamp()) + deviation_min * 60


def periods(
    consumption: Consumption,
    now_s: int,
    deviation_min: int,
    registers: Callable[[int], tuple[int, ...]],
    resets: Sequence[int] = (),
) -> list[Period]:
    """The months that have ended, oldest first, and the periods that a script ended at ``resets`` (Unix
    seconds); ``registers`` are those of all tariffs at a moment."""
    found = list(_periods(consumption, now_s, deviation_min, registers))[::-1]
    for at_s in resets:
        begun_s = max((one.at_s for one in found if one.at_s < at_s), default=EPOCH_S)
        highest, highest_s = maximum(consumption, begun_s, at_s)
        found.append(Period(at_s, consumption.at(0, at_s), registers(at_s), highest, highest_s))
    return sorted(found)[-MONTHS:]


def _periods(
    consumption: Consumption, now_s: int, deviation_min: int, registers: Callable[[int], tuple[int, ...]]
) -> Iterator[Period]:
    at_s = month_of(now_s, deviation_min)
    for _ in range(MONTHS):
        if at_s <= EPOCH_S:
            return
        begun_s = max(EPOCH_S, month_of(at_s - 1, deviation_min))
        highest, highest_s = maximum(consumption, begun_s, at_s)
        yield Period(at_s, consumption.at(0, at_s), registers(at_s), highest, highest_s)
        at_s = begun_s


def encode(found: Sequence[Period], deviation_min: int) -> bytes:
    """The buffer."""
    return axdr.encode(axdr.array(_row(period, deviation_min) for period in found))


def _row(period: Period, deviation_min: int) -> Data:
    return axdr.structure(
        axdr.octets(stamp_of(period.at_s, deviation_min)),
        *(axdr.u32(value) for value in (period.total, *period.tariffs[:2], period.maximum)),
        axdr.octets(stamp_of(period.maximum_s, deviation_min)),
        *(axdr.u32(value) for value in period.tariffs[2:]),
    )
