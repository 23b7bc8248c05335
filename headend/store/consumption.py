"""Consumption of intervals, derived from a load curve when it is read. Nothing is stored, nothing is a float.

A cumulative channel's reading belongs to the END of its interval, so the consumption of [start, end) is
reading(end) - reading(start), and reading(start) is that of the row which ends exactly where this one starts.
Where that difference says nothing about the customer's energy there is no number but a reason: missing is
missing. A channel of kind ``interval`` already holds the amount of its interval and passes through.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from schemas.reading import ChannelLayout, Kind


class Reason(StrEnum):
    """Why an interval has no consumption."""

    NO_CHANNEL = "no_channel"  # the meter's profile has no such quantity
    NO_READING = "no_reading"  # the reading at the end of the interval is missing
    GAP = "gap"  # the reading at the start of the interval is missing
    DECREASED = "decreased"  # the register went back, and no modulus makes a plausible rollover of it
    LAYOUT_CHANGE = (
        "layout_change"  # register, scaler, unit, kind or modulus changed between the two readings
    )
    METER_EXCHANGE = (
        "meter_exchange"  # the two readings are of different meters, or installation cut the interval
    )
    RATIO_CHANGE = "ratio_change"  # the transformer ratio changed within the interval


class CurveRow(NamedTuple):
    """One stored interval [start, start + period_s): the meter's raw integers, None where one is missing.

    ``start`` and ``stamp`` are aware UTC; value = raw x 10**scaler of the quantity's channel in that layout.
    """

    start: datetime
    stamp: datetime
    period_s: int
    meter_id: int
    layout_id: int
    quality: int
    amr_status: int | None
    clock_status: int | None
    values: tuple[int | None, int | None, int | None, int | None]

    @property
    def end(self) -> datetime:
        return self.start + timedelta(seconds=self.period_s)


class Amount(NamedTuple):
    """One quantity in one interval: a raw integer in the channel's scaler, or why there is none."""

    raw: int | None
    reason: Reason | None


def difference(end: int, start: int, modulus: int | None) -> Amount:
    """Amount between two readings of one register.

    A register that went back has rolled over if it has a modulus and the step across it is less than half of
    that; a larger step is a register set back (parameterisation, exchange nobody told us of), not energy.
    """
    delta = end - start
    if delta >= 0:
        return Amount(delta, None)
    if (
        modulus is None
        or not (0 <= end < modulus and 0 <= start < modulus)
        or 2 * (delta + modulus) >= modulus
    ):
        return Amount(None, Reason.DECREASED)
    return Amount(delta + modulus, None)


def amounts(
    row: CurveRow, before: CurveRow | None, layouts: Mapping[int, ChannelLayout]
) -> tuple[Amount, ...]:
    """Consumption of each quantity of ``row``; ``before`` is the row before it in time, if there is one."""
    channels = layouts[row.layout_id].channels
    adjacent = before if before is not None and before.end == row.start else None
    out: list[Amount] = []
    for k, channel in enumerate(channels):
        end = row.values[k]
        if channel is None:
            out.append(Amount(None, Reason.NO_CHANNEL))
        elif end is None:
            out.append(Amount(None, Reason.NO_READING))
        elif channel.kind is Kind.INTERVAL:
            out.append(Amount(end, None))
        elif adjacent is None:
            out.append(Amount(None, Reason.GAP))
        elif adjacent.meter_id != row.meter_id:
            out.append(Amount(None, Reason.METER_EXCHANGE))
        elif adjacent.layout_id != row.layout_id and layouts[adjacent.layout_id].channels[k] != channel:
            out.append(Amount(None, Reason.LAYOUT_CHANGE))
        elif (start := adjacent.values[k]) is None:
            out.append(Amount(None, Reason.GAP))
        else:
            out.append(difference(end, start, channel.modulus))
    return tuple(out)


def derive(
    rows: Iterable[CurveRow], before: CurveRow | None, layouts: Mapping[int, ChannelLayout]
) -> Iterator[tuple[CurveRow, tuple[Amount, ...]]]:
    """Each row with its amounts, in order of start; ``before`` is the row before the first."""
    for row in rows:
        yield row, amounts(row, before, layouts)
        before = row


def plain(raw: int, scaler: int) -> str:
    """raw x 10**scaler in plain notation with every digit the meter sent: (12048950, -3) is "12048.950"."""
    if scaler == 0:
        return str(raw)
    if scaler > 0:
        return str(raw) + "0" * scaler if raw else "0"
    digits = str(abs(raw)).rjust(1 - scaler, "0")
    return f"{'-' if raw < 0 else ''}{digits[:scaler]}.{digits[scaler:]}"
