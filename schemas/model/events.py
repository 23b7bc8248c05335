"""Event logs and alarms of a meter model: where they are, and what the maker's codes mean."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from schemas.event import EventLog, EventMeaning
from schemas.model.parts import ObisText, Part

#: A maker's code -> what it means. A code that is in no table is kept as `other`.
Meanings = dict[Annotated[int, Field(ge=-(2**63), lt=2**63)], EventMeaning]


class EventColumn(Part):
    """One capture object of an event log.

    ``code`` columns hold the maker's code, ``duration`` seconds. What a ``text`` column holds is kept as
    text, and so is a column that the meter captures and the model does not name.
    """

    role: Literal["clock", "code", "duration", "text", "ignored"]
    obis: ObisText
    attribute: int = Field(default=2, ge=1, le=127)


class EventLogObject(Part):
    """A Profile Generic that keeps events, one row each.

    ``meaning`` is that of all its rows (a log of power failures has no codes); ``codes`` what its codes mean
    where they differ from the model's. With a duration the stamp is the END of what happened.
    """

    log: EventLog
    obis: ObisText
    columns: tuple[EventColumn, ...] = Field(min_length=1)
    codes: Meanings = Field(default_factory=dict)
    meaning: EventMeaning | None = None

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        roles = [column.role for column in self.columns]
        if roles.count("clock") != 1:
            raise ValueError("an event log has exactly one clock column")
        if roles.count("duration") > 1:
            raise ValueError("an event log has at most one duration column")
        return self


class AlarmRegister(Part):
    """An alarm register: each bit that is set is an alarm; bit 0 is the least significant.

    ``descriptor`` is the object that pushes tell new alarms in, with the same bits.
    """

    bits: dict[Annotated[int, Field(ge=0, le=63)], EventMeaning] = Field(default_factory=dict)
    descriptor: ObisText | None = None


class Alarm(NamedTuple):
    """A bit that is set in the alarm register ``register``."""

    register: str
    bit: int
    meaning: EventMeaning


class Events(Part):
    """All event logs, by a name of their own, and alarm registers, by OBIS code. ``codes`` serve all logs."""

    codes: Meanings = Field(default_factory=dict)
    logs: dict[str, EventLogObject] = Field(default_factory=dict)
    alarms: dict[ObisText, AlarmRegister] = Field(default_factory=dict)

    @property
    def are_read(self) -> bool:
        """Whether there is anything to be read."""
        return bool(self.logs or self.alarms)

    def meaning(self, log: EventLogObject, code: int | None) -> EventMeaning:
        """What a row of this log means."""
        if code is None:
            return log.meaning or EventMeaning.OTHER
        tables: tuple[Mapping[int, EventMeaning], ...] = (log.codes, self.codes)
        found = next((table[code] for table in tables if code in table), None)
        return found or log.meaning or EventMeaning.OTHER

    def alarms_in(self, obis: str, value: int) -> Iterator[Alarm]:
        """The alarms that ``value`` of an alarm register, or of its descriptor, tells. Bits that the model
        does not know mean `other`, so those of a register that it does not know."""
        known = ((one, alarm) for one, alarm in self.alarms.items() if obis in (one, alarm.descriptor))
        register, alarm = next(known, (obis, AlarmRegister()))
        for bit in range(value.bit_length()):
            if value >> bit & 1:
                yield Alarm(register, bit, alarm.bits.get(bit, EventMeaning.OTHER))

    def log_of(self, obis: str) -> EventLogObject:
        """The log whose codes the object ``obis`` tells; a standard one where the model knows none."""
        for log in self.logs.values():
            if any(column.role == "code" and column.obis == obis for column in log.columns):
                return log
        return EventLogObject(log=EventLog.STANDARD, obis=obis, columns=(_CLOCK,))


_CLOCK: Final = EventColumn(role="clock", obis="0-0:1.0.0*255")
