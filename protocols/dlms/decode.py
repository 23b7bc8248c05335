"""Decodes whatever DLMS bytes come: the library behind ``headend decode``.

`scan` finds the framing and joins segments; here blocks are joined, ciphered APDUs opened, values found, and
everything is told as a `Message`, a bad thing with offset and reason while the rest goes on. What one message
teaches serves those behind it: system titles and dedicated keys of AARQ and AARE, the attribute that a GET
asked for. Nothing here raises for the peer's bytes.
"""

from typing import TYPE_CHECKING, Final

from protocols.dlms import apdu as apdus
from protocols.dlms import axdr, gateway, tolerant
from protocols.dlms import decode_tree as trees
from protocols.dlms.apdu import (
    Aare,
    Aarq,
    Apdu,
    DataNotification,
    EventNotificationRequest,
    GeneralBlockTransfer,
    GetRequestNormal,
    GetRequestWithList,
    GetResponseNormal,
    GetResponseWithBlock,
    GetResponseWithList,
    InitiateRequest,
    Raw,
    Rlre,
    Rlrq,
    SetRequestNormal,
    SetRequestWithFirstBlock,
    name_of,
)
from protocols.dlms.axdr import DataType
from protocols.dlms.cosem import Attribute
from protocols.dlms.decode_cipher import Ciphered, Keys, Outcome, control_of, is_dedicated, open_message
from protocols.dlms.decode_message import Builder, Message, Problem, Security, Status, unreadable
from protocols.dlms.decode_transfers import Joined, Transfers, part_of
from protocols.dlms.decode_values import ValueFinder
from protocols.dlms.framing import Framing
from protocols.dlms.hdlc import HdlcFrame
from protocols.dlms.mbus import MBusFrame
from protocols.dlms.scan import ScanItem, scan
from protocols.dlms.security import Key
from protocols.errors import RemoteProtocolError

if TYPE_CHECKING:  # a model brings pydantic, and a frame is decoded without one
    from schemas.model import MeterModel

__all__ = ["Keys", "Message", "Problem", "Security", "Status", "StreamDecoder", "decode_stream", "unreadable"]

_MAX_NESTING: Final = 4  # general block transfer, general ciphering, service-specific ciphering, the APDU
#: Service-specific messages that a server sends, the others come from the client.
_FROM_SERVER: Final = frozenset({0x28, 0x2E, 0xCA, 0xCC, 0xCD, 0xCF, 0x48, 0x4E, 0xD2, 0xD4, 0xD5, 0xD7})


def decode_stream(data: bytes, keys: Keys | None = None, model: "MeterModel | None" = None) -> list[Message]:
    """Everything in ``data``, in order of the offsets. Never raises for what the bytes are."""
    decoder = StreamDecoder(keys, model)
    return sorted([*decoder.decode(data), *decoder.finish()], key=lambda message: message.offset)


