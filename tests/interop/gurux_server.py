"""A meter made of Gurux' code, behind a TCP port or a pty: the foreign truth for our head-end.

The release in the lock (see README) has a server class that cannot finish one exchange. Gurux' parts do the
work that has to be foreign: HDLC and wrapper framing, the AARQ, ciphering both ways, the HLS functions, A-XDR
of every value, PDUs and their blocks. What is put right here is glue, each place with its reason; nothing of
it encodes a value, enciphers a byte or cuts a block.
"""

import datetime as dt
import os
import select
import socket
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from gurux_dlms import GXByteBuffer, GXDateTime, GXDLMSServer
from gurux_dlms._GXAPDU import _GXAPDU
from gurux_dlms.AesGcmParameter import AesGcmParameter
from gurux_dlms.ConnectionState import ConnectionState
from gurux_dlms.enums import (
    AccessMode,
    Authentication,
    Command,
    Conformance,
    DataType,
    ErrorCode,
    InterfaceType,
    MethodAccessMode,
    RequestTypes,
    Security,
    SourceDiagnostic,
    Unit,
)
from gurux_dlms.GXCiphering import GXCiphering
from gurux_dlms.GXDLMS import GXDLMS
from gurux_dlms.GXDLMSLNParameters import GXDLMSLNParameters
from gurux_dlms.GXDLMSSettings import GXDLMSSettings
from gurux_dlms.GXSecure import GXSecure
from gurux_dlms.GXServerReply import GXServerReply
from gurux_dlms.internal._GXCommon import _GXCommon
from gurux_dlms.internal._GXDataInfo import _GXDataInfo
from gurux_dlms.objects import (
    GXDLMSAssociationLogicalName,
    GXDLMSClock,
    GXDLMSData,
    GXDLMSProfileGeneric,
    GXDLMSRegister,
)
from gurux_dlms.objects.enums import SecuritySuite

ENERGIES = ("1.0.1.8.0.255", "1.0.2.8.0.255", "1.0.3.8.0.255", "1.0.4.8.0.255")
PROFILE = "1.0.99.1.0.255"
START = dt.datetime(2026, 3, 10, tzinfo=dt.UTC)
CLOCK = START + dt.timedelta(days=3, hours=7, minutes=11, seconds=5)
PERIOD = dt.timedelta(minutes=15)
TITLE = b"GRX\x00\x00\x00\x12\x34"
REGISTERS = tuple((12_048_950 * (i + 1), 10 ** (i - 1)) for i in range(4))  # raw value, factor
PUBLIC_CLIENT = 16
EVENT_LOG, FAILURE_LOG = "0.0.99.98.0.255", "1.0.99.97.0.255"
#: Stamps and codes; stamps of the ends and durations in seconds; bits.
EVENTS = [(START + dt.timedelta(hours=n), code) for n, code in enumerate((1, 2, 0, 255, 6, 200))]
FAILURES = [(START + dt.timedelta(hours=1), 3600), (START + dt.timedelta(hours=9), 0)]
ALARMS = 0b1000_0010
LAST_COUNTER = 70_000
LONG_TEXT = bytes(i % 251 for i in range(3000))
DEVICE_NAME = b"GRX0000000001234"


def row(number: int) -> tuple[dt.datetime, int, int, int, int, int]:
    """Row ``number`` of the load profile: stamp of its end, status, four energies. Zeros are among them."""
    return (
        START + (number + 1) * PERIOD,
        number % 2,
        1000 * number,
        7 * number,
        4_000_000_000 + number,
        number,
    )


class Reply(GXServerReply):  # type: ignore[misc]
    """The release's reply lacks the setters that its server calls."""

    def setReply(self, value: Any) -> None:
        self.reply = value

    def getConnectionInfo(self) -> None:
        return None

    def getCount(self) -> int:
        return int(self.count)

    def setCount(self, value: int) -> None:
        self.count = value


