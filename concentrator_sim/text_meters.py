"""Meters that tell text, sans-I/O: the readout of IEC 62056-21 in mode C, and P1 telegrams."""

import datetime as dt
from collections.abc import Sequence
from typing import Final
from zoneinfo import ZoneInfo

from concentrator_sim.line_meters import LineMeter
from protocols.iec62056_21.messages import IecReader, OptionSelect, SignOn, block_check
from protocols.iec62056_21.p1 import crc16

READOUT_MODEL: Final = "iec62056-21"
P1_MODEL: Final = "p1-sagemcom-t210-d"
#: Three letters of the maker, and the rate that it offers (9600).
_MAKER: Final = "HES"
_BAUD: Final = "5"
_VIENNA: Final = ZoneInfo("Europe/Vienna")
#: Codes and units of what they tell; energies with all their digits.
_TOLD: Final = (
    ("1-0:1.8.0", "Wh"), ("1-0:2.8.0", "Wh"), ("1-0:3.8.0", "varh"), ("1-0:4.8.0", "varh"),
    ("1-0:1.7.0", "W"), ("1-0:2.7.0", "W"), ("1-0:32.7.0", "V"), ("1-0:31.7.0", "A"),
)  # fmt: skip


class ReadoutLine:
    """Meters on one line, called by their serial number; a call to any is answered where there is only one.

    An option select that asks for anything but the readout ends the conversation.
    """

    def __init__(self, meters: Sequence[LineMeter]) -> None:
        self._meters = {one.serial: one for one in meters}
        self._reader = IecReader()
        self._called: LineMeter | None = None

    def receive(self, data: bytes) -> bytes:
        """See `concentrator_sim.links.Line`."""
        self._reader.feed(data)
        out = b""
        while (message := self._reader.next()) is not None:
            if isinstance(message, SignOn):
                self._called = self._find(message.address)
                if self._called is not None:
                    text = f"/{_MAKER}{_BAUD}{self._called.serial}\r\n"
                    out += self._called.says(text.encode())
            elif isinstance(message, OptionSelect) and self._called is not None:
                if message.mode == "0":
                    out += self._called.says(readout(self._called))
                self._called = None
        return out

    def _find(self, address: str) -> LineMeter | None:
        if not address:
            return next(iter(self._meters.values())) if len(self._meters) == 1 else None
        return self._meters.get(address)


def readout(one: LineMeter) -> bytes:
    """The data block of a meter, with its check."""
    lines = [f"0-0:96.1.0*255({one.serial})", *_lines(one, "*255")]
    block = "".join(f"{line}\r\n" for line in lines).encode() + b"!\r\n\x03"
    return b"\x02" + block + bytes((block_check(block),))


def telegram(one: LineMeter) -> bytes:
    """A P1 telegram of this second, as Austrian meters tell it: totals in Wh and varh, local time."""
    local = dt.datetime.fromtimestamp(one.now, _VIENNA)
    season = "S" if local.dst() else "W"
    lines = [
        f"/{_MAKER}{_BAUD}{one.serial}",
        "",
        f"0-0:96.1.0({one.serial.encode().hex().upper()})",
        f"0-0:1.0.0({local:%y%m%d%H%M%S}{season})",
        *_lines(one, ""),
    ]
    text = "".join(f"{line}\r\n" for line in lines).encode() + b"!"
    return one.says(text + f"{crc16(text):04X}\r\n".encode())


def _lines(one: LineMeter, tail: str) -> list[str]:
    shows = one.shows()
    told = ((code, shows.value(f"{code}*255"), unit) for code, unit in _TOLD)
    return [f"{code}{tail}({value}*{unit})" for code, value, unit in told if value is not None]
