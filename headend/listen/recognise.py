"""What a pushed APDU says: who sent it, by what it tells or proves, and which values it carries.

Identity comes from the message alone. A ciphered one tells its system title, and its tag (or its plain text,
where the model has no tag) proves it. One without ciphering is believed only of meters whose model allows it,
by the meter number or logical device name inside. The sender's address never counts. A list that tells
nothing belongs to the meter that the same line told before, where that meter's model says that it has such
lists (quirk `anonymous_lists`) and the connection told of no other meter.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from headend.listen.contents import Push, body_of, meter_time_us, register, values_of
from headend.listen.directory import Directory, Known
from headend.listen.forwarded import ForwardedRows
from headend.listen.heartbeat import Claim
from headend.listen.identities import identities, names_of, that_name_places, title_of
from headend.listen.push_stream import Payload
from headend.listen.pushed_events import events_of
from headend.listen.replay import Counter
from protocols.dlms import apdu as apdus
from protocols.dlms import ciphering, tolerant
from protocols.dlms.apdu import DataNotification
from protocols.dlms.apdu.fields import LongInvokeIdAndPriority
from protocols.dlms.axdr import Data
from protocols.dlms.forwarded import Forwarded, read_forwarded
from protocols.dlms.framing import Framing
from protocols.dlms.security import Protection, check_policy, protection_of
from protocols.errors import CommunicationError, RemoteProtocolError
from schemas.event import MeterEvent
from schemas.reading import ReadingBatch, RegisterRead

#: Lines of one connection that are told apart; a line is a framing and its addresses.
_MOST_LINES: Final = 256
#: Framings of a local line, where one meter stands behind one connection.
_LINES: Final = (Framing.HDLC, Framing.MBUS)


class Kept(NamedTuple):
    """For the inbox: why, and who the sender claims to be."""

    reason: str
    identity: str | None = None


class Proof(NamedTuple):
    """The meter whose session a message came in, and the security control that it came with there (None:
    plain). The message itself is opened, and its counter accepted, by the association."""

    meter_id: int
    control: int | None


class Explained(NamedTuple):
    """Values and events of a known meter. ``remark`` says what of the message is not understood, so that its
    bytes are kept too; ``confirm`` is the invoke id to confirm once the values are committed. ``forwarded``
    are rows that a concentrator hands on of its meters."""

    known: Known
    registers: tuple[RegisterRead, ...]
    counter: Counter | None = None
    remark: str | None = None
    confirm: LongInvokeIdAndPriority | None = None
    events: tuple[MeterEvent, ...] = ()
    forwarded: ReadingBatch | None = None


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

    def __init__(
        self,
        directory: Directory,
        our_title: bytes | None = None,
        *,
        forwarded: ForwardedRows | None = None,
    ) -> None:
        self._directory = directory
        self._our_title = our_title
        self._forwarded = forwarded

    async def explain(
        self, payload: Payload, context: Context | None, now_us: int, proof: Proof | None = None
    ) -> Explained | Kept:
        """What the payload says. ``now_us`` is when it came; without ``context`` it stands alone. With
        ``proof`` it is that meter's and opened.

        Raises UnavailableError while the database is away; nothing for what the bytes are.
        """
        opened = await (self._open(payload.apdu) if proof is None else self._proven(payload.apdu, proof))
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
        try:
            push = None if self._forwarded is None else read_forwarded(reading.data)
        except RemoteProtocolError as exc:
            return Kept(_wrong(opened, str(exc)), opened.identity)
        if push is not None and self._forwarded is not None:
            return await self._rows(self._forwarded, push, message, opened)
        if known is None:
            told = await self._told(message, reading.data, payload.line, context)
            if isinstance(told, Kept):
                return told
            known = told
        elif proof is not None and not _has_tag(proof.control):
            other = await self._other(message, reading.data, known)
            if other is not None:
                return Kept(f"within the session of {known.meter.asset_id} it tells of {other}", other)
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
        events = tuple(events_of(message, values, known.model, known.meter.meter_id, now_us, meter_us))
        return Explained(known, registers, opened.counter, "; ".join(remarks) or None, confirm, events)

    async def _rows(
        self, forwarded: ForwardedRows, push: Forwarded, message: Push, opened: _Opened
    ) -> Explained | Kept:
        """What a concentrator hands on. It is confirmed, and so released there, only where all of it is
        understood."""
        known = opened.known or await forwarded.sender(push)
        if isinstance(known, str):
            return Kept(known, push.identity)
        batch, remarks = await forwarded.understand(known, push)
        remark = "; ".join(remarks[:10]) or None
        if batch is None:
            return Kept(remark or "it carries no rows", push.identity)
        confirm = None
        if isinstance(message, DataNotification) and message.long_invoke.confirmed and not remarks:
            confirm = message.long_invoke
        return Explained(known, (), opened.counter, remark, confirm, forwarded=batch)

    async def claim_of(self, payload: Payload) -> Claim | None:
        """Which meter a payload says to be from, without asking for any proof; None where it tells none.

        Raises UnavailableError while the database is away.
        """
        try:
            message = apdus.decode(payload.apdu)
        except RemoteProtocolError:
            return None
        title = title_of(message)
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
            title = title_of(apdus.decode(apdu))
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
        opened = self._under(apdu, title, known)
        if isinstance(opened, CommunicationError):  # its keys may have been changed a moment ago
            now = await self._directory.again(title)
            if now is not None and now.key_sets != known.key_sets:
                opened = self._under(apdu, title, now)
        if isinstance(opened, CommunicationError):
            return Kept(f"meter {known.meter.asset_id}: {opened}", identity)
        return opened

    def _under(self, apdu: bytes, title: bytes, known: Known) -> _Opened | CommunicationError:
        """Opened under whichever of the meter's keys, or what was wrong under the first."""
        wrong: CommunicationError | None = None
        for keys in known.key_sets:
            try:
                opened = ciphering.open_apdu(
                    apdu,
                    keys=keys.cipher,
                    system_title=title,
                    our_title=self._our_title,
                    master_key=keys.master,
                )
                check_policy(known.required, opened.control)
            except CommunicationError as exc:
                wrong = wrong or exc
                continue
            counter = Counter(keys.key_id, title, opened.counter)
            return _Opened(opened.plain, known, counter, _has_tag(opened.control), title.hex().upper())
        return wrong or RemoteProtocolError("no key of its is known")

    # ---- within a session: the association proves ------------------------------------------------------

    async def _proven(self, apdu: bytes, proof: Proof) -> _Opened | Kept:
        known = await self._directory.by_number(proof.meter_id)
        if known is None:
            return Kept(f"meter number {proof.meter_id} is not there any more")
        try:
            check_policy(known.required, proof.control)
        except CommunicationError as exc:
            return Kept(f"meter {known.meter.asset_id}: {exc}", known.meter.asset_id)
        return _Opened(apdu, known, verified=True, identity=known.meter.asset_id)

    async def _other(self, message: Push, data: Data, known: Known) -> str | None:
        """The asset id of another meter of ours that it tells of; a tag would have proven that it errs."""
        told = set(identities(message, data, known.model))
        if told & names_of(known):
            return None
        found = await self._directory.by_names(told)
        return ", ".join(one.meter.asset_id for one in found) or None

    # ---- plain: what stands inside tells, and nothing proves ------------------------------------------

    async def _told(
        self,
        message: Push,
        data: Data,
        line: tuple[object, ...],
        context: Context | None,
    ) -> Known | Kept:
        names = set(identities(message, data, None))
        for model in that_name_places(self._directory.models(), data):
            names.update(identities(message, data, model))
        found = [
            known
            for known in await self._directory.by_names(names)
            # the meter's own model must read its name there, not just any model
            if names_of(known) & set(identities(message, data, known.model))
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


def _has_tag(control: int | None) -> bool:
    return control is not None and bool(protection_of(control) & Protection.AUTHENTICATED)


def _wrong(opened: _Opened, reason: str) -> str:
    """Only the plain text tells a wrong key where there is no tag."""
    if opened.known is not None and not opened.verified:
        return f"does not decipher to a push, wrong key? ({reason})"
    return reason
