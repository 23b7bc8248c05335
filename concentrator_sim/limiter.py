"""A meter's limiter: it opens the breaker of who draws more than a threshold for too long.

::

    load > threshold for min_over_threshold_duration ───▶ action over: the meter disconnects (g)
    load <= threshold for min_under_threshold_duration ─▶ action under: it reconnects (h)

The threshold is the normal one, and while an emergency profile of one of its groups lasts that of the
emergency. Each time that the load crosses it the duration begins anew; what the breaker's mode has no
transition for, is not done. A limiter works from when it is first written to; one that never was limits
nobody. What it did is found out when its meter is asked next, with the moments at which it happened.
"""

import datetime as dt
from functools import partial
from typing import Any, Final

from concentrator_sim.breaker import BREAKER, Breaker
from concentrator_sim.event_log import CONTROL, LIMITER_EXCEEDED
from concentrator_sim.generator import moment_of, quarter_of
from concentrator_sim.object_model import Asked, CosemObject, Meter
from protocols.dlms import axdr
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem import Attribute, ClassId, ScalerUnit
from protocols.dlms.cosem import limiter as lim
from protocols.dlms.cosem.limiter import ActionItem, EmergencyProfile, LimiterActions
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError

LIMITER: Final = Obis.parse("0-0:17.0.0*255")
#: The active power that is drawn, in W.
MONITORED: Final = Attribute(ClassId.REGISTER, Obis.parse("1-0:1.7.0*255"), 2)
_ACTIONS: Final = LimiterActions(ActionItem(BREAKER, 1), ActionItem(BREAKER, 2))
#: The profile is lived by its own clock's local time; without a deviation, by that of the meter.
_MINUTE: Final = dt.timedelta(minutes=1)


class Limiter:
    """The limiter of one meter; thresholds in W, durations in s."""

    __slots__ = (
        "_has_acted", "_is_over", "_lived_s", "_meter", "_since_s",
        "emergency", "groups", "normal", "over_s", "profile", "under_s",
    )  # fmt: skip

    def __init__(self, meter: Meter) -> None:
        self.normal = 10_000
        self.emergency = 10_000
        self.over_s = 60
        self.under_s = 60
        self.profile = EmergencyProfile(0, None, 0)
        self.groups: tuple[int, ...] = (1,)
        self._meter = meter
        #: up to when it has judged the load; None: it was never written to
        self._lived_s: int | None = None
        #: on which side of the threshold the load is, since when, and whether that led to its action
        self._is_over, self._since_s, self._has_acted = False, 0, True

    def is_emergency(self, now_s: int, deviation_min: int) -> bool:
        """Whether the emergency profile holds at a moment (Unix seconds)."""
        begin_s, end_s = self._emergency(deviation_min)
        return begin_s <= now_s < end_s

    def active(self, now_s: int, deviation_min: int) -> int:
        """The threshold that holds."""
        return self.emergency if self.is_emergency(now_s, deviation_min) else self.normal

    def written(self, now_s: int) -> None:
        """It was written to: from now on it works, if it did not."""
        if self._lived_s is None:
            self._lived_s = self._since_s = now_s

    def live(self, now_s: int) -> None:
        """What it has done up to now is done. Moments are Unix seconds of the meter's crystal."""
        if self._lived_s is None:
            return
        at_s, deviation_min = self._lived_s, self._meter.deviation_min
        while at_s < now_s:
            is_over = load(self._meter, at_s) > self.active(at_s, deviation_min)
            if is_over is not self._is_over:
                self._is_over, self._since_s, self._has_acted = is_over, at_s, False
            changes = (now_s, moment_of(quarter_of(at_s) + 1), *self._emergency(deviation_min))
            until_s = min(one for one in changes if one > at_s)
            due_s = max(at_s, self._since_s + max(1, self.over_s if is_over else self.under_s))
            if not self._has_acted and due_s <= until_s:
                self._has_acted = True
                self._act(due_s)
                until_s = due_s
            at_s = until_s
        self._lived_s = at_s

    def _act(self, at_s: int) -> None:
        breaker = self._meter.part(Breaker)
        if self._is_over:
            self._meter.events.add(CONTROL, at_s, LIMITER_EXCEEDED)
            breaker.disconnect(at_s)
        else:
            breaker.reconnect(at_s)

    def _emergency(self, deviation_min: int) -> tuple[int, int]:
        """From when to when the emergency profile holds, in Unix seconds; (0, 0): never."""
        begins = self.profile.begins
        if self.profile.number not in self.groups or begins is None:
            return 0, 0
        try:
            local, off = begins.local(), begins.deviation_min
        except RemoteProtocolError:
            return 0, 0
        moment = (local + _MINUTE * (deviation_min if off is None else off)).replace(tzinfo=dt.UTC)
        begin_s = int(moment.timestamp())
        return begin_s, begin_s + self.profile.duration_s


