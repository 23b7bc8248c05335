"""What a second row of one interval means: the same again, a completion, or a correction.

A null never replaces a value (missing is missing, not a statement). Values are compared exactly and as what
they mean: 1234 x 10^1 Wh is 12340 Wh. Of equal values the stored one stays, with its stamp and clock status.

A row is as good as the worst of its values. One that both rows tell is as good as the better of them, so a
row whose every value is confirmed by a better source becomes as good as that: a completion.

Of a meter that keeps no curve two samples near one boundary are two readings, neither wrong: the first
stands.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from schemas.reading import Channel, ChannelLayout, Quality

#: How much a value is to be doubted. What the meter itself sent is beyond doubt, whoever began.
_DOUBT: Final = {
    Quality.MEASURED: 0,
    Quality.PUSHED: 0,
    Quality.HANDHELD: 1,
    Quality.SAMPLED: 2,
    Quality.MANUAL: 3,
    Quality.ESTIMATED: 4,
}


class Verdict(StrEnum):
    """The kinds of changes.kind that come of a second row, and REPEATED, which is no change."""

    REPEATED = "repeated"
    COMPLETION = "completion"
    CORRECTION = "correction"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of interval_reads without its key; ``values`` in the order of INTERVAL_QUANTITIES."""

    stamp: datetime
    values: tuple[int | None, ...]
    period_s: int
    layout: ChannelLayout
    amr_status: int | None
    clock_status: int | None
    quality: int


def merge(stored: Row, new: Row) -> tuple[Verdict, Row]:
    """What ``new`` means beside ``stored``, and the row that is to stand (``stored`` when repeated)."""
    completes = corrects = False
    values: list[int | None] = []
    channels: list[Channel | None] = []
    qualities: list[int] = []
    sampled_again = stored.quality == new.quality == Quality.SAMPLED
    for old_value, old_channel, value, channel in zip(
        stored.values, stored.layout.channels, new.values, new.layout.channels, strict=True
    ):
        same = (
            value is not None
            and old_value is not None
            and (sampled_again or _same(old_value, old_channel, value, channel))
        )
        if value is None or same:
            if old_value is not None:
                qualities.append(_better(stored.quality, new.quality) if same else stored.quality)
            values.append(old_value)
            channels.append(old_channel if old_value is not None or channel is None else channel)
            continue
        completes = completes or old_value is None
        corrects = corrects or old_value is not None
        values.append(value)
        channels.append(channel)
        qualities.append(new.quality)
    amr_status = stored.amr_status
    if new.amr_status is not None and new.amr_status != stored.amr_status:
        completes = completes or stored.amr_status is None
        corrects = corrects or stored.amr_status is not None
        amr_status = new.amr_status
    corrects = corrects or stored.period_s != new.period_s
    quality = max(qualities, key=_doubt, default=new.quality)
    completes = completes or bool(qualities and _doubt(quality) < _doubt(stored.quality))
    if not completes and not corrects:
        return Verdict.REPEATED, stored
    merged = Row(
        stamp=new.stamp,
        values=tuple(values),
        period_s=new.period_s,
        layout=ChannelLayout((channels[0], channels[1], channels[2], channels[3])),
        amr_status=amr_status,
        clock_status=stored.clock_status if new.clock_status is None else new.clock_status,
        quality=new.quality if _doubt(new.quality) == _doubt(quality) else quality,
    )
    return Verdict.CORRECTION if corrects else Verdict.COMPLETION, merged


def _doubt(quality: int) -> int:
    return _DOUBT[Quality(quality)]


def _better(stored: int, new: int) -> int:
    return new if _doubt(new) < _doubt(stored) else stored


def _same(left: int, left_channel: Channel | None, right: int, right_channel: Channel | None) -> bool:
    if left_channel is None or right_channel is None:
        return left == right and left_channel is right_channel
    if (left_channel.obis, left_channel.unit, left_channel.kind) != (
        right_channel.obis,
        right_channel.unit,
        right_channel.kind,
    ):
        return False
    lowest = min(left_channel.scaler, right_channel.scaler)
    by_left: int = 10 ** (left_channel.scaler - lowest)
    by_right: int = 10 ** (right_channel.scaler - lowest)
    return left * by_left == right * by_right
