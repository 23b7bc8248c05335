"""Meter models whose language is registers: what a Modbus profile says of a kind of meter.

A profile names each register by a word of ours: where it is, of what type, and what it means. ``[defaults]``
is laid under every register, so that a table of fifty floats says "float" once. ``inherit`` works as for DLMS
models, and since registers are named, an heir changes or adds single ones. The files are in
``schemas/profiles/modbus``; a folder ``modbus`` in the operator's own is looked at first.
"""

from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.model import ModelError, ObisText, Scaler, explain, model_names, read_profile
from schemas.reading import INTERVAL_QUANTITIES, Channel, ChannelLayout
from schemas.register_firmware import FileFirmware

FAMILY: Final = "modbus"

#: A register is 16 bits; a read answers at most 125 of them (Modbus application protocol, function 3 and 4).
MAX_READ: Final = 125
_ADDRESSES: Final = 0x1_0000


class RegisterType(StrEnum):
    """How the words of a register are read. ``bits`` are flags, ``bcd`` four decimal digits a word."""

    U16 = "u16"
    S16 = "s16"
    U32 = "u32"
    S32 = "s32"
    U64 = "u64"
    S64 = "s64"
    F32 = "f32"
    F64 = "f64"
    BITS16 = "bits16"
    BITS32 = "bits32"
    BCD16 = "bcd16"
    BCD32 = "bcd32"
    TEXT = "text"

    @property
    def words(self) -> int | None:
        """Registers that a value takes, None for text, whose profile says it."""
        digits = self.value.lstrip("abcdefstuxi")
        return int(digits) // 16 if digits else None

    @property
    def is_float(self) -> bool:
        """Whether the meter sends a binary floating point number."""
        return self in (RegisterType.F32, RegisterType.F64)


class WordOrder(StrEnum):
    """Which word of a value comes first: the high one (``big``) or the low one. Words are big-endian."""

    BIG = "big"
    LITTLE = "little"


class Space(StrEnum):
    """Address space: input registers (function 4) or holding registers (function 3)."""

    INPUT = "input"
    HOLDING = "holding"


class Group(StrEnum):
    """What a register is read for: ``command`` never, since reading it is pointless or it holds a secret."""

    ENERGY = "energy"
    LIVE = "live"
    SETTING = "setting"
    COMMAND = "command"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MapRegister(_Part):
    """One register of the map.

    ``at`` is the address as it stands on the wire, from 0. Exact value = raw x 10**scaler in ``unit`` (a DLMS
    symbol, None for a bare number); ``scale_register`` names another register that holds a further power of
    ten. ``quantity`` gives it a column of the load curve; ``column_scaler`` is the power of ten that the
    column is kept with: for integers the scaler, for floats -6 (what has more digits is kept outside the
    column). ``modulus`` is the raw value at which it rolls over, ``labels`` names single values, or bits of a
    bit field.
    """

    at: int = Field(ge=0, lt=_ADDRESSES)
    type: RegisterType
    space: Space
    order: WordOrder = WordOrder.BIG
    words: int | None = Field(default=None, ge=1, le=MAX_READ)
    scaler: Scaler = 0
    scale_register: str | None = None
    unit: str | None = None
    obis: ObisText | None = None
    quantity: str | None = None
    column_scaler: Scaler | None = None
    modulus: int | None = Field(default=None, gt=0)
    group: Group = Group.LIVE
    labels: dict[int, str] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.type is RegisterType.TEXT) != (self.words is not None):
            raise ValueError("words is for text, and text needs it")
        if self.at + self.width > _ADDRESSES:
            raise ValueError(f"reaches beyond the last address {_ADDRESSES - 1}")
        if self.type is RegisterType.TEXT and (self.unit, self.quantity, self.scaler) != (None, None, 0):
            raise ValueError("text has no unit, quantity or scaler")
        if self.quantity is not None:
            if self.quantity not in INTERVAL_QUANTITIES:
                raise ValueError(f"quantity must be one of {', '.join(INTERVAL_QUANTITIES)}")
            if self.unit is None or self.obis is None:
                raise ValueError("a quantity needs unit and obis")
        elif self.column_scaler is not None or self.modulus is not None:
            raise ValueError("column_scaler and modulus are for registers with a quantity")
        return self

    @property
    def width(self) -> int:
        """Registers that it takes."""
        return self.type.words or self.words or 0

    def channel(self) -> Channel:
        """The column it fills. Raises ModelError for a register without quantity."""
        if self.quantity is None or self.obis is None or self.unit is None:
            raise ModelError(f"register {self.at} has no quantity")
        scaler = self.column_scaler
        if scaler is None:
            scaler = -6 if self.type.is_float else self.scaler
        return Channel(self.quantity, self.obis, scaler, self.unit, modulus=self.modulus)


class Forbidden(_Part):
    """Addresses ``first`` to ``last`` (both included) that no read may touch, not even to bridge a gap."""

    space: Space
    first: int = Field(ge=0, lt=_ADDRESSES)
    last: int = Field(ge=0, lt=_ADDRESSES)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last < self.first:
            raise ValueError("last is before first")
        return self


