"""How what a meter sends unasked is understood: push lists without OBIS codes, heartbeats."""

from typing import Literal, Self

from pydantic import Field, model_validator

from schemas.model.parts import HexText, ObisText, Part, Scaler


class Position(Part):
    """What stands at one place of a push list. ``at`` counts from 0, negative from the end."""

    at: int = Field(ge=-1024, le=1024)
    obis: ObisText
    scaler: Scaler = 0
    unit: str | None = None


class PushMatch(Part):
    """How a push list is recognised: container, number of elements and, where it has one, first text."""

    container: Literal["structure", "array"] = "structure"
    length: int | None = Field(default=None, ge=1, le=1024)
    list_id: str | None = None


class PushList(Part):
    """One kind of push list.

    ``positions`` explain single places. ``rest`` says what the other places hold, from ``rest_from`` on:
    ``pairs`` (OBIS, value), ``triples`` (OBIS, value, scaler_unit), ``elements`` (each a structure of OBIS,
    value and scaler_unit) or ``attributes`` (the array there holds structures of attribute descriptor and
    value). A null in a push list is missing, never zero.
    """

    name: str
    match: PushMatch
    positions: tuple[Position, ...] = ()
    rest: Literal["none", "pairs", "triples", "elements", "attributes"] = "none"
    rest_from: int = Field(default=0, ge=0, le=1024)

    @model_validator(mode="after")
    def _explains(self) -> Self:
        if not self.positions and self.rest == "none":
            raise ValueError("a push list needs positions or rest")
        places = [position.at for position in self.positions]
        if len(places) != len(set(places)):
            raise ValueError("a place is explained twice")
        length = self.match.length
        if length is not None and any(not -length <= at < length for at in places):
            raise ValueError(f"a place lies outside the list of {length}")
        return self

    def matches(self, container: str, length: int, list_id: str | None) -> bool:
        """Whether a body of this container, number of elements and first text is of this kind."""
        match = self.match
        return (
            match.container == container
            and match.length in (None, length)
            and match.list_id in (None, list_id)
        )


class Heartbeat(Part):
    """What a meter that dials in, or the gateway before it, says of itself outside of DLMS.

    On the wire: ``prefix``, the identity, ``suffix``. The identity has ``length`` bytes, or goes to the
    ``suffix``: one of the two must be there. It is text, the logical device name or the asset id, or with
    ``identity = "system-title"`` the 8 bytes themselves. ``answer`` is sent back to each heartbeat.
    """

    prefix: HexText = Field(min_length=2, max_length=128)
    suffix: HexText = Field(default="", max_length=32)
    length: int | None = Field(default=None, ge=1, le=64)
    identity: Literal["name", "system-title"] = "name"
    answer: HexText = Field(default="", max_length=512)

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.length is None and self.identity != "system-title" and not self.suffix:
            raise ValueError("a heartbeat needs length or suffix, or nobody knows where the identity ends")
        if self.identity == "system-title" and self.length not in (None, 8):
            raise ValueError("a system title has 8 bytes")
        return self
