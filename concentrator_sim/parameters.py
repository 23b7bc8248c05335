"""What of a meter can be configured: alarm filters, thresholds, its load profile; and the script that ends a
billing period. Its push set-up is in `concentrator_sim.push_setup`.

Thresholds are kept and given back. The load profile's columns can be any of its usual ones, in their order,
its period any number of minutes that a day is made of. Writing either clears the buffer, as the class says;
from then on it captures so.
"""

import bisect
from collections.abc import Sequence
from functools import partial
from typing import Final

from concentrator_sim import profile
from concentrator_sim.event_log import ALARMS
from concentrator_sim.generator import quarter_of
from concentrator_sim.object_model import Asked, CosemObject, Meter
from concentrator_sim.shapes import QUARTER_S
from protocols.dlms import axdr
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem import CaptureObject, ClassId, capture_objects
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import Obis

#: One for each alarm register, bit by bit: what is 1 is let through.
ALARM_FILTERS: Final = tuple(Obis.parse(f"0-0:97.98.{10 + place}*255") for place in range(len(ALARMS)))
MONITOR: Final = Obis.parse("1-0:16.1.0*255")
BILLING_RESET: Final = Obis.parse("0-0:10.0.1*255")
_ALL: Final = 0xFFFFFFFF
_UNREACHED: Final = DataAccessResult.OTHER_REASON
_EMPTY: Final = axdr.array(())
_MINUTE_S: Final = 60
_DAY_S: Final = 86_400


class Parameters:
    """What was configured at one meter, and when a script ended its billing periods (Unix seconds)."""

    __slots__ = ("cleared_s", "columns", "filters", "kept", "period_s", "resets")

    def __init__(self, meter: Meter) -> None:
        self.kept: dict[tuple[Obis, int], bytes] = {}
        self.filters = [_ALL] * len(ALARMS)
        self.columns: tuple[int, ...] = profile.ALL_COLUMNS
        self.period_s = QUARTER_S
        self.cleared_s: int | None = None
        self.resets: list[int] = []

    def held(self, rows: profile.Rows) -> profile.Rows:
        """Of these rows, those captured since the buffer was cleared, with the columns that it has."""
        columns = tuple(one for one in rows.columns if one in self.columns)
        first = rows.first
        if self.cleared_s is not None:
            first = max(first, quarter_of(self.cleared_s) + 1)
        return profile.Rows(first, max(0, rows.first + rows.length - first), columns)


def held(meter: Meter, rows: profile.Rows) -> profile.Rows:
    """The rows as the meter was configured: as they are where it never was."""
    found = meter.part_if_any(Parameters)
    return rows if found is None else found.held(rows)


def columns(meter: Meter) -> tuple[int, ...]:
    """Places in CAPTURE_OBJECTS of what the load profile captures."""
    found = meter.part_if_any(Parameters)
    return profile.ALL_COLUMNS if found is None else found.columns


def period_s(meter: Meter) -> int:
    """Capture period of the load profile."""
    found = meter.part_if_any(Parameters)
    return QUARTER_S if found is None else found.period_s


def cleared_s(meter: Meter) -> int | None:
    """When the buffer of the load profile was cleared last (Unix seconds)."""
    found = meter.part_if_any(Parameters)
    return None if found is None else found.cleared_s


def capture_objects_of(asked: Asked) -> bytes:
    """Attribute capture_objects of the load profile."""
    places = columns(asked.device.meter)
    return axdr.encode(axdr.array(profile.CAPTURE_OBJECTS[one].encode() for one in places))


def set_columns(asked: Asked, raw: bytes) -> DataAccessResult:
    """Written: any of the usual columns, the clock first, in their order."""
    wanted: Sequence[CaptureObject] = capture_objects(axdr.decode_exact(raw))
    if not set(wanted) <= set(profile.CAPTURE_OBJECTS):
        return _UNREACHED
    places = tuple(profile.CAPTURE_OBJECTS.index(one) for one in wanted)
    if places[:1] != (0,) or list(places) != sorted(set(places)):
        return _UNREACHED
    part = asked.device.meter.part(Parameters)
    part.columns, part.cleared_s = places, asked.now_s
    return DataAccessResult.SUCCESS


