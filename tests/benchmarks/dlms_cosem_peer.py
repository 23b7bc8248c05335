"""dlms-cosem as the benchmark's peer: decoding, and whole read sessions by its own blocking transport.

Business Source licence: installed for the comparison only, run in a process of its own, never a part of the
product. Its logging is turned down to warnings, which makes it several times faster than out of the box.
"""

import datetime as dt
import logging

import peer_night
import structlog
from dlms_cosem import cosem
from dlms_cosem import enumerations as en
from dlms_cosem.client import DlmsClient
from dlms_cosem.cosem.capture_object import CaptureObject
from dlms_cosem.cosem.selective_access import RangeDescriptor
from dlms_cosem.io import BlockingTcpIO, TcpTransport
from dlms_cosem.parsers import ProfileGenericBufferParser
from dlms_cosem.protocol.xdlms import GetResponseNormal
from dlms_cosem.security import HighLevelSecurityGmacAuthentication, NoSecurityAuthentication

from headend.bench import payload, worker

CAPTURE = [
    cosem.CosemAttribute(en.CosemInterface.CLOCK, cosem.Obis(0, 0, 1, 0, 0, 255), 2),
    cosem.CosemAttribute(en.CosemInterface.DATA, cosem.Obis(0, 0, 96, 10, 1, 255), 2),
    *(
        cosem.CosemAttribute(en.CosemInterface.REGISTER, cosem.Obis(1, 0, c, 8, 0, 255), 2)
        for c in (1, 2, 3, 4)
    ),
]
PARSER = ProfileGenericBufferParser(CAPTURE, 15)
BUFFER = cosem.CosemAttribute(en.CosemInterface.PROFILE_GENERIC, cosem.Obis(1, 0, 99, 1, 0, 255), 2)
LOCAL = dt.timezone(dt.timedelta(minutes=payload.EAST_MIN))
RANGE = RangeDescriptor(
    CaptureObject(CAPTURE[0]), payload.FIRST.astimezone(LOCAL), payload.LAST.astimezone(LOCAL)
)


def rows(entries):
    return [(int(entry[0].value.timestamp()), *(column.value for column in entry[1:])) for entry in entries]


def decode(request):
    apdu = payload.get_response(payload.rows(request.get("seed", 1)))

    def step():
        return PARSER.parse_bytes(GetResponseNormal.from_bytes(apdu).data)

    return worker.repeat(step, request["seconds"], payload.fingerprint(rows(step())))


def _sessions(request, client_sap, make):
    ports = request["ports"]
    turn = iter(range(1 << 62))

    def step():
        port = ports[next(turn) % len(ports)]
        client = make(TcpTransport(client_sap, 1, BlockingTcpIO("127.0.0.1", port)))
        with client.session() as session:
            return PARSER.parse_bytes(session.get(BUFFER, RANGE))

    return worker.repeat(step, request["seconds"], payload.fingerprint(rows(step())))


def session(request):
    return _sessions(
        request, 16, lambda transport: DlmsClient(transport, authentication=NoSecurityAuthentication())
    )


def ciphered_session(request):
    keys = request["keys"]

    def make(transport):
        return DlmsClient(
            transport,
            authentication=HighLevelSecurityGmacAuthentication(challenge_length=16),
            encryption_key=bytes.fromhex(keys["encryption"]),
            authentication_key=bytes.fromhex(keys["authentication"]),
            security_suite=0,
            block_transfer=True,
            max_pdu_size=request["max_pdu"],
            client_system_title=bytes.fromhex(keys["client_title"]),
            client_initial_invocation_counter=1,
        )

    return _sessions(request, 1, make)


def night(request):
    """The day of each meter, stored by executemany: one connection and one transaction a meter, in turn."""
    first, last = (dt.datetime.fromisoformat(request[name]).astimezone(LOCAL) for name in ("first", "last"))
    day = RangeDescriptor(CaptureObject(CAPTURE[0]), first, last)

    def read(meter):
        client = DlmsClient(
            TcpTransport(1, 1, BlockingTcpIO(meter["host"], meter["port"])),
            authentication=HighLevelSecurityGmacAuthentication(challenge_length=16),
            encryption_key=bytes.fromhex(meter["encryption"]),
            authentication_key=bytes.fromhex(meter["authentication"]),
            security_suite=0,
            block_transfer=True,
            max_pdu_size=request["max_pdu"],
            client_system_title=bytes.fromhex(request["client_title"]),
            client_initial_invocation_counter=request["counter"],
        )
        with client.session() as session:
            return rows(PARSER.parse_bytes(session.get(BUFFER, day)))

    return peer_night.measure(request, read)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    worker.serve({"decode": decode, "session": session, "ciphered-session": ciphered_session, "night": night})
