"""One request to a meter and its answer, follow-up frames included: bytes in, bytes and answers out.

DL/T 645 numbers nothing, so an answer is taken for what was asked by its function, its address, its
identifier and, where frames follow, their sequence byte. A late answer to something else is not taken.
Refusals carry no identifier: that a line is quiet before the next request is the business of who owns it.
"""

from typing import Final, NamedTuple

from protocols.dlms.framing import BadFrame
from protocols.dlt645.control import AbnormalAnswer, Control, Function, SwitchCommand
from protocols.dlt645.frame import (
    BROADCAST,
    WILDCARD,
    Dlt645Frame,
    Dlt645Reader,
    address_bytes,
    encode_frame,
)
from protocols.dlt645.identifiers import DataId
from protocols.errors import LocalProtocolError, RemoteProtocolError

_PREAMBLE: Final = 4
_MAX_SEQUENCE: Final = 0xFF
_BAUD: Final = {600: 0x02, 1200: 0x04, 2400: 0x08, 4800: 0x10, 9600: 0x20, 19200: 0x40}
_MINUTE_DIGITS: Final = 10
_KEY: Final = 4


class Request(NamedTuple):
    """What to ask. ``address`` may be shortened by AA from the left; only one meter may then be in reach."""

    address: str
    function: Function
    data: bytes = b""
    di: DataId | None = None

    def __repr__(self) -> str:
        # what is written to a meter may hold its password
        return f"Request({self.address}, {self.function.name}, {self.di})"

    @property
    def is_answered(self) -> bool:
        """False for what goes to all meters."""
        return self.address != BROADCAST and self.function is not Function.BROADCAST_TIME


def read(address: str, di: DataId, parameters: bytes = b"") -> Request:
    """Read one identifier. ``parameters`` go behind it: the number of a load record's blocks, and a time."""
    return Request(_address(address), Function.READ, di.to_wire() + parameters, di)


def read_load_records(address: str, di: DataId, count: int, since: str | None = None) -> Request:
    """Read ``count`` load records, 1 to 255; ``since`` as YYMMDDhhmm in the meter's local time.

    Raises:
        LocalProtocolError: a count or a time that cannot be written so.
    """
    if not 1 <= count <= 0xFF:
        raise LocalProtocolError(f"1 to 255 load records can be asked for, not {count}")
    time = b"" if since is None else _digits(since, _MINUTE_DIGITS)
    return read(address, di, bytes((count,)) + time)


def read_address() -> Request:
    """Ask the only meter on the line for its address."""
    return Request(WILDCARD, Function.READ_ADDRESS)


def write_address(new: str) -> Request:
    """Give the only meter on the line a new address."""
    return Request(WILDCARD, Function.WRITE_ADDRESS, address_bytes(new))


def broadcast_time(local: str) -> Request:
    """Set all clocks on the line, nobody answers. ``local`` as YYMMDDhhmmss.

    Meters take it once a day and only for a few minutes' difference.
    """
    return Request(BROADCAST, Function.BROADCAST_TIME, _digits(local, 12))


def freeze(address: str, when: str = "99999999") -> Request:
    """Freeze at MMDDhhmm, 99 for every one; all nines: now. To `BROADCAST` nobody answers."""
    return Request(_address(address), Function.FREEZE, _digits(when, 8))


def write(address: str, di: DataId, value: bytes, *, password: bytes, operator: bytes) -> Request:
    """Write one identifier: behind it go the password (level and three bytes), the operator's code (four
    bytes), and the value, low byte first.

    Raises:
        LocalProtocolError: a password or code that is not of four bytes.
    """
    return Request(_address(address), Function.WRITE, di.to_wire() + _keys(password, operator) + value)


def switch(address: str, command: SwitchCommand, until: str, *, password: bytes, operator: bytes) -> Request:
    """Open or close the relay; ``until`` as YYMMDDhhmmss in the meter's local time, it may be taken.

    Raises:
        LocalProtocolError: a password or code that is not of four bytes, or a time that cannot be written so.
    """
    told = bytes((command, 0)) + _digits(until, 12)
    return Request(_address(address), Function.SWITCH, _keys(password, operator) + told)


