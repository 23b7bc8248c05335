"""A Gurux client over a real socket or line: reads what listens there, the foreign truth for our
server side. Its client is sound where window 1 is used (see README); nothing of it is put right here.
"""

import os
import select
import socket
import tty
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Protocol

from gurux_dlms import GXByteBuffer, GXDLMSClient, GXReplyData
from gurux_dlms.enums import Authentication, InterfaceType, RequestTypes, Security
from gurux_dlms.objects.enums import SecuritySuite
from gurux_dlms.secure import GXDLMSSecureClient

TITLE = b"GRX\x00\x00\x00\x00\x01"
TIMEOUT_S = 10.0


class Refused(Exception):
    """The server refused in good form; ``error`` is the code that it gave."""

    def __init__(self, error: int) -> None:
        super().__init__(str(error))
        self.error = error


def make_client(
    *,
    client_sap: int = 1,
    server_sap: int = 1,
    physical: int = 17,
    width: int = 4,
    hdlc: int | None = None,
    window: int = 1,
    authentication: Authentication = Authentication.NONE,
    secret: bytes | None = None,
    key: bytes | None = None,
    auth_key: bytes | None = None,
    security: Security = Security.NONE,
    suite: int = 0,
    dedicated: bytes | None = None,
    max_pdu: int = 1024,
) -> Any:
    """A client with these settings; ``hdlc`` is the information field in bytes, None the wrapper."""
    address = server_sap
    if hdlc is not None and width > 1:
        address = GXDLMSClient.getServerAddress(server_sap, physical, width)
    client = GXDLMSSecureClient(
        True,
        client_sap,
        address,
        authentication,
        secret,
        InterfaceType.WRAPPER if hdlc is None else InterfaceType.HDLC,
    )
    if hdlc is not None:
        client.hdlcSettings.maxInfoTX = client.hdlcSettings.maxInfoRX = hdlc
        client.hdlcSettings.windowSizeTX = client.hdlcSettings.windowSizeRX = window
        client.settings.serverAddressSize = width
    client.maxReceivePDUSize = max_pdu
    cipher = client.ciphering
    cipher.systemTitle = TITLE
    cipher.security, cipher.securitySuite = security, SecuritySuite(suite)
    if key is not None:
        cipher.blockCipherKey, cipher.authenticationKey = key, auth_key
    cipher.dedicatedKey = dedicated
    cipher.invocationCounter = 1
    return client


class Stream(Protocol):
    """What a conversation needs of a socket; a serial line can have it too."""

    def sendall(self, data: bytes, /) -> None:
        """Send all of it."""

    def recv(self, size: int, /) -> bytes:
        """Something; empty at the end. Raises TimeoutError."""


class SerialLine:
    """A serial device as a `Stream`, raw."""

    def __init__(self, device: str) -> None:
        self._descriptor = os.open(device, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._descriptor)

    def sendall(self, data: bytes, /) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def recv(self, size: int, /) -> bytes:
        if not select.select([self._descriptor], [], [], TIMEOUT_S)[0]:
            raise TimeoutError
        return os.read(self._descriptor, size)

    def close(self) -> None:
        os.close(self._descriptor)


class Connection:
    """One conversation of a Gurux ``client`` over a stream. ``general_blocks`` counts the turns of
    general block transfer."""

    def __init__(self, client: Any, stream: Stream) -> None:
        self.client = client
        self.general_blocks = 0
        self._stream = stream

    def exchange(self, frames: Any) -> Any:
        """Send a request, one frame or several, and give what Gurux made of the whole answer."""
        reply = GXReplyData()
        if isinstance(frames, bytes | bytearray):
            frames = [frames]
        for frame in frames:
            reply = GXReplyData() if not reply.isMoreData() else reply
            self._one(frame, reply)
            while reply.isMoreData():
                self.general_blocks += bool(reply.moreData & RequestTypes.GBT)
                self._one(None if reply.isStreaming() else self.client.receiverReady(reply), reply)
        return reply

    def _one(self, frame: Any, reply: Any) -> None:
        if frame is not None:
            self._stream.sendall(bytes(frame))
        received = GXByteBuffer()
        reply.error = 0
        while not self.client.getData(received, reply):
            data = self._stream.recv(65536)
            if not data:
                raise ConnectionError("the server closed the connection")
            received.set(data)
        if reply.error != 0:
            raise Refused(reply.error)

    def associate(self) -> None:
        """SNRM where there is HDLC, AARQ, and the HLS passes; raises what Gurux raises when they fail."""
        client = self.client
        snrm = client.snrmRequest()
        if snrm:
            client.parseUAResponse(self.exchange(snrm).data)
        client.parseAareResponse(self.exchange(client.aarqRequest()).data)
        if client.authentication > Authentication.LOW:
            answer = self.exchange(client.getApplicationAssociationRequest())
            client.parseApplicationAssociationResponse(answer.data)

    def read(self, item: Any, attribute: int) -> Any:
        """GET of one attribute: the value, which the object takes too."""
        reply = self.exchange(self.client.read(item, attribute))
        return self.client.updateValue(item, attribute, reply.value)

    def read_list(self, pairs: Sequence[tuple[Any, int]]) -> list[Any]:
        """GET with list."""
        values: list[Any] = []
        for frames in self.client.readList(pairs):
            values += self.exchange(frames).value
        return values

    def objects(self) -> Any:
        """The association view."""
        return self.client.parseObjects(self.exchange(self.client.getObjectsRequest()).data, True)

    def release(self) -> None:
        """RLRQ, and DISC where there is HDLC."""
        request = self.client.releaseRequest()
        if request:
            self.exchange(request)
        request = self.client.disconnectRequest()
        if request:
            self.exchange(request)


@contextmanager
def talking(client: Any, port: int | str, *, udp: bool = False) -> Iterator[Connection]:
    """Associated inside, released behind; ``port`` of 127.0.0.1, or a serial device."""
    if isinstance(port, str):
        stream: Any = closing(SerialLine(port))
    elif udp:
        stream = socket.socket(type=socket.SOCK_DGRAM)
        stream.settimeout(TIMEOUT_S)
        stream.connect(("127.0.0.1", port))
    else:
        stream = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
    with stream as opened:
        connection = Connection(client, opened)
        connection.associate()
        yield connection
        connection.release()
