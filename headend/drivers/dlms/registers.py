"""Single values of a meter: registers with scaler and unit, data, clocks; exact, or with a refusal."""

import datetime as dt
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from headend.drivers.contract import Refusal, RegisterReadout
from headend.drivers.dlms.profile_check import refused
from headend.drivers.dlms.ranged import moment_of
from headend.drivers.dlms.values import told
from headend.session.client import MeterSession
from protocols.dlms import axdr, cosem
from protocols.dlms.axdr import Data
from protocols.dlms.cosem import CURRENT_ASSOCIATION, REGISTER_ATTRIBUTES, Attribute, ClassId, ScalerUnit
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.obis import Obis
from protocols.dlms.units import scale
from protocols.errors import LocalProtocolError, RemoteProtocolError
from schemas.model import MeterModel, Register
from schemas.reading import RegisterRead, registers_only

#: Meters whose object lists are remembered. A list has some hundred entries.
MAX_OBJECT_LISTS: Final = 256
_OBJECT_LIST: Final = Attribute(ClassId.ASSOCIATION_LN, CURRENT_ASSOCIATION, 2)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_US: Final = dt.timedelta(microseconds=1)


class Kind(NamedTuple):
    """An object's interface class; what some attributes mean goes by its version."""

    class_id: int
    version: int


class ClassOfObis:
    """Interface classes by OBIS code from meters' object lists, bounded."""

    def __init__(self) -> None:
        self._lists: OrderedDict[int, dict[Obis, Kind]] = OrderedDict()

    async def find(self, session: MeterSession, meter_id: int) -> dict[Obis, Kind]:
        """The meter's objects, read once. Raises as `MeterSession.get`."""
        known = self._lists.get(meter_id)
        if known is None:
            raw = await session.get(_OBJECT_LIST)
            entries = cosem.object_list(axdr.decode_exact(raw))
            known = {entry.obis: Kind(entry.class_id, entry.version) for entry in entries}
            self._lists[meter_id] = known
            if len(self._lists) > MAX_OBJECT_LISTS:
                self._lists.popitem(last=False)
        else:
            self._lists.move_to_end(meter_id)
        return known


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One value to be read, with the attributes that explain it."""

    value: Attribute
    scaler_unit: Attribute | None = None
    time: Attribute | None = None
    version: int = 0

    def attributes(self) -> Iterator[Attribute]:
        for attribute in (self.value, self.scaler_unit, self.time):
            if attribute is not None:
                yield attribute


async def read_registers(
    session: MeterSession,
    meter_id: int,
    model: MeterModel,
    obis: Sequence[str],
    classes: ClassOfObis,
    now: Callable[[], dt.datetime],
) -> RegisterReadout:
    """Values of these OBIS codes (none: those that the model names), in as few exchanges as possible."""
    wanted, refusals = await _resolve(session, meter_id, model, obis, classes)
    attributes = list(dict.fromkeys(attribute for item in wanted for attribute in item.attributes()))
    results = dict(zip(attributes, await session.get_many(attributes), strict=True))
    read_us = (now() - _EPOCH) // _US
    reads = []
    for item in wanted:
        try:
            reads.append(_read(item, results, meter_id, model, read_us))
        except RemoteProtocolError as exc:
            refusals.append(Refusal(str(item.value.obis), item.value.index, exc.reason))
        except _NoValue as exc:
            refusals.append(Refusal(str(item.value.obis), item.value.index, str(exc)))
    return RegisterReadout(registers_only(reads, source=session.plan.label), tuple(refusals))


def _devices(data: Data, version: int) -> str:
    """SAP_assignment_list: each server SAP with the name of its logical device."""
    return ", ".join(f"{device.sap} {device.name}" for device in cosem.sap_assignment_list(data))


def _policy(data: Data, version: int) -> str:
    """security_policy, in the words of version 1 whichever version writes it."""
    policy = cosem.security_policy(data, version)
    return ", ".join((flag.name or "").lower().replace("_", " ") for flag in policy) or "none"


def _title(data: Data, version: int) -> str:
    """A system title, as it is written everywhere."""
    return cosem.system_title(data).hex().upper()


#: What a whole object is read by, where that is more than attribute 2: policy, suite and the system titles.
_ATTRIBUTES: Final[dict[int, tuple[int, ...]]] = {ClassId.SECURITY_SETUP: (2, 3, 4, 5)}
#: Attributes whose value says nothing to a person, by class and number: their words, from value and version.
_WORDED: Final[dict[tuple[int, int], Callable[[Data, int], str]]] = {
    (ClassId.SAP_ASSIGNMENT, 2): _devices,
    (ClassId.SECURITY_SETUP, 2): _policy,
    (ClassId.SECURITY_SETUP, 4): _title,
    (ClassId.SECURITY_SETUP, 5): _title,
}


class _NoValue(Exception):
    """Why there is no value."""


async def _resolve(
    session: MeterSession, meter_id: int, model: MeterModel, obis: Sequence[str], classes: ClassOfObis
) -> tuple[list[_Wanted], list[Refusal]]:
    """What to read for each code: as the model says, else by the class that the meter's object list tells."""
    wanted: list[_Wanted] = []
    refusals: list[Refusal] = []
    named: dict[Obis, list[Register]] = {}
    for register in model.registers:
        named.setdefault(Obis.parse(register.obis), []).append(register)
    codes = list(named) if not obis else [_code(text) for text in obis]
    for code in dict.fromkeys(codes):
        for register in named.get(code, ()):
            wanted += _of_class(register.class_id, code, register.attribute)
        if code in named:
            continue
        kind = (await classes.find(session, meter_id)).get(code)
        if kind is None:
            refusals.append(Refusal(str(code), 2, "the meter's object list does not have it"))
        else:
            wanted += _of_class(kind.class_id, code, None, kind.version)
    return wanted, refusals


