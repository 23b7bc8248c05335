"""What a meter says about its own load profile, and what becomes of it beside the model.

The meter's capture objects, period and order are the truth about its buffer. The model says what the
columns mean: which is the clock, which the status word, which OBIS code is which quantity, and, where it
writes one, the scaler.
"""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Self

from headend.drivers.dlms.intervals import OtherColumn, ProfileShape
from headend.session.client import MeterSession
from protocols.dlms import axdr, cosem
from protocols.dlms.cosem import (
    REGISTER_ATTRIBUTES,
    Attribute,
    CaptureObject,
    ClassId,
    ScalerUnit,
    SortMethod,
)
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.obis import Obis
from protocols.dlms.profile_columns import BufferLayout, NullRule, Role
from protocols.dlms.profile_columns import Column as BufferColumn
from protocols.errors import DataAccessRefused, LocalProtocolError, RemoteProtocolError
from schemas.model import Column, LoadProfile, MeterModel
from schemas.reading import INTERVAL_QUANTITIES, Channel, ChannelLayout

log = logging.getLogger(__name__)

#: Different shapes kept: one per model, profile and way a maker's meters were configured.
MAX_SHAPES: Final = 1024

#: Bytes of answers about a profile beyond which they are not remembered: no meter of a kind has so many.
MOST_TOLD: Final = 4096

_Told = tuple[int, int, tuple[bytes | DataAccessResult, ...]]
_ABOUT: Final = (
    cosem.PROFILE_CAPTURE_OBJECTS,
    cosem.PROFILE_CAPTURE_PERIOD,
    cosem.PROFILE_SORT_METHOD,
)
_ROLES: Final = {"clock": Role.CLOCK, "status": Role.STATUS, "value": Role.VALUE, "ignored": Role.OTHER}


class Scaling(NamedTuple):
    """Power of ten and unit symbol of one column, as the meter's scaler_unit tells."""

    obis: str
    scaler: int
    unit: str | None


@dataclass(frozen=True, slots=True)
class ProfileFacts:
    """What one meter says about one profile. ``period_s`` 0: capturing is triggered from outside."""

    captures: tuple[CaptureObject, ...]
    period_s: int
    descending: bool
    scalings: tuple[Scaling, ...]


@dataclass(frozen=True, slots=True)
class _Questions:
    """What is asked of a meter about one of its profiles: capture objects, period and order, and the scalers
    of the columns ``scaled`` that its model names."""

    profile: LoadProfile
    captures: tuple[CaptureObject, ...]
    scaled: Sequence[tuple[CaptureObject, Attribute]]
    attributes: Sequence[Attribute]

    @classmethod
    def about(cls, profile: LoadProfile) -> Self:
        name = Obis.parse(profile.obis)
        captures = tuple(_capture_of(column) for column in profile.columns)
        scaled = _scaled_captures(captures)
        attributes = [Attribute(ClassId.PROFILE_GENERIC, name, index) for index in _ABOUT]
        return cls(profile, captures, scaled, [*attributes, *(scaler for _, scaler in scaled)])

    def facts(self, told: Sequence[bytes | DataAccessResult]) -> ProfileFacts:
        """What the answers say. What the meter refuses to tell is taken from the model. Raises
        RemoteProtocolError for malformed attributes."""
        profile, captures = self.profile, self.captures
        if isinstance(told[0], bytes):
            captures = cosem.capture_objects(axdr.decode_exact(told[0]))
        period_s, descending = profile.period_s, profile.sort == "lifo"
        if isinstance(told[1], bytes):
            period_s = cosem.seconds(axdr.decode_exact(told[1])) or period_s
        if isinstance(told[2], bytes):
            method = cosem.sort_method(axdr.decode_exact(told[2]))
            if method in (SortMethod.FIFO, SortMethod.LIFO):
                descending = method is SortMethod.LIFO
        return ProfileFacts(captures, period_s, descending, _scalings(self.scaled, told[len(_ABOUT) :]))

    def beyond(self, facts: ProfileFacts) -> list[tuple[CaptureObject, Attribute]]:
        """Columns that the model does not know, and that have scalers too."""
        known = {capture.obis for capture, _ in self.scaled}
        return [item for item in _scaled_captures(facts.captures) if item[0].obis not in known]


def _capture_of(column: Column) -> CaptureObject:
    return CaptureObject(column.interface_class, Obis.parse(column.obis), column.attribute)