class GuruxMeter(GXDLMSServer):  # type: ignore[misc]
    """One logical device. ``max_pdu`` in bytes; ``hdlc`` the longest information field in both directions.

    ``key`` (16 or 32 bytes), ``auth_key`` and ``suite`` arm ciphering; ``general`` lets it answer in
    general-glo, ``public`` lets client SAP 16 in without. ``counters`` are those of the client's messages,
    ``faults`` collects what went wrong inside, for a test to look at.
    """

    def __init__(
        self,
        *,
        hdlc: int | None = None,
        authentication: Authentication = Authentication.NONE,
        secret: bytes = b"",
        key: bytes | None = None,
        auth_key: bytes | None = None,
        suite: int = 0,
        max_pdu: int = 1024,
        rows: int = 96 * 3,
        general: bool = False,
        lists: bool = True,
        public: bool = False,
    ) -> None:
        self._inside = False
        super().__init__(True, InterfaceType.WRAPPER if hdlc is None else InterfaceType.HDLC)
        self.mechanism, self.secret = authentication, secret
        self.faults: list[Exception] = []
        self.selections: list[tuple[int, Any]] = []
        self.requests: list[int] = []
        self.counters: list[int] = []
        self.transfers: list[dict[int, bytes]] = []
        self.unwrap: Callable[[bytes], bytes] = bytes
        self.public = public
        settings = self.settings
        settings.maxServerPDUSize = max_pdu
        settings.proposedConformance &= ~Conformance.GENERAL_PROTECTION
        if general:
            settings.proposedConformance |= Conformance.GENERAL_PROTECTION
        if not lists:
            settings.proposedConformance &= ~Conformance.MULTIPLE_REFERENCES
        if key is not None:
            settings.cipher = GXCiphering(TITLE)
            settings.cipher.blockCipherKey, settings.cipher.authenticationKey = key, auth_key
            settings.cipher.securitySuite = SecuritySuite(suite)
        # Names that the release's handlers use and its settings do not have.
        settings.gbtWndowSize = 1
        settings.meter = self
        self.info.getCipherIndex = lambda: 0  # a ciphered request in segments is taken from its start
        settings.getMaxPduSize = lambda: settings.maxPduSize
        settings.setConnected = lambda value: setattr(settings, "connected", value)
        self._info_field = 128 if hdlc is None else hdlc
        self._build(rows)
        self.initialize()

    # ---- objects ------------------------------------------------------------------------------------

    def _build(self, rows: int) -> None:
        clock = GXDLMSClock("0.0.1.0.0.255")
        clock.time = GXDateTime(CLOCK)
        name = GXDLMSData("0.0.42.0.0.255")
        name.value = DEVICE_NAME
        name.setDataType(2, DataType.OCTET_STRING)
        long_text = GXDLMSData("0.0.96.1.9.255")
        long_text.value = LONG_TEXT
        long_text.setDataType(2, DataType.OCTET_STRING)
        status = GXDLMSData("0.0.96.10.1.255")
        status.value = 0
        status.setDataType(2, DataType.UINT8)
        counter = GXDLMSData("0.0.43.1.0.255")
        counter.value = LAST_COUNTER
        counter.setDataType(2, DataType.UINT32)
        energies = []
        for obis, (raw, factor) in zip(ENERGIES, REGISTERS, strict=True):
            register = GXDLMSRegister(obis)
            register.value, register.scaler = raw, 1  # getValue divides by the scaler in binary floats
            register.wire_scaler = factor
            register.unit = Unit.ACTIVE_ENERGY if obis[4] in "12" else Unit.REACTIVE_ENERGY
            register.setDataType(2, DataType.UINT32)
            energies.append(register)
        profile = GXDLMSProfileGeneric(PROFILE)
        profile.capturePeriod = int(PERIOD.total_seconds())
        profile.addCaptureObject(clock, 2, 0)
        profile.addCaptureObject(status, 2, 0)
        for register in energies:
            profile.addCaptureObject(register, 2, 0)
        for number in range(rows):
            stamp, *values = row(number)
            profile.buffer.append([GXDateTime(stamp), *values])
        profile.entriesInUse = profile.profileEntries = rows
        association = GXDLMSAssociationLogicalName()
        events = _events(clock)
        for item in (clock, name, long_text, counter, status, *energies, profile, *events, association):
            self.items.append(item)
            association.objectList.append(item)

    def _encoded(self, e: Any) -> bytes:
        """The attribute as Gurux encodes it; selections, which its own code cannot do, are made here."""
        target, index = e.target, e.index
        buffer = GXByteBuffer()
        if isinstance(target, GXDLMSProfileGeneric) and index == 2:
            table = target.buffer
            if e.selector == 1:
                _, low, high, _ = e.parameters
                self.selections.append((1, (_moment(low), _moment(high))))
                table = [r for r in table if _moment(low) <= r[0].value <= _moment(high)]
            elif e.selector == 2:
                first, last = int(e.parameters[0]), int(e.parameters[1])
                self.selections.append((2, (first, last)))
                table = table[first - 1 : last or None]
            plain = SimpleNamespace(rowEndIndex=0, rowBeginIndex=0)
            return bytes(target.getData(self.settings, plain, table, target.captureObjects))
        if isinstance(target, GXDLMSRegister) and index == 3:
            target.scaler = target.wire_scaler
        try:
            value = target.getValue(self.settings, e)
        finally:
            if isinstance(target, GXDLMSRegister):
                target.scaler = 1
        GXDLMS.appendData(self.settings, target, index, buffer, value)
        return bytes(buffer.array())

    # ---- what Gurux asks the application --------------------------------------------------------------

    def isTarget(self, server: int, client: int) -> bool:
        return True

    def onValidateAuthentication(self, authentication: int, password: Any) -> SourceDiagnostic:
        if self.settings.clientAddress == PUBLIC_CLIENT and self.public:
            return SourceDiagnostic.NONE
        if authentication != self.mechanism:
            return SourceDiagnostic.AUTHENTICATION_MECHANISM_NAME_NOT_RECOGNISED
        if authentication == Authentication.LOW and bytes(password or b"") != self.secret:
            return SourceDiagnostic.AUTHENTICATION_FAILURE
        return SourceDiagnostic.NONE

    def onGetAttributeAccess(self, e: Any) -> AccessMode:
        # The release's `list(e)` and nested calls fail before it encodes: hand it the bytes.
        if not self._inside:  # while it encodes the object list it asks again, for the access rights
            e.server, e.isSkipMaxPduSize = self, True
            self._inside = True
            try:
                e.value, e.handled, e.byteArray = self._encoded(e), True, True
            finally:
                self._inside = False
        return AccessMode.READ

    def onGetMethodAccess(self, e: Any) -> MethodAccessMode:
        return MethodAccessMode.ACCESS

    def onFindObject(self, kind: Any, sn: int, ln: str) -> None:
        # Its refusal of an object that is not there takes the invoke id from the wrong one of two names.
        self.settings.invokeId = self.settings.invokeID

    def onPreRead(self, args: Any) -> None: ...
    def onPostRead(self, *args: Any) -> None: ...
    def notifyRead(self) -> None: ...
    def onConnected(self, info: Any) -> None: ...
    def onDisconnected(self, info: Any) -> None: ...
    def onInvalidConnection(self, info: Any) -> None: ...

    def getTransaction(self) -> Any:
        return self.transaction

    def setTransaction(self, value: Any) -> None:
        if value is not None:
            value.setData = lambda data: setattr(value, "data", data)
        self.transaction = value

    # ---- the release's exchanges that cannot end ---------------------------------------------------------

    def handleSnrmRequest(self, data: Any) -> None:
        """Its own reads limits from None."""
        limits = self.settings.hdlc
        limits.maxInfoRX = limits.maxInfoTX = 128
        limits.windowSizeRX = limits.windowSizeTX = 1
        GXDLMS.parseSnrmUaResponse(data, limits)
        limits.maxInfoRX = min(limits.maxInfoRX, self._info_field)
        limits.maxInfoTX = min(limits.maxInfoTX, self._info_field)
        # It sends one frame at a time, and counts wrongly when it gets a window of several.
        limits.windowSizeRX = limits.windowSizeTX = 1
        self.reset(True)
        self._write_limits()
        self.settings.connected = ConnectionState.HDLC

    def _write_limits(self) -> None:
        limits, out = self.settings.hdlc, self.replyData
        out.set(b"\x81\x80\x00\x05")
        GXDLMS.appendHdlcParameter(out, limits.maxInfoTX)
        out.setUInt8(6)
        GXDLMS.appendHdlcParameter(out, limits.maxInfoRX)
        for number, size in ((7, limits.windowSizeTX), (8, limits.windowSizeRX)):
            out.setUInt8(number)
            out.setUInt8(4)
            out.setUInt32(size)
        out.setUInt8(len(out) - 3, 2)

    def generateDisconnectRequest(self) -> None:
        """Its own reads limits from None. A UA to DISC needs none."""

    def aare(self, result: int, diagnostic: int, error: Any) -> bytes:
        """Its own stops at the system title, and writes wrong lengths around it and around the challenge."""
        settings = self.settings
        ciphered = settings.cipher is not None and settings.cipher.security != Security.NONE
        body = bytes.fromhex("a109060760857405080103" if ciphered else "a109060760857405080101")
        body += bytes([0xA2, 3, 2, 1, result, 0xA3, 5, 0xA1, 3, 2, 1, diagnostic])
        if settings.cipher is not None:
            body += b"\xa4\x0a\x04\x08" + bytes(settings.cipher.systemTitle)
        if settings.authentication > Authentication.LOW:
            challenge = bytes(settings.stoCChallenge)
            body += bytes.fromhex("880207808907608574050802") + bytes([settings.authentication])
            body += bytes([0xAA, 2 + len(challenge), 0x80, len(challenge)]) + challenge
        information = bytes(error.array()) if error is not None else self.information()
        body += bytes([0xBE, 2 + len(information), 4, len(information)]) + information
        return bytes([0x61, len(body)]) + body

    def information(self) -> bytes:
        """InitiateResponse, ciphered where the client's was. Gurux' own forgets the suite and to count on."""
        settings, cipher = self.settings, self.settings.cipher
        security = Security.NONE if cipher is None else cipher.security
        if cipher is not None:
            cipher.security = Security.NONE
        plain = bytes(_GXAPDU.getUserInformation(settings, cipher))
        if cipher is None or security == Security.NONE:
            return plain
        cipher.security = security
        p = AesGcmParameter(
            Command.GLO_INITIATE_RESPONSE,
            cipher.systemTitle,
            cipher.blockCipherKey,
            cipher.authenticationKey,
        )
        p.security, p.securitySuite = security, cipher.securitySuite
        p.invocationCounter = cipher.invocationCounter
        cipher.invocationCounter += 1
        return bytes(GXCiphering.encrypt(p, plain))

    def handleReleaseRequest(self, data: Any) -> None:
        """Its RLRE says one byte too few, and in HDLC it writes the LLC bytes at the wrong place."""
        if self.settings.interfaceType == InterfaceType.HDLC:
            self.replyData.set(_GXCommon.LLC_REPLY_BYTES)
        information = self.information()
        body = b"\x80\x01\x00" + bytes([0xBE, 2 + len(information), 4, len(information)]) + information
        self.replyData.set(bytes([0x63, len(body)]) + body)

    def handle_method(self, data: Any) -> None:
        """ACTION: reply_to_HLS_authentication and key_transfer alone; its own stops at an ``int()`` of the
        parameters, and its unwrapping of keys at an error of its own: ``unwrap`` is the test's."""
        data.getUInt8()
        invoke = data.getUInt8()
        self.settings.updateInvokeId(invoke)
        class_id = data.getUInt16()
        data.position = data.position + 6
        method = data.getUInt8()
        given = _GXCommon.getData(self.settings, data, _GXDataInfo()) if data.getUInt8() else b""
        out, error = GXByteBuffer(), ErrorCode.OK
        answer, new = None, {}
        if (class_id, method) == (15, 1):
            answer = self.prove(bytes(given))
        elif (class_id, method) == (64, 2):
            new = {int(key_id): self.unwrap(bytes(wrapped)) for key_id, wrapped in given}
        if new:
            self.transfers.append(new)
            out.setUInt8(0)
        elif answer is None:
            error = ErrorCode.READ_WRITE_DENIED
            out.setUInt8(0)
        else:
            out.set(b"\x01\x00\x09" + bytes([len(answer)]) + answer)
            self.settings.connected |= ConnectionState.DLMS
        GXDLMS.getLNPdu(
            GXDLMSLNParameters(self.settings, invoke, Command.METHOD_RESPONSE, 1, None, out, error),
            self.replyData,
        )
        # from here on: the answer is under the keys of before
        if new:
            cipher = self.settings.cipher
            cipher.blockCipherKey = new.get(0, cipher.blockCipherKey)
            cipher.authenticationKey = new.get(2, cipher.authenticationKey)

    def prove(self, proof: bytes) -> bytes | None:
        """The answer to the client's proof by Gurux' HLS functions, None when the proof is wrong."""
        settings, cipher = self.settings, self.settings.cipher
        to_server, to_client = bytes(settings.ctoSChallenge), bytes(settings.stoCChallenge)
        theirs = settings.sourceSystemTitle
        if settings.authentication == Authentication.HIGH_GMAC:
            counter = int.from_bytes(proof[1:5], "big")
            expected = GXSecure.secure(settings, cipher, counter, to_client, theirs)
            answer = GXSecure.secure(
                settings, cipher, cipher.invocationCounter, to_server, cipher.systemTitle
            )
            cipher.invocationCounter += 1
        elif settings.authentication == Authentication.HIGH_SHA256:
            theirs, ours = bytes(theirs), bytes(cipher.systemTitle)
            expected = GXSecure.secure(
                settings, cipher, 0, None, self.secret + theirs + ours + to_client + to_server
            )
            answer = GXSecure.secure(
                settings, cipher, 0, None, self.secret + ours + theirs + to_server + to_client
            )
        else:
            expected = GXSecure.secure(settings, cipher, 0, to_client, self.secret)
            answer = GXSecure.secure(settings, cipher, 0, to_server, self.secret)
        return bytes(answer) if bytes(expected) == proof else None

    def handleCommand(self, cmd: int, data: Any, sr: Any) -> Any:
        self.requests.append(int(cmd))
        try:
            if cmd != Command.METHOD_REQUEST:
                return super().handleCommand(cmd, data, sr)
            self.handle_method(data)
            if self.settings.interfaceType == InterfaceType.WRAPPER:
                return GXDLMS.getWrapperFrame(self.settings, cmd, self.replyData)
            return GXDLMS.getHdlcFrame(self.settings, 0, self.replyData)
        except Exception as exc:
            self.faults.append(exc)
            raise


