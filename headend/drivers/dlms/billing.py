"""The billing profile of a meter: what its registers were at the end of each billing period.

A billing profile is a Profile Generic whose rows the meter writes when a billing period ends: registers per
tariff, maximum demand and the moment of it. The meter's own capture objects say what its columns are, so that
no model need describe them. Each cell becomes a register reading as of the end of its period.
"""

import datetime as dt
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from headend.clock import utc_now
from headend.drivers.contract import Refusal, RegisterReadout
from headend.drivers.dlms.ranged import RangedBuffers, moment_of
from headend.drivers.dlms.values import told
from headend.session.client import MeterSession
from protocols.dlms import axdr, cosem
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem import (
    CLOCK_TIME,
    REGISTER_ATTRIBUTES,
    Attribute,
    CaptureObject,
    ClassId,
    ScalerUnit,
)
from protocols.dlms.cosem.forms import elements_of
from protocols.dlms.obis import Obis
from protocols.dlms.units import scale
from protocols.errors import LocalProtocolError, RemoteProtocolError
from schemas.model import MeterModel
from schemas.reading import Quality, RegisterRead, registers_only

log = logging.getLogger(__name__)

#: Meters whose billing profiles have been looked at and are remembered: a county of 154,000.
MAX_METERS: Final = 200_000
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_US: Final = dt.timedelta(microseconds=1)


class _Column(NamedTuple):
    """One capture object; ``scaling`` is power of ten and unit, None where it has none."""

    capture: CaptureObject
    scaling: tuple[int, str | None] | None
    is_time: bool = False  # when a maximum was: attribute capture_time of an extended or demand register

    @property
    def is_clock(self) -> bool:
        return self.capture.obis == CLOCK_TIME.obis and self.capture.attribute == CLOCK_TIME.index

    @property
    def is_unscaled(self) -> bool:
        """A register whose power of ten nobody knows: no value that anybody could use."""
        return self.scaling is None and _is_register_value(self.capture)


_Columns = tuple[_Column, ...]


class BillingReader:
    """Stateless but for what it has learnt of meters: their profiles' columns, and which bounds they take."""

    def __init__(self, *, now: Callable[[], dt.datetime] = utc_now) -> None:
        self._now = now
        self._known: OrderedDict[tuple[int, Obis], tuple[_Columns, float]] = OrderedDict()
        self._same: dict[_Columns, _Columns] = {}
        self._buffers = RangedBuffers()

    async def read_billing(
        self,
        session: MeterSession,
        meter_id: int,
        model: MeterModel,
        obis: str,
        since: dt.datetime,
        until: dt.datetime,
        *,
        as_of: float = 0.0,
    ) -> RegisterReadout:
        """Rows of the billing profile ``obis`` with a stamp in [since, until], aware, as register readings.

        ``read_us`` of a reading is the end of its billing period, as the meter stamped it, so that a period
        is stored once however often it is read; its quality is `Quality.BILLING`. The moment of a maximum is
        a reading of its own: attribute 5 (of a demand register 6) of the same object, as text.

        Raises LocalProtocolError for what is no OBIS code and for naive or reversed times, DataAccessRefused
        where the meter has no such profile, and as `MeterSession.get`.
        """
        if since.utcoffset() is None or until.utcoffset() is None or since >= until:
            raise LocalProtocolError(f"a billing profile is read between aware times, not {since}, {until}")
        try:
            name = Obis.parse(obis)
        except ValueError as exc:
            raise LocalProtocolError(f"{obis!r} is no OBIS code: {exc}") from exc
        columns = await self._columns(session, meter_id, model, name, as_of)
        if not any(column.is_clock for column in columns):
            raise RemoteProtocolError(f"billing profile {name}: no column tells the end of the period")
        rows = elements_of(
            axdr.decode_exact(await self._buffers.read(session, model, name, since, until)),
            f"billing profile {name}",
        )
        reads: list[RegisterRead] = []
        refusals = [
            Refusal(str(one.capture.obis), one.capture.attribute, "its scaler and unit are not known")
            for one in columns
            if one.is_unscaled
        ]
        before: dt.datetime | None = None
        for number, row in enumerate(rows, 1):
            cells = tuple(row.value) if row.type is DataType.STRUCTURE else ()
            if len(cells) != len(columns):
                self._known.pop((meter_id, name), None)  # configured anew: asked for next time
                raise RemoteProtocolError(
                    f"billing profile {name}: row {number} has {len(cells)} cells for {len(columns)} columns"
                )
            ended = _ended(model, columns, cells, before)
            if ended is None:
                refusals.append(Refusal(str(name), 2, f"row {number} does not tell the end of its period"))
                continue
            before = ended
            reads += _reads(meter_id, model, columns, cells, ended)
        return RegisterReadout(registers_only(reads, source=session.plan.label), tuple(refusals))

    def forget(self, meter_id: int) -> None:
        """Its profiles were written to: they are looked at again."""
        for key in [one for one in self._known if one[0] == meter_id]:
            del self._known[key]

    async def _columns(
        self, session: MeterSession, meter_id: int, model: MeterModel, name: Obis, as_of: float
    ) -> _Columns:
        """The columns with their scalers, asked once of a meter; one object for all that are alike. What is
        remembered counts for the same ``as_of`` alone, as of `DlmsReader.read_load_curve`."""
        key = (meter_id, name)
        known = self._known.get(key)
        if known is not None and known[1] == as_of:
            self._known.move_to_end(key)
            return known[0]
        raw = await session.get(Attribute(ClassId.PROFILE_GENERIC, name, cosem.PROFILE_CAPTURE_OBJECTS))
        captures = cosem.capture_objects(axdr.decode_exact(raw))
        wanted = list(dict.fromkeys(
            _scaler_unit(capture) for capture in captures if _is_register_value(capture)
        ))  # fmt: skip
        scalings: dict[Attribute, tuple[int, str | None]] = {}
        for attribute, result in zip(wanted, await session.get_many(wanted), strict=True):
            if isinstance(result, bytes):
                scaler_unit = ScalerUnit.decode(axdr.decode_exact(result))
                scalings[attribute] = (scaler_unit.scaler, scaler_unit.symbol)
        columns = tuple(_column(capture, scalings, model) for capture in captures)
        columns = self._same.setdefault(columns, columns)
        self._known[key] = (columns, as_of)
        if len(self._known) > MAX_METERS:
            self._known.popitem(last=False)
        return columns