def set_period(asked: Asked, raw: bytes) -> DataAccessResult:
    """Written: how often it captures, from now on."""
    value = axdr.decode_exact(raw)
    if value.type is not DataType.DOUBLE_LONG_UNSIGNED:
        return DataAccessResult.TYPE_UNMATCHED
    if not value.value or value.value % _MINUTE_S or _DAY_S % value.value:
        return _UNREACHED
    part = asked.device.meter.part(Parameters)
    part.period_s, part.cleared_s = value.value, asked.now_s
    return DataAccessResult.SUCCESS


def alarms(asked: Asked, place: int, value: int) -> int:
    """What an alarm register shows of its alarms."""
    found = asked.device.meter.part_if_any(Parameters)
    return value if found is None else value & found.filters[place]


def resets(meter: Meter) -> Sequence[int]:
    """When billing periods were ended by the script, oldest first."""
    found = meter.part_if_any(Parameters)
    return () if found is None else found.resets


def _filter(place: int, asked: Asked) -> bytes:
    found = asked.device.meter.part_if_any(Parameters)
    return axdr.encode(axdr.u32(_ALL if found is None else found.filters[place]))


def _set_filter(place: int, asked: Asked, raw: bytes) -> DataAccessResult:
    value = axdr.decode_exact(raw)
    if value.type is not DataType.DOUBLE_LONG_UNSIGNED:
        return DataAccessResult.TYPE_UNMATCHED
    asked.device.meter.part(Parameters).filters[place] = value.value
    return DataAccessResult.SUCCESS


def kept_value(meter: Meter, obis: Obis, index: int, default: Data) -> bytes:
    """What was written to an attribute of a `kept_object`, in A-XDR."""
    found = meter.part_if_any(Parameters)
    written = None if found is None else found.kept.get((obis, index))
    return axdr.encode(default) if written is None else written


def _read_kept(obis: Obis, index: int, default: Data, asked: Asked) -> bytes:
    return kept_value(asked.device.meter, obis, index, default)


def _keep(obis: Obis, index: int, type_: DataType, asked: Asked, raw: bytes) -> DataAccessResult:
    if axdr.decode_exact(raw).type is not type_:
        return DataAccessResult.TYPE_UNMATCHED
    asked.device.meter.part(Parameters).kept[obis, index] = raw
    return DataAccessResult.SUCCESS


def kept_object(class_id: ClassId, obis: Obis, defaults: dict[int, Data]) -> CosemObject:
    """An object whose attributes are kept as they are written, in the types that they have before."""
    return CosemObject(
        class_id,
        0,
        obis,
        {index: partial(_read_kept, obis, index, one) for index, one in defaults.items()},
        writes={index: partial(_keep, obis, index, one.type) for index, one in defaults.items()},
    )


def _end_period(asked: Asked, parameter: bytes | None) -> ActionResult:
    if parameter is None or axdr.decode_exact(parameter) != axdr.u16(1):
        return ActionResult.OBJECT_UNDEFINED
    bisect.insort(asked.device.meter.part(Parameters).resets, asked.now_s)
    return ActionResult.SUCCESS


_SCRIPT: Final = axdr.array([axdr.structure(axdr.u16(1), _EMPTY)])
_NOTHING: Final = axdr.structure(axdr.u16(0), axdr.octets(bytes(6)), axdr.i8(0))
#: What can be configured, as the management client sees it.
PARAMETERS: Final = (
    # class 21: thresholds, monitored value, actions
    kept_object(ClassId.REGISTER_MONITOR, MONITOR, {2: _EMPTY, 3: _NOTHING, 4: _EMPTY}),
    *(
        CosemObject(
            ClassId.DATA, 0, obis, {2: partial(_filter, place)}, writes={2: partial(_set_filter, place)}
        )
        for place, obis in enumerate(ALARM_FILTERS)
    ),
    CosemObject(
        ClassId.SCRIPT_TABLE,
        0,
        BILLING_RESET,
        {2: lambda asked: axdr.encode(_SCRIPT)},
        methods={1: _end_period},
    ),
)