def _events(clock: GXDLMSClock) -> list[Any]:
    """Two event logs with the objects that they capture, and an alarm register."""
    code = GXDLMSData("0.0.96.11.0.255")
    code.value = 0
    code.setDataType(2, DataType.UINT8)
    duration = GXDLMSRegister("0.0.96.7.19.255")
    duration.value, duration.scaler, duration.wire_scaler, duration.unit = 0, 1, 1, Unit.SECOND
    duration.setDataType(2, DataType.UINT32)
    alarms = GXDLMSData("0.0.97.98.0.255")
    alarms.value = ALARMS
    alarms.setDataType(2, DataType.UINT32)
    logs = []
    for obis, told, rows in ((EVENT_LOG, code, EVENTS), (FAILURE_LOG, duration, FAILURES)):
        log = GXDLMSProfileGeneric(obis)
        log.addCaptureObject(clock, 2, 0)
        log.addCaptureObject(told, 2, 0)
        for stamp, value in rows:
            log.buffer.append([GXDateTime(stamp), value])
        log.entriesInUse = log.profileEntries = len(rows)
        logs.append(log)
    return [code, duration, alarms, *logs]


def _moment(value: Any) -> dt.datetime:
    """The moment of a bound (octet-string or date-time) or of a cell, as Gurux reads it."""
    if isinstance(value, GXDateTime):
        return value.value
    info = _GXDataInfo()
    info.type_ = DataType.DATETIME
    return _GXCommon.getData(GXDLMSSettings(True, None), GXByteBuffer(bytes(value)), info).value


