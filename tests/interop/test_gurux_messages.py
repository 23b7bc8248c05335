"""Single messages between Gurux and us: what one builds the other reads, byte for byte where both build."""

import datetime as dt
import itertools
import xml.etree.ElementTree as ET

import pytest
from gurux_dlms import (
    GXByteBuffer,
    GXDateTime,
    GXDLMSAccessItem,
    GXDLMSTranslator,
    GXReplyData,
)
from gurux_dlms.enums import (
    AccessServiceCommandType,
    Authentication,
    Conformance,
    DataType,
    InterfaceType,
    Security,
    TranslatorOutputType,
)
from gurux_dlms.internal._GXCommon import _GXCommon
from gurux_dlms.objects import GXDLMSClock, GXDLMSData, GXDLMSRegister
from gurux_dlms.objects.enums import SecuritySuite
from gurux_dlms.secure import GXDLMSSecureClient, GXDLMSSecureNotify

from protocols.dlms import apdu as apdus
from protocols.dlms import axdr, hdlc, wrapper
from protocols.dlms.apdu import action, block_transfer, exceptions, get, notification
from protocols.dlms.apdu import set as setting
from protocols.dlms.apdu.access import AccessAction, AccessGet, AccessSet
from protocols.dlms.apdu.fields import (
    AttributeItem,
    InvokeIdAndPriority,
    LongInvokeIdAndPriority,
    Raw,
    Selection,
)
from protocols.dlms.association import (
    AccessRequested,
    ActionRequested,
    CipherSettings,
    ClientAssociation,
    ClientSettings,
    MethodOutcome,
    ServerAssociation,
    ServerSettings,
    SetRequested,
    Transmit,
)
from protocols.dlms.blocks import GbtReceiver
from protocols.dlms.ciphering import open_apdu
from protocols.dlms.cosem import Attribute, EntryDescriptor, Method, RangeDescriptor
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.enums import ActionResult, DataAccessResult, ServiceErrorCode, StateError
from protocols.dlms.enums import SecuritySuite as Suite
from protocols.dlms.obis import Obis
from protocols.dlms.security import CipherKeys, Key, Policy, Protection
from protocols.errors import RemoteProtocolError

pytestmark = pytest.mark.interop

KEY, AUTH = bytes(range(16)), bytes(range(0xD0, 0xE0))
KEY32, AUTH32 = bytes(range(32)), bytes(range(100, 132))
TITLE, OURS = b"GRX\x00\x00\x00\x00\x01", b"HES\x00\x00\x00\x00\x01"
MOMENT = dt.datetime(2026, 3, 10, 12, 15, tzinfo=dt.UTC)
IMPORT = Obis.parse("1-0:1.8.0*255")
PROTECTIONS = {
    Security.NONE: Protection(0),
    Security.AUTHENTICATION: Protection.AUTHENTICATED,
    Security.ENCRYPTION: Protection.ENCRYPTED,
    Security.AUTHENTICATION_ENCRYPTION: Protection.AUTHENTICATED_ENCRYPTED,
}


def keys_of(suite: int) -> tuple[bytes, bytes]:
    return (KEY32, AUTH32) if suite == 2 else (KEY, AUTH)


# ---- what a meter pushes: Gurux builds, we read -----------------------------------------------------


def notifier(interface, security=Security.NONE, suite=0, **settings):
    notify = GXDLMSSecureNotify(True, 16, 1, interface)
    cipher = notify.ciphering
    cipher.systemTitle, cipher.security, cipher.securitySuite = TITLE, security, SecuritySuite(suite)
    cipher.blockCipherKey, cipher.authenticationKey = keys_of(suite)
    notify.maxReceivePDUSize = 1024
    for name, value in settings.items():
        setattr(notify, name, value)
    return notify


def pushed_body(notify, *values):
    """A structure of typed values as Gurux encodes it."""
    body = GXByteBuffer()
    body.setUInt8(DataType.STRUCTURE)
    body.setUInt8(len(values))
    for kind, value in values:
        _GXCommon.setData(notify.settings, body, kind, value)
    return body


