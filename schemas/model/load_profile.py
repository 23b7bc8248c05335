"""A load profile of a meter model, column by column."""

from collections.abc import Mapping
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from schemas.model.parts import ModelError, ObisText, Part, Scaler
from schemas.reading import INTERVAL_QUANTITIES, Channel, ChannelLayout, Kind

_CLASS_OF_ROLE: Final = {"clock": 8, "status": 1, "value": 3, "ignored": 1}


class Column(Part):
    """One capture object of a load profile, in the order of the buffer.

    ``quantity`` is one of INTERVAL_QUANTITIES or ``other`` (kept as a register reading under its OBIS code).
    Without ``scaler`` and ``unit`` the driver reads the object's scaler_unit from the meter.
    """

    role: Literal["clock", "status", "value", "ignored"]
    obis: ObisText
    attribute: int = Field(default=2, ge=1, le=127)
    class_id: int | None = Field(default=None, ge=0, le=0xFFFF)
    quantity: str | None = None
    scaler: Scaler | None = None
    unit: str | None = None
    kind: Kind = Kind.CUMULATIVE
    modulus: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _quantity_by_role(self) -> Self:
        if self.role == "value":
            if self.quantity not in (*INTERVAL_QUANTITIES, "other"):
                raise ValueError(f"quantity must be one of {', '.join(INTERVAL_QUANTITIES)} or other")
            if (self.scaler is None) != (self.unit is None):
                raise ValueError("scaler and unit are given together or not at all")
            if self.kind is Kind.INTERVAL and self.modulus is not None:
                raise ValueError("modulus is for cumulative values")
        elif (self.quantity, self.scaler, self.unit, self.modulus) != (None, None, None, None):
            raise ValueError("quantity, scaler, unit and modulus are for columns with role value")
        return self

    @property
    def interface_class(self) -> int:
        """Class id: as written, else Clock(8), Data(1) or Register(3) by role."""
        return _CLASS_OF_ROLE[self.role] if self.class_id is None else self.class_id


class LoadProfile(Part):
    """One Profile Generic object; ``number`` is what the database knows it by."""

    number: int = Field(ge=1, le=32767)
    obis: ObisText
    period_s: int = Field(gt=0, le=366 * 86400)
    #: order of the rows: a null clock is the previous stamp plus (fifo) or minus (lifo) the period
    sort: Literal["fifo", "lifo"] = "fifo"
    null_value: Literal["missing", "repeat"] = "missing"
    #: rows that every meter of the model keeps at least: what it has not, it lost; left out: not known
    entries: int | None = Field(default=None, ge=1, le=10_000_000)
    columns: tuple[Column, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if sum(c.role == "clock" for c in self.columns) != 1:
            raise ValueError("a load profile has exactly one clock column")
        if sum(c.role == "status" for c in self.columns) > 1:
            raise ValueError("a load profile has at most one status column")
        named = [c.quantity for c in self.columns if c.quantity in INTERVAL_QUANTITIES]
        if len(named) != len(set(named)):
            raise ValueError("a quantity is given to two columns")
        return self

    def layout(self, scalings: Mapping[str, tuple[int, str]] | None = None) -> ChannelLayout:
        """The row layout for ReadingBatch. ``scalings``: (scaler, unit) by OBIS code as the meter tells them.

        Raises ModelError where neither the profile nor ``scalings`` knows a column's scaler and unit.
        """
        by_quantity: dict[str, Channel] = {}
        for column in self.columns:
            if column.quantity not in INTERVAL_QUANTITIES:
                continue
            if column.scaler is not None and column.unit is not None:
                scaler, unit = column.scaler, column.unit
            elif scalings is not None and column.obis in scalings:
                scaler, unit = scalings[column.obis]
            else:
                raise ModelError(f"profile {self.obis}: nobody tells scaler and unit of {column.obis}")
            by_quantity[column.quantity] = Channel(
                column.quantity, column.obis, scaler, unit, column.kind, column.modulus
            )
        first, second, third, fourth = (by_quantity.get(quantity) for quantity in INTERVAL_QUANTITIES)
        return ChannelLayout((first, second, third, fourth))