class Reads(_Part):
    """How the meter wants to be read: registers in one request, unwanted ones that a read may bridge."""

    max_words: int = Field(default=MAX_READ, ge=1, le=MAX_READ)
    max_gap: int = Field(default=16, ge=0, le=MAX_READ)
    forbidden: tuple[Forbidden, ...] = ()


class Sampling(_Part):
    """Where a meter without load curve gets one: a sample counts for the boundary within ``tolerance_s``."""

    profile: int = Field(default=1, ge=1, le=32767)
    period_s: int = Field(default=900, gt=0, le=86400)
    tolerance_s: int = Field(default=30, ge=0, le=3600)

    @model_validator(mode="after")
    def _unambiguous(self) -> Self:
        if self.tolerance_s * 2 >= self.period_s:
            raise ValueError(
                "tolerance_s must be less than half of period_s, or a sample fits two boundaries"
            )
        return self


class RegisterModel(_Part):
    """A kind of meter that is read by registers. With ``map = "sunspec"`` the meter tells its own map.

    ``missing`` lists raw values, by type and as unsigned numbers, with which the meter says "not there".
    ``firmware`` says how it takes new programs; None: it takes none.
    """

    name: str
    title: str
    maker: str | None = None
    driver: Literal["modbus"]
    map: Literal["registers", "sunspec"] = "registers"
    reads: Reads = Reads()
    sampling: Sampling = Sampling()
    missing: dict[RegisterType, tuple[Annotated[int, Field(ge=0)], ...]] = {}
    registers: dict[str, MapRegister] = {}
    firmware: FileFirmware | None = None

    @model_validator(mode="before")
    @classmethod
    def _laid_under(cls, table: Any) -> Any:
        if not isinstance(table, dict) or "defaults" not in table:
            return table
        rest = {key: value for key, value in table.items() if key != "defaults"}
        defaults, registers = table["defaults"], rest.get("registers", {})
        if not isinstance(defaults, dict) or not isinstance(registers, dict):
            raise ValueError("defaults and registers must be tables")  # noqa: TRY004 - pydantic wants it
        rest["registers"] = {
            name: {**defaults, **one} if isinstance(one, dict) else one for name, one in registers.items()
        }
        return rest

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.map == "registers") != bool(self.registers):
            raise ValueError('registers are given, unless map = "sunspec"')
        quantities = [one.quantity for one in self.registers.values() if one.quantity is not None]
        if len(quantities) != len(set(quantities)):
            raise ValueError("a quantity is given to two registers")
        for name, one in self.registers.items():
            self._check(name, one)
        if self.firmware is not None:
            self._check_firmware(self.firmware)
        return self

    def _check(self, name: str, one: MapRegister) -> None:
        if one.width > self.reads.max_words:
            raise ValueError(f"register {name} is longer than a read may be")
        if one.scale_register is not None:
            scale = self.registers.get(one.scale_register)
            if scale is None or scale.type is not RegisterType.S16:
                raise ValueError(f"register {name}: scale_register must name a register of type s16")
        for stretch in self.reads.forbidden:
            if stretch.space is one.space and stretch.first < one.at + one.width and one.at <= stretch.last:
                raise ValueError(f"register {name} lies in a forbidden stretch")

    def _check_firmware(self, said: FileFirmware) -> None:
        text, written = RegisterType.TEXT, Space.HOLDING
        needed: list[tuple[str, RegisterType, Space | None]] = [
            (said.version, text, None), (said.status, RegisterType.U16, None),
            (said.control, RegisterType.U16, written), (said.identifier, text, written),
            (said.size, RegisterType.U32, written),
        ]  # fmt: skip
        if said.hardware is not None:
            needed.append((said.hardware, text, None))
        for name, kind, space in needed:
            one = self.registers.get(name)
            if one is None or one.type is not kind or space not in (None, one.space):
                where = "" if space is None else f" among the {space} registers"
                raise ValueError(f"firmware: {name!r} must be a register of type {kind}{where}")
            if one.order is not WordOrder.BIG:
                raise ValueError(f"firmware: the words of register {name} must be in big order")

    def named(self, *groups: Group) -> tuple[str, ...]:
        """Names of the registers of these groups, in the profile's order."""
        return tuple(name for name, one in self.registers.items() if one.group in groups)

    def layout(self) -> ChannelLayout:
        """The row layout for ReadingBatch."""
        channels = {one.quantity: one.channel() for one in self.registers.values() if one.quantity}
        first, second, third, fourth = (channels.get(quantity) for quantity in INTERVAL_QUANTITIES)
        return ChannelLayout((first, second, third, fourth))


@lru_cache(maxsize=256)
def load_register_model(name: str, folders: tuple[Path, ...] = ()) -> RegisterModel:
    """The register model ``name``, looked for in ``modbus`` of ``folders`` and then among the packaged ones.

    Raises ModelError naming the file and every wrong key (unknown keys too).
    """
    table = read_profile(name, folders, family=FAMILY)
    try:
        return RegisterModel.model_validate({**table, "name": name})
    except ValidationError as error:
        raise ModelError(f"{FAMILY}/{name}.toml: {explain(error)}") from error


def register_model_names(folders: tuple[Path, ...] = ()) -> tuple[str, ...]:
    """Names of all register models, sorted."""
    return model_names(folders, FAMILY)