def change_baud(address: str, baud: int) -> Request:
    """Ask for another rate, 600 to 19,200."""
    if baud not in _BAUD:
        raise LocalProtocolError(f"DL/T 645 knows no {baud} baud, but {', '.join(map(str, _BAUD))}")
    return Request(_address(address), Function.CHANGE_BAUD, bytes((_BAUD[baud],)))


class Answer(NamedTuple):
    """What a meter answered: its own address, and the data of all frames without identifier and sequence."""

    address: str
    function: Function
    di: DataId | None
    data: bytes


class Continue(NamedTuple):
    """The answer goes on: send these bytes."""

    data: bytes


class Conversation:
    """One request from `start` to its `Answer`, or to the meter's refusal."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._reader = Dlt645Reader()
        self._control = request.function
        self._sequence = 0
        self._address = request.address
        self._collected = bytearray()
        self._sent = b""
        self.done = False
        self.strays = 0  # frames that were not taken
        self.bad: list[BadFrame] = []

    def start(self) -> bytes:
        """The bytes to send."""
        request = self._request
        self.done = not request.is_answered
        return self._send(request.address, request.function, request.data)

    def again(self) -> bytes:
        """The bytes sent last, when no answer came in time. How often, the session decides."""
        return self._sent

    def receive(self, data: bytes) -> Answer | Continue | AbnormalAnswer | None:
        """What ``data`` brings; None while more is needed. Nothing comes after an answer or a refusal.

        Raises:
            RemoteProtocolError: an answer of more frames than a sequence byte can number.
        """
        self._reader.feed(data)
        while (frame := self._reader.next()) is not None:
            if isinstance(frame, BadFrame):
                self.bad.append(frame)
                del self.bad[:-8]
                continue
            if self.done or not self._is_ours(frame):
                self.strays += 1
                continue
            return self._take(frame)
        return None

    def end(self) -> None:
        """Nothing more comes: what is left of the line is no frame, and told in ``bad``."""
        self._reader.end()
        self.receive(b"")

    def _is_ours(self, frame: Dlt645Frame) -> bool:
        control = frame.control
        if not control.from_meter or control.function is not self._control:
            return False
        if not _matches(self._address, frame.address):
            return False
        if control.abnormal or self._request.di is None:
            return True
        if frame.data[:4] != self._request.di.to_wire():
            return False
        following = self._control is Function.READ_FOLLOWING
        return not following or (len(frame.data) > 4 and frame.data[-1] == self._sequence)

    def _take(self, frame: Dlt645Frame) -> Answer | Continue | AbnormalAnswer:
        if frame.control.abnormal:
            self.done = True
            return AbnormalAnswer(frame.control, frame.data)
        di = self._request.di
        if di is None:
            self._collected += frame.data
        else:
            self._collected += frame.data[4:-1] if self._sequence else frame.data[4:]
        if di is not None and frame.control.more:
            if self._sequence == _MAX_SEQUENCE:
                self.done = True
                raise RemoteProtocolError(f"answer to {di} in more than {_MAX_SEQUENCE + 1} frames")
            self._sequence += 1
            self._control = Function.READ_FOLLOWING
            data = di.to_wire() + bytes((self._sequence,))
            return Continue(self._send(frame.address, self._control, data))
        self.done = True
        return Answer(frame.address, self._request.function, di, bytes(self._collected))

    def _send(self, address: str, function: Function, data: bytes) -> bytes:
        self._address = address
        self._sent = encode_frame(Dlt645Frame(address, Control(function), data, _PREAMBLE))
        return self._sent


def _address(text: str) -> str:
    return bytes(reversed(address_bytes(text))).hex().upper()


def _matches(asked: str, answered: str) -> bool:
    return all(
        asked[at : at + 2] in ("AA", answered[at : at + 2]) and answered[at : at + 2] != "AA"
        for at in range(0, 12, 2)
    )


def _keys(password: bytes, operator: bytes) -> bytes:
    if len(password) != _KEY or len(operator) != _KEY:
        raise LocalProtocolError("password and operator code of DL/T 645 have four bytes each")
    return password + operator


def _digits(text: str, count: int) -> bytes:
    """Decimal digits as they go on the wire, low byte first."""
    if len(text) != count or not (text.isascii() and text.isdigit()):
        raise LocalProtocolError(f"{count} decimal digits are needed, not {text!r}")
    return bytes(reversed(bytes.fromhex(text)))
