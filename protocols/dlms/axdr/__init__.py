"""A-XDR: the COSEM Data type of the xDLMS services, to and from bytes (IEC 61334-6).

A value is a `Data(type, value)`; ``value`` by type:

===============================================  =========================================================
null, don't-care                                 None
boolean                                          bool
integer ... long64-unsigned, enum, delta         int
bcd                                              int, the byte as sent (0..255)
bit-string                                       `BitString` (exact bit count, octets as sent)
octet-string, date-time (12), date (5), time(4)  bytes
visible-string                                   str, one character per byte (ISO 8859-1): none is lost
utf8-string                                      str
float32, float64                                 `Real` (the exact bits, NaN payloads included)
array, structure                                 tuple[Data, ...]
compact-array                                    `CompactArray` (description, contents, expanded elements)
===============================================  =========================================================

Every decoder here gives a value or raises `RemoteProtocolError` with the offset, whatever the bytes. Work and
memory are bounded by the input: an element takes at least a byte, so a count above the bytes left fails at
once. Compact arrays alone can name more elements than bytes; `EXPANSION` bounds them. Nesting ends at
`MAX_DEPTH`.
"""

from protocols.dlms.axdr.build import (
    NULL,
    array,
    bits,
    boolean,
    enum,
    float32,
    float64,
    i8,
    i16,
    i32,
    i64,
    octets,
    structure,
    u8,
    u16,
    u32,
    u64,
    utf8,
    visible,
)
from protocols.dlms.axdr.codec import decode, decode_exact, encode, skip
from protocols.dlms.axdr.compact import EXPANSION, CompactArray, TypeDescription
from protocols.dlms.axdr.contents import decode_length, encode_length
from protocols.dlms.axdr.values import FIXED_SIZE, MAX_DEPTH, BitString, Buffer, Data, DataType, Real

__all__ = [
    "EXPANSION",
    "FIXED_SIZE",
    "MAX_DEPTH",
    "NULL",
    "BitString",
    "Buffer",
    "CompactArray",
    "Data",
    "DataType",
    "Real",
    "TypeDescription",
    "array",
    "bits",
    "boolean",
    "decode",
    "decode_exact",
    "decode_length",
    "encode",
    "encode_length",
    "enum",
    "float32",
    "float64",
    "i8",
    "i16",
    "i32",
    "i64",
    "octets",
    "skip",
    "structure",
    "u8",
    "u16",
    "u32",
    "u64",
    "utf8",
    "visible",
]