def _glo_request(cls: Any, settings: Any, data: Any) -> None:
    """Its own gives the key for a tag and asks for a name that is not there."""
    if data.moreData & RequestTypes.FRAME:
        data.data.position -= 1
        return
    data.data.position -= 1
    cipher = settings.cipher
    dedicated = cipher.dedicatedKey if settings.connected & ConnectionState.DLMS else None
    p = AesGcmParameter(
        0, settings.sourceSystemTitle, dedicated or cipher.blockCipherKey, cipher.authenticationKey
    )
    plain = GXCiphering.decrypt(settings, p, data.data)
    cipher.security = p.security
    settings.meter.counters.append(int(p.invocationCounter))
    data.data.clear()
    data.data.set(plain)
    data.command = Command(data.data.getUInt8())


def _general_request(cls: Any, settings: Any, data: Any, index: int) -> None:
    _glo_request(cls, settings, data)


def _aare(
    cls: Any, settings: Any, data: Any, result: int, diagnostic: int, cipher: Any, error: Any, encrypted: Any
) -> None:
    data.set(settings.meter.aare(result, diagnostic, error))


@contextmanager
def repaired() -> Iterator[None]:
    """Gurux' class methods that a server of ours cannot override, put right for a while."""
    with (
        patch.object(_GXAPDU, "generateAARE", classmethod(_aare)),
        patch.object(GXDLMS, "handleGloDedRequest", classmethod(_glo_request)),
        patch.object(GXDLMS, "handleGloDedResponse", classmethod(_general_request)),
    ):
        yield


