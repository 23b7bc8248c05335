"""The COSEM objects of a simulated logical device: their attributes, and what anybody may read."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from concentrator_sim import (
    billing,
    calendar,
    event_log,
    key_slots,
    meter_clock,
    parameters,
    profile,
    row_profile,
)
from concentrator_sim.breaker import BREAKERS
from concentrator_sim.generator import moment_of, quarter_of
from concentrator_sim.image import IMAGES
from concentrator_sim.limiter import LIMITERS
from concentrator_sim.meter_clock import MeterClock
from concentrator_sim.object_model import Asked, CosemObject, ObjectModel, Read, Value
from concentrator_sim.push_setup import PUSHES
from concentrator_sim.shapes import QUARTER_S
from protocols.dlms import axdr, cosem
from protocols.dlms.cosem import ClassId, ScalerUnit
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.obis import Obis

SERIAL_NUMBER: Final = Obis.parse("0-0:96.1.0*255")
INVOCATION_COUNTER: Final = Obis.parse("0-0:43.1.0*255")
SECURITY_SETUP: Final = Obis.parse("0-0:43.0.0*255")
AVERAGE_DEMAND: Final = Obis.parse("1-0:1.4.0*255")

_W, _WH, _VARH = 27, 30, 32
#: What a log says that it can hold.
_LOG_ENTRIES: Final = 1000


def _constant(data: axdr.Data) -> Read:
    raw = axdr.encode(data)
    return lambda asked: raw


def _u32(value: int) -> bytes:
    return b"\x06" + value.to_bytes(4, "big")


def _octets(value: bytes) -> bytes:
    return axdr.encode(axdr.octets(value))


def _time(asked: Asked, moment_s: int) -> bytes:
    return _octets(meter_clock.stamp_of(asked.device.meter, moment_s))


def _register(quantity: int, asked: Asked) -> bytes:
    return _u32(asked.device.meter.consumption.at(quantity, asked.now_s))


def _buffer(asked: Asked) -> Value:
    meter = asked.device.meter
    if row_profile.is_of(meter):
        return row_profile.buffer(asked)
    rows: profile.Rows | DataAccessResult = profile.window(asked.now_s, meter.entries)
    if asked.selection is not None and isinstance(rows, profile.Rows):
        rows = profile.select(rows, asked.selection, meter.deviation_min)
    if isinstance(rows, DataAccessResult):
        return rows
    return profile.encode(parameters.held(meter, rows), meter.consumption, meter.deviation_min)


def _entries_in_use(asked: Asked) -> bytes:
    meter = asked.device.meter
    if row_profile.is_of(meter):
        return _u32(len(row_profile.rows_of(meter, asked.now_s)))
    return _u32(parameters.held(meter, profile.window(asked.now_s, meter.entries)).length)


def _maximum(asked: Asked) -> tuple[int, int]:
    """Highest mean power of a quarter of this month in W, and the Unix second at which that quarter ended."""
    meter = asked.device.meter
    return billing.maximum(meter.consumption, billing.month_of(asked.now_s, meter.deviation_min), asked.now_s)


def _maximum_demand() -> CosemObject:
    return CosemObject(
        ClassId.EXTENDED_REGISTER,
        0,
        billing.MAXIMUM_DEMAND,
        {
            2: lambda asked: _u32(_maximum(asked)[0]),
            3: _constant(ScalerUnit(0, _W).encode()),
            4: _constant(axdr.u8(0)),
            5: lambda asked: _time(asked, _maximum(asked)[1]),
        },
    )


def _average(asked: Asked, *, last: bool) -> bytes:
    begin = moment_of(quarter_of(asked.now_s))
    span = (begin - QUARTER_S, begin) if last else (begin, asked.now_s)
    return _u32(asked.device.meter.consumption.mean_power(*span))


def _average_demand() -> CosemObject:
    return CosemObject(
        ClassId.DEMAND_REGISTER,
        0,
        AVERAGE_DEMAND,
        {
            2: partial(_average, last=False),
            3: partial(_average, last=True),
            4: _constant(ScalerUnit(0, _W).encode()),
            5: _constant(axdr.u8(0)),
            6: lambda asked: _time(asked, moment_of(quarter_of(asked.now_s))),
            7: lambda asked: _time(asked, moment_of(quarter_of(asked.now_s))),
            8: _constant(axdr.u32(QUARTER_S)),
            9: _constant(axdr.u16(1)),
        },
    )


def _load_profile() -> CosemObject:
    return CosemObject(
        ClassId.PROFILE_GENERIC,
        1,
        profile.PROFILE,
        {
            cosem.PROFILE_BUFFER: _buffer,
            cosem.PROFILE_CAPTURE_OBJECTS: parameters.capture_objects_of,
            cosem.PROFILE_CAPTURE_PERIOD: lambda asked: _u32(parameters.period_s(asked.device.meter)),
            cosem.PROFILE_SORT_METHOD: _constant(axdr.enum(cosem.SortMethod.FIFO)),
            cosem.PROFILE_SORT_OBJECT: _constant(profile.CAPTURE_OBJECTS[0].encode()),
            cosem.PROFILE_ENTRIES_IN_USE: _entries_in_use,
            cosem.PROFILE_ENTRIES: lambda asked: _u32(asked.device.meter.entries),
        },
        writes={
            cosem.PROFILE_CAPTURE_OBJECTS: parameters.set_columns,
            cosem.PROFILE_CAPTURE_PERIOD: parameters.set_period,
        },
        selectors={cosem.PROFILE_BUFFER: (cosem.BY_RANGE, cosem.BY_ENTRY)},
    )


def _months(asked: Asked) -> list[billing.Period]:
    meter = asked.device.meter
    return billing.periods(
        meter.consumption,
        asked.now_s,
        meter.deviation_min,
        lambda at_s: calendar.tariffs(meter, at_s),
        parameters.resets(meter),
    )


def _billing_buffer(asked: Asked) -> Value:
    found: Sequence[billing.Period] | DataAccessResult = _months(asked)
    deviation_min = asked.device.meter.deviation_min
    if asked.selection is not None and not isinstance(found, DataAccessResult):
        found = event_log.select(found, asked.selection, deviation_min)
    return found if isinstance(found, DataAccessResult) else billing.encode(found, deviation_min)


def _billing_profile() -> CosemObject:
    return CosemObject(
        ClassId.PROFILE_GENERIC,
        1,
        billing.BILLING,
        {
            cosem.PROFILE_BUFFER: _billing_buffer,
            cosem.PROFILE_CAPTURE_OBJECTS: _constant(
                axdr.array(column.encode() for column in billing.COLUMNS)
            ),
            cosem.PROFILE_CAPTURE_PERIOD: _constant(axdr.u32(0)),  # a row when a period ends
            cosem.PROFILE_SORT_METHOD: _constant(axdr.enum(cosem.SortMethod.FIFO)),
            cosem.PROFILE_SORT_OBJECT: _constant(billing.COLUMNS[0].encode()),
            cosem.PROFILE_ENTRIES_IN_USE: lambda asked: _u32(len(_months(asked))),
            cosem.PROFILE_ENTRIES: _constant(axdr.u32(billing.MONTHS)),
        },
        selectors={cosem.PROFILE_BUFFER: (cosem.BY_RANGE, cosem.BY_ENTRY)},
    )


def _tariff(place: int, asked: Asked) -> bytes:
    return _u32(calendar.tariffs(asked.device.meter, asked.now_s)[place])


def _log_entries(log: Obis, asked: Asked) -> list[event_log.Entry]:
    """By the stamps that the meter's clock gave them."""
    meter = asked.device.meter
    entries = meter.events.entries(log, asked.now_s)
    clock = meter.part_if_any(MeterClock)
    if clock is None:
        return entries
    return [entry._replace(at_s=clock.shows(entry.at_s)) for entry in entries]