def load(meter: Meter, at_s: int) -> int:
    """The monitored value at a moment: active power in W, none while the customer is cut off."""
    consumption = meter.consumption
    return 0 if consumption.is_cut_off(at_s) else consumption.demand(at_s)


def _of(asked: Asked) -> Limiter:
    return asked.device.meter.part(Limiter)


def _u32(name: str, asked: Asked) -> bytes:
    return axdr.encode(axdr.u32(getattr(_of(asked), name)))


def _set_u32(name: str, asked: Asked, raw: bytes) -> DataAccessResult:
    value = axdr.decode_exact(raw)
    if value.type is not DataType.DOUBLE_LONG_UNSIGNED:
        return DataAccessResult.TYPE_UNMATCHED
    setattr(_of(asked), name, value.value)
    _of(asked).written(asked.now_s)
    return DataAccessResult.SUCCESS


def _set(name: str, decode: Any, asked: Asked, raw: bytes) -> DataAccessResult:
    setattr(_of(asked), name, decode(axdr.decode_exact(raw)))
    _of(asked).written(asked.now_s)
    return DataAccessResult.SUCCESS


def _emergency(asked: Asked) -> bool:
    return _of(asked).is_emergency(asked.now_s, asked.device.meter.deviation_min)


def _encoded(data: Data) -> bytes:
    return axdr.encode(data)


_NUMBERS: Final = {
    lim.THRESHOLD_NORMAL: "normal",
    lim.THRESHOLD_EMERGENCY: "emergency",
    lim.MIN_OVER_DURATION: "over_s",
    lim.MIN_UNDER_DURATION: "under_s",
}
_W: Final = 27
#: Limiter and the power that it monitors, as the management client sees them.
LIMITERS: Final = (
    CosemObject(
        ClassId.REGISTER,
        0,
        MONITORED.obis,
        {
            2: lambda asked: _encoded(axdr.u32(load(asked.device.meter, asked.now_s))),
            3: lambda asked: _encoded(ScalerUnit(0, _W).encode()),
        },
    ),
    CosemObject(
        ClassId.LIMITER,
        0,
        LIMITER,
        {
            lim.MONITORED_VALUE: lambda asked: _encoded(lim.encode_monitored_value(MONITORED)),
            lim.THRESHOLD_ACTIVE: lambda asked: _encoded(
                axdr.u32(_of(asked).active(asked.now_s, asked.device.meter.deviation_min))
            ),
            **{index: partial(_u32, name) for index, name in _NUMBERS.items()},
            lim.EMERGENCY_PROFILE: lambda asked: _encoded(_of(asked).profile.encode()),
            lim.EMERGENCY_GROUPS: lambda asked: _encoded(lim.encode_groups(_of(asked).groups)),
            lim.EMERGENCY_ACTIVE: lambda asked: _encoded(axdr.boolean(_emergency(asked))),
            lim.ACTIONS: lambda asked: _encoded(_ACTIONS.encode()),
        },
        writes={
            **{index: partial(_set_u32, name) for index, name in _NUMBERS.items()},
            lim.EMERGENCY_PROFILE: partial(_set, "profile", EmergencyProfile.decode),
            lim.EMERGENCY_GROUPS: partial(_set, "groups", lim.groups),
        },
    ),
)
