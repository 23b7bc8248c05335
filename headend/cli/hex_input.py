"""Reads what an engineer has at hand: hex in any dress, or binary.

Text is hex when it has no control characters: digits in pairs with or without spaces, commas, ``0x`` or
colons between them; comments behind ``#``, ``//`` and ``;``; dumps with offsets and a column of characters
(``xxd``, ``hexdump -C``, ``od -t x1z``, ``tcpdump -X``, Wireshark); base64 that is nothing but that.
A telegram of P1 or a readout of IEC 62056-21 is text, but its own:
it is taken as it is. A blank line ends a message. Without one, lines go together, unless each
of them is a whole APDU by itself.
"""

import base64
import re
from typing import Final, NamedTuple

from protocols.decode import is_text
from protocols.dlms import apdu
from protocols.errors import RemoteProtocolError

_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f-\xff]")
_COMMENT: Final = re.compile(r"(?:#|//|;).*")
_OFFSET: Final = re.compile(r"\s*(?:0x)?([0-9A-Fa-f]{4,16})(:\s{0,2}|\s{2,})(?=[0-9A-Fa-f]{2})")
#: The last line of a dump: an offset alone, with as many digits as hexdump and od write.
_END: Final = re.compile(r"\s*([0-9A-Fa-f]{6,8})\s*")
#: od writes one space behind its offset; the column of characters tells it from a line of hex.
_OD: Final = re.compile(r"[0-9A-Fa-f]{6,8} ((?:[0-9A-Fa-f]{2} )+)\s*>.*<")
#: What tcpdump writes above a packet's bytes.
_PACKET: Final = re.compile(r"\d\d:\d\d:\d\d\.\d{6} \S")
_BASE64: Final = re.compile(
    rb"(?=[^\s]*[g-zG-Z+/])(?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
)
_SHORTEST_BASE64: Final = 16
_BETWEEN: Final = re.compile(r"0[xX]|\\x|[\s,:\-|{}\[\]\"']+")
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2})*")
#: Framings that may go on in the next piece: HDLC and M-Bus have segments and checks.
_SEGMENTED: Final = (b"\x7e", b"\x68")


class Piece(NamedTuple):
    """Bytes that belong together, ``offset`` bytes behind the start of the input."""

    offset: int
    data: bytes


class BadLine(NamedTuple):
    """A line that is no hex: its number from 1, how many bytes came before it, and why."""

    number: int
    offset: int
    reason: str


def read(raw: bytes) -> tuple[list[Piece], list[BadLine]]:
    """The pieces of an input, and the lines of it that are no hex. Never raises."""
    if raw.startswith(b"\xef\xbb\xbf"):
        raw = raw[3:]
    if _CONTROL.search(_without_comments(raw)) or is_text(raw):
        return [Piece(0, raw)], []
    if (data := _base64(raw)) is not None:
        return [Piece(0, data)], []
    return _text(raw.decode("utf-8", "replace"))


def _base64(raw: bytes) -> bytes | None:
    """The bytes, where all of it is base64 and no hex."""
    packed = b"".join(raw.splitlines())
    if len(packed) < _SHORTEST_BASE64 or _BASE64.fullmatch(packed) is None:
        return None
    return base64.b64decode(packed)


def _without_comments(raw: bytes) -> bytes:
    """Comments may be in any language; binary has bytes that no text has, and they stay."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw
    return "\n".join(_COMMENT.sub("", line) for line in text.splitlines()).encode()


def _text(text: str) -> tuple[list[Piece], list[BadLine]]:
    chunks: list[list[bytes]] = [[]]
    bad: list[BadLine] = []
    total = 0
    dumped = 0  # bytes of the present dump: what its next line's offset must be
    in_dump = False
    for number, line in enumerate(text.splitlines(), 1):
        content = _COMMENT.sub("", line)
        if not content.strip():
            if not line.strip():  # a line that is only a comment separates nothing
                chunks.append([])
                dumped = 0
            continue
        if _PACKET.match(line):
            chunks.append([])
            dumped = 0
            continue
        end = _END.fullmatch(line)
        if end is not None and in_dump and int(end[1], 16) == dumped:
            continue
        dump = _dump_line(line, dumped)
        in_dump = dump is not None
        data = _bytes(content if dump is None else dump)
        if data is None:
            bad.append(BadLine(number, total, _why(content)))
            chunks.append([])
            continue
        dumped = len(data) if dump is not None and _offset_of(line) == 0 else dumped + len(data)
        chunks[-1].append(data)
        total += len(data)
    return _pieces(chunks), bad


def _offset_of(line: str) -> int | None:
    found = _OFFSET.match(line)
    return None if found is None else int(found[1], 16)


def _dump_line(line: str, dumped: int) -> str | None:
    """The hex column of a dump's line; None where the line begins with no offset that fits."""
    if (od := _OD.match(line)) is not None:
        return od[1]
    found = _OFFSET.match(line)
    if found is None or int(found[1], 16) not in (0, dumped):
        return None
    rest = line[found.end() :]
    if found[2].startswith(":"):
        return rest.split("  ", 1)[0]
    return re.split(r"\s{3,}|\s+\|", rest, maxsplit=1)[0]


def _bytes(content: str) -> bytes | None:
    digits = _BETWEEN.sub(" ", content).split()
    if len(digits) > 1 and all(len(digit) == 1 for digit in digits):
        return None
    joined = "".join(digits)
    return bytes.fromhex(joined) if _HEX.fullmatch(joined) else None


def _why(content: str) -> str:
    other = re.search(r"[^0-9A-Fa-f]", _BETWEEN.sub("", content))
    return "an odd number of hex digits" if other is None else f"{other[0]!r} is no hex digit"


def _pieces(chunks: list[list[bytes]]) -> list[Piece]:
    pieces: list[Piece] = []
    offset = 0
    for lines in chunks:
        separate = len(lines) > 1 and all(_is_apdu(line) for line in lines)
        for data in lines if separate else [b"".join(lines)]:
            if not data:
                continue
            last = pieces[-1].data if pieces else b""
            if last.startswith(_SEGMENTED) and data.startswith(_SEGMENTED):
                pieces[-1] = Piece(pieces[-1].offset, last + data)
            else:
                pieces.append(Piece(offset, data))
            offset += len(data)
    return pieces


def _is_apdu(data: bytes) -> bool:
    try:
        apdu.decode_strict(data)
    except RemoteProtocolError:
        return False
    return True
