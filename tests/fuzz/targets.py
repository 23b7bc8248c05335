"""One fuzz target per decoder, each holding one invariant.

Any bytes give a result, "need more", or an error of `protocols.errors` - never another exception, never more
kept than the decoder's bound.
"""

from collections.abc import Callable
from typing import Final

from headend.cli import hex_input
from headend.drivers.mqtt.message import load_decoder
from headend.drivers.mqtt.meters import Known
from headend.drivers.mqtt.told import Readings, StationBatch, merge
from headend.ingest.csv_table import read_table
from headend.listen.push_stream import PushStream
from protocols import decode
from protocols.dlms import (
    apdu,
    axdr,
    ber,
    distribution,
    forwarded,
    gateway,
    security,
    store_forward,
    tolerant,
)
from protocols.dlms import decode as dlms
from protocols.dlms.apdu.block_transfer import GeneralBlockTransfer
from protocols.dlms.association import ServerAssociation
from protocols.dlms.association.client import ClientAssociation
from protocols.dlms.association.settings import ClientSettings, ServerSettings
from protocols.dlms.blocks import GbtReceiver
from protocols.dlms.cosem_time import CosemDate, CosemDateTime, CosemTime
from protocols.dlms.hdlc import HdlcReader, server_address
from protocols.dlms.hdlc_client import HdlcClientLink
from protocols.dlms.hdlc_parameters import FrameReject, LinkParameters
from protocols.dlms.hdlc_server import HdlcServerLink
from protocols.dlms.mbus import MBusAssembler, MBusFrame, MBusReader
from protocols.dlms.profile_buffer import BufferLayout, Column, Role, decode_buffer, decode_buffer_general
from protocols.dlms.scan import scan
from protocols.dlms.security import CipherKeys, Key
from protocols.dlms.wrapper import WrapperReader
from protocols.dlt645 import conversation, load_record, values
from protocols.dlt645.frame import Dlt645Reader
from protocols.dlt645.identifiers import DataId
from protocols.errors import CommunicationError
from protocols.iec62056_21 import p1_objects
from protocols.iec62056_21.client import ReadoutClient, Want
from protocols.iec62056_21.messages import Block, IecReader
from protocols.iec62056_21.p1 import P1Reader, P1Telegram
from protocols.modbus import sunspec
from protocols.modbus.answers import Awaited, find_rtu, find_tcp
from protocols.modbus.frames import parse_rtu, parse_tcp
from protocols.modbus.readout import Readout
from protocols.modbus.requests import read_file, read_registers
from protocols.mqtt import decode as mqtt
from protocols.mqtt.reading import Format
from protocols.zigbee import metering, zcl
from schemas.model import Heartbeat
from schemas.mqtt_model import load_mqtt_model, mqtt_model_names
from schemas.register_model import load_register_model, register_model_names

Target = Callable[[bytes], None]

#: What a reader may keep unparsed: its longest frame and some.
BOUND: Final = 200_000
_KEYS: Final = CipherKeys(Key(bytes(16)), Key(bytes(range(16))))
_TITLE: Final = b"HED\0\0\0\0\1"
_HEARTBEATS: Final = (
    Heartbeat(prefix="AA55", suffix="0D0A"),
    Heartbeat(prefix="0F", length=8, identity="system-title"),
)
_PROFILE: Final = BufferLayout(
    (Column(Role.CLOCK), Column(Role.STATUS), *(Column(Role.VALUE) for _ in range(4))), 900
)

_READOUTS: Final = tuple(
    Readout(model) for model in map(load_register_model, register_model_names()) if model.registers
)


def _pieces(data: bytes) -> list[bytes]:
    """The input in pieces that the input itself chooses: a reader's answer may not depend on them."""
    size = data[0] % 37 + 1 if data else 1
    return [data[at : at + size] for at in range(1, len(data), size)]


def axdr_decode(data: bytes) -> None:
    """A-XDR: what decodes encodes and decodes to the same again; skipping agrees with decoding."""
    try:
        value, end = axdr.decode(data)
    except CommunicationError:
        return
    assert axdr.skip(data, 0) == end
    assert axdr.decode_exact(axdr.encode(value)) == value


