"""What APDUs share: invoke ids, undecoded data, selective access, and the bounded reader under them all."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from protocols.dlms import axdr
from protocols.dlms.cosem import Attribute, Method
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import Obis
from protocols.errors import LocalProtocolError, RemoteProtocolError

_T = TypeVar("_T")

_DATA_ACCESS_RESULTS = {int(result): result for result in DataAccessResult}
_ACTION_RESULTS = {int(result): result for result in ActionResult}
_DESCRIPTOR = struct.Struct(">H6sb")
_DATE_TIME_LENGTHS = (0, 12)


@dataclass(frozen=True, slots=True, repr=False)
class Raw:
    """One A-XDR value as its undecoded bytes, tag first.

    Kept raw so that a profile buffer reaches the vectorised decoder untouched. ``repr`` tells the length
    only: the bytes may be a secret that is being set.
    """

    data: bytes

    def __repr__(self) -> str:
        return f"Raw(<{len(self.data)} bytes>)"

    def __len__(self) -> int:
        return len(self.data)


def check_raw(raw: Raw, *, base: int = 0) -> None:
    """Refuse ``raw`` unless it is exactly one well-formed A-XDR value.

    ``base`` is where it starts in the APDU and is added to the offset of the RemoteProtocolError. Decoding an
    APDU does not do this for a value that ends the APDU, since whoever reads the value finds out anyway.
    """
    try:
        end = axdr.skip(raw.data, 0)
    except RemoteProtocolError as exc:
        raise RemoteProtocolError(exc.reason, offset=base + (exc.offset or 0)) from exc
    if end != len(raw.data):
        raise RemoteProtocolError(f"{len(raw.data) - end} bytes follow the A-XDR value", offset=base + end)


class InvokeIdAndPriority(NamedTuple):
    """Invoke-Id-And-Priority: id 0..15, service class, priority. The reserved bits are ignored."""

    invoke_id: int
    confirmed: bool = True
    high_priority: bool = True

    def to_byte(self) -> int:
        """The byte on the wire; LocalProtocolError when the id does not fit its four bits."""
        if not 0 <= self.invoke_id <= 15:
            raise LocalProtocolError(f"invoke id {self.invoke_id} is not within 0..15")
        return self.high_priority << 7 | self.confirmed << 6 | self.invoke_id


# A table: an answer's invoke id costs one subscript.
INVOKE = tuple(InvokeIdAndPriority(byte & 0x0F, bool(byte & 0x40), bool(byte & 0x80)) for byte in range(256))


class LongInvokeIdAndPriority(NamedTuple):
    """Long-Invoke-Id-And-Priority of notifications and Access: id 0..2**24-1 and its flags."""

    invoke_id: int
    self_descriptive: bool = False
    break_on_error: bool = False
    confirmed: bool = False
    high_priority: bool = False

    @classmethod
    def from_int(cls, value: int) -> "LongInvokeIdAndPriority":
        """From the unsigned 32-bit value; bits 24 to 27 are reserved and ignored."""
        return cls(
            value & 0xFF_FFFF,
            bool(value & 1 << 28),
            bool(value & 1 << 29),
            bool(value & 1 << 30),
            bool(value & 1 << 31),
        )

    def to_bytes(self) -> bytes:
        """Four bytes; LocalProtocolError when the id does not fit its 24 bits."""
        if not 0 <= self.invoke_id <= 0xFF_FFFF:
            raise LocalProtocolError(f"long invoke id {self.invoke_id} is not within 0..{0xFF_FFFF}")
        value = (
            self.high_priority << 31
            | self.confirmed << 30
            | self.break_on_error << 29
            | self.self_descriptive << 28
            | self.invoke_id
        )
        return value.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class Selection:
    """Selective access: ``selector`` 1 by range, 2 by entry; ``parameters`` one undecoded A-XDR value."""

    selector: int
    parameters: bytes


class AttributeItem(NamedTuple):
    """One entry of a with-list request: what to access, and how much of it."""

    attribute: Attribute
    selection: Selection | None = None


class Reader:
    """Reads an APDU from front to back and never behind its end.

    Every method raises RemoteProtocolError with the offset where bytes were missing or wrong; ``name`` is the
    APDU's name for those messages.
    """

    __slots__ = ("data", "name", "offset")

    def __init__(self, data: bytes, name: str, offset: int) -> None:
        self.data = data
        self.name = name
        self.offset = offset

    def fail(self, reason: str, offset: int | None = None) -> RemoteProtocolError:
        """An error about this APDU, at the present offset unless another is given."""
        return RemoteProtocolError(f"{self.name}: {reason}", offset=self.offset if offset is None else offset)

    def take(self, count: int, what: str) -> bytes:
        """Exactly ``count`` bytes."""
        start = self.offset
        end = start + count
        if end > len(self.data):
            raise self.fail(f"cut short in the {what}", len(self.data))
        self.offset = end
        return self.data[start:end]

    def u8(self, what: str) -> int:
        """One unsigned byte."""
        if self.offset >= len(self.data):
            raise self.fail(f"cut short before the {what}")
        value = self.data[self.offset]
        self.offset += 1
        return value

    def u16(self, what: str) -> int:
        """Two bytes, big-endian."""
        return int.from_bytes(self.take(2, what), "big")

    def u32(self, what: str) -> int:
        """Four bytes, big-endian."""
        return int.from_bytes(self.take(4, what), "big")

    def boolean(self, what: str) -> bool:
        """A-XDR BOOLEAN: zero is false, anything else true."""
        return self.u8(what) != 0

    def optional(self, what: str) -> bool:
        """Presence byte of an OPTIONAL component, 0 or 1 and nothing else."""
        flag = self.u8(f"presence of the {what}")
        if flag > 1:
            raise self.fail(f"presence of the {what} is 0x{flag:02x}, neither 0 nor 1", self.offset - 1)
        return flag == 1

    def octets(self, what: str) -> bytes:
        """OCTET STRING: length, then that many bytes."""
        return self.take(self._length(what), what)

    def date_time(self) -> bytes | None:
        """OCTET STRING that is empty (None) or a 12-byte date-time."""
        start = self.offset
        value = self.octets("date-time")
        if len(value) not in _DATE_TIME_LENGTHS:
            raise self.fail(f"date-time of {len(value)} bytes, it has 0 or 12", start)
        return value or None

    def invoke(self) -> InvokeIdAndPriority:
        """Invoke-Id-And-Priority."""
        return INVOKE[self.u8("invoke id")]

    def long_invoke(self) -> LongInvokeIdAndPriority:
        """Long-Invoke-Id-And-Priority."""
        return LongInvokeIdAndPriority.from_int(self.u32("long invoke id"))

    def attribute(self) -> Attribute:
        """Cosem-Attribute-Descriptor."""
        class_id, name, index = _DESCRIPTOR.unpack(self.take(9, "attribute descriptor"))
        return Attribute(class_id, Obis.from_bytes(name), index)

    def method(self) -> Method:
        """Cosem-Method-Descriptor."""
        class_id, name, index = _DESCRIPTOR.unpack(self.take(9, "method descriptor"))
        return Method(class_id, Obis.from_bytes(name), index)

    def selection(self) -> Selection | None:
        """OPTIONAL Selective-Access-Descriptor."""
        return self.selective_access() if self.optional("selective access") else None

    def selective_access(self) -> Selection:
        """Selective-Access-Descriptor: selector and one value."""
        return Selection(self.u8("access selector"), self.value("access parameters").data)

    def attribute_item(self) -> AttributeItem:
        """Cosem-Attribute-Descriptor-With-Selection."""
        return AttributeItem(self.attribute(), self.selection())

    def value(self, what: str) -> Raw:
        """One A-XDR value, measured but not decoded."""
        start = self.offset
        if start >= len(self.data):
            raise self.fail(f"cut short before the {what}")
        try:
            self.offset = axdr.skip(self.data, start)
        except RemoteProtocolError as exc:
            raise self.fail(f"{what}: {exc.reason}", exc.offset) from exc
        return Raw(self.data[start : self.offset])

    def rest(self, what: str) -> Raw:
        """All that is left, at least one byte, unchecked: see check_raw."""
        if self.offset >= len(self.data):
            raise self.fail(f"cut short before the {what}")
        start, self.offset = self.offset, len(self.data)
        return Raw(self.data[start:])

    def many(self, read: Callable[[], _T], what: str) -> tuple[_T, ...]:
        """SEQUENCE OF: a count, then that many; a count beyond the bytes that are left fails at once."""
        start = self.offset
        count = self._length(what)
        if count > len(self.data) - self.offset:
            raise self.fail(
                f"{count} entries claimed for the {what}, {len(self.data) - self.offset} bytes left", start
            )
        return tuple([read() for _ in range(count)])

    def data_access_result(self) -> DataAccessResult:
        """Data-Access-Result that the standard knows."""
        code = self.u8("data-access-result")
        result = _DATA_ACCESS_RESULTS.get(code)
        if result is None:
            raise self.fail(f"data-access-result {code} is not in the standard", self.offset - 1)
        return result

    def action_result(self) -> ActionResult:
        """Action-Result that the standard knows."""
        code = self.u8("action-result")
        result = _ACTION_RESULTS.get(code)
        if result is None:
            raise self.fail(f"action-result {code} is not in the standard", self.offset - 1)
        return result

    def data_or_refusal(self, read: Callable[[str], Raw]) -> Raw | DataAccessResult:
        """Get-Data-Result: 0 a value, taken by ``read`` (``value`` or ``rest``); 1 a Data-Access-Result."""
        choice = self.u8("result choice")
        if choice == 0:
            return read("data")
        if choice == 1:
            return self.data_access_result()
        raise self.fail(
            f"result choice {choice}, it has 0 (data) and 1 (data-access-result)", self.offset - 1
        )

    def block(self) -> tuple[bool, int, bytes]:
        """DataBlock-SA: last-block, block-number, raw-data."""
        return self.boolean("last-block"), self.u32("block number"), self.octets("raw data")

    def end(self) -> None:
        """Refuse bytes behind a complete APDU."""
        if self.offset != len(self.data):
            raise self.fail(f"{len(self.data) - self.offset} bytes follow the complete APDU")

    def _length(self, what: str) -> int:
        if self.offset >= len(self.data):
            raise self.fail(f"cut short before the {what}")
        try:
            length, self.offset = axdr.decode_length(self.data, self.offset)
        except RemoteProtocolError as exc:
            raise self.fail(f"{what}: {exc.reason}", exc.offset) from exc
        return length


def encode_uint(value: int, size: int, what: str) -> bytes:
    """``value`` in ``size`` bytes, big-endian; LocalProtocolError when it does not fit."""
    if not 0 <= value < 1 << 8 * size:
        raise LocalProtocolError(f"{what} {value} does not fit {size} bytes")
    return value.to_bytes(size, "big")


def encode_octets(value: bytes) -> bytes:
    """OCTET STRING: length and bytes."""
    return axdr.encode_length(len(value)) + value


def encode_date_time(value: bytes | None) -> bytes:
    """OCTET STRING, empty for None; LocalProtocolError unless it has 12 bytes."""
    if value is None:
        return b"\x00"
    if len(value) != 12:
        raise LocalProtocolError(f"date-time of {len(value)} bytes, it has 12")
    return b"\x0c" + value


def encode_descriptor(target: Attribute | Method) -> bytes:
    """Cosem-Attribute-Descriptor or Cosem-Method-Descriptor, 9 bytes."""
    if not 0 <= target.class_id <= 0xFFFF or not -128 <= target.index <= 127:
        raise LocalProtocolError(f"class {target.class_id} index {target.index} does not fit a descriptor")
    return _DESCRIPTOR.pack(target.class_id, target.obis.to_bytes(), target.index)


def encode_selective_access(selection: Selection) -> bytes:
    """Selective-Access-Descriptor without a presence byte."""
    return encode_uint(selection.selector, 1, "access selector") + selection.parameters


def encode_selection(selection: Selection | None) -> bytes:
    """OPTIONAL Selective-Access-Descriptor."""
    return b"\x00" if selection is None else b"\x01" + encode_selective_access(selection)


def encode_items(items: tuple[AttributeItem, ...]) -> bytes:
    """SEQUENCE OF Cosem-Attribute-Descriptor-With-Selection."""
    return axdr.encode_length(len(items)) + b"".join(
        [encode_descriptor(attribute) + encode_selection(selection) for attribute, selection in items]
    )


def encode_values(values: tuple[Raw, ...]) -> bytes:
    """SEQUENCE OF Data."""
    return axdr.encode_length(len(values)) + b"".join([value.data for value in values])


def encode_block(last: bool, block_number: int, data: bytes) -> bytes:
    """DataBlock-SA: last-block, block-number, raw-data."""
    return bytes((last,)) + encode_uint(block_number, 4, "block number") + encode_octets(data)


def encode_data_or_refusal(result: Raw | DataAccessResult) -> bytes:
    """Get-Data-Result."""
    return b"\x00" + result.data if isinstance(result, Raw) else bytes((1, result))
