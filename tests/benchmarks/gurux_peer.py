"""gurux-dlms as the benchmark's peer: decoding, and whole read sessions by a plain socket.

GPL: installed for the comparison only, run in a process of its own, never a part of the product.
"""

import datetime as dt
import socket

import peer_night
from gurux_dlms import GXByteBuffer, GXReplyData
from gurux_dlms.enums import Authentication, InterfaceType, Security
from gurux_dlms.objects import GXDLMSClock, GXDLMSData, GXDLMSProfileGeneric, GXDLMSRegister
from gurux_dlms.secure import GXDLMSSecureClient

from headend.bench import payload, worker

OBIS = ["1.0.1.8.0.255", "1.0.2.8.0.255", "1.0.3.8.0.255", "1.0.4.8.0.255"]
LOCAL = dt.timezone(dt.timedelta(minutes=payload.EAST_MIN))
DAY = (payload.FIRST, payload.LAST)


def profile():
    found = GXDLMSProfileGeneric("1.0.99.1.0.255")
    found.addCaptureObject(GXDLMSClock("0.0.1.0.0.255"), 2, 0)
    found.addCaptureObject(GXDLMSData("0.0.96.10.1.255"), 2, 0)
    for obis in OBIS:
        found.addCaptureObject(GXDLMSRegister(obis), 2, 0)
    return found


def plain_client():
    return GXDLMSSecureClient(True, 16, 1, Authentication.NONE, None, InterfaceType.WRAPPER)


def rows(buffer):
    return [(int(row[0].value.timestamp()), *row[1:]) for row in buffer]


def decode(request):
    client, generic = plain_client(), profile()
    day = payload.rows(request.get("seed", 1))
    frame = payload.frame(payload.get_response(day))

    def step():
        reply = GXReplyData()
        if not client.getData(GXByteBuffer(frame), reply) or reply.error:
            raise ValueError(f"not decoded: {reply.error}")
        generic.buffer = []
        client.updateValue(generic, 2, reply.value)
        return generic.buffer

    return worker.repeat(step, request["seconds"], payload.fingerprint(rows(step())))


class Link:
    """One connection, by the rules of gurux' own examples: send, receive until the reply is whole."""

    def __init__(self, client, port, host="127.0.0.1"):
        self.client = client
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def one(self, request, reply):
        self.socket.sendall(bytes(request))
        buffer = GXByteBuffer()
        buffer.set(self.socket.recv(65536))
        while not self.client.getData(buffer, reply):
            buffer.set(self.socket.recv(65536))
        if reply.error:
            raise ValueError(f"error {reply.error}")

    def ask(self, requests):
        reply = GXReplyData()
        for request in requests if isinstance(requests, list) else [requests]:
            reply.clear()
            self.one(request, reply)
            while reply.isMoreData():
                self.one(self.client.receiverReady(reply), reply)
        return reply


def read(client, generic, port, *, high_level, host="127.0.0.1", between=DAY, zone=LOCAL):
    link = Link(client, port, host)
    client.parseAareResponse(link.ask(client.aarqRequest()).data)
    if high_level:
        challenge = link.ask(client.getApplicationAssociationRequest())
        client.parseApplicationAssociationResponse(challenge.data)
    first, last = (t.astimezone(zone).replace(tzinfo=None) for t in between)
    reply = link.ask(client.readRowsByRange(generic, first, last))
    generic.buffer = []
    client.updateValue(generic, 2, reply.value)
    link.ask(client.releaseRequest())
    link.socket.close()
    return generic.buffer


def session(request):
    generic = profile()
    ports = request["ports"]
    turn = iter(range(1 << 62))

    def step():
        return read(plain_client(), generic, ports[next(turn) % len(ports)], high_level=False)

    return worker.repeat(step, request["seconds"], payload.fingerprint(rows(step())))


def ciphered_session(request):
    generic = profile()
    ports, keys = request["ports"], request["keys"]
    turn = iter(range(1 << 62))

    def step():
        client = GXDLMSSecureClient(True, 1, 1, Authentication.HIGH_GMAC, None, InterfaceType.WRAPPER)
        client.maxReceivePDUSize = request["max_pdu"]
        client.ciphering.security = Security.AUTHENTICATION_ENCRYPTION
        client.ciphering.systemTitle = bytes.fromhex(keys["client_title"])
        client.ciphering.blockCipherKey = bytes.fromhex(keys["encryption"])
        client.ciphering.authenticationKey = bytes.fromhex(keys["authentication"])
        client.ciphering.invocationCounter = 1
        return read(client, generic, ports[next(turn) % len(ports)], high_level=True)

    return worker.repeat(step, request["seconds"], payload.fingerprint(rows(step())))


def night(request):
    """The day of each meter, stored by executemany: one connection and one transaction a meter, in turn."""
    generic = profile()
    between = tuple(dt.datetime.fromisoformat(request[name]) for name in ("first", "last"))

    def read_one(meter):
        client = GXDLMSSecureClient(True, 1, 1, Authentication.HIGH_GMAC, None, InterfaceType.WRAPPER)
        client.maxReceivePDUSize = request["max_pdu"]
        client.ciphering.security = Security.AUTHENTICATION_ENCRYPTION
        client.ciphering.systemTitle = bytes.fromhex(request["client_title"])
        client.ciphering.blockCipherKey = bytes.fromhex(meter["encryption"])
        client.ciphering.authenticationKey = bytes.fromhex(meter["authentication"])
        client.ciphering.invocationCounter = request["counter"]
        # gurux takes naive times for those of this machine, and says so to the meter
        return rows(
            read(
                client,
                generic,
                meter["port"],
                high_level=True,
                host=meter["host"],
                between=between,
                zone=None,
            )
        )

    return peer_night.measure(request, read_one)


if __name__ == "__main__":
    worker.serve({"decode": decode, "session": session, "ciphered-session": ciphered_session, "night": night})