def _scaled_captures(captures: Sequence[CaptureObject]) -> list[tuple[CaptureObject, Attribute]]:
    """The columns that are values of registers, each with its scaler_unit."""
    return [
        (capture, Attribute(capture.class_id, capture.obis, places.scaler_unit))
        for capture in captures
        if (places := REGISTER_ATTRIBUTES.get(capture.class_id)) is not None
        and capture.attribute in (places.value, places.last_value)
    ]


def _scalings(
    asked: Sequence[tuple[CaptureObject, Attribute]], told: Sequence[bytes | DataAccessResult]
) -> tuple[Scaling, ...]:
    found = []
    for (capture, _), raw in zip(asked, told, strict=True):
        if isinstance(raw, bytes):
            scaler_unit = ScalerUnit.decode(axdr.decode_exact(raw))
            found.append(Scaling(str(capture.obis), scaler_unit.scaler, scaler_unit.symbol))
    return tuple(found)


class Shapes:
    """Profile shapes by what makes them differ, so that meters of one kind share one, with its caches.

    Meters of a kind also answer alike, and what equal answers mean is worked out once.
    """

    def __init__(self) -> None:
        # By the model's identity, the entry holding it: a profile that was edited is another model.
        self._shapes: OrderedDict[tuple[int, int, ProfileFacts], tuple[MeterModel, ProfileShape]] = (
            OrderedDict()
        )
        self._questions: OrderedDict[tuple[int, int], tuple[MeterModel, _Questions]] = OrderedDict()
        self._told: OrderedDict[_Told, tuple[MeterModel, ProfileShape]] = OrderedDict()

    async def ask(self, session: MeterSession, model: MeterModel, profile: LoadProfile) -> ProfileShape:
        """The shape of the meter's profile, in one GET with list where the meter takes one.

        Raises as `shape_of`, RemoteProtocolError for malformed attributes, and as `MeterSession.get_many`.
        """
        questions = self._about(model, profile)
        told = await session.get_many(questions.attributes)
        key = (id(model), profile.number, told)
        known = self._told.get(key)
        if known is not None:
            return known[1]
        facts = questions.facts(told)
        more = questions.beyond(facts)
        if more:
            scalings = _scalings(more, await session.get_many([scaler for _, scaler in more]))
            return self.of(model, profile, replace(facts, scalings=facts.scalings + scalings))
        shape = self.of(model, profile, facts)
        if sum(len(one) for one in told if isinstance(one, bytes)) <= MOST_TOLD:
            self._told[key] = (model, shape)
            if len(self._told) > MAX_SHAPES:
                self._told.popitem(last=False)
        return shape

    def _about(self, model: MeterModel, profile: LoadProfile) -> _Questions:
        key = (id(model), profile.number)
        found = self._questions.get(key)
        if found is None:
            found = self._questions[key] = (model, _Questions.about(profile))
            if len(self._questions) > MAX_SHAPES:
                self._questions.popitem(last=False)
        return found[1]

    def of(self, model: MeterModel, profile: LoadProfile, facts: ProfileFacts) -> ProfileShape:
        """The shape for these facts. Raises as `shape_of`."""
        key = (id(model), profile.number, facts)
        found = self._shapes.get(key)
        if found is None:
            found = self._shapes[key] = (model, shape_of(model, profile, facts))
            if len(self._shapes) > MAX_SHAPES:
                self._shapes.popitem(last=False)
        else:
            self._shapes.move_to_end(key)
        return found[1]