class _Endpoint:
    """Bytes from one descriptor at a time to the meter and back, in a thread that a pipe can end."""

    def __init__(self, meter: GuruxMeter) -> None:
        self.meter = meter
        self._wake_read, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._run, name="gurux meter")

    def _ready(self, descriptor: int) -> bool:
        """Wait until there is something to read; False when the test has ended."""
        return self._wake_read not in select.select([descriptor, self._wake_read], [], [])[0]

    def _talk(self, descriptor: int) -> None:
        self.meter.reset()
        while self._ready(descriptor):
            try:
                data = os.read(descriptor, 65536)
            except OSError:
                return
            if not data:
                return
            reply = Reply(data)
            self.meter.handleRequest(reply)
            if reply.reply:
                view = memoryview(bytes(reply.reply))
                while view:
                    view = view[os.write(descriptor, view) :]

    def _run(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        os.write(self._wake, b"x")
        self._thread.join(5)
        os.close(self._wake)
        os.close(self._wake_read)
        if self._thread.is_alive():
            raise RuntimeError("the Gurux meter does not end")
        if self.meter.faults:
            raise ExceptionGroup("inside Gurux", self.meter.faults)


class _Tcp(_Endpoint):
    def __init__(self, meter: GuruxMeter) -> None:
        super().__init__(meter)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread.start()

    def _run(self) -> None:
        with self._listener:
            while self._ready(self._listener.fileno()):
                connection, _ = self._listener.accept()
                with connection:
                    self._talk(connection.fileno())


class _Pty(_Endpoint):
    def __init__(self, meter: GuruxMeter) -> None:
        super().__init__(meter)
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.device = os.ttyname(self._slave)
        self._thread.start()

    def _run(self) -> None:
        self._talk(self._master)

    def stop(self) -> None:
        super().stop()
        os.close(self._slave)
        os.close(self._master)


@contextmanager
def serving(meter: GuruxMeter) -> Iterator[int]:
    """The meter behind an ephemeral port of 127.0.0.1, one connection after the other."""
    with repaired():
        endpoint = _Tcp(meter)
        try:
            yield endpoint.port
        finally:
            endpoint.stop()


@contextmanager
def serving_pty(meter: GuruxMeter) -> Iterator[str]:
    """The meter behind a pseudo terminal; gives the device's path."""
    with repaired():
        endpoint = _Pty(meter)
        try:
            yield endpoint.device
        finally:
            endpoint.stop()