def ber_span(data: bytes) -> None:
    """BER of ACSE."""
    at = 0
    while at < len(data):
        start, end = ber.span(data, at, len(data))
        assert at < start <= end <= len(data)
        at = end


def apdu_decode(data: bytes) -> None:
    """APDUs: what decodes strictly encodes to what decodes to the same."""
    try:
        found = apdu.decode_strict(data)
    except CommunicationError:
        return
    assert apdu.decode(apdu.encode(found)) == found


def times(data: bytes) -> None:
    """COSEM date-time, date and time."""
    for kind in (CosemDateTime, CosemDate, CosemTime):
        try:
            stamp = kind.from_bytes(data)
        except CommunicationError:
            continue
        assert kind.from_bytes(stamp.to_bytes()) == stamp


def profile_buffer(data: bytes) -> None:
    """Profile buffers: the vectorised decoder and the general one agree, in values and in refusals."""
    try:
        fast = decode_buffer(data, _PROFILE)
    except CommunicationError:
        fast = None
    try:
        slow = decode_buffer_general(data, _PROFILE)
    except CommunicationError:
        slow = None
    assert (fast is None) == (slow is None)
    if fast is not None and slow is not None:
        assert fast.stamp_us.tolist() == slow.stamp_us.tolist()
        assert fast.values.tolist() == slow.values.tolist()
        assert fast.valid.tolist() == slow.valid.tolist()


def wrapper_reader(data: bytes) -> None:
    """The wrapper on a dirty stream."""
    reader = WrapperReader(resync=True)
    for piece in _pieces(data):
        reader.feed(piece)
        while reader.next() is not None:
            pass
        assert reader.pending <= BOUND


def hdlc_reader(data: bytes) -> None:
    """HDLC frames on a dirty stream."""
    reader = HdlcReader()
    for piece in _pieces(data):
        reader.feed(piece)
        while reader.next() is not None:
            pass
        assert reader.pending <= BOUND


def hdlc_link(data: bytes) -> None:
    """Both sides of the HDLC link, whatever comes in any state."""
    client = HdlcClientLink(server_address(0x10), server_address(1))
    server = HdlcServerLink(server_address(1), server_address(0x10))
    client.connect()
    for piece in _pieces(data):
        for link in (client, server):
            try:
                link.receive(piece)
            except CommunicationError:
                pass


def hdlc_parameters(data: bytes) -> None:
    """SNRM/UA parameters and FRMR reasons."""
    for kind in (LinkParameters, FrameReject):
        try:
            kind.from_bytes(data)
        except CommunicationError:
            pass


def mbus_reader(data: bytes) -> None:
    """Wired M-Bus frames and their segments."""
    reader, assembler = MBusReader(), MBusAssembler()
    for piece in _pieces(data):
        reader.feed(piece)
        while (found := reader.next()) is not None:
            if isinstance(found, MBusFrame):
                assembler.add(found)
        assert reader.pending <= BOUND


def scanner(data: bytes) -> None:
    """The scan of `headend decode`: it never raises."""
    for item in scan(data):
        assert 0 <= item.offset <= len(data)


def general_blocks(data: bytes) -> None:
    """General-block-transfer: the input as a train of blocks."""
    receiver = GbtReceiver()
    for number, piece in enumerate(_pieces(data), 1):
        flags = piece[0]
        block = GeneralBlockTransfer(
            bool(flags & 1), bool(flags & 2), flags >> 2, number ^ (flags >> 6), 0, piece[1:]
        )
        receiver.receive(block)


def deciphering(data: bytes) -> None:
    """Secured APDU bodies under a key that did not make them."""
    security.unprotect(data, system_title=_TITLE, keys=_KEYS)


def client_association(data: bytes) -> None:
    """A client that gets anything while it associates."""
    client = ClientAssociation(ClientSettings())
    client.associate()
    for piece in _pieces(data):
        client.receive(piece)


def server_association(data: bytes) -> None:
    """A meter that gets anything: a server never raises for its peer's bytes."""
    server = ServerAssociation(ServerSettings())
    for piece in _pieces(data):
        server.receive(piece)