def _log_buffer(log: Obis, asked: Asked) -> Value:
    meter = asked.device.meter
    entries: Sequence[event_log.Entry] | DataAccessResult = _log_entries(log, asked)
    if asked.selection is not None and not isinstance(entries, DataAccessResult):
        entries = event_log.select(entries, asked.selection, meter.deviation_min)
    if isinstance(entries, DataAccessResult):
        return entries
    return event_log.encode(log, entries, meter.deviation_min)


def _alarms(register: int, asked: Asked) -> bytes:
    return _u32(parameters.alarms(asked, register, asked.device.meter.events.alarms(register)))


def _event_log(log: Obis) -> CosemObject:
    columns = event_log.COLUMNS[log]
    return CosemObject(
        ClassId.PROFILE_GENERIC,
        1,
        log,
        {
            cosem.PROFILE_BUFFER: partial(_log_buffer, log),
            cosem.PROFILE_CAPTURE_OBJECTS: _constant(axdr.array(column.encode() for column in columns)),
            cosem.PROFILE_CAPTURE_PERIOD: _constant(axdr.u32(0)),  # a row per event
            cosem.PROFILE_SORT_METHOD: _constant(axdr.enum(cosem.SortMethod.FIFO)),
            cosem.PROFILE_SORT_OBJECT: _constant(columns[0].encode()),
            cosem.PROFILE_ENTRIES_IN_USE: lambda asked: _u32(len(_log_entries(log, asked))),
            cosem.PROFILE_ENTRIES: _constant(axdr.u32(_LOG_ENTRIES)),
        },
        selectors={cosem.PROFILE_BUFFER: (cosem.BY_RANGE, cosem.BY_ENTRY)},
    )


