"""What a pushed APDU says: who sent it, by what it tells or proves, and which values it carries.

Identity comes from the message alone. A ciphered one tells its system title, and its tag (or its plain text,
where the model has no tag) proves it. One without ciphering is believed only of meters whose model allows it,
by the meter number or logical device name inside. The sender's address never counts. A list that tells
nothing belongs to the meter that the same line told before, where that meter's model says that it has such
lists (quirk `anonymous_lists`) and the connection told of no other meter.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from headend.listen.contents import Push, body_of, meter_time_us, register, values_of
from headend.listen.directory import Directory, Known
from headend.listen.heartbeat import Claim
from headend.listen.push_stream import Payload
from headend.listen.replay import Counter
from protocols.dlms import apdu as apdus
from protocols.dlms import ciphering, push_values, tolerant
from protocols.dlms.apdu import (
    Apdu,
    DataNotification,
    GeneralCiphering,
    GeneralDedCiphering,
    GeneralGloCiphering,
)
from protocols.dlms.apdu.fields import LongInvokeIdAndPriority
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.framing import Framing
from protocols.dlms.security import Protection, check_policy, protection_of
from protocols.errors import CommunicationError, RemoteProtocolError
from schemas.model import MeterModel
from schemas.reading import RegisterRead

_LONGEST_IDENTITY: Final = 64
#: Lines of one connection that are told apart; a line is a framing and its addresses.
_MOST_LINES: Final = 256
_CONTAINERS: Final = frozenset({DataType.ARRAY, DataType.STRUCTURE, DataType.COMPACT_ARRAY})
#: Framings of a local line, where one meter stands behind one connection.
_LINES: Final = (Framing.HDLC, Framing.MBUS)


class Kept(NamedTuple):
    """For the inbox: why, and who the sender claims to be."""

    reason: str
    identity: str | None = None


class Explained(NamedTuple):
    """Values of a known meter. ``remark`` says what of the message is not understood, so that its bytes are
    kept too; ``confirm`` is the invoke id to confirm once the values are committed."""

    known: Known
    registers: tuple[RegisterRead, ...]
    counter: Counter | None = None
    remark: str | None = None
    confirm: LongInvokeIdAndPriority | None = None


@dataclass(slots=True)
class Context:
    """What one connection has told so far: by which heartbeat, of which meter on which lines, of several."""

    claim: Claim | None = None
    meter_id: int | None = None
    several: bool = False
    lines: set[object] = field(default_factory=set)

    def told(self, line: object, meter_id: int) -> None:
        """A message on this line told which meter it is from."""
        self.several = self.several or self.meter_id not in (None, meter_id)
        self.meter_id = meter_id
        if len(self.lines) < _MOST_LINES:
            self.lines.add(line)


class _Opened(NamedTuple):
    plain: bytes
    known: Known | None = None
    counter: Counter | None = None
    verified: bool = False
    identity: str | None = None


class Recogniser:
    """Explains payloads by the directory.

    ``our_title`` is compared with the recipient that general-ciphering names.
    """

    def __init__(self, directory: Directory, our_title: bytes | None = None) -> None:
        self._directory = directory
        self._our_title = our_title

    async def explain(self, payload: Payload, context: Context | None, now_us: int) -> Explained | Kept:
        """What the payload says. ``now_us`` is when it came; without ``context`` it stands alone.

        Raises UnavailableError while the database is away; nothing for what the bytes are.
        """
        opened = await self._open(payload.apdu)
        if isinstance(opened, Kept):
            return opened
        try:
            message = apdus.decode(opened.plain)
        except RemoteProtocolError as exc:
            return Kept(_wrong(opened, str(exc)), opened.identity)
        if not isinstance(message, Push):
            name = apdus.name_of(opened.plain[0])
            return Kept(_wrong(opened, f"{name} is no push"), opened.identity)
        raw = body_of(message)
        reading = tolerant.read(raw)
        if reading.data is None or (reading.error is not None and opened.known is not None):
            return Kept(_wrong(opened, f"its data: {reading.error}"), opened.identity)
        known = opened.known
        if known is None:
            told = await self._told(message, reading.data, payload.line, context)
            if isinstance(told, Kept):
                return told
            known = told
        values, unnamed = values_of(message, reading.data, known.model)
        meter_us = meter_time_us(message, values, known.model)
        registers = tuple(register(known.meter.meter_id, value, now_us, meter_us) for value in values)
        if not registers:
            return Kept("it carries no value with an OBIS code", known.meter.asset_id)
        remarks = []
        if reading.error is not None:
            remarks.append(str(reading.error))
        if unnamed:
            places = ", ".join(str(item.at) for item in unnamed[:10])
            remarks.append(f"model {known.model.name} does not explain place {places} of the list")
        confirm = None
        if isinstance(message, DataNotification) and message.long_invoke.confirmed:
            confirm = message.long_invoke
        return Explained(known, registers, opened.counter, "; ".join(remarks) or None, confirm)

    async def claim_of(self, payload: Payload) -> Claim | None:
        """Which meter a payload says to be from, without asking for any proof; None where it tells none.

        Raises UnavailableError while the database is away.
        """
        try:
            message = apdus.decode(payload.apdu)
        except RemoteProtocolError:
            return None
        title = _title(message)
        if title is not None:
            return Claim(title=title)
        if not isinstance(message, Push):
            return None
        raw = body_of(message)
        data = tolerant.read(raw).data
        told = None if data is None else await self._told(message, data, payload.line, None)
        return Claim(name=told.meter.asset_id) if isinstance(told, Known) else None

    # ---- ciphered: the title tells, the tag proves ----------------------------------------------------

    async def _open(self, apdu: bytes) -> _Opened | Kept:
        if apdu[0] not in ciphering.CIPHERED_TAGS:
            return _Opened(apdu)
        try:
            title = _title(apdus.decode(apdu))
        except RemoteProtocolError as exc:
            return Kept(f"malformed: {exc}")
        if title is None:
            return Kept(f"{apdus.name_of(apdu[0])} does not tell its system title")
        identity = title.hex().upper()
        known = await self._directory.by_title(title)
        if known is None:
            return Kept(f"no meter has system title {identity}", identity)
        if known.cipher is None or known.key_id is None:
            return Kept(f"meter {known.meter.asset_id}: {known.without}", identity)
        try:
            opened = ciphering.open_apdu(
                apdu,
                keys=known.cipher,
                system_title=title,
                our_title=self._our_title,
                master_key=known.master,
            )
            check_policy(known.required, opened.control)
        except CommunicationError as exc:
            return Kept(f"meter {known.meter.asset_id}: {exc}", identity)
        verified = bool(protection_of(opened.control) & Protection.AUTHENTICATED)
        counter = Counter(known.key_id, title, opened.counter)
        return _Opened(opened.plain, known, counter, verified, identity)

    # ---- plain: what stands inside tells, and nothing proves ------------------------------------------

    async def _told(
        self,
        message: Push,
        data: Data,
        line: tuple[object, ...],
        context: Context | None,
    ) -> Known | Kept:
        names = set(_identities(message, data, None))
        for model in _that_name_places(self._directory.models(), data):
            names.update(_identities(message, data, model))
        found = [
            known
            for known in await self._directory.by_names(names)
            # the meter's own model must read its name there, not just any model
            if _names(known) & set(_identities(message, data, known.model))
        ]
        if len(found) > 1:
            which = ", ".join(known.meter.asset_id for known in found)
            return Kept(f"what it tells fits several meters: {which}", which)
        told = " ".join(sorted(names))[:200] or None
        if not found:
            if names:
                return Kept("no meter has a name or number that it tells", told)
            if context is None:
                return Kept("it does not tell which meter it is from")
            return await self._by_line(line, context)
        known = found[0]
        if context is not None:
            context.told(line, known.meter.meter_id)
        return _plain_allowed(known, told)

    async def _by_line(self, line: tuple[object, ...], context: Context) -> Known | Kept:
        """A list that tells nothing, on a line that told before."""
        if not line or line[0] not in _LINES:
            return Kept("it does not tell which meter it is from")
        if context.several:
            return Kept("it does not tell which meter it is from, and several send on this connection")
        known: Known | None = None
        if line in context.lines and context.meter_id is not None:
            known = await self._directory.by_number(context.meter_id)
        elif context.claim is not None:
            known = await self._directory.by_claim(context.claim)
            if known is None:
                return Kept("no meter is known by the heartbeat of this connection", str(context.claim))
        if known is None:
            return Kept("it does not tell which meter it is from, nor did one before it on this line")
        if not known.model.quirks.anonymous_lists:
            return Kept(
                f"it does not tell which meter it is from, and model {known.model.name} does not say that "
                "such lists are its own (quirk anonymous_lists)",
                known.meter.asset_id,
            )
        return _plain_allowed(known, known.meter.asset_id)


def _plain_allowed(known: Known, identity: str | None) -> Known | Kept:
    if known.may_push_plain:
        return known
    return Kept(
        f"meter {known.meter.asset_id}: its model {known.model.name} allows no push without ciphering",
        identity,
    )


def _names(known: Known) -> set[str]:
    names = {known.meter.asset_id}
    if known.meter.logical_device_name is not None:
        names.add(known.meter.logical_device_name)
    return names


def _identities(message: Push, data: Data, model: MeterModel | None) -> Iterable[str]:
    """The texts under the codes where a model (None: any) tells which meter it is."""
    codes = MeterModel.model_fields["identity"].default if model is None else model.identity
    for value in values_of(message, data, model)[0]:
        text = push_values.written(value.value)
        if str(value.obis) in codes and text and len(text) <= _LONGEST_IDENTITY and text.isprintable():
            yield text


def _that_name_places(models: Iterable[MeterModel], data: Data) -> Iterable[MeterModel]:
    """The models with a push list that fits this body and names its places."""
    items = push_values.elements(data)
    if not items:
        return
    container = "structure" if data.type is DataType.STRUCTURE else "array"
    first = None if items[0].type in _CONTAINERS else push_values.plain(items[0])
    list_id = first if isinstance(first, str) else None
    for model in models:
        pushed = model.push_list(container, len(items), list_id)
        if pushed is not None and pushed.positions:
            yield model


def _title(message: Apdu) -> bytes | None:
    match message:
        case GeneralGloCiphering(system_title=title) | GeneralDedCiphering(system_title=title):
            return title or None
        case GeneralCiphering(originator=title):
            return title or None
        case _:
            return None


def _wrong(opened: _Opened, reason: str) -> str:
    """Only the plain text tells a wrong key where there is no tag."""
    if opened.known is not None and not opened.verified:
        return f"does not decipher to a push, wrong key? ({reason})"
    return reason