def push_stream(data: bytes) -> None:
    """A sender of any framing, with heartbeats, over a connection and in datagrams: it never raises."""
    for datagrams in (False, True):
        stream = PushStream(max_apdu=2048, heartbeats=_HEARTBEATS, datagrams=datagrams)
        for piece in _pieces(data):
            stream.feed(piece)
            assert stream.pending <= BOUND
        stream.end()


def tolerant_reader(data: bytes) -> None:
    """Values whose tags are left out in places: it never raises."""
    assert 0 <= tolerant.read(data).end <= len(data)


def decode_with_keys(data: bytes) -> None:
    """`headend decode` of DLMS with keys: it never raises."""
    for message in dlms.decode_stream(data, dlms.Keys(_KEYS.encryption, _KEYS.authentication)):
        assert message.to_json()


def hex_text(data: bytes) -> None:
    """What a person pastes: never an error, and no byte of it is lost without a word."""
    pieces, bad = hex_input.read(data)
    assert all(piece.data for piece in pieces)
    assert all(line.reason for line in bad)


def csv_file(data: bytes) -> None:
    """A file of a person's: rows and errors by line."""
    table = read_table(data, known=("asset_id", "model"), required=("asset_id",))
    assert all(error.line >= 0 for error in table.errors)


def dlt645_reader(data: bytes) -> None:
    """DL/T 645 frames on a dirty stream."""
    reader = Dlt645Reader()
    for piece in _pieces(data):
        reader.feed(piece)
        while reader.next() is not None:
            pass
        assert reader.pending <= BOUND


def dlt645_values(data: bytes) -> None:
    """Answers to any identifier, and load records."""
    if len(data) >= 4:
        for reading in values.decode(DataId.from_wire(data[:4]), data[4:]):
            assert reading.name
    load_record.decode_records(data)


def dlt645_conversation(data: bytes) -> None:
    """A request that is answered with anything."""
    asked = conversation.Conversation(conversation.read("1", DataId(0, 1, 0xFF, 0)))
    asked.start()
    for piece in _pieces(data):
        asked.receive(piece)


def iec62056_21_reader(data: bytes) -> None:
    """Readouts on a dirty stream, and their data sets."""
    reader = IecReader()
    for piece in _pieces(data):
        reader.feed(piece)
        while (found := reader.next()) is not None:
            if isinstance(found, Block):
                found.sets()
        assert reader.pending <= BOUND


def iec62056_21_client(data: bytes) -> None:
    """A meter that answers anything, for a readout and for HDLC."""
    for want in Want:
        client = ReadoutClient(want=want)
        client.start()
        try:
            for piece in _pieces(data):
                client.receive(piece)
        except CommunicationError:
            pass


def p1_reader(data: bytes) -> None:
    """Telegrams on a dirty stream, and their objects."""
    reader = P1Reader()
    for piece in _pieces(data):
        reader.feed(piece)
        while (found := reader.next()) is not None:
            if isinstance(found, P1Telegram):
                p1_objects.read(found)
        assert reader.pending <= BOUND


def every_language(data: bytes) -> None:
    """`headend decode` on anything: it never raises, and every part is told."""
    for message in decode.decode_stream(data):
        assert 0 <= message.offset <= len(data)
        assert message.to_json()


def modbus_frames(data: bytes) -> None:
    """Modbus frames, RTU and TCP, at every place."""
    for at in range(min(len(data), 64)):
        found = parse_rtu(data, at)
        assert found is None or at < found[1] <= len(data)
    parse_tcp(data)


def modbus_answers(data: bytes) -> None:
    """What answers a read, on a line and on TCP; the read is that of the first bytes."""
    unit, function, registers, number = (*data[:4], 0, 0, 0, 0)[:4]
    request = read_registers(3 + function % 2, 0, 1 + registers % 125)
    if function % 3 == 2:
        request = read_file(1, 0, 1 + registers % 121)
    read = Awaited(unit, request.head, request.length, number)
    frame = find_rtu(read, data[4:])
    assert frame is None or (frame in data and read.is_answered_by(frame[1:-2]))
    frame, rest = find_tcp(read, data[4:])
    assert data.endswith(rest)
    assert frame is not None or len(rest) < 6 + 254