def _code(text: str) -> Obis:
    try:
        return Obis.parse(text)
    except ValueError as exc:
        raise LocalProtocolError(f"{text!r} is no OBIS code: {exc}") from exc


def _of_class(class_id: int, code: Obis, attribute: int | None, version: int = 0) -> list[_Wanted]:
    """The values of an object; ``attribute`` None: all that its class has (unknown classes: attribute 2)."""
    places = REGISTER_ATTRIBUTES.get(class_id)
    if places is None:
        indexes = _ATTRIBUTES.get(class_id, (2,)) if attribute is None else (attribute,)
        return [_Wanted(Attribute(class_id, code, index), version=version) for index in indexes]
    values = [places.value] if places.last_value is None else [places.value, places.last_value]
    scaler_unit = Attribute(class_id, code, places.scaler_unit)
    time = None if places.capture_time is None else Attribute(class_id, code, places.capture_time)
    if attribute is not None and attribute not in values:
        return [_Wanted(Attribute(class_id, code, attribute))]
    chosen = values if attribute is None else [attribute]
    return [_Wanted(Attribute(class_id, code, index), scaler_unit, time) for index in chosen]


def _read(
    item: _Wanted,
    results: dict[Attribute, bytes | DataAccessResult],
    meter_id: int,
    model: MeterModel,
    read_us: int,
) -> RegisterRead:
    raw = results[item.value]
    if not isinstance(raw, bytes):
        raise _NoValue(refused(item.value, raw).reason)
    data = axdr.decode_exact(raw)
    obis = str(item.value.obis)
    clock = item.value.class_id == ClassId.CLOCK and item.value.index == 2
    if clock and (moment := moment_of(data, model)) is not None:
        return RegisterRead(
            meter_id,
            obis,
            item.value.index,
            read_us,
            (moment - _EPOCH) // _US,
            None,
            moment.isoformat(),
            None,
        )
    if (worded := _WORDED.get((item.value.class_id, item.value.index))) is not None:
        words = worded(data, item.version)
        return RegisterRead(meter_id, obis, item.value.index, read_us, None, None, words, None)
    value, text, from_float = told(data)
    if value is None and text is None:
        raise _NoValue("the meter sent null: it has no value")
    unit = None
    if value is not None:
        scaler, unit = _scaling(item, results, model)
        value = scale(value, scaler)
    meter_us = None
    if item.time is not None and isinstance(stamp := results[item.time], bytes):
        moment = _captured(stamp, model)
        meter_us = None if moment is None else (moment - _EPOCH) // _US
    return RegisterRead(
        meter_id, obis, item.value.index, read_us, meter_us, value, text, unit, from_float=from_float
    )


def _scaling(
    item: _Wanted, results: dict[Attribute, bytes | DataAccessResult], model: MeterModel
) -> tuple[int, str | None]:
    if item.scaler_unit is not None and isinstance(raw := results[item.scaler_unit], bytes):
        told_here = ScalerUnit.decode(axdr.decode_exact(raw))
        return told_here.scaler, told_here.symbol
    maker = model.scaling_of(str(item.value.obis))
    if maker is not None:
        return maker.scaler, maker.unit
    if item.scaler_unit is not None:
        # A register without its power of ten is not a value that anybody could use.
        raise _NoValue("the meter refuses its scaler and unit, and the model knows none")
    return 0, None


def _captured(raw: bytes, model: MeterModel) -> dt.datetime | None:
    """A capture time in UTC; a value without one that can be read is a value all the same."""
    try:
        return moment_of(axdr.decode_exact(raw), model)
    except RemoteProtocolError:
        return None
