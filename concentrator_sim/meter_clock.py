"""The clock of a simulated meter that was set, shifted, or told of summer time; and its object, class 8.

Most meters of a field are never told: they show the field's clock with their drift, and have no part here. A
meter that was has a `MeterClock`: what it shows from each change on. Its consumption goes on as before, so
that rows captured after a change hold what the registers showed at that true moment, under another stamp.
"""

import datetime as dt
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from concentrator_sim.event_log import CLOCK_AFTER, CLOCK_BEFORE, STANDARD
from concentrator_sim.object_model import Asked, CosemObject, Invoke, Meter, Read, Write
from concentrator_sim.shapes import EPOCH_S, QUARTER_S
from protocols.dlms import axdr
from protocols.dlms.cosem import CLOCK_TIME, ClassId
from protocols.dlms.cosem import clock as cosem_clock
from protocols.dlms.cosem.clock import Preset, SummerTime
from protocols.dlms.cosem_time import ClockStatus, CosemDate, CosemDateTime, CosemTime
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.errors import RemoteProtocolError

_NEVER: Final = CosemDateTime(CosemDate(), CosemTime())
_MINUTE_S: Final = 60


class Stretch(NamedTuple):
    """From ``since_s`` on (Unix seconds of the meter's crystal) the clock shows ``ahead_s`` more than it."""

    since_s: int
    ahead_s: int


class ProfileRow(NamedTuple):
    """A row of the load profile: its stamp, the true moment of its capture, whether the clock was changed
    while its period ran."""

    stamp_s: int
    captured_s: int
    adjusted: bool


class MeterClock:
    """What the clock of one meter shows: UTC, in Unix seconds, of the seconds of its crystal."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._stretches = [Stretch(0, 0)]
        self.rules = SummerTime(meter.deviation_min, _NEVER, _NEVER, 0, enabled=False)
        self.preset: Preset | None = None
        #: whether it has the optional method shift_time
        self.takes_shift = True

    # ---- time ---------------------------------------------------------------------------------------

    def shows(self, crystal_s: int) -> int:
        """What it showed, or shows, at a moment."""
        place = bisect_right(self._stretches, crystal_s, key=lambda one: one.since_s)
        return crystal_s + self._stretches[max(0, place - 1)].ahead_s

    def set(self, crystal_s: int, shown_s: int) -> None:
        """From now on it shows this; its log tells of it."""
        before = self.shows(crystal_s)
        if shown_s == before:
            return
        if self._stretches[-1].since_s == crystal_s:
            self._stretches.pop()
        self._stretches.append(Stretch(crystal_s, shown_s - crystal_s))
        self._meter.events.add(STANDARD, crystal_s - 1, CLOCK_BEFORE)
        self._meter.events.add(STANDARD, crystal_s, CLOCK_AFTER)

    def deviation_min(self, shown_s: int) -> int:
        """UTC - local time when it shows this."""
        rules = self.rules
        return rules.zone_min - (rules.ahead_min if self._is_summer(shown_s) else 0)

    def stamp(self, shown_s: int) -> bytes:
        """Its date-time of 12 bytes when it shows this."""
        moment = dt.datetime.fromtimestamp(shown_s, dt.UTC)
        status = ClockStatus.DST_ACTIVE if self._is_summer(shown_s) else ClockStatus(0)
        return CosemDateTime.from_utc(moment, self.deviation_min(shown_s), status=status).to_bytes()

    def _is_summer(self, shown_s: int) -> bool:
        return self.rules.enabled and cosem_clock.is_summer(
            self.rules, dt.datetime.fromtimestamp(shown_s, dt.UTC)
        )

    # ---- the load profile ---------------------------------------------------------------------------

    def entries_since(self, now_s: int, stamp_s: int) -> int:
        """At most so many rows have this stamp or a later one."""
        furthest_s = max(abs(one.ahead_s) for one in self._stretches)
        return max(0, now_s - stamp_s + furthest_s) // QUARTER_S + len(self._stretches) + 1

    def rows(self, now_s: int, entries: int, period_s: int = QUARTER_S) -> Sequence[ProfileRow]:
        """What the load profile of so many entries holds at ``now_s`` of the crystal, oldest first: a row
        each time that the clock came upon the end of a period, counted from midnight of its standard time.
        What it jumps over has none; what it comes upon again, two.
        """
        found = list(self._rows(now_s, now_s - (entries + 1) * period_s, period_s))
        return found[-entries:] if entries else ()

    def _rows(self, now_s: int, earliest_s: int, period_s: int) -> Iterator[ProfileRow]:
        east_s = -self._meter.deviation_min * 60
        ends = [one.since_s for one in self._stretches[1:]] + [now_s]
        for place, ((since_s, ahead_s), until_s) in enumerate(zip(self._stretches, ends, strict=True)):
            adjusted = place > 0  # the first row behind a change
            begin_s = max(since_s, earliest_s, EPOCH_S - 1)
            adjusted = adjusted and begin_s == since_s
            first = (begin_s + ahead_s + east_s) // period_s + 1
            for period in range(first, (until_s + ahead_s + east_s) // period_s + 1):
                stamp_s = period * period_s - east_s
                yield ProfileRow(stamp_s, stamp_s - ahead_s, adjusted)
                adjusted = False


def shown_s(meter: Meter, crystal_s: int) -> int:
    """What the meter's clock shows at a moment of its crystal: Unix seconds."""
    clock = meter.part_if_any(MeterClock)
    return crystal_s if clock is None else clock.shows(crystal_s)