def modbus_registers(data: bytes) -> None:
    """The input as the registers of every meter model, over and over."""
    words = [data[at] << 8 | data[at + 1] for at in range(0, len(data) - 1, 2)] or [0]
    for readout in _READOUTS:
        answers = {block: [words[at % len(words)] for at in range(block.count)] for block in readout.blocks}
        for value in readout.decode(answers):
            assert (value.reason is None) is (value.value is not None or value.text is not None)


def sunspec_meter(data: bytes) -> None:
    """A SunSpec meter that answers with the input wherever it is asked."""
    words = [0x5375, 0x6E53, *(data[at] << 8 | data[at + 1] for at in range(0, len(data) - 1, 2))]
    discovery = sunspec.discover()
    answer = None
    for _ in range(1000):
        try:
            span = discovery.send(answer)
        except StopIteration:
            return
        at = span.address - sunspec.BASES[0]
        answer = words[at : at + span.count] if at >= 0 and at + span.count <= len(words) else None
    raise AssertionError("a discovery that does not end")


def zcl_frame(data: bytes) -> None:
    """Zigbee attribute reports and what they mean."""
    metering.read(zcl.attributes(zcl.parse_frame(data)), metering.Scaling(1, 1000, 0))


def mqtt_payload(data: bytes) -> None:
    """MQTT payloads, as every language and as none."""
    for language in (None, *Format):
        try:
            mqtt.decode("gateway/00124b0014d9a2f1/status/em:0", data, language=language)
        except CommunicationError:
            continue


class _Everybody:
    """A fleet in which each identity is a meter of the model that it begins with."""

    def of(self, identity: str) -> Known | None:
        names = [name for name in mqtt_model_names() if identity.startswith(name)]
        return Known(1, identity, load_mqtt_model(max(names, key=len))) if names else None

    def age(self) -> None:
        """It never changes."""


_MESSAGES: Final = load_decoder(_Everybody())  # type: ignore[arg-type]


def concentrator(data: bytes) -> None:
    """The gateway prefix, and what a concentrator says and pushes."""
    for read in (
        lambda: gateway.encode(*gateway.decode(data)),
        lambda: store_forward.encode_directory(store_forward.decode_directory(data)),
        lambda: store_forward.encode_layouts(store_forward.decode_layouts(data)),
        lambda: store_forward.encode_release(store_forward.decode_release(data)),
        lambda: distribution.encode_order(distribution.decode_order(data)),
        lambda: distribution.encode_progress(distribution.decode_progress(data)),
        lambda: forwarded.read_forwarded(axdr.decode_exact(data)),
        lambda: forwarded.read_forwarded(
            axdr.structure(axdr.octets(forwarded.NAME.raw), axdr.decode(data)[0])
        ),
    ):
        try:
            read()
        except CommunicationError:
            continue
    gateway.refusal(data)


def mqtt_message(data: bytes) -> None:
    """A message of any device or concentrator: the topic, a line's end, the payload."""
    topic, _, payload = data.partition(b"\n")
    told = _MESSAGES.decode(
        topic.decode("latin-1"), payload, retained=False, received_us=1_800_000_000_000_000
    )
    if isinstance(told, Readings | StationBatch):
        merge([told], source="fuzz")


TARGETS: Final[dict[str, Target]] = {
    target.__name__: target
    for target in (
        axdr_decode, ber_span, apdu_decode, times, profile_buffer, wrapper_reader, hdlc_reader, hdlc_link,
        hdlc_parameters, mbus_reader, scanner, general_blocks, deciphering, client_association,
        server_association, modbus_frames, modbus_answers, modbus_registers, sunspec_meter, zcl_frame,
        mqtt_payload, mqtt_message, concentrator,
        push_stream, tolerant_reader, decode_with_keys, hex_text, csv_file,
        dlt645_reader, dlt645_values, dlt645_conversation, iec62056_21_reader,
        iec62056_21_client, p1_reader, every_language,
    )
}  # fmt: skip


def run(name: str, data: bytes) -> None:
    """One input through one target. An error of the tree is a good answer; everything else comes out."""
    try:
        TARGETS[name](data)
    except CommunicationError:
        pass
