"""What one meter gave for a read on demand, as data: kept with its request, told by API, webhook and CLI."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field

from schemas.reading import ReadingBatch, RegisterRead

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True)


class RegisterValue(_Shape):
    """One value: an exact decimal as a string, or a text."""

    obis: str
    attribute: int
    read_at: str = Field(description="the head-end's time of reading")
    meter_time: str | None = Field(description="the meter's own time, where it told one")
    value: str | None
    text: str | None
    unit: str | None
    quality: str
    from_float: bool = Field(
        default=False, description="the meter sent a binary float; value is its shortest exact decimal"
    )

    @classmethod
    def of(cls, read: RegisterRead) -> Self:
        """As it was read."""
        return cls(
            obis=read.obis,
            attribute=read.attribute,
            read_at=_rfc3339(read.read_us),
            meter_time=None if read.meter_us is None else _rfc3339(read.meter_us),
            value=None if read.value is None else format(read.value, "f"),
            text=read.text,
            unit=read.unit,
            quality=read.quality.name.lower(),
            from_float=read.from_float,
        )


class RefusedObject(_Shape):
    """An object that the meter would not give while it gave others: ``reason`` in the standard's words."""

    obis: str
    reason: str


class StoredRows(_Shape):
    """What storing did; ``repeated`` intervals were there already with the same values, ``quarantined`` could
    not be stored and are in the inbox."""

    new: int = 0
    completed: int = 0
    corrected: int = 0
    repeated: int = 0
    fragments: int = 0
    registers: int = 0
    quarantined: int = 0


class ReadResult(_Shape):
    """What came: values of registers, how many intervals and events. ``stored`` is None where what came was
    committed together with what others gave, and nobody counted apart."""

    registers: tuple[RegisterValue, ...] = ()
    refused: tuple[RefusedObject, ...] = ()
    intervals: int = Field(default=0, description="rows that load profiles gave")
    events: int = Field(default=0, description="entries that event logs gave")
    stored: StoredRows | None = None

    @classmethod
    def of(cls, batch: ReadingBatch, refused: Iterable[tuple[str, str]] = ()) -> Self:
        """Of a batch of one meter; ``refused`` are pairs of OBIS code and reason."""
        return cls(
            registers=tuple(RegisterValue.of(one) for one in batch.registers),
            refused=tuple(RefusedObject(obis=obis, reason=reason) for obis, reason in refused),
            intervals=len(batch),
            events=len(batch.events),
        )


def _rfc3339(since_1970_us: int) -> str:
    return (_EPOCH + timedelta(microseconds=since_1970_us)).isoformat().replace("+00:00", "Z")