def _sap_assignment(asked: Asked) -> bytes:
    devices = asked.device.meter.devices
    return axdr.encode(
        axdr.array(
            axdr.structure(axdr.u16(device.sap), axdr.octets(device.name.encode())) for device in devices
        )
    )


def _association() -> CosemObject:
    return CosemObject(
        ClassId.ASSOCIATION_LN,
        1,
        cosem.CURRENT_ASSOCIATION,
        {
            2: lambda asked: asked.device.model.object_list(asked.client_sap),
            3: lambda asked: axdr.encode(
                axdr.structure(axdr.i8(asked.client_sap), axdr.u16(asked.device.sap))
            ),
            8: _constant(axdr.enum(2)),  # associated
            9: _constant(axdr.octets(SECURITY_SETUP.raw)),
        },
        public=frozenset({2}),
    )


def _security_setup() -> CosemObject:
    return CosemObject(
        ClassId.SECURITY_SETUP,
        1,
        SECURITY_SETUP,
        {
            2: lambda asked: axdr.encode(axdr.enum(asked.device.meter.security_policy)),
            3: lambda asked: axdr.encode(axdr.enum(asked.device.meter.mode.suite)),
            4: lambda asked: _octets(asked.device.meter.client_title),
            5: lambda asked: _octets(asked.device.meter.system_title),
            6: _constant(axdr.array(())),
        },
        methods={cosem.KEY_TRANSFER: key_slots.transfer},
    )


def _data(obis: Obis, read: Read, *, public: bool = False) -> CosemObject:
    return CosemObject(ClassId.DATA, 0, obis, {2: read}, frozenset({2}) if public else frozenset())


_COMMON: Final = (
    _association(),
    _data(cosem.LOGICAL_DEVICE_NAME.obis, lambda asked: _octets(asked.device.name.encode()), public=True),
    _data(SERIAL_NUMBER, lambda asked: _octets(asked.device.meter.serial.encode()), public=True),
)
#: The management logical device: everything.
MANAGEMENT: Final = ObjectModel(
    (
        *_COMMON,
        CosemObject(
            ClassId.SAP_ASSIGNMENT,
            0,
            cosem.SAP_ASSIGNMENT_LIST.obis,
            {2: _sap_assignment},
            public=frozenset({2}),
        ),
        _security_setup(),
        _data(INVOCATION_COUNTER, lambda asked: _u32(asked.device.meter.last_client_counter), public=True),
        meter_clock.CLOCK,
        _data(profile.AMR_STATUS, _constant(axdr.u8(profile.STATUS))),
        *(
            CosemObject(
                ClassId.REGISTER,
                0,
                obis,
                {2: partial(_register, n), 3: _constant(ScalerUnit(0, _WH if n < 2 else _VARH).encode())},
            )
            for n, obis in enumerate(profile.REGISTERS)
        ),
        *(
            CosemObject(
                ClassId.REGISTER,
                0,
                obis,
                {2: partial(_tariff, place), 3: _constant(ScalerUnit(0, _WH).encode())},
            )
            for place, obis in enumerate(billing.TARIFFS)
        ),
        _maximum_demand(),
        _average_demand(),
        _load_profile(),
        _billing_profile(),
        *calendar.OBJECTS,
        *(_event_log(log) for log in event_log.COLUMNS),
        *(_data(obis, partial(_alarms, place)) for place, obis in enumerate(event_log.ALARMS)),
        *BREAKERS,
        *IMAGES,
        *LIMITERS,
        *parameters.PARAMETERS,
        *PUSHES,
    )
)
#: Any further logical device: it tells who it is.
FURTHER: Final = ObjectModel(_COMMON)
#: What the logical device of a concentrator has beside its own objects.
COMMON: Final = (
    *_COMMON,
    _security_setup(),
    _data(INVOCATION_COUNTER, lambda asked: _u32(asked.device.meter.last_client_counter), public=True),
    meter_clock.CLOCK,
)
