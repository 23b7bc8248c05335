"""From bytes on a line to a `Station` and back, sans-I/O: the wrapper and HDLC, as meters' ports have."""

from typing import Protocol

from concentrator_sim.station import Station
from protocols.dlms import wrapper
from protocols.dlms.framing import BadFrame
from protocols.dlms.hdlc import HdlcAddress, HdlcFrame, HdlcReader
from protocols.dlms.hdlc_parameters import LinkParameters
from protocols.dlms.hdlc_server import HdlcServerLink
from protocols.dlms.hdlc_states import Apdu, Connected, Disconnected, LinkRejected, Transmit
from protocols.dlms.wrapper import WrapperReader
from protocols.errors import RemoteProtocolError

#: Pairs of client and server address that one HDLC line remembers; a meter has a handful of clients.
MAX_LINKS = 64


class Line(Protocol):
    """One end of a line: bytes in, bytes out."""

    def receive(self, data: bytes) -> bytes:
        """Bytes from the line; what to answer, empty for nothing. Raises RemoteProtocolError where the line
        cannot go on."""
        ...


class WrapperLine:
    """A TCP connection or a stream of datagrams that carries the wrapper."""

    __slots__ = ("_reader", "_station")

    def __init__(self, station: Station) -> None:
        self._station = station
        self._reader = WrapperReader()

    def receive(self, data: bytes) -> bytes:
        """See `Line`."""
        reader = self._reader
        reader.feed(data)
        out = b""
        while (frame := reader.next()) is not None:
            if isinstance(frame, BadFrame):
                continue  # a strict reader raises instead
            for apdu in self._station.receive(frame.source, frame.destination, frame.apdu):
                out += wrapper.encode(frame.destination, frame.source, apdu)
        return out


class HdlcLine:
    """A serial line, or a TCP connection that replaces one. Frames for other ``physical`` addresses, and for
    logical devices that nobody is, are left to others."""

    __slots__ = ("_limits", "_links", "_physical", "_reader", "_station")

    def __init__(self, station: Station, *, physical: int, limits: LinkParameters) -> None:
        self._station = station
        self._physical = physical
        self._limits = limits
        self._reader = HdlcReader()
        self._links: dict[tuple[HdlcAddress, HdlcAddress], HdlcServerLink] = {}

    def receive(self, data: bytes) -> bytes:
        """See `Line`; bad frames are dropped, as if lost."""
        self._reader.feed(data)
        out = b""
        while (frame := self._reader.next()) is not None:
            if isinstance(frame, HdlcFrame):
                out += self._frame(frame)
        return out

    def _frame(self, frame: HdlcFrame) -> bytes:
        own, peer = frame.destination, frame.source
        if own.lower not in (None, self._physical) or not self._station.knows(own.upper):
            return b""
        link = self._links.get((own, peer))
        if link is None:
            if len(self._links) >= MAX_LINKS:
                return b""
            link = self._links[own, peer] = HdlcServerLink(own, peer, self._limits)
        out = b""
        events = link.receive_frame(frame)
        for event in events:
            match event:
                case Transmit(data):
                    out += data
                case Apdu(unconfirmed=True):
                    pass  # an unconfirmed request has no answer, and no connection that could carry one
                case Apdu(apdu):
                    answers = self._station.receive(peer.upper, own.upper, apdu)
                    replies = [reply for answer in answers for reply in link.send(answer)]
                    out += _sent(replies or link.give_turn())
                case Connected() | Disconnected() | LinkRejected():
                    self._station.drop(peer.upper, own.upper)
        return out


def _sent(events: list[Transmit | Connected | Apdu | Disconnected | LinkRejected]) -> bytes:
    return b"".join([event.data for event in events if isinstance(event, Transmit)])


def datagram(station: Station, data: bytes) -> list[bytes]:
    """One UDP datagram with the wrapper; the datagrams to send back. What is no wrapper gives nothing."""
    reader = WrapperReader()
    reader.feed(data)
    reader.end()
    out = []
    try:
        while (frame := reader.next()) is not None:
            if isinstance(frame, wrapper.WrapperFrame):
                out += [
                    wrapper.encode(frame.destination, frame.source, apdu)
                    for apdu in station.receive(frame.source, frame.destination, frame.apdu)
                ]
    except RemoteProtocolError:
        return out  # UDP has nobody to tell
    return out
