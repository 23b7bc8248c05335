"""Load shapes that all meters share: energy since the epoch, as exact integers, at any quarter of an hour.

A shape is a table of days (BDEW: 12 months x Saturday, Sunday, working day) and for each calendar day the
number of its table and a weight. Energy since the epoch is then closed-form: the days before, plus the
weighted part of the day so far. Nothing is summed when a meter is read, and nothing is kept per meter.

Time here is the number ``k`` of quarters of an hour since `EPOCH_S`, in Central European standard time all
the year. Energy is in units of which about `UNITS_PER_YEAR` make the shape's year.
"""

import csv
import datetime as dt
from functools import lru_cache
from importlib.resources import files
from typing import Final

import numpy as np
import numpy.typing as npt

I8 = npt.NDArray[np.int64]

QUARTER_S: Final = 900
QUARTERS_PER_DAY: Final = 96
#: 2020-01-01 00:00 of Central European Time, in Unix seconds.
EPOCH_S: Final = 1_577_833_200
_FIRST_DAY: Final = dt.date(2020, 1, 1)
#: Days that the shapes know: to the end of 2069.
DAYS: Final = 18_263
LAST_QUARTER: Final = DAYS * QUARTERS_PER_DAY - 1
#: Units of a shape that make one year's energy. 50 years times the largest meter stay within 63 bits.
UNITS_PER_YEAR: Final = 6_250_000_000
#: Quarters in the cycle of the noise.
NOISE_LENGTH: Final = 8_192

_BDEW_SUM: Final = 16  # a year of the tables sums up to 1e9, a shape's to a sixteenth of it times its weight
_FULL: Final = 100  # weight of an ordinary day

_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)
_STEP: Final = 0x9E3779B97F4A7C15


