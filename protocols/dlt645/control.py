"""The control byte of DL/T 645-2007: who sends, whether it went well, whether more follows, what it is about.

::

    D7 from the meter | D6 abnormal | D5 more frames follow | D4-D0 function
"""

from enum import IntEnum, IntFlag
from typing import Final

from protocols.errors import PeerRefused


class Function(IntEnum):
    """Functions of the standard, and of its supplement for meters with a security module (03, 1C)."""

    SECURITY = 0x03
    BROADCAST_TIME = 0x08
    READ = 0x11
    READ_FOLLOWING = 0x12
    READ_ADDRESS = 0x13
    WRITE = 0x14
    WRITE_ADDRESS = 0x15
    FREEZE = 0x16
    CHANGE_BAUD = 0x17
    CHANGE_PASSWORD = 0x18
    RESET_DEMAND = 0x19
    RESET_METER = 0x1A
    RESET_EVENTS = 0x1B
    SWITCH = 0x1C


class SwitchCommand(IntEnum):
    """What function `Function.SWITCH` asks of a relay (N1)."""

    TRIP = 0x1A
    ALLOW_CLOSING = 0x1B  # the customer pushes the button
    CLOSE = 0x1C


class Control(int):
    """A control byte. Any value is one; what no function is known for has ``function`` None."""

    @property
    def from_meter(self) -> bool:
        """D7."""
        return bool(self & 0x80)

    @property
    def abnormal(self) -> bool:
        """D6: the meter refuses, its data is the error word."""
        return bool(self & 0x40)

    @property
    def more(self) -> bool:
        """D5: a following frame must be asked for."""
        return bool(self & 0x20)

    @property
    def code(self) -> int:
        """D4-D0."""
        return self & 0x1F

    @property
    def function(self) -> Function | None:
        """What it is about, None for reserved codes."""
        try:
            return Function(self.code)
        except ValueError:
            return None

    @property
    def name(self) -> str:
        """For people: ``read answer``, ``read abnormal answer``, ``reserved function 0x1f``."""
        function = self.function
        name = f"reserved function 0x{self.code:02x}" if function is None else _NAMES[function]
        if not self.from_meter:
            return name
        return f"{name} abnormal answer" if self.abnormal else f"{name} answer"

    def __str__(self) -> str:
        return f"0x{int(self):02X} {self.name}"

    __repr__ = __str__


_NAMES: Final = {function: function.name.lower().replace("_", " ") for function in Function}


class ErrorWord(IntFlag):
    """The byte of an abnormal answer; several bits may be set."""

    OTHER = 0x01
    NO_SUCH_DATA = 0x02
    NOT_AUTHORISED = 0x04
    BAUD_NOT_CHANGEABLE = 0x08
    TOO_MANY_YEAR_ZONES = 0x10
    TOO_MANY_DAY_PERIODS = 0x20
    TOO_MANY_TARIFFS = 0x40

    @property
    def names(self) -> tuple[str, ...]:
        """The bits in words."""
        return tuple(_ERRORS[bit] for bit in ErrorWord if bit in self)


_ERRORS: Final = {
    ErrorWord.OTHER: "other error",
    ErrorWord.NO_SUCH_DATA: "no such data",
    ErrorWord.NOT_AUTHORISED: "wrong password or not authorised",
    ErrorWord.BAUD_NOT_CHANGEABLE: "baud rate cannot be changed",
    ErrorWord.TOO_MANY_YEAR_ZONES: "too many time zones of the year",
    ErrorWord.TOO_MANY_DAY_PERIODS: "too many periods of the day",
    ErrorWord.TOO_MANY_TARIFFS: "too many tariffs",
}


class AbnormalAnswer(PeerRefused):
    """The meter understood and said no. ``word`` is its error byte, None where it sent none."""

    def __init__(self, control: Control, data: bytes) -> None:
        self.control = control
        self.word = ErrorWord(data[0] & 0x7F) if data else None
        told = "without an error word" if self.word is None else f"0x{data[0]:02x}"
        names = "" if not self.word else f" ({', '.join(self.word.names)})"
        super().__init__(f"{control.name}: {told}{names}")
