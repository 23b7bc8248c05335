"""Events that pushes carry: alarms, codes of event logs, last gasps. Beside the values, which are stored too.

A descriptor tells alarms that are new; an alarm register in a list of values tells those that stand, whenever
they came. Codes and bits that the model does not know are events of no common meaning.
"""

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Final

from headend.listen.contents import Push
from protocols.dlms.apdu import EventNotificationRequest
from protocols.dlms.push_values import Value
from schemas.event import EventLog, EventMeaning, MeterEvent
from schemas.model import MeterModel

#: Blue Book, OBIS codes of abstract objects: event codes; alarm registers and, from 20 on, their descriptors.
_EVENT_CODE: Final = re.compile(r"0-\d{1,3}:96\.11\.\d{1,2}\*255")
_ALARM_REGISTER: Final = re.compile(r"0-\d{1,3}:97\.98\.\d\*255")
_ALARM_DESCRIPTOR: Final = re.compile(r"0-\d{1,3}:97\.98\.2\d\*255")
_BITS: Final = re.compile("[01]{1,64}")
_MOST: Final = 2**64


def events_of(
    message: Push,
    values: Iterable[Value],
    model: MeterModel,
    meter_id: int,
    now_us: int,
    meter_us: int | None,
) -> Iterator[MeterEvent]:
    """Events among the values of a push. ``now_us`` is when it came, ``meter_us`` the meter's own time. Their
    source is for whoever received it."""
    for value in values:
        obis, number = str(value.obis), _number(value)
        if number is None:
            continue
        if _EVENT_CODE.fullmatch(obis):
            log = model.events.log_of(obis)
            meaning = model.events.meaning(log, number)
            yield MeterEvent(meter_id, _log(log.log, meaning), meaning, number, meter_us, now_us, "")
        elif _ALARM_DESCRIPTOR.fullmatch(obis) or _ALARM_REGISTER.fullmatch(obis):
            # in a list of values the register comes again and again, as long as the alarm stands
            stands = not isinstance(message, EventNotificationRequest) and bool(
                _ALARM_REGISTER.fullmatch(obis)
            )
            for alarm in model.events.alarms_in(obis, number):
                yield MeterEvent(
                    meter_id,
                    _log(EventLog.ALARM, alarm.meaning),
                    alarm.meaning,
                    alarm.bit,
                    None if stands else meter_us,
                    now_us,
                    "",
                    text=alarm.register,
                    standing=stands,
                )


def _log(log: EventLog, meaning: EventMeaning) -> EventLog:
    return EventLog.LAST_GASP if meaning is EventMeaning.LAST_GASP else log


def _number(value: Value) -> int | None:
    told = value.value
    if isinstance(told, str) and _BITS.fullmatch(told):
        return int(told, 2)
    if not isinstance(told, Decimal) or not told.is_finite() or not 0 <= told < _MOST:
        return None
    return int(told) if told == int(told) else None