def unframed(interface, messages):
    """The APDUs inside of Gurux' frames, by our readers."""
    if interface == InterfaceType.PDU:
        return [bytes(message) for message in messages]
    if interface == InterfaceType.WRAPPER:
        frames = wrapper.WrapperReader()
        frames.feed(b"".join(bytes(message) for message in messages))
        found = [frames.next() for _ in messages]
        assert [(frame.source, frame.destination) for frame in found] == [(1, 16)] * len(found)
        return [frame.apdu for frame in found]
    reader = hdlc.HdlcReader()
    reader.feed(b"".join(bytes(message) for message in messages))
    found = [reader.next() for _ in messages]
    assert {frame.type for frame in found} == {hdlc.FrameType.UI}
    assert not any(frame.segmented for frame in found)
    return [hdlc.split_llc(frame.information)[1] for frame in found]


@pytest.mark.parametrize("suite", [0, 1, 2])
@pytest.mark.parametrize("security", PROTECTIONS)
@pytest.mark.parametrize("interface", [InterfaceType.PDU, InterfaceType.WRAPPER, InterfaceType.HDLC])
def test_gurux_pushes(interface, security, suite):
    notify = notifier(interface, security, suite)
    body = pushed_body(
        notify, (DataType.OCTET_STRING, IMPORT.raw), (DataType.UINT32, 12_048_950), (DataType.INT8, -3)
    )
    (message,) = unframed(interface, notify.generateDataNotificationMessages(MOMENT, body))
    if security != Security.NONE:
        key, auth = keys_of(suite)
        keys = CipherKeys(Key(key), Key(auth), Suite(suite))
        opened = open_apdu(message, keys=keys)
        assert (opened.system_title, opened.counter) == (TITLE, 1)
        assert opened.control == PROTECTIONS[security] | suite
        message = opened.plain
    decoded = apdus.decode(message)
    assert isinstance(decoded, notification.DataNotification)
    assert CosemDateTime.from_bytes(decoded.date_time).to_utc() == MOMENT
    assert [cell.value for cell in axdr.decode_exact(decoded.body.data).value] == [
        IMPORT.raw,
        12_048_950,
        -3,
    ]
    assert decoded.to_bytes() == message