def scattered(seed: int, count: int) -> npt.NDArray[np.uint64]:
    """``count`` scattered 64-bit numbers of ``seed`` (SplitMix64): the same on every machine and for ever,
    which numpy's own generators do not promise."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_STEP)
    state = steps + np.uint64((seed * _STEP) % 2**64)
    state = (state ^ (state >> np.uint64(30))) * _MIX_1
    state = (state ^ (state >> np.uint64(27))) * _MIX_2
    return state ^ (state >> np.uint64(31))


class Shape:
    """Energy since the epoch by quarter of an hour. See the module for units."""

    __slots__ = ("_before", "_table_of_day", "_tables", "_weight", "units_per_year")

    def __init__(self, tables: I8, table_of_day: I8, weight: I8, units_per_year: int) -> None:
        self._tables = np.concatenate([np.zeros((len(tables), 1), np.int64), tables.cumsum(axis=1)], axis=1)
        self._table_of_day = table_of_day
        self._weight = weight
        whole_days = weight * self._tables[table_of_day, QUARTERS_PER_DAY]
        self._before = np.concatenate([np.zeros(1, np.int64), whole_days.cumsum()[:-1]])
        self.units_per_year = units_per_year

    def at(self, k: I8) -> I8:
        """Energy since the epoch at the beginning of the quarters ``k``, each within 0..LAST_QUARTER."""
        day, quarter = np.divmod(k, QUARTERS_PER_DAY)
        energy: I8 = self._before[day] + self._weight[day] * self._tables[self._table_of_day[day], quarter]
        return energy


class Noise:
    """What a household does beyond its average: mostly little, now and then much. Cyclic and shared; a meter
    begins at an offset of its own."""

    __slots__ = ("_sums", "_total")

    def __init__(self, seed: int) -> None:
        numbers = scattered(seed, NOISE_LENGTH)
        small = (numbers & np.uint64(0xFFFF)).astype(np.int64) * 2
        burst = ((numbers >> np.uint64(16)) & np.uint64(0xFFFFF)).astype(np.int64)
        rare = (numbers >> np.uint64(40)) & np.uint64(7) == 0
        # on average about one quarter's share of UNITS_PER_YEAR
        energy = small + np.where(rare, burst * 2, 0)
        # two cycles, so that any stretch of one cycle's length is a slice
        self._sums = np.concatenate([np.zeros(1, np.int64), np.tile(energy, 2).cumsum()])
        self._total = int(energy.sum())

    def stretch(self, first: int, count: int) -> I8:
        """Energy since the epoch at the beginning of ``count`` quarters from ``first`` (not negative)."""
        if count > NOISE_LENGTH:
            half = NOISE_LENGTH
            return np.concatenate([self.stretch(first, half), self.stretch(first + half, count - half)])
        turns, place = divmod(first, NOISE_LENGTH)
        energy: I8 = self._sums[place : place + count] + turns * self._total
        return energy


@lru_cache(maxsize=1)
def _calendar() -> tuple[I8, I8, I8]:
    """Month (0..11), kind of day (0 Saturday, 1 Sunday, 2 working day) and day of the year, by day."""
    days = [_FIRST_DAY + dt.timedelta(days=n) for n in range(DAYS)]
    kinds = {6: 0, 7: 1}
    return (
        np.array([day.month - 1 for day in days], np.int64),
        np.array([kinds.get(day.isoweekday(), 2) for day in days], np.int64),
        np.array([day.timetuple().tm_yday for day in days], np.int64),
    )


def _table(name: str) -> I8:
    text = (files("concentrator_sim") / "data" / f"bdew_{name}.csv").read_text("utf-8")
    rows = list(csv.reader(text.splitlines()))[1:]
    return np.array([[int(cell) for cell in row[1:]] for row in rows], np.int64).T // _BDEW_SUM


@lru_cache(maxsize=8)
def load_shape(name: str) -> Shape:
    """The BDEW profile ``h25`` (household), ``g25`` (trade) or ``l25`` (farm), no day like the other."""
    month, kind, day_of_year = _calendar()
    weight = 88 + (scattered(int.from_bytes(name.encode(), "big"), DAYS) % np.uint64(25)).astype(np.int64)
    if name == "h25":
        # Households need more in winter. BDEW's own curve is a polynomial of the day; a parabola from 118 %
        # in January to 82 % in July is near it and exact in integers.
        from_july = np.minimum(np.abs(day_of_year - 197), 183)
        weight = weight * (82 + from_july * from_july * 36 // (183 * 183)) // _FULL
    return Shape(_table(name), month * 3 + kind, weight, UNITS_PER_YEAR)


@lru_cache(maxsize=1)
def sun_shape() -> Shape:
    """Photovoltaics: a parabola between sunrise and sunset of the month, and weather by day for all alike."""
    month, _, _ = _calendar()
    half_day = (16, 20, 24, 28, 31, 33, 32, 29, 25, 21, 17, 15)  # quarters from noon to sunset
    quarters = np.arange(QUARTERS_PER_DAY, dtype=np.int64)
    from_noon = np.abs(quarters * 2 + 1 - QUARTERS_PER_DAY)
    tables = np.array([np.maximum(0, (2 * n) ** 2 - from_noon**2) for n in half_day], np.int64)
    weather = 15 + (scattered(0x50, DAYS) % np.uint64(86)).astype(np.int64)
    year = int((weather * tables.sum(axis=1)[month]).sum()) * 365 // DAYS
    return Shape(tables, month, weather, year)


@lru_cache(maxsize=1)
def noise() -> Noise:
    """The noise that all meters share."""
    return Noise(0x4E)


@lru_cache(maxsize=256)
def shape_range(name: str, first: int, count: int) -> I8:
    """`Shape.at` for ``count`` quarters from ``first``; kept, since all meters are asked for the same day."""
    shape = sun_shape() if name == "sun" else load_shape(name)
    energy = shape.at(np.arange(first, first + count, dtype=np.int64))
    energy.flags.writeable = False
    return energy