def _is_register_value(capture: CaptureObject) -> bool:
    places = REGISTER_ATTRIBUTES.get(capture.class_id)
    return places is not None and capture.attribute in (places.value, places.last_value)


def _scaler_unit(capture: CaptureObject) -> Attribute:
    return Attribute(capture.class_id, capture.obis, REGISTER_ATTRIBUTES[capture.class_id].scaler_unit)


def _column(
    capture: CaptureObject, scalings: dict[Attribute, tuple[int, str | None]], model: MeterModel
) -> _Column:
    places = REGISTER_ATTRIBUTES.get(capture.class_id)
    if places is None:
        return _Column(capture, None)
    if not _is_register_value(capture):
        return _Column(capture, None, is_time=capture.attribute == places.capture_time)
    scaling = scalings.get(_scaler_unit(capture))
    maker = model.scaling_of(str(capture.obis))
    if scaling is None and maker is not None:
        scaling = (maker.scaler, maker.unit)
    return _Column(capture, scaling)


def _ended(
    model: MeterModel, columns: _Columns, cells: Sequence[Data], before: dt.datetime | None
) -> dt.datetime | None:
    """The end of a row's period. A null among rows that leave out what repeats is no end of its own."""
    clock = next(cell for column, cell in zip(columns, cells, strict=True) if column.is_clock)
    ended = None if clock.type is DataType.NULL else moment_of(clock, model)
    return None if ended == before else ended


def _reads(
    meter_id: int, model: MeterModel, columns: _Columns, cells: Sequence[Data], ended: dt.datetime
) -> list[RegisterRead]:
    ended_us = (ended - _EPOCH) // _US
    found = []
    for column, cell in zip(columns, cells, strict=True):
        if column.is_clock or column.is_unscaled:
            continue
        value, text, from_float = told(cell)
        if column.is_time:
            moment = moment_of(cell, model)
            value, text = None, text if moment is None else moment.isoformat()
        if value is None and text is None:
            continue
        unit = None
        if value is not None and column.scaling is not None:
            scaler, unit = column.scaling
            value = scale(value, scaler)
        found.append(
            RegisterRead(
                meter_id, str(column.capture.obis), column.capture.attribute, ended_us, ended_us, value, text,
                unit, Quality.BILLING, from_float,
            )
        )  # fmt: skip
    return found
