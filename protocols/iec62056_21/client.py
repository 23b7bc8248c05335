"""Asks a meter for its readout, or opens HDLC on it (mode E). Sans-I/O: bytes in, events and bytes out.

::

    start -> called -> Identified -> reading -> ReadoutReceived -> done
                                  -> switching -> HdlcFollows   -> done

The line begins at 300 baud, seven bit, even parity. Each `Identified` says which bytes to send and which rate
to take afterwards; behind `HdlcFollows` the line is `protocols.dlms.hdlc`'s, eight bit without parity.
"""

from enum import Enum, auto
from typing import Final, NamedTuple

from protocols.dlms.framing import BadFrame
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.iec62056_21.messages import (
    BAUD,
    NAK,
    Block,
    Identification,
    IecMessage,
    IecReader,
    Mode,
    OptionSelect,
    SignOn,
)

#: How often what came spoilt or not at all is asked for again.
MAX_REPEATS: Final = 3
_HDLC: Final = "2"
_READOUT: Final = "0"


class Want(Enum):
    """What the line is opened for."""

    READOUT = auto()
    HDLC = auto()


class Identified(NamedTuple):
    """The meter answered. Send ``reply`` (it may be empty), then change the line to ``baud``."""

    identification: Identification
    reply: bytes
    baud: int


class ReadoutReceived(NamedTuple):
    """The data sets; ``last`` of the block is False where the meter has more."""

    block: Block


class HdlcFollows(NamedTuple):
    """The meter agreed: what comes from here on is HDLC, ``data`` the first of it."""

    data: bytes


Event = Identified | ReadoutReceived | HdlcFollows


class _State(Enum):
    IDLE = auto()
    CALLED = auto()
    READING = auto()
    SWITCHING = auto()
    DONE = auto()


class ReadoutClient:
    """One opening of the line.

    ``address`` is the meter's device address, empty for the only meter on the line. ``max_baud`` is the
    highest rate that our side can take.
    """

    def __init__(self, address: str = "", want: Want = Want.READOUT, max_baud: int = 19200) -> None:
        if len(address) > 32 or not address.isascii() or any(char in "/!\r\n" for char in address):
            raise LocalProtocolError(f"not a device address of IEC 62056-21: {address!r}")
        self._address = address
        self._want = want
        self._max_baud = max_baud
        self._state = _State.IDLE
        self._reader = IecReader()
        self._raw = bytearray()  # what came while switching: eight-bit HDLC may be behind the echo
        self._option: OptionSelect | None = None
        self._repeats = 0

    @property
    def done(self) -> bool:
        """True behind the last block, and where HDLC follows."""
        return self._state is _State.DONE

    def start(self) -> bytes:
        """The sign-on, to be sent at 300 baud."""
        if self._state is not _State.IDLE:
            raise LocalProtocolError("the meter has been called already")
        self._state = _State.CALLED
        return SignOn(self._address).to_bytes()

    def again(self) -> bytes:
        """What to send when the line fell silent before the answer was whole.

        Raises:
            RemoteProtocolError: it has been asked for often enough.
        """
        self._repeats += 1
        if self._repeats > MAX_REPEATS:
            self._state = _State.DONE
            raise RemoteProtocolError(f"no whole answer after {MAX_REPEATS} repeats")
        self._reader = IecReader()
        self._raw.clear()
        if self._state is _State.CALLED:
            return SignOn(self._address).to_bytes()
        return NAK

    def receive(self, data: bytes) -> list[Event]:
        """What ``data`` brings. The echo of what was sent is passed over, what is spoilt comes `again`.

        Raises:
            RemoteProtocolError: the meter offers no HDLC where that is wanted, or does not confirm it.
        """
        if self._state is _State.SWITCHING:
            return self._switch(data)
        self._reader.feed(data)
        events: list[Event] = []
        while self._state in (_State.CALLED, _State.READING):
            found = self._reader.next()
            if found is None:
                break
            event = None if isinstance(found, BadFrame) else self._message(found)
            if event is not None:
                events.append(event)
        return events

    def _message(self, message: IecMessage) -> Event | None:
        if isinstance(message, Identification) and self._state is _State.CALLED:
            return self._identified(message)
        if isinstance(message, Block) and self._state is _State.READING and message.command is None:
            self._repeats = 0
            if message.last:
                self._state = _State.DONE
            return ReadoutReceived(message)
        return None

    def _identified(self, identification: Identification) -> Identified:
        mode = identification.mode
        if self._want is Want.HDLC:
            if mode is not Mode.E:
                raise RemoteProtocolError(f"the meter offers no HDLC: {identification.text!r}")
            self._option = OptionSelect(_HDLC, self._baud_char(identification), _HDLC)
            self._state = _State.SWITCHING
        else:
            self._state = _State.READING
            if mode in (Mode.A, Mode.B):
                return Identified(identification, b"", identification.baud)
            self._option = OptionSelect("0", self._baud_char(identification), _READOUT)
        return Identified(identification, self._option.to_bytes(), BAUD[self._option.baud_char])

    def _baud_char(self, identification: Identification) -> str:
        limit = min(identification.baud, self._max_baud)
        return max((char for char, baud in BAUD.items() if baud <= limit), default="0")

    def _switch(self, data: bytes) -> list[Event]:
        """Wait for ACK 2 Z 2, which the meter sends with its parity bits, and leave the rest as it is."""
        if self._option is None:
            raise LocalProtocolError("no option was selected")
        self._raw += data
        expected = self._option.to_bytes()
        stripped = bytes(byte & 0x7F for byte in self._raw[: len(expected)])
        if not expected.startswith(stripped[: len(expected)]):
            self._state = _State.DONE
            raise RemoteProtocolError("the meter does not confirm the change to HDLC")
        if len(stripped) < len(expected):
            return []
        self._state = _State.DONE
        return [HdlcFollows(bytes(self._raw[len(expected) :]))]
