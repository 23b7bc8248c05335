"""A Gurux client on our server's HDLC link: its bytes, our bytes, segments both ways.

Window 1 only: the release in the lock fails on its own error in reading a window of several frames.
"""

import pytest
from gurux_dlms import GXByteBuffer, GXDLMSClient, GXReplyData
from gurux_dlms.enums import Authentication, DataType, InterfaceType
from gurux_dlms.objects import GXDLMSData

from protocols.dlms.hdlc import PUBLIC_CLIENT, server_address
from protocols.dlms.hdlc_parameters import LinkParameters
from protocols.dlms.hdlc_server import HdlcServerLink
from protocols.dlms.hdlc_states import Apdu, Connected, Disconnected, Event, State, Transmit

pytestmark = pytest.mark.interop

AARE = bytes.fromhex(  # from the captured session in vectors/framing/dlms_cosem.json
    "6129a109060760857405080101a203020100a305a103020100be10040e0800065f1f0400001e1d04c80007"
)


class Session:
    def __init__(self, size: int, width: int) -> None:
        self.client = GXDLMSClient(
            True,
            16,
            GXDLMSClient.getServerAddress(1, 17, width),
            Authentication.NONE,
            None,
            InterfaceType.HDLC,
        )
        self.client.hdlcSettings.maxInfoTX = self.client.hdlcSettings.maxInfoRX = size
        self.link = HdlcServerLink(
            server_address(1, 17, width), PUBLIC_CLIENT, LinkParameters(200, 200, 7, 7)
        )
        self.events: list[Event] = []

    def send(self, frame: bytes) -> list[Event]:
        events = self.link.receive(bytes(frame))
        self.events += [event for event in events if not isinstance(event, Transmit)]
        return events

    def request(self, frames: list[bytes]) -> list[Event]:
        """All frames of one request; our answer to the last."""
        for frame in frames[:-1]:
            self.reply(self.send(frame))
        return self.send(frames[-1])

    def reply(self, events: list[Event], answer: bytes | None = None) -> GXReplyData:
        """Give our frames to the Gurux client, and its polls to us, until it has the whole answer."""
        reply = GXReplyData()
        if answer is not None:
            events = events + self.link.send(answer)
        for _ in range(100):
            for event in events:
                if isinstance(event, Transmit):
                    self.client.getData(GXByteBuffer(event.data), reply)
            if not reply.isMoreData():
                return reply
            events = self.send(self.client.receiverReady(reply))
        raise AssertionError("the client never has enough")


@pytest.mark.parametrize("width", [2, 4])
@pytest.mark.parametrize("size", [32, 64, 128, 200])
def test_session(size: int, width: int):
    session = Session(size, width)
    client = session.client
    client.parseUAResponse(session.reply(session.send(client.snrmRequest())).data)
    assert session.events == [Connected(LinkParameters(size, size, 1, 1))]
    client.parseAareResponse(session.reply(session.request(client.aarqRequest()), AARE).data)

    for length in (1, 100, 127):
        value = bytes(range(length))
        events = session.request(client.read(GXDLMSData("0.0.42.0.0.255"), 2))
        request = session.events[-1]
        assert isinstance(request, Apdu)
        assert request.data[:2] == b"\xc0\x01"
        answer = b"\xc4\x01" + request.data[2:3] + b"\x00\x09" + bytes([length]) + value
        assert bytes(session.reply(events, answer).value) == value

        register = GXDLMSData("0.0.42.0.0.255")
        register.setDataType(2, DataType.OCTET_STRING)
        register.value = value
        events = session.request(client.write(register, 2))
        request = session.events[-1]
        assert isinstance(request, Apdu)
        assert request.data.endswith(b"\x09" + bytes([length]) + value)
        assert session.reply(events, b"\xc5\x01" + request.data[2:3] + b"\x00").error == 0

    session.reply(session.send(client.disconnectRequest()))
    assert session.events[-1] == Disconnected("by the client")
    assert session.link.state is State.DISCONNECTED
