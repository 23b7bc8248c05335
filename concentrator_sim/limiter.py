"""A meter's limiter: thresholds of its mean demand, and the emergency profile. It opens no breaker."""

import datetime as dt
from functools import partial
from typing import Any, Final

from concentrator_sim.breaker import BREAKER
from concentrator_sim.object_model import Asked, CosemObject, Meter
from protocols.dlms import axdr
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem import Attribute, ClassId
from protocols.dlms.cosem import limiter as lim
from protocols.dlms.cosem.limiter import ActionItem, EmergencyProfile, LimiterActions
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError

LIMITER: Final = Obis.parse("0-0:17.0.0*255")
#: The mean demand of this quarter hour, in W.
MONITORED: Final = Attribute(ClassId.DEMAND_REGISTER, Obis.parse("1-0:1.4.0*255"), 2)
_ACTIONS: Final = LimiterActions(ActionItem(BREAKER, 1), ActionItem(BREAKER, 2))
#: The profile is lived by its own clock's local time; without a deviation, by that of the meter.
_MINUTE: Final = dt.timedelta(minutes=1)


class Limiter:
    """The limiter of one meter; thresholds in W, durations in s."""

    __slots__ = ("emergency", "groups", "normal", "over_s", "profile", "under_s")

    def __init__(self, meter: Meter) -> None:
        self.normal = 10_000
        self.emergency = 10_000
        self.over_s = 60
        self.under_s = 60
        self.profile = EmergencyProfile(0, None, 0)
        self.groups: tuple[int, ...] = (1,)

    def is_emergency(self, now_s: int, deviation_min: int) -> bool:
        """Whether the emergency profile holds at a moment (Unix seconds)."""
        if self.profile.number not in self.groups or self.profile.begins is None:
            return False
        begins = self.profile.begins
        try:
            local, off = begins.local(), begins.deviation_min
        except RemoteProtocolError:
            return False
        moment = (local + _MINUTE * (deviation_min if off is None else off)).replace(tzinfo=dt.UTC)
        return 0 <= now_s - moment.timestamp() < self.profile.duration_s

    def active(self, now_s: int, deviation_min: int) -> int:
        """The threshold that holds."""
        return self.emergency if self.is_emergency(now_s, deviation_min) else self.normal


def _of(asked: Asked) -> Limiter:
    return asked.device.meter.part(Limiter)


def _u32(name: str, asked: Asked) -> bytes:
    return axdr.encode(axdr.u32(getattr(_of(asked), name)))


def _set_u32(name: str, asked: Asked, raw: bytes) -> DataAccessResult:
    value = axdr.decode_exact(raw)
    if value.type is not DataType.DOUBLE_LONG_UNSIGNED:
        return DataAccessResult.TYPE_UNMATCHED
    setattr(_of(asked), name, value.value)
    return DataAccessResult.SUCCESS


def _set(name: str, decode: Any, asked: Asked, raw: bytes) -> DataAccessResult:
    setattr(_of(asked), name, decode(axdr.decode_exact(raw)))
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
#: Limiter, as the management client sees it.
LIMITERS: Final = (
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
