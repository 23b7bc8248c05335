"""What a push carries: its values, the meter's time, and both as register readings."""

from collections.abc import Iterable, Sequence
from typing import Final

from headend.store import rows
from protocols.dlms import axdr, push_values
from protocols.dlms.apdu import DataNotification, EventNotificationRequest
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.push_values import Unnamed, Value
from protocols.errors import RemoteProtocolError
from schemas.model import MeterModel
from schemas.reading import Quality, RegisterRead

Push = DataNotification | EventNotificationRequest

_VALUE_ATTRIBUTE: Final = 2
_CLOCK: Final = "0-0:1.0.0*255"


def body_of(message: Push) -> bytes:
    """The A-XDR that it carries."""
    return message.body.data if isinstance(message, DataNotification) else message.value.data


def values_of(message: Push, data: Data, model: MeterModel | None) -> tuple[list[Value], Sequence[Unnamed]]:
    """Values that are there; null is missing and no value."""
    if isinstance(message, EventNotificationRequest):
        event = push_values.named(message.attribute.obis, data, model)
        return ([event] if event is not None and event.value is not None else []), ()
    found = push_values.find(data, model)
    # what stands before the rest of a push list is left out by the profile on purpose
    begin = 0
    if model is not None and found.push_list is not None:
        begin = next((pushed.rest_from for pushed in model.push if pushed.name == found.push_list), 0)
    unnamed = [item for item in found.unnamed if item.at >= begin]
    return [value for value in found.values if value.value is not None], unnamed


def meter_time_us(message: Push, values: Iterable[Value], model: MeterModel) -> int | None:
    """The meter's own time: the notification's, else that of a clock in the list; None where nobody tells."""
    told: list[CosemDateTime] = []
    octets = message.date_time if isinstance(message, DataNotification) else _event_time(message)
    if octets is not None:
        try:
            told.append(CosemDateTime.from_bytes(octets))
        except RemoteProtocolError:
            pass  # not a time: the values are none the worse for it
    told += [
        value.value
        for value in values
        if isinstance(value.value, CosemDateTime) and str(value.obis) == _CLOCK
    ]
    for moment in told:
        when = push_values.utc(moment, model)
        if when is not None and rows.EARLIEST_US <= (us := rows.microseconds(when)) < rows.LATEST_US:
            return us
    return None


def _event_time(message: EventNotificationRequest) -> bytes | None:
    """Bytes of the event's time, which stands bare or, at some makers, as a tagged value."""
    octets = message.time
    if octets is None or len(octets) == axdr.FIXED_SIZE[DataType.DATE_TIME]:
        return octets
    return octets[-axdr.FIXED_SIZE[DataType.DATE_TIME] :]


def register(meter_id: int, value: Value, read_us: int, meter_us: int | None) -> RegisterRead:
    """A value as a pushed reading; ``read_us`` is our time of its arrival, ``meter_us`` the meter's."""
    number = text = None
    if isinstance(value.value, str | CosemDateTime):
        text = push_values.written(value.value)
    else:
        number = value.value
    return RegisterRead(
        meter_id,
        str(value.obis),
        _VALUE_ATTRIBUTE,
        read_us,
        meter_us,
        number,
        text,
        value.unit,
        Quality.PUSHED,
        value.from_float,
    )