@pytest.mark.parametrize("length", [50, 300, 2000])
def test_gurux_pushes_in_general_blocks(length):
    notify = notifier(
        InterfaceType.WRAPPER, conformance=Conformance.GENERAL_BLOCK_TRANSFER, maxReceivePDUSize=128
    )
    body = pushed_body(
        notify, (DataType.OCTET_STRING, bytes(range(250)) * (length // 250) + b"x" * (length % 250))
    )
    messages = unframed(InterfaceType.WRAPPER, notify.generateDataNotificationMessages(None, body))
    assert (len(messages) > 1) is (length > 128)
    whole = messages[0]
    if len(messages) > 1:
        # It writes 65535 as the number that it acknowledges in every block behind the second: there is none.
        receiver = GbtReceiver(answering=False)
        joined = [receiver.receive(block_transfer.decode(message)).apdu for message in messages]
        assert joined[:-1] == [None] * (len(joined) - 1)
        whole = joined[-1]
    decoded = apdus.decode(whole)
    assert decoded.date_time is None
    assert len(axdr.decode_exact(decoded.body.data).value[0].value) == length


def test_gurux_reports_an_event():
    register = GXDLMSRegister(str(IMPORT).replace("-", ".").replace(":", ".").replace("*", "."))
    register.value = 77
    register.setDataType(2, DataType.UINT32)
    notify = notifier(InterfaceType.WRAPPER)
    (message,) = unframed(InterfaceType.WRAPPER, notify.generateReport(None, [(register, 2)]))
    decoded = apdus.decode(message)
    assert isinstance(decoded, notification.EventNotificationRequest)
    assert decoded.attribute == Attribute(3, IMPORT, 2)
    assert axdr.decode_exact(decoded.value.data).value == 77
    assert decoded.time is None
    assert decoded.to_bytes() == message


def test_the_time_of_an_event_as_gurux_writes_it_is_refused():
    """It writes the tag 09 where the standard has 01, "there is a time": refused with the offset."""
    register = GXDLMSRegister("1.0.1.8.0.255")
    register.value = 77
    register.setDataType(2, DataType.UINT32)
    notify = notifier(InterfaceType.WRAPPER)
    report = notify.generateReport(GXDateTime(MOMENT), [(register, 2)])
    (message,) = unframed(InterfaceType.WRAPPER, report)
    assert message[:3] == bytes.fromhex("c2090c")
    with pytest.raises(RemoteProtocolError) as refusal:
        apdus.decode(message)
    assert refusal.value.offset == 1


# ---- what our meter pushes: Gurux reads ---------------------------------------------------------------


def listener(interface, suite=0, security=Security.NONE):
    client = GXDLMSSecureClient(True, 16, 1, Authentication.NONE, None, interface)
    cipher = client.ciphering
    cipher.securitySuite, cipher.security = SecuritySuite(suite), security
    cipher.blockCipherKey, cipher.authenticationKey = keys_of(suite)
    return client


def our_meter(suite=0, protection=None, **settings):
    key, auth = keys_of(suite)
    cipher = None
    if protection:
        cipher = CipherSettings(OURS, Key(key), Key(auth), suite=Suite(suite), protection=protection)
    server = ServerSettings(
        cipher=cipher, policy=Policy(protection, protection) if protection else Policy(), **settings
    )
    return ServerAssociation(server, next_counter=itertools.count(9).__next__)


def framed(interface, messages):
    if interface == InterfaceType.WRAPPER:
        return [wrapper.encode(1, 16, message) for message in messages]
    control = hdlc.u_control(hdlc.FrameType.UI, poll=True)
    client, server = hdlc.HdlcAddress(16), hdlc.server_address(1, None, 1)
    return [hdlc.encode_frame(client, server, control, LLC + message) for message in messages]


LLC = bytes.fromhex("e6e700")


@pytest.mark.parametrize("suite", [0, 1, 2])
@pytest.mark.parametrize("security", PROTECTIONS)
@pytest.mark.parametrize("interface", [InterfaceType.WRAPPER, InterfaceType.HDLC])
def test_gurux_reads_our_push(interface, security, suite):
    body = axdr.encode(axdr.structure(axdr.octets(IMPORT.raw), axdr.u32(12_048_950), axdr.u8(0)))
    stamp = CosemDateTime.from_utc(MOMENT).to_bytes()
    messages = our_meter(suite, PROTECTIONS[security]).notify(body, date_time=stamp)
    client = listener(interface, suite, security)
    client.settings.sourceSystemTitle = OURS
    notify = GXReplyData()
    received = GXByteBuffer()
    for frame in framed(interface, messages):
        received.set(frame)
        client.getData(received, GXReplyData(), notify)
    code, value, status = notify.value
    assert (bytes(code), value, status) == (IMPORT.raw, 12_048_950, 0)
    assert notify.time.value == MOMENT


def test_gurux_reads_our_event():
    event = notification.EventNotificationRequest(
        CosemDateTime.from_utc(MOMENT).to_bytes(), Attribute(3, IMPORT, 2), Raw(axdr.encode(axdr.u32(77)))
    )
    client = listener(InterfaceType.WRAPPER)
    client.objects.append(GXDLMSRegister("1.0.1.8.0.255"))
    notify = GXReplyData()
    client.getData(GXByteBuffer(wrapper.encode(1, 16, event.to_bytes())), GXReplyData(), notify)
    assert int(notify.command) == notification.EVENT_TAG


# ---- requests that a Gurux client makes of our server, without sockets ---------------------------------


class Direct:
    """A Gurux client (PDUs without framing) against our association; answers come from ``serve``."""

    def __init__(self, serve, *, max_pdu=128, conformance=None, protection=None, suite=0):
        self.serve = serve
        self.server = our_meter(suite, protection, max_pdu=max_pdu)
        security = next(s for s, p in PROTECTIONS.items() if p == (protection or Protection(0)))
        self.client = listener(InterfaceType.PDU, suite, security)
        self.client.ciphering.systemTitle = TITLE
        self.client.maxReceivePDUSize = max_pdu
        if conformance is not None:
            self.client.proposedConformance |= conformance
        self.tags = []
        self.client.parseAareResponse(self.exchange(self.client.aarqRequest()).data)

    def answer(self, apdu):
        out = []
        self.tags.append(apdu[:2].hex())
        for event in self.server.receive(bytes(apdu)):
            out += [event.apdu] if isinstance(event, Transmit) else self.serve(self.server, event)
        return out

    def exchange(self, messages):
        reply = GXReplyData()
        for message in messages:
            reply = GXReplyData()
            self.take(self.answer(message), reply)
            while reply.isMoreData():
                self.take(self.answer(self.client.receiverReady(reply)), reply)
        return reply

    def take(self, answers, reply):
        for answer in answers:
            assert self.client.getData(GXByteBuffer(answer), reply)


@pytest.mark.parametrize("protection", [None, Protection.AUTHENTICATED_ENCRYPTED])
@pytest.mark.parametrize("length", [0, 1, 60, 127, 128, 500, 3000])
def test_gurux_sets_in_blocks(length, protection):
    value = (bytes(range(256)) * 12)[:length]
    taken = []

    def serve(server, event):
        if not isinstance(event, SetRequested):
            return []
        taken.extend(zip(event.items, event.values, strict=True))
        return server.respond_set([DataAccessResult.SUCCESS])

    direct = Direct(serve, protection=protection)
    data = GXDLMSData("0.0.96.1.0.255")
    data.value = value
    data.setDataType(2, DataType.OCTET_STRING)
    direct.exchange(direct.client.write(data, 2))
    ((item, raw),) = taken
    assert item == AttributeItem(Attribute(1, Obis.parse("0.0.96.1.0.255"), 2))
    assert axdr.decode_exact(raw).value == value
    if protection is None:
        assert ("c102" in direct.tags) is (length > 110)


@pytest.mark.parametrize("protection", [None, Protection.AUTHENTICATED_ENCRYPTED])
@pytest.mark.parametrize("length", [0, 1, 60, 128, 500])
def test_gurux_invokes_methods(length, protection):
    parameters = (bytes(range(256)) * 2)[:length]
    taken = []

    def serve(server, event):
        if not isinstance(event, ActionRequested):
            return []
        taken.extend(zip(event.methods, event.parameters, strict=True))
        return server.respond_action([MethodOutcome(ActionResult.SUCCESS, axdr.encode(axdr.u16(513)))])

    direct = Direct(serve, protection=protection, max_pdu=1024)
    clock = GXDLMSClock("0.0.1.0.0.255")
    reply = direct.exchange(direct.client.method(clock, 3, parameters, DataType.OCTET_STRING))
    assert reply.value == 513
    ((method, raw),) = taken
    assert method == Method(8, Obis.parse("0.0.1.0.0.255"), 3)
    assert axdr.decode_exact(raw).value == parameters


def test_gurux_asks_by_access_request():
    """Two GETs: of its own SETs and ACTIONs in an access request the release stops at an error of its own."""
    taken = []

    def serve(server, event):
        if not isinstance(event, AccessRequested):
            return []
        taken.append(event)
        return server.respond_access(
            [axdr.encode(axdr.u32(4711)), None],
            [DataAccessResult.SUCCESS, DataAccessResult.READ_WRITE_DENIED],
        )

    direct = Direct(serve, max_pdu=1024)
    register, data = GXDLMSRegister("1.0.1.8.0.255"), GXDLMSData("0.0.96.1.0.255")
    items = [
        GXDLMSAccessItem(AccessServiceCommandType.GET, register, 2),
        GXDLMSAccessItem(AccessServiceCommandType.GET, data, 2),
    ]
    requests = direct.client.accessRequest(MOMENT, items)
    decoded = apdus.decode(bytes(requests[0]))
    assert CosemDateTime.from_bytes(decoded.date_time).to_utc() == MOMENT
    assert decoded.to_bytes() == bytes(requests[0])
    reply = direct.exchange(requests)
    direct.client.parseAccessResponse(items, reply.data)
    (event,) = taken
    assert event.specs == (
        AccessGet(Attribute(3, IMPORT, 2)),
        AccessGet(Attribute(1, Obis.parse("0.0.96.1.0.255"), 2)),
    )
    assert register.value == 4711
    assert [int(item.error) for item in items] == [0, DataAccessResult.READ_WRITE_DENIED]


# ---- our APDUs through Gurux' translator: to XML, and back to the same bytes ---------------------------


def our_requests():
    """Requests of our client by name, after an association that Gurux need not see."""
    client = ClientAssociation(ClientSettings())
    server = ServerAssociation(ServerSettings(system_title=OURS))
    aarq = client.associate()
    (aare,) = [e.apdu for e in server.receive(aarq) if isinstance(e, Transmit)]
    client.receive(aare)
    register, buffer = Attribute(3, IMPORT, 2), Attribute(7, Obis.parse("1-0:99.1.0*255"), 2)
    day = [CosemDateTime.from_utc(MOMENT + dt.timedelta(days=n)) for n in range(2)]
    by_range = Selection(1, axdr.encode(RangeDescriptor.between(*day).encode()))
    by_entry = Selection(2, axdr.encode(EntryDescriptor(1, 96).encode()))
    clock = Attribute(8, Obis.parse("0-0:1.0.0*255"), 2)
    stamp = axdr.encode(axdr.octets(day[0].to_bytes()))
    asks = {
        "get": lambda: client.get(register),
        "get-range": lambda: client.get(buffer, by_range),
        "get-entry": lambda: client.get(buffer, by_entry),
        "get-list": lambda: client.get_many([AttributeItem(register), AttributeItem(clock)]),
        "set": lambda: client.set(clock, stamp),
        "set-list": lambda: client.set_many(
            [(AttributeItem(clock), stamp), (AttributeItem(register), axdr.encode(axdr.u32(5)))]
        ),
        "action": lambda: client.action(Method(8, clock.obis, 3), axdr.encode(axdr.u16(7))),
        "access": lambda: client.access(
            [
                (AccessGet(register), None),
                (AccessSet(clock), stamp),
                (AccessAction(Method(8, clock.obis, 3)), axdr.encode(axdr.u16(7))),
            ]
        ),
    }
    found = {"aarq": aarq, "aare": aare}
    for name, ask in asks.items():
        found[name] = ask()
        client.take_back()
    found["rlrq"] = client.release()
    return found


def our_answers():
    """Answers of our server by name."""
    invoke = InvokeIdAndPriority(5)
    long_invoke = LongInvokeIdAndPriority(9)
    value = Raw(axdr.encode(axdr.structure(axdr.u32(1), axdr.octets(b"two"), axdr.array([axdr.u8(3)]))))
    denied = DataAccessResult.READ_WRITE_DENIED
    return {
        "get-normal": get.GetResponseNormal(invoke, value),
        "get-refused": get.GetResponseNormal(invoke, denied),
        "get-block": get.GetResponseWithBlock(invoke, False, 1, b"\x01\x02\x03"),
        "get-with-list": get.GetResponseWithList(invoke, (value, denied)),
        "set-normal": setting.SetResponseNormal(invoke, denied),
        "action-normal": action.ActionResponseNormal(invoke, ActionResult.SUCCESS, value),
        "data-notification": notification.DataNotification(
            long_invoke, CosemDateTime.from_utc(MOMENT).to_bytes(), value
        ),
        "exception": exceptions.ExceptionResponseApdu(
            StateError.SERVICE_NOT_ALLOWED, ServiceErrorCode.OPERATION_NOT_POSSIBLE
        ),
    }


CLOCK_AT = [("ClassId", "0008"), ("InstanceId", "0000010000FF"), ("AttributeId", "02")]
IMPORT_AT = [("ClassId", "0003"), ("InstanceId", "0100010800FF"), ("AttributeId", "02")]
BUFFER_AT = [("ClassId", "0007"), ("InstanceId", "0100630100FF"), ("AttributeId", "02")]
STAMP, NEXT = "07EA030A020C0F0000000000", "07EA030B030C0F0000000000"
STAMP_SET = ("OctetString", STAMP)
VALUE = [
    ("Structure", "03"),
    ("UInt32", "00000001"),
    ("OctetString", "74776F"),
    ("Array", "01"),
    ("UInt8", "03"),
]
CLOCK_METHOD = [*CLOCK_AT[:2], ("MethodId", "03")]
INVOKE = ("InvokeIdAndPriority", "C5")
RESTRICTING = [("UInt16", "0008"), ("OctetString", "0000010000FF"), ("Int8", "02"), ("UInt16", "0000")]

#: What Gurux must find in each, in its own words and order.
REQUESTS_READ = {
    "aarq": [
        ("ApplicationContextName", "LN"),
        ("ProposedDlmsVersionNumber", "06"),
        ("ProposedMaxPduSize", "0400"),
    ],
    "aare": [
        ("ApplicationContextName", "LN"),
        ("AssociationResult", "00"),
        ("ACSEServiceUser", "00"),
        ("RespondingAPTitle", OURS.hex().upper()),
        ("NegotiatedDlmsVersionNumber", "06"),
        ("NegotiatedMaxPduSize", "0400"),
        ("VaaName", "0007"),
    ],
    "get": IMPORT_AT,
    "get-range": [
        *BUFFER_AT,
        ("AccessSelector", "01"),
        ("Structure", "04"),
        ("Structure", "04"),
        *RESTRICTING,
        STAMP_SET,
        ("OctetString", NEXT),
        ("Array", "00"),
    ],
    "get-entry": [
        *BUFFER_AT,
        ("AccessSelector", "02"),
        ("Structure", "04"),
        ("UInt32", "00000001"),
        ("UInt32", "00000060"),
        ("UInt16", "0001"),
        ("UInt16", "0000"),
    ],
    "get-list": [("AttributeDescriptorList", "02"), *IMPORT_AT, *CLOCK_AT],
    "set": [*CLOCK_AT, STAMP_SET],
    "set-list": [
        ("AttributeDescriptorList", "02"),
        *CLOCK_AT,
        *IMPORT_AT,
        ("ValueList", "02"),
        STAMP_SET,
        ("UInt32", "00000005"),
    ],
    "action": [*CLOCK_METHOD, ("UInt16", "0007")],
    "access": [
        ("AccessRequestSpecification", "03"),
        *IMPORT_AT,
        *CLOCK_AT,
        *CLOCK_AT[:2],
        ("AttributeId", "03"),  # its word for a method's number too
        ("AccessRequestListOfData", "03"),
        STAMP_SET,
        ("UInt16", "0007"),
    ],
    "rlrq": [("Reason", "Normal")],
}
ANSWERS_READ = {
    "get-normal": [INVOKE, *VALUE],
    "get-refused": [INVOKE, ("DataAccessError", "ReadWriteDenied")],
    "get-block": [INVOKE, ("LastBlock", "00"), ("BlockNumber", "00000001"), ("RawData", "010203")],
    "get-with-list": [INVOKE, ("Result", "02"), *VALUE],  # of the refusal it says nothing
    "set-normal": [INVOKE, ("Result", "ReadWriteDenied")],
    "action-normal": [INVOKE, ("Result", "Success"), *VALUE],
    "data-notification": [("LongInvokeIdAndPriority", "00000009"), ("DateTime", STAMP), *VALUE],
    "exception": [("StateError", "ServiceNotAllowed"), ("ServiceError", "OperationNotPossible")],
}


def translated(pdu):
    """What Gurux' translator finds in the bytes: names with their values or counts, in order."""
    translator = GXDLMSTranslator(TranslatorOutputType.SIMPLE_XML)
    root = ET.fromstring(translator.pduToXml(GXByteBuffer(pdu)))  # noqa: S314 - of our own bytes
    return [(e.tag, e.get("Value") or e.get("Qty")) for e in root.iter() if e.get("Value") or e.get("Qty")]


@pytest.mark.parametrize("name", REQUESTS_READ)
def test_gurux_translates_our_requests(name):
    pdu = our_requests()[name]
    found = translated(pdu)
    if found[0][0].endswith("InvokeIdAndPriority"):  # counted on from request to request
        assert found.pop(0)[1] in (pdu[1:5].hex().upper(), pdu[2:3].hex().upper())
    assert found == REQUESTS_READ[name]


@pytest.mark.parametrize("name", ANSWERS_READ)
def test_gurux_translates_our_answers(name):
    assert translated(our_answers()[name].to_bytes()) == ANSWERS_READ[name]
