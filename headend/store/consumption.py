"""Consumption of intervals, derived from a load curve when it is read. Nothing is stored, nothing is a float.

A cumulative channel's reading belongs to the END of its interval, so the consumption of [start, end) is
reading(end) - reading(start), and reading(start) is that of the row which ends exactly where this one starts.
Where that difference says nothing about the customer's energy there is no number but a reason: missing is
missing. A channel of kind ``interval`` already holds the amount of its interval and passes through.

At a metering point the readings taken at an exchange stand in for those that the profiles lack: the old meter
used removal register - last reading, the new one first reading - start register, and the interval of the
exchange both together.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple

from schemas.reading import Channel, ChannelLayout, Kind


class Reason(StrEnum):
    """Why an interval has no consumption."""

    NO_CHANNEL = "no_channel"  # the meter's profile has no such quantity
    NO_READING = "no_reading"  # the reading at the end of the interval is missing
    GAP = "gap"  # the reading at the start of the interval is missing
    DECREASED = "decreased"  # the register went back, and no modulus makes a plausible rollover of it
    LAYOUT_CHANGE = (
        "layout_change"  # register, scaler, unit, kind or modulus changed between the two readings
    )
    METER_EXCHANGE = "meter_exchange"  # another meter came, and its or the old one's reading then is missing
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


@dataclass(frozen=True, slots=True)
class Installed:
    """A meter at a metering point during [since, until); ``until`` None while it is there.

    Registers are readings at those two moments by OBIS code, in the unit of the meter's channel.
    """

    meter_id: int
    asset_id: str
    since: datetime
    until: datetime | None
    start_registers: Mapping[str, Decimal] = field(default_factory=dict)
    removal_registers: Mapping[str, Decimal] = field(default_factory=dict)


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
    row: CurveRow,
    before: CurveRow | None,
    layouts: Mapping[int, ChannelLayout],
    installed: Sequence[Installed] = (),
) -> tuple[Amount, ...]:
    """Consumption of each quantity of ``row``; ``before`` is the row before it in time, if there is one.

    ``installed``: who was at the metering point and when, in order; empty for a meter's own curve.
    """
    there = _arrivals(row, installed)
    channels = layouts[row.layout_id].channels
    adjacent = before if before is not None and before.end == row.start else None
    out: list[Amount] = []
    for k, channel in enumerate(channels):
        end = row.values[k]
        if channel is None:
            out.append(Amount(None, Reason.NO_CHANNEL))
        elif end is None:
            out.append(Amount(None, Reason.NO_READING))
        elif there:
            out.append(_across(end, channel, adjacent, k, layouts, there))
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


def _arrivals(row: CurveRow, installed: Sequence[Installed]) -> list[Installed]:
    """Who was at the point within the interval, if the last of them came there within it; else nobody."""
    there = [one for one in installed if one.since < row.end and (one.until is None or one.until > row.start)]
    return there if there and there[-1].since >= row.start else []


def _across(
    reading: int,
    channel: Channel,
    adjacent: CurveRow | None,
    k: int,
    layouts: Mapping[int, ChannelLayout],
    there: Sequence[Installed],
) -> Amount:
    """What the point used in an interval at whose end another meter is there than at its start, or a first.

    ``reading`` of ``channel`` is the new meter's at the end; ``adjacent`` is the row that ends at the start.
    """
    *earlier, new = there
    if channel.kind is Kind.INTERVAL:
        # The new meter's own amount is that since it came; nobody tells the old one's.
        return Amount(None, Reason.METER_EXCHANGE) if earlier else Amount(reading, None)
    begin = _raw(new.start_registers, channel)
    if begin is None:
        return Amount(None, Reason.GAP if adjacent is None and not earlier else Reason.METER_EXCHANGE)
    used = difference(reading, begin, channel.modulus)
    if used.raw is None or not earlier:
        return used
    old = earlier[-1]
    if len(earlier) > 1:  # one that came and went within the interval left no row: its unit is not known
        return Amount(None, Reason.METER_EXCHANGE)
    if adjacent is None or adjacent.meter_id != old.meter_id or (last := adjacent.values[k]) is None:
        return Amount(None, Reason.GAP)
    was = layouts[adjacent.layout_id].channels[k]
    end = None if was is None or was.kind is not Kind.CUMULATIVE else _raw(old.removal_registers, was)
    if was is None or end is None or was.unit != channel.unit:
        return Amount(None, Reason.METER_EXCHANGE)
    rest = difference(end, last, was.modulus)
    if rest.raw is None:
        return rest
    total = used.raw + Fraction(rest.raw) * Fraction(10) ** (was.scaler - channel.scaler)
    return Amount(int(total), None) if total.denominator == 1 else Amount(None, Reason.METER_EXCHANGE)


def _raw(registers: Mapping[str, Decimal], channel: Channel) -> int | None:
    """A reading as the channel counts; None where there is none, or one finer than the channel tells."""
    value = registers.get(channel.obis)
    if value is None:
        return None
    raw = Fraction(value) / Fraction(10) ** channel.scaler
    return int(raw) if raw.denominator == 1 else None


def derive(
    rows: Iterable[CurveRow],
    before: CurveRow | None,
    layouts: Mapping[int, ChannelLayout],
    installed: Sequence[Installed] = (),
) -> Iterator[tuple[CurveRow, tuple[Amount, ...]]]:
    """Each row with its amounts, in order of start; ``before`` is the row before the first."""
    for row in rows:
        yield row, amounts(row, before, layouts, installed)
        before = row


def plain(raw: int, scaler: int) -> str:
    """raw x 10**scaler in plain notation with every digit the meter sent: (12048950, -3) is "12048.950"."""
    if scaler == 0:
        return str(raw)
    if scaler > 0:
        return str(raw) + "0" * scaler if raw else "0"
    digits = str(abs(raw)).rjust(1 - scaler, "0")
    return f"{'-' if raw < 0 else ''}{digits[:scaler]}.{digits[scaler:]}"