class StreamDecoder:
    """Decodes the pieces of one recording one after the other.

    A piece is complete frames, or one bare APDU. What is learned and what blocks have begun live on between
    pieces, until `finish`.
    """

    def __init__(self, keys: Keys | None = None, model: "MeterModel | None" = None) -> None:
        self._keys = keys or Keys()
        self._finder = ValueFinder(model)
        self._client_title: bytes | None = None
        self._server_title: bytes | None = None
        self._dedicated: Key | None = None
        self._asked: dict[tuple[object, int], tuple[Attribute, ...]] = {}
        self._transfers = Transfers(self._emit)
        self._messages: list[Message] = []

    def decode(self, data: bytes, base: int = 0) -> list[Message]:
        """The messages that this piece completes; ``base`` is added to all offsets."""
        items = scan(data)
        if items and not any(item.payload for item in items):
            self._bare_value(data, base)
        if not self._messages:
            for item in items:
                self._item(item, data, base)
        return self._taken()

    def finish(self) -> list[Message]:
        """What has begun and did not end: a lone block as it is, transfers that stop as bad."""
        self._transfers.finish()
        return self._taken()

    def _taken(self) -> list[Message]:
        messages, self._messages = self._messages, []
        return messages

    def _emit(self, builder: Builder) -> None:
        self._messages.append(builder.build())

    def _item(self, item: ScanItem, data: bytes, base: int) -> None:
        builder = Builder(item, data, base)
        if item.reason is not None:
            builder.problem(RemoteProtocolError(item.reason), at=item.offset + base)
            builder.tree = {"data": item.data.hex()}
        elif item.payload is None:
            self._without_apdu(builder, item)
        else:
            self._apdu(builder, item.payload)
            return
        self._emit(builder)

    def _without_apdu(self, builder: Builder, item: ScanItem) -> None:
        frame = item.frames[0] if item.frames else None
        if isinstance(frame, HdlcFrame):
            builder.tree = trees.of_hdlc(frame)
        elif isinstance(frame, MBusFrame):
            builder.tree = trees.of_mbus(frame)
        builder.notes.append("no APDU inside")

    def _bare_value(self, data: bytes, base: int) -> None:
        """A piece that is no message but exactly one array or structure, perhaps behind the choice byte of a
        Get-Data-Result: cut out of an answer."""
        for skip in (0, 1) if data[0] == 0 else (0,):
            try:
                value = axdr.decode_exact(data[skip:])
            except RemoteProtocolError:
                continue
            if value.type in (DataType.ARRAY, DataType.STRUCTURE, DataType.COMPACT_ARRAY):
                builder = Builder(ScanItem(0, Framing.UNKNOWN), data, base)
                builder.notes.append("no APDU, but one value as an APDU carries it")
                builder.tree = trees.of_data(value)
                self._finder.values(builder, value)
                self._emit(builder)
                return

    # ---- APDUs ----------------------------------------------------------------------------------

    def _apdu(self, builder: Builder, payload: bytes) -> None:
        """Decode one APDU, going on inside of what is prefixed, ciphered or in blocks."""
        if not builder.layers and gateway.is_prefixed(payload):
            self._behind(builder, payload)
            return
        builder.layers.append(name_of(payload[0]))
        try:
            message = apdus.decode(payload)
        except RemoteProtocolError as exc:
            if len(builder.layers) > _MAX_NESTING or not self._instead(builder, payload):
                builder.problem(exc)
                builder.tree = {"data": payload.hex()}
            self._emit(builder)
            return
        if len(builder.layers) > _MAX_NESTING:
            builder.problem(RemoteProtocolError("APDUs nested deeper than any meter does"))
            self._emit(builder)
        elif isinstance(message, GeneralBlockTransfer):
            joined = self._transfers.general(builder, message)
            if joined is not None:
                self._apdu(joined.builder, joined.whole)
        elif isinstance(message, Ciphered):
            self._open(builder, message)
        elif (part := part_of(message)) is not None:
            joined = self._transfers.service(builder, part)
            if joined is not None:
                self._joined(joined)
        else:
            self._complete(builder, message)

    def _behind(self, builder: Builder, payload: bytes) -> None:
        """A message to or from a meter behind a gateway: what is behind the prefix."""
        try:
            message = gateway.decode(payload)
        except RemoteProtocolError as exc:
            builder.problem(exc)
            builder.tree = {"data": payload.hex()}
            self._emit(builder)
            return
        builder.layers.append(f"gateway-{message.header.name.lower()}")
        builder.gateway = str(message.address)
        builder.notes.append(f"meter behind a gateway: network and address {message.address}")
        builder.deciphered = True  # places in the APDU are no places of the input
        self._apdu(builder, message.apdu)

    def _instead(self, builder: Builder, payload: bytes) -> bool:
        """A bare piece whose first byte only looks like an APDU's tag: 01 and 02 begin data as well."""
        if builder.framing is not Framing.APDU or len(builder.layers) != 1:
            return False
        reading = tolerant.read(payload)
        if reading.error is not None or reading.data is None or payload[0] != DataType.ARRAY:
            return False
        builder.layers.clear()
        builder.notes.append("no APDU, but one value as an APDU carries it")
        builder.tree = trees.of_data(reading.data)
        self._finder.values(builder, reading.data)
        return True

    def _complete(self, builder: Builder, message: Apdu) -> None:
        """One whole, plain APDU: its tree, its values, what it teaches."""
        builder.tree = trees.of_apdu(message)
        match message:
            case DataNotification(date_time=stamp, body=body):
                self._finder.time(builder, stamp)
                self._finder.body(builder, message, body)
            case EventNotificationRequest(time=stamp, attribute=attribute, value=value):
                self._finder.time(builder, stamp)
                self._finder.answers(builder, message, (attribute,), (value,))
            case GetRequestNormal(invoke=invoke, attribute=attribute):
                self._asked[builder.peers, invoke.invoke_id] = (attribute,)
            case GetRequestWithList(invoke=invoke, items=items):
                self._asked[builder.peers, invoke.invoke_id] = tuple(item.attribute for item in items)
            case GetResponseNormal(invoke=invoke, result=result):
                asked = self._asked.pop((builder.peers, invoke.invoke_id), ())
                self._finder.answers(builder, message, asked, (result,))
            case GetResponseWithList(invoke=invoke, results=results):
                asked = self._asked.pop((builder.peers, invoke.invoke_id), ())
                self._finder.answers(builder, message, asked, results)
            case Aarq() | Aare() | Rlrq() | Rlre():
                self._association(builder, message)
            case InitiateRequest(dedicated_key=bytes() as key):
                self._dedicated = Key(key)
            case _:
                self._finder.tail(builder, message)
        self._emit(builder)

    def _association(self, builder: Builder, message: Aarq | Aare | Rlrq | Rlre) -> None:
        if isinstance(message, Aarq):
            self._client_title = message.calling_ap_title or self._client_title
            self._dedicated = None  # the old association's key ends with it
            builder.system_title = message.calling_ap_title
        elif isinstance(message, Aare):
            self._server_title = message.responding_ap_title or self._server_title
            builder.system_title = message.responding_ap_title
        if not message.user_information:
            return
        try:
            inner = apdus.decode(message.user_information)
            if isinstance(inner, Ciphered):
                client = isinstance(message, Aarq | Rlrq)
                plain = self._opened(builder, inner, from_server=not client)
                if plain is None:
                    builder.tree["user_information"] = trees.of_apdu(inner)
                    return
                inner = apdus.decode(plain)
        except RemoteProtocolError as exc:
            builder.problem(RemoteProtocolError(f"user information: {exc.reason}"))
            return
        if isinstance(inner, InitiateRequest) and inner.dedicated_key is not None:
            self._dedicated = Key(inner.dedicated_key)
        builder.tree["user_information"] = trees.of_apdu(inner)

    # ---- deciphering -----------------------------------------------------------------------------

    def _open(self, builder: Builder, message: Ciphered) -> None:
        outer = message.to_bytes()
        plain = self._opened(builder, message, from_server=outer[0] in _FROM_SERVER)
        if plain is None:
            builder.tree = trees.of_apdu(message)
            self._emit(builder)
            return
        builder.deciphered = True
        self._apdu(builder, plain)

    def _opened(self, builder: Builder, message: Ciphered, *, from_server: bool) -> bytes | None:
        """The plain bytes, or None with the reason told to ``builder``."""
        learned = [self._client_title, self._server_title]
        titles = [title for title in (learned[from_server], self._keys.system_title) if title is not None]
        opening = open_message(message, self._keys, dedicated=self._dedicated, titles=titles)
        own = getattr(message, "system_title", None) or getattr(message, "originator", None)
        title = own or opening.system_title or (titles[0] if titles else None)
        builder.system_title = title or builder.system_title
        builder.counter = message.body.invocation_counter
        builder.security = Security(
            message.body.control,
            control_of(message.body.control),
            "dedicated" if is_dedicated(message) else "global",
            opening.verified,
        )
        if opening.outcome is Outcome.OPENED:
            if opening.reason is not None or not opening.verified:
                builder.notes.append(f"not verified: {opening.reason or _unverified(message)}")
            return opening.plain
        reason = opening.reason or "cannot be opened"
        if opening.outcome is Outcome.UNDECRYPTABLE:
            builder.undecryptable = True
            builder.notes.append(f"undecryptable: {reason}")
        else:
            builder.problem(RemoteProtocolError(reason, offset=opening.offset))
        return None

    # ---- blocks ----------------------------------------------------------------------------------

    def _joined(self, joined: Joined) -> None:
        """The request or answer that blocks of a service join to."""
        first, builder, whole = joined.first, joined.builder, joined.whole
        if isinstance(first, SetRequestWithFirstBlock):
            self._complete(
                builder, SetRequestNormal(first.invoke, first.attribute, first.selection, Raw(whole))
            )
        elif isinstance(first, GetResponseWithBlock):
            asked = self._asked.get((builder.peers, first.invoke.invoke_id), ())
            listed = len(asked) > 1 and self._joined_list(builder, first, whole)
            if not listed:
                self._complete(builder, GetResponseNormal(first.invoke, Raw(whole)))

    def _joined_list(self, builder: Builder, first: GetResponseWithBlock, whole: bytes) -> bool:
        """Blocks that answer a request with a list carry the list of results."""
        head = first.to_bytes()[:1] + b"\x03" + first.to_bytes()[2:3]
        try:
            message = apdus.decode(head + whole)
        except RemoteProtocolError:
            return False
        self._complete(builder, message)
        return True


def _unverified(message: Ciphered) -> str:
    if message.body.control & 0x10:
        return "the authentication key is not given"
    return "the message has no authentication tag"