def shape_of(model: MeterModel, profile: LoadProfile, facts: ProfileFacts) -> ProfileShape:
    """Bring a meter's own columns and the model's meanings together.

    A column that the model does not name becomes a register reading under its OBIS code; a quantity that
    the meter does not capture has no channel.

    Raises:
        RemoteProtocolError: the meter captures no clock, or not the one that the model names.
        LocalProtocolError: neither the meter nor its model tells a quantity's scaler and unit.
    """
    meanings = {(column.obis, column.attribute): column for column in profile.columns}
    scalings = {scaling.obis: scaling for scaling in facts.scalings}
    null = NullRule(profile.null_value)
    columns: list[BufferColumn] = []
    channels: dict[str, Channel] = {}
    places: dict[str, int] = {}
    others: list[OtherColumn] = []
    status_obis = None
    value_at = 0
    for wire_at, capture in enumerate(facts.captures):
        obis = str(capture.obis)
        meaning = meanings.get((obis, capture.attribute))
        role = Role.VALUE if meaning is None else _ROLES[meaning.role]
        columns.append(BufferColumn(role, null if role in (Role.STATUS, Role.VALUE) else NullRule.MISSING))
        if role is Role.STATUS:
            status_obis = obis
        if role is not Role.VALUE:
            continue
        quantity = None if meaning is None else meaning.quantity
        if meaning is not None and quantity in INTERVAL_QUANTITIES and quantity not in channels:
            channels[quantity] = _channel(model, profile, meaning, scalings.get(obis))
            places[quantity] = value_at
        else:
            scaler, unit = _other_scaling(model, meaning, obis, scalings.get(obis))
            others.append(OtherColumn(wire_at, value_at, obis, capture.attribute, scaler, unit))
        value_at += 1
    if [column.role for column in columns].count(Role.CLOCK) != 1:
        clock = next(column.obis for column in profile.columns if column.role == "clock")
        captured = ", ".join(str(capture.obis) for capture in facts.captures)
        raise RemoteProtocolError(f"profile {profile.obis} must capture its clock {clock} once: {captured}")
    for column in profile.columns:
        if column.quantity in INTERVAL_QUANTITIES and column.quantity not in channels:
            log.warning("model %s: profile %s does not capture %s", model.name, profile.obis, column.obis)
    if facts.period_s != profile.period_s:
        log.warning(
            "model %s: profile %s has a period of %d s, not %d s",
            model.name, profile.obis, facts.period_s, profile.period_s,
        )  # fmt: skip
    clock_rules = model.clock
    layout = BufferLayout(
        tuple(columns),
        facts.period_s,
        descending=facts.descending,
        zone=clock_rules.zone,
        follows_dst=clock_rules.follows_dst,
        inverted_deviation=clock_rules.deviation == "inverted",
    )
    first, second, third, fourth = (channels.get(quantity) for quantity in INTERVAL_QUANTITIES)
    return ProfileShape(
        profile.number,
        Attribute(ClassId.PROFILE_GENERIC, Obis.parse(profile.obis), cosem.PROFILE_BUFFER),
        facts.period_s,
        layout,
        ChannelLayout((first, second, third, fourth)),
        tuple(places.get(quantity) for quantity in INTERVAL_QUANTITIES),
        tuple(others),
        status_obis,
    )


def _channel(model: MeterModel, profile: LoadProfile, column: Column, told: Scaling | None) -> Channel:
    if column.scaler is not None and column.unit is not None:
        scaler, unit = column.scaler, column.unit
        # Written in the model it is meant to override what such meters say; but somebody should know.
        if told is not None and (told.scaler, told.unit) != (scaler, unit):
            log.warning(
                "model %s: %s is 10**%d %s here, the meter says 10**%d %s",
                model.name, column.obis, scaler, unit, told.scaler, told.unit,
            )  # fmt: skip
    elif told is not None:
        scaler, unit = told.scaler, told.unit or ""
    elif (maker := model.scaling_of(column.obis)) is not None:
        scaler, unit = maker.scaler, maker.unit or ""
    else:
        raise LocalProtocolError(
            f"profile {profile.obis}: scaler and unit of {column.obis} are told by neither the meter "
            f"nor model {model.name}"
        )
    return Channel(column.quantity or "", column.obis, scaler, unit, column.kind, column.modulus)


def _other_scaling(
    model: MeterModel, column: Column | None, obis: str, told: Scaling | None
) -> tuple[int, str | None]:
    if column is not None and column.scaler is not None:
        return column.scaler, column.unit
    if told is not None:
        return told.scaler, told.unit
    maker = model.scaling_of(obis)
    return (0, None) if maker is None else (maker.scaler, maker.unit)


def profile_of(model: MeterModel, number: int) -> LoadProfile:
    """The model's load profile of this number. Raises LocalProtocolError naming those there are."""
    try:
        return model.load_profile(number)
    except KeyError:
        known = ", ".join(str(profile.number) for profile in model.load_profiles) or "none"
        raise LocalProtocolError(f"model {model.name} has no load profile {number}; known: {known}") from None


def refused(attribute: Attribute, result: DataAccessResult) -> DataAccessRefused:
    """A refusal out of a list, as the error it is alone."""
    worded = result.name.lower().replace("_", " ")
    return DataAccessRefused(f"{attribute}: {worded}", result=int(result))