def stamp_of(meter: Meter, crystal_s: int) -> bytes:
    """The date-time of 12 bytes of a moment, as the meter's clock showed it."""
    clock = meter.part_if_any(MeterClock)
    if clock is not None:
        return clock.stamp(clock.shows(crystal_s))
    moment = dt.datetime.fromtimestamp(crystal_s, dt.UTC)
    return CosemDateTime.from_utc(moment, meter.deviation_min).to_bytes()


# ---- the object -------------------------------------------------------------------------------------


def _clock(asked: Asked) -> MeterClock:
    return asked.device.meter.part(MeterClock)


def _rules(asked: Asked) -> SummerTime:
    meter = asked.device.meter
    clock = meter.part_if_any(MeterClock)
    return SummerTime(meter.deviation_min, _NEVER, _NEVER, 0, enabled=False) if clock is None else clock.rules


def _read_rule(attribute: int) -> Read:
    return lambda asked: _rules(asked).encoded()[attribute]


def _read_status(asked: Asked) -> bytes:
    return axdr.encode(axdr.u8(stamp_of(asked.device.meter, asked.now_s)[11]))


def _set_time(asked: Asked, value: bytes) -> DataAccessResult:
    clock = _clock(asked)
    stamp = cosem_clock.clock_stamp(axdr.decode_exact(value))
    deviation = stamp.deviation_min
    if deviation is None:
        summer = bool((stamp.status or 0) & ClockStatus.DST_ACTIVE)
        deviation = clock.rules.zone_min - (clock.rules.ahead_min if summer else 0)
    moment = replace(stamp, deviation_min=deviation).to_utc()
    clock.set(asked.now_s, int(moment.timestamp()))
    return DataAccessResult.SUCCESS


def _set_zone(asked: Asked, value: bytes) -> DataAccessResult:
    clock = _clock(asked)
    clock.rules = replace(clock.rules, zone_min=cosem_clock.minutes(axdr.decode_exact(value)))
    return DataAccessResult.SUCCESS


def _set_begin(asked: Asked, value: bytes) -> DataAccessResult:
    clock = _clock(asked)
    clock.rules = replace(clock.rules, begins=cosem_clock.switch(axdr.decode_exact(value)))
    return DataAccessResult.SUCCESS


def _set_end(asked: Asked, value: bytes) -> DataAccessResult:
    clock = _clock(asked)
    clock.rules = replace(clock.rules, ends=cosem_clock.switch(axdr.decode_exact(value)))
    return DataAccessResult.SUCCESS


def _set_ahead(asked: Asked, value: bytes) -> DataAccessResult:
    clock = _clock(asked)
    clock.rules = replace(clock.rules, ahead_min=cosem_clock.dst_minutes(axdr.decode_exact(value)))
    return DataAccessResult.SUCCESS


