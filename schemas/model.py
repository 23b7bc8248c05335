"""Meter models: what a TOML profile says of a kind of meter, checked when it is loaded.

A profile names its driver, how to open an association, how the meter's clock runs, its load profiles column
by column, the registers worth reading, and how to understand pushes that carry no OBIS codes or no scalers.
``inherit = "other"`` takes everything of another profile; tables merge key by key, arrays are replaced whole.
The files are in ``schemas/profiles``; a folder of the operator's own is looked at first.
"""

import tomllib
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.obis_pattern import check_obis, check_pattern, matches, wildcards
from schemas.reading import INTERVAL_QUANTITIES, Channel, ChannelLayout, Kind


class ModelError(ValueError):
    """A profile that cannot be used; the message says the file and the key."""


def _check_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is no time zone of the IANA database") from error
    return name


ObisText = Annotated[str, AfterValidator(check_obis)]
ObisPattern = Annotated[str, AfterValidator(check_pattern)]
ZoneName = Annotated[str, AfterValidator(_check_zone)]
#: Power of ten as COSEM's scaler_unit carries it (integer8).
Scaler = Annotated[int, Field(ge=-128, le=127)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MechanismName(StrEnum):
    """Authentication mechanisms by the name a profile uses."""

    NONE = "none"
    LLS = "lls"
    HLS_MD5 = "hls-md5"
    HLS_SHA1 = "hls-sha1"
    HLS_GMAC = "hls-gmac"
    HLS_SHA256 = "hls-sha256"


class Protection(StrEnum):
    """What our requests carry and what answers must carry."""

    NONE = "none"
    AUTHENTICATED = "authenticated"
    ENCRYPTED = "encrypted"
    BOTH = "authenticated+encrypted"


class Hdlc(_Part):
    """HDLC parameters proposed in SNRM. ``max_info`` in bytes, both directions."""

    address_length: Literal[1, 2, 4] = 4
    physical_address: int = Field(default=17, ge=0, le=0x3FFF)
    window: int = Field(default=1, ge=1, le=7)
    max_info: int = Field(default=128, ge=32, le=2030)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        # a 2-byte address carries 7 bits of lower address, a 1-byte address none
        if self.address_length == 2 and self.physical_address > 0x7F:
            raise ValueError("physical_address does not fit a 2-byte HDLC address (0..127)")
        return self


class Association(_Part):
    """How an association is opened. SAPs are wrapper ports or upper HDLC addresses; ``max_pdu`` in bytes."""

    client_sap: int = Field(default=16, ge=0, le=0xFFFF)
    server_sap: int = Field(default=1, ge=0, le=0xFFFF)
    mechanism: MechanismName = MechanismName.NONE
    suite: Literal[0, 1, 2] = 0
    protection: Protection = Protection.NONE
    #: which APDU carries a ciphered message: glo-/ded-..., general-glo-/general-ded-ciphering, or
    #: general-ciphering with the identified global key or with a key wrapped under the master key
    ciphering: Literal["service-specific", "general", "general-ciphering", "general-ciphering-wrapped"] = (
        "service-specific"
    )
    dedicated_key: bool = False
    max_pdu: int = Field(default=1024, ge=64, le=0xFFFF)
    #: requests go in general-block-transfer, and so many blocks of an answer may come without a pause; None
    #: leaves it to the meter
    gbt_window: int | None = Field(default=None, ge=1, le=63)
    framing: Literal["wrapper", "hdlc"] = "wrapper"
    hdlc: Hdlc = Hdlc()
    public_client_sap: int = Field(default=16, ge=0, le=0xFFFF)
    #: the object where the public client reads the last invocation counter the meter accepted
    invocation_counter: ObisText | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dedicated_key and self.protection is Protection.NONE:
            raise ValueError("dedicated_key needs a protection other than none")
        if self.dedicated_key and self.ciphering.startswith("general-ciphering"):
            raise ValueError("general-ciphering names its key: it cannot be a dedicated_key")
        return self


class Clock(_Part):
    """How the meter's clock runs.

    ``time_zone`` serves stamps without a deviation; with ``follows_dst = false`` the clock keeps the zone's
    standard time all year. ``deviation``: ``standard`` is UTC = local time + deviation, ``inverted`` the
    maker's other sign, ``unspecified`` says that what the meter sends there means nothing.
    """

    time_zone: ZoneName | None = None
    follows_dst: bool = True
    deviation: Literal["standard", "inverted", "unspecified"] = "standard"

    @model_validator(mode="after")
    def _has_zone(self) -> Self:
        if self.deviation == "unspecified" and self.time_zone is None:
            raise ValueError('deviation = "unspecified" needs a time_zone')
        return self

    @property
    def zone(self) -> ZoneInfo | None:
        """The time zone, None where the profile names none."""
        return None if self.time_zone is None else ZoneInfo(self.time_zone)


class Scaling(_Part):
    """Power of ten and unit of a value whose message carries neither: exact value = raw x 10**scaler in
    ``unit``."""

    scaler: Scaler = 0
    unit: str | None = None


_CLASS_OF_ROLE: Final = {"clock": 8, "status": 1, "value": 3, "ignored": 1}


class Column(_Part):
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


class LoadProfile(_Part):
    """One Profile Generic object. ``number`` is the profile's number in the database, ``period_s`` in
    seconds."""

    number: int = Field(ge=1, le=32767)
    obis: ObisText
    period_s: int = Field(gt=0, le=366 * 86400)
    #: order of the rows: a null clock is the previous stamp plus (fifo) or minus (lifo) the period
    sort: Literal["fifo", "lifo"] = "fifo"
    null_value: Literal["missing", "repeat"] = "missing"
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
        """The row layout for ReadingBatch. ``scalings`` holds (scaler, unit) by OBIS code as read from the
        meter.

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


class Register(_Part):
    """A register worth reading beside the load curve."""

    obis: ObisText
    class_id: int = Field(default=3, ge=0, le=0xFFFF)
    attribute: int = Field(default=2, ge=1, le=127)
    name: str | None = None


class Position(_Part):
    """What stands at one place of a push list. ``at`` counts from 0, negative from the end."""

    at: int = Field(ge=-1024, le=1024)
    obis: ObisText
    scaler: Scaler = 0
    unit: str | None = None


class PushMatch(_Part):
    """How a push list is recognised: its container, number of elements and, where it has one, its first
    text."""

    container: Literal["structure", "array"] = "structure"
    length: int | None = Field(default=None, ge=1, le=1024)
    list_id: str | None = None


class PushList(_Part):
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


class Quirks(_Part):
    """Where a maker leaves the standard."""

    #: pushes carry COSEM attribute descriptors without A-XDR tags (class 2 bytes, OBIS 6, attribute 1)
    untagged_attribute_descriptors: bool = False
    #: GET-Request-With-List is refused: one GET for each attribute
    no_get_with_list: bool = False
    #: selective access by range is refused: read by entry, newest entries first counted
    range_by_entry: bool = False


def _check_hex(text: str) -> str:
    try:
        bytes.fromhex(text)
    except ValueError:
        raise ValueError("must be hexadecimal digits") from None
    return text


HexText = Annotated[str, AfterValidator(_check_hex)]


class Heartbeat(_Part):
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


#: Where meters tell who they are: logical device name, meter numbers (device ID 1, also as Kamstrup and
#: Sagemcom write it).
_IDENTITIES: Final = ("0-0:42.0.0*255", "0-0:96.1.0*255", "0-0:96.1.1*255", "1-1:0.0.5*255", "1-0:0.0.0*255")


class MeterModel(_Part):
    """A kind of meter, as its profile describes it. ``driver`` ``dlms-push`` is never dialled: it only
    pushes."""

    name: str
    title: str
    maker: str | None = None
    driver: Literal["dlms", "dlms-push"] = "dlms"
    association: Association = Association()
    clock: Clock = Clock()
    load_profiles: tuple[LoadProfile, ...] = ()
    registers: tuple[Register, ...] = ()
    push: tuple[PushList, ...] = ()
    #: where a push without ciphering tells which meter it is from: its asset id or logical device name
    identity: tuple[ObisText, ...] = _IDENTITIES
    heartbeat: Heartbeat | None = None
    #: scaler and unit by OBIS code or pattern ("x" stands for any number) for messages that carry none
    scaling: dict[ObisPattern, Scaling] = {}
    quirks: Quirks = Quirks()

    @model_validator(mode="after")
    def _numbers_differ(self) -> Self:
        numbers = [profile.number for profile in self.load_profiles]
        if len(numbers) != len(set(numbers)):
            raise ValueError("two load profiles have the same number")
        return self

    def load_profile(self, number: int) -> LoadProfile:
        """The load profile with this number. Raises KeyError."""
        for profile in self.load_profiles:
            if profile.number == number:
                return profile
        raise KeyError(number)

    def scaling_of(self, obis: str) -> Scaling | None:
        """Scaler and unit the maker means for this OBIS code; the pattern with the fewest wildcards wins."""
        found = [pattern for pattern in self.scaling if matches(pattern, obis)]
        return self.scaling[min(found, key=wildcards)] if found else None

    def push_list(self, container: str, length: int, list_id: str | None) -> PushList | None:
        """The first push list that this body matches, None where no list does."""
        return next((p for p in self.push if p.matches(container, length, list_id)), None)


def _places(folders: tuple[Path, ...], family: str) -> list[Traversable]:
    return [place / family if family else place for place in (*folders, files("schemas") / "profiles")]


def _find(name: str, folders: tuple[Path, ...], family: str) -> Traversable | None:
    # a name is a plain word: it must not walk out of the folder
    if not name.replace("-", "").replace("_", "").isalnum():
        return None
    places = (place / f"{name}.toml" for place in _places(folders, family))
    return next((place for place in places if place.is_file()), None)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def read_profile(
    name: str, folders: tuple[Path, ...], *, family: str = "", heirs: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The table of profile ``name`` with all it inherits. ``family`` is a folder beside the DLMS profiles.

    Raises ModelError.
    """
    if name in heirs:
        raise ModelError(f"{heirs[-1]}.toml: inherit: goes round in a circle: {' -> '.join((*heirs, name))}")
    place = _find(name, folders, family)
    if place is None:
        asked = f"{heirs[-1]}.toml: inherit: " if heirs else ""
        raise ModelError(f"{asked}no meter model {name!r}; known: {', '.join(model_names(folders, family))}")
    try:
        table = tomllib.loads(place.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{name}.toml: {error}") from error
    parent = table.pop("inherit", None)
    if "name" in table:
        raise ModelError(f"{name}.toml: name: the file's own name is the model's name")
    if parent is None:
        return table
    if not isinstance(parent, str):
        raise ModelError(f"{name}.toml: inherit: must be the name of another profile")
    return _merged(read_profile(parent, folders, family=family, heirs=(*heirs, name)), table)


def explain(error: ValidationError) -> str:
    """Every wrong key of a profile and what is wrong with it, in one line."""
    return "; ".join(
        f"{'.'.join(map(str, item['loc'])) or 'profile'}: {item['msg'].removeprefix('Value error, ')}"
        for item in error.errors(include_url=False, include_input=False)
    )


@lru_cache(maxsize=256)
def load_model(name: str, folders: tuple[Path, ...] = ()) -> MeterModel:
    """The meter model ``name``, looked for in ``folders`` and then among the packaged profiles.

    Raises ModelError naming the file and every wrong key (unknown keys too).
    """
    table = read_profile(name, folders)
    try:
        return MeterModel.model_validate({**table, "name": name})
    except ValidationError as error:
        raise ModelError(f"{name}.toml: {explain(error)}") from error


def model_names(folders: tuple[Path, ...] = (), family: str = "") -> tuple[str, ...]:
    """Names of all meter models of a family, sorted; the DLMS models have no family."""
    names: set[str] = set()
    for place in _places(folders, family):
        if place.is_dir():
            names.update(entry.name for entry in place.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))
