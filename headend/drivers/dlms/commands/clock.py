"""Clocks of DLMS devices: class 8."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from headend.clock import utc_now
from headend.drivers.commands.clock import ClockChange, ClockRules
from headend.drivers.dlms.commands.base import Commands
from protocols.dlms import axdr
from protocols.dlms.cosem import CLOCK_TIME, Attribute, ClassId, Method
from protocols.dlms.cosem import clock as cosem_clock
from protocols.dlms.cosem.clock import Preset, SummerTime
from protocols.dlms.cosem_time import ClockStatus, CosemDateTime
from protocols.errors import LocalProtocolError
from schemas.clock import ClockReading

#: A round trip of so many seconds is taken as it is; after a longer one the clock is read again.
SHORT_S: Final = 1.0
#: Readings of which the one with the shortest round trip counts.
READINGS: Final = 4
_MOST: Final = timedelta(seconds=cosem_clock.MOST_SHIFT_S)
_SECOND: Final = timedelta(seconds=1)
_HUNDREDTH: Final = timedelta(milliseconds=10)
#: A preset time is valid for so long around it, by the meter's clock, however wrong that is.
_VALID: Final = timedelta(days=3650)


class ClockCommands(Commands):
    """The `headend.drivers.commands.clock.ClockConversation` and `SummerTimeConversation` of DLMS."""

    #: of the last reading
    _round_trip = timedelta(0)

    @property
    def clock_rules(self) -> ClockRules:
        """What the model says."""
        return ClockRules(tuple(ClockChange(change) for change in self._model.clock.changes), _MOST)

    async def read_clock(self) -> ClockReading:
        """Attribute 2, read again while the round trip is long. Raises RemoteProtocolError where it has no
        time, and as `MeterSession.get`."""
        best: ClockReading | None = None
        for _ in range(READINGS):
            found = await self._read_once()
            if best is None or found.uncertainty < best.uncertainty:
                best = found
            if self._round_trip <= timedelta(seconds=SHORT_S):
                break
        if best is None:
            raise AssertionError("a clock is read once at least")
        return best

    async def _read_once(self) -> ClockReading:
        loop = asyncio.get_running_loop()
        asked_at, began = utc_now(), loop.time()
        raw = await self._session.get(CLOCK_TIME)
        self._round_trip = timedelta(seconds=loop.time() - began)
        return reading(raw, asked_at, self._round_trip, self._utc)

    def _utc(self, stamp: CosemDateTime) -> datetime:
        clock = self._model.clock
        if clock.deviation == "unspecified":
            stamp = CosemDateTime(stamp.date, stamp.time, None, stamp.status)
        return stamp.to_utc(
            zone=clock.zone, follows_dst=clock.follows_dst, inverted_deviation=clock.deviation == "inverted"
        )

    def _shown(self, moment: datetime, known: ClockReading) -> CosemDateTime:
        """A moment as the meter's clock writes it."""
        clock = self._model.clock
        if clock.zone is not None:
            plain = clock.deviation == "standard"
            stamp = CosemDateTime.from_zone(
                moment, clock.zone, follows_dst=clock.follows_dst, deviation=plain
            )
            if clock.deviation != "inverted":
                return stamp
            east = CosemDateTime.from_zone(moment, clock.zone, follows_dst=clock.follows_dst).deviation_min
            return CosemDateTime(stamp.date, stamp.time, -(east or 0), stamp.status)
        if known.deviation_min is None:
            raise LocalProtocolError(
                f"model {self._model.name}: its clock tells no deviation: name its time_zone in [clock]"
            )
        status = ClockStatus((known.status or 0) & ClockStatus.DST_ACTIVE)
        return CosemDateTime.from_utc(
            moment, known.deviation_min, status=status, inverted_deviation=clock.deviation == "inverted"
        )

    async def shift_clock(self, by: timedelta) -> None:
        """Method 6. Raises ActionRefused, and as `MeterSession.action`."""
        await self._session.action(_method(cosem_clock.SHIFT_TIME), cosem_clock.shift_data(by // _SECOND))

    async def set_clock(self, known: ClockReading, change: ClockChange) -> None:
        """Attribute 2, or methods 5 and 4; half a round trip is reckoned in."""
        half = self._round_trip / 2
        if change is ClockChange.SET:
            moment = utc_now() + half
            await self._session.set(CLOCK_TIME, cosem_clock.time_data(self._shown(moment, known)))
            return
        if change is not ClockChange.PRESET:
            raise LocalProtocolError(f"a clock is not set by {change}")
        # what it is set to when the second of the two requests reaches it, on a whole second: wait for that
        moment = (utc_now() + 3 * half + _SECOND).replace(microsecond=0)
        times = (moment, known.shown - _VALID, known.shown + _VALID)
        preset = Preset(*(self._shown(one, known) for one in times))
        await self._session.action(_method(cosem_clock.PRESET_ADJUSTING_TIME), preset.encode())
        await asyncio.sleep(max(0.0, (moment - half - utc_now()).total_seconds()))
        await self._session.action(_method(cosem_clock.ADJUST_TO_PRESET_TIME), cosem_clock.nothing_data())

    # ---- summer time --------------------------------------------------------------------------------

    async def summer_time(self) -> tuple[str, bool]:
        """Attributes 3 and 5 to 8."""
        found = SummerTime.decode(
            *[
                axdr.decode_exact(await self._session.get(_attribute(index)))
                for index in (
                    cosem_clock.TIME_ZONE,
                    cosem_clock.DST_BEGIN,
                    cosem_clock.DST_END,
                    cosem_clock.DST_DEVIATION,
                    cosem_clock.DST_ENABLED,
                )
            ]
        )
        wanted = self._wanted()
        return worded(found), wanted is None or found.means(wanted)

    async def set_summer_time(self) -> None:
        """The attributes of which the model's zone has other values; the switch itself last."""
        wanted = self._wanted()
        if wanted is None:
            raise LocalProtocolError(f"model {self._model.name} names no time zone, or one without a rule")
        for index, raw in wanted.encoded().items():
            if not wanted.enabled and index not in (cosem_clock.TIME_ZONE, cosem_clock.DST_ENABLED):
                continue
            if await self._session.get(_attribute(index)) != raw:
                await self._session.set(_attribute(index), raw)

    def _wanted(self) -> SummerTime | None:
        clock = self._model.clock
        if clock.zone is None:
            return None
        rules = cosem_clock.summer_time(clock.zone, utc_now().year, follows_dst=clock.follows_dst)
        if rules is None or clock.deviation != "inverted":
            return rules
        return SummerTime(-rules.zone_min, rules.begins, rules.ends, rules.ahead_min, rules.enabled)


def reading(
    raw: bytes, asked_at: datetime, round_trip: timedelta, utc: Callable[[CosemDateTime], datetime]
) -> ClockReading:
    """What attribute 2 tells that was asked at ``asked_at`` and came a round trip later.

    A stamp of whole seconds (hundredths open, or zero as most meters send them always) shows a second that
    has begun: its middle is taken. Raises RemoteProtocolError.
    """
    stamp = cosem_clock.clock_stamp(axdr.decode_exact(raw))
    resolution = _HUNDREDTH if stamp.time.hundredths else _SECOND
    at = asked_at + round_trip / 2
    return ClockReading(
        at,
        utc(stamp) + resolution / 2 - at,
        round_trip / 2 + resolution,
        stamp.deviation_min,
        None if stamp.status is None else int(stamp.status),
    )


def worded(rules: SummerTime) -> str:
    """For people and proofs."""
    if not rules.enabled:
        return f"UTC{-rules.zone_min / 60:+g} h, no summer time"
    return f"UTC{-rules.zone_min / 60:+g} h, {rules.ahead_min:+d} min from {rules.begins} to {rules.ends}"


def _attribute(index: int) -> Attribute:
    return Attribute(ClassId.CLOCK, CLOCK_TIME.obis, index)


def _method(index: int) -> Method:
    return Method(ClassId.CLOCK, CLOCK_TIME.obis, index)