def _set_enabled(asked: Asked, value: bytes) -> DataAccessResult:
    data = axdr.decode_exact(value)
    if data.type is not axdr.DataType.BOOLEAN:
        return DataAccessResult.TYPE_UNMATCHED
    clock = _clock(asked)
    clock.rules = replace(clock.rules, enabled=bool(data.value))
    return DataAccessResult.SUCCESS


def _adjust_to(period_s: int) -> Invoke:
    """To the nearest multiple of a period; half of it goes up."""

    def adjust(asked: Asked, parameter: bytes | None) -> ActionResult:
        clock = _clock(asked)
        shown = clock.shows(asked.now_s)
        clock.set(asked.now_s, (shown + period_s // 2) // period_s * period_s)
        return ActionResult.SUCCESS

    return adjust


def _preset(asked: Asked, parameter: bytes | None) -> ActionResult:
    _clock(asked).preset = Preset.decode(_given(parameter))
    return ActionResult.SUCCESS


def _adjust_to_preset(asked: Asked, parameter: bytes | None) -> ActionResult:
    clock = _clock(asked)
    preset, clock.preset = clock.preset, None
    if preset is None:
        return ActionResult.OTHER_REASON
    shown = dt.datetime.fromtimestamp(clock.shows(asked.now_s), dt.UTC)
    if not preset.since.to_utc() <= shown <= preset.until.to_utc():
        return ActionResult.OTHER_REASON
    clock.set(asked.now_s, int(preset.time.to_utc().timestamp()))
    return ActionResult.SUCCESS


def _shift(asked: Asked, parameter: bytes | None) -> ActionResult:
    clock = _clock(asked)
    if not clock.takes_shift:
        return ActionResult.OBJECT_UNAVAILABLE
    by_s = cosem_clock.shift_seconds(_given(parameter))
    clock.set(asked.now_s, clock.shows(asked.now_s) + by_s)
    return ActionResult.SUCCESS


def _given(parameter: bytes | None) -> axdr.Data:
    if parameter is None:
        raise RemoteProtocolError("the method has a parameter")
    return axdr.decode_exact(parameter)


_WRITES: Final[Mapping[int, Write]] = {
    cosem_clock.TIME: _set_time,
    cosem_clock.TIME_ZONE: _set_zone,
    cosem_clock.DST_BEGIN: _set_begin,
    cosem_clock.DST_END: _set_end,
    cosem_clock.DST_DEVIATION: _set_ahead,
    cosem_clock.DST_ENABLED: _set_enabled,
}
_METHODS: Final[Mapping[int, Invoke]] = {
    cosem_clock.ADJUST_TO_QUARTER: _adjust_to(QUARTER_S),
    cosem_clock.ADJUST_TO_MEASURING_PERIOD: _adjust_to(QUARTER_S),
    cosem_clock.ADJUST_TO_MINUTE: _adjust_to(_MINUTE_S),
    cosem_clock.ADJUST_TO_PRESET_TIME: _adjust_to_preset,
    cosem_clock.PRESET_ADJUSTING_TIME: _preset,
    cosem_clock.SHIFT_TIME: _shift,
}
_CRYSTAL: Final = axdr.encode(axdr.enum(cosem_clock.ClockBase.INTERNAL_CRYSTAL))

CLOCK: Final = CosemObject(
    ClassId.CLOCK,
    0,
    CLOCK_TIME.obis,
    {
        cosem_clock.TIME: lambda asked: axdr.encode(axdr.octets(stamp_of(asked.device.meter, asked.now_s))),
        cosem_clock.STATUS: _read_status,
        **{
            attribute: _read_rule(attribute)
            for attribute in (
                cosem_clock.TIME_ZONE,
                cosem_clock.DST_BEGIN,
                cosem_clock.DST_END,
                cosem_clock.DST_DEVIATION,
                cosem_clock.DST_ENABLED,
            )
        },
        cosem_clock.CLOCK_BASE: lambda asked: _CRYSTAL,
    },
    public=frozenset({cosem_clock.TIME}),
    writes=_WRITES,
    methods=_METHODS,
)
