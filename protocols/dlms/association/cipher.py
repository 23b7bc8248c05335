"""The ciphering of one association: whose title, which key, which counter, and what the peer must give."""

from collections.abc import Callable

from protocols.dlms.association.settings import CipherForm, CipherSettings
from protocols.dlms.ciphering import (
    GENERAL_CIPHERING,
    GENERAL_DED,
    GENERAL_GLO,
    GLOBAL_TAG,
    PLAIN_OF_GLOBAL,
    KeyUse,
    OpenedApdu,
    open_apdu,
    seal_apdu,
    seal_general_ciphering,
)
from protocols.dlms.envelope import Envelope
from protocols.dlms.security import (
    CipherKeys,
    Key,
    PeerCounter,
    Protection,
    check_policy,
    key_length,
    wrap_key,
)
from protocols.errors import SecurityError

#: Bytes that the longest form puts around a plain APDU: general-ciphering with a wrapped AES-256 key.
OVERHEAD = {
    CipherForm.SERVICE_SPECIFIC: 32,
    CipherForm.GENERAL: 32,
    CipherForm.GENERAL_CIPHERING: 64,
    CipherForm.GENERAL_CIPHERING_WRAPPED: 104,
}
# Members looked up once: on the enum's class that costs as much as half of a short message's ciphering.
_SPECIFIC, _GENERAL = CipherForm.SERVICE_SPECIFIC, CipherForm.GENERAL
_GLOBAL, _DEDICATED = KeyUse.GLOBAL, KeyUse.DEDICATED
_FORM_OF_TAG = {GENERAL_GLO: CipherForm.GENERAL, GENERAL_DED: CipherForm.GENERAL}


class RepeatedMessage(Exception):  # no error: the link gave us the same bytes twice
    """The very message that was opened last came again: the link doubled it."""


class CipherContext:
    """Seals our messages and opens the peer's, under the keys of one association.

    ``next_counter`` gives our invocation counter, reserved before; each message takes one, and a repeated
    request is ciphered anew. ``peer_counter`` bars replays of messages under the global and wrapped keys; a
    dedicated key is born with the association and has its own bar. ``form`` follows the peer on the server's
    side.
    """

    __slots__ = (
        "_control",
        "_dedicated_counter",
        "_least",
        "_next_counter",
        "_ours",
        "_peer_title",
        "_random",
        "_session",
        "_suite",
        "_theirs",
        "_transaction",
        "_wrapped",
        "dedicated",
        "form",
        "peer_counter",
        "settings",
        "successor",
    )

    def __init__(
        self,
        settings: CipherSettings,
        *,
        next_counter: Callable[[], int],
        peer_counter: PeerCounter,
        random: Callable[[int], bytes],
    ) -> None:
        # Plain integers: the operators of flags cost more than the ciphering of a short message.
        self._suite = int(settings.suite)
        self._control = int(settings.protection) | self._suite
        self._least = int(settings.least)
        self.settings = settings
        self.form = settings.form
        self.peer_counter = peer_counter
        self._peer_title: bytes | None = None
        self._ours = Envelope.of(settings.keys, settings.our_system_title)
        if self._ours is not None and self._ours.control != self._control:
            self._ours = None
        self._theirs: Envelope | None = None
        self.dedicated: CipherKeys | None = None
        self._dedicated_counter = PeerCounter()
        self._next_counter = next_counter
        self._random = random
        self._session: CipherKeys | None = None
        self._wrapped: bytes | None = None
        self._transaction = 0
        #: opens what this context cannot: the peer's keys are being changed, and its next message may be
        #: under the new ones
        self.successor: CipherContext | None = None

    @property
    def overhead(self) -> int:
        """Bytes, at most, that sealing adds to an APDU."""
        return OVERHEAD[self.form]

    @property
    def peer_title(self) -> bytes | None:
        """Under which system title the peer's messages are opened."""
        return self._peer_title

    @peer_title.setter
    def peer_title(self, title: bytes | None) -> None:
        self._peer_title = title
        self._theirs = Envelope.of(self.settings.keys, title)

    def reset(self) -> None:
        """Forget what belonged to one association: the peer's title and the dedicated key."""
        self.peer_title = None
        self.dedicated = None
        self._session = self._wrapped = None
        self.form = self.settings.form

    def fresh_key(self) -> Key:
        """New random key of the suite's length."""
        return Key(self._random(key_length(self.settings.suite)))

    def agree_dedicated(self, key: Key) -> None:
        """Use ``key`` from now on; the counters of the peer begin anew under it."""
        settings = self.settings
        self.dedicated = CipherKeys(key, settings.authentication_key, settings.suite)
        self._dedicated_counter = PeerCounter()

    def seal(self, plain: bytes, *, protection: int | None = None, use_global: bool = False) -> bytes:
        """``plain`` ciphered in the association's form, under the dedicated key once there is one."""
        settings = self.settings
        control = self._control if protection is None else protection | self._suite
        dedicated = None if use_global else self.dedicated
        form = self.form
        if form is _SPECIFIC and dedicated is None and self._ours is not None and control == self._control:
            tag = GLOBAL_TAG.get(plain[0])
            if tag is not None:
                return self._ours.seal(plain, tag, self._next_counter())
        if form is _SPECIFIC or form is _GENERAL:
            return seal_apdu(
                plain,
                control=control,
                counter=self._next_counter(),
                system_title=settings.our_system_title,
                keys=settings.keys if dedicated is None else dedicated,
                dedicated=dedicated is not None,
                general=form is _GENERAL and plain[0] not in _INITIATE,
            )
        keys = settings.keys
        if form is CipherForm.GENERAL_CIPHERING_WRAPPED:
            keys = self._session_keys()
        self._transaction += 1
        return seal_general_ciphering(
            plain,
            control=control,
            counter=self._next_counter(),
            system_title=settings.our_system_title,
            recipient=self.peer_title or b"",
            transaction_id=self._transaction.to_bytes(8, "big"),
            keys=keys,
            wrapped=self._wrapped if form is CipherForm.GENERAL_CIPHERING_WRAPPED else None,
        )

    def open(self, apdu: bytes, *, least: int | None = None) -> OpenedApdu:
        """Open, check against replay and policy (``least`` protection, default what the settings require);
        what does not open is the `successor`'s, where there is one.

        Raises SecurityError and RemoteProtocolError, and RepeatedMessage when the message opened last came
        again.
        """
        try:
            return self._open(apdu, least)
        except SecurityError:
            if self.successor is None:
                raise
            return self.successor.open(apdu, least=least)

    def succeeded_by(
        self, settings: CipherSettings, *, peer_counter: PeerCounter, next_counter: Callable[[], int]
    ) -> "CipherContext":
        """The same association under other global keys; the dedicated key stays."""
        made = CipherContext(
            settings, next_counter=next_counter, peer_counter=peer_counter, random=self._random
        )
        made.peer_title, made.form = self.peer_title, self.form
        made.dedicated, made._dedicated_counter = self.dedicated, self._dedicated_counter
        return made

    def _open(self, apdu: bytes, least: int | None) -> OpenedApdu:
        if self._theirs is not None and (inner := PLAIN_OF_GLOBAL.get(apdu[0])) is not None:
            found = self._theirs.open(apdu)
            if found is not None and found[0] and found[0][0] == inner:
                plain, counter = found  # protected as well as can be: no policy asks for more
                if counter == self.peer_counter.last:
                    raise RepeatedMessage
                self.peer_counter.accept(counter, authenticated=True)
                return OpenedApdu(
                    plain, self._theirs.control, counter, self._peer_title or b"", _GLOBAL, apdu[0]
                )
        settings = self.settings
        opened = open_apdu(
            apdu,
            keys=settings.keys,
            dedicated=self.dedicated,
            system_title=self.peer_title,
            our_title=settings.our_system_title,
            master_key=settings.master_key,
        )
        required = self._least if least is None else least
        if required & ~opened.control:
            check_policy(Protection(required), opened.control)
        bar = self._dedicated_counter if opened.key_use is _DEDICATED else self.peer_counter
        if opened.counter == bar.last:
            raise RepeatedMessage
        bar.accept(opened.counter, authenticated=bool(opened.control & 0x10))
        return opened

    def follow(self, opened: OpenedApdu) -> None:
        """Answer in the form in which the peer asked."""
        if opened.key_use is KeyUse.WRAPPED:
            self.form = CipherForm.GENERAL_CIPHERING_WRAPPED
        elif opened.tag == GENERAL_CIPHERING:
            self.form = CipherForm.GENERAL_CIPHERING
        else:
            self.form = _FORM_OF_TAG.get(opened.tag, CipherForm.SERVICE_SPECIFIC)

    def _session_keys(self) -> CipherKeys:
        settings = self.settings
        if self._session is None:
            key = self.fresh_key()
            self._session = CipherKeys(key, settings.authentication_key, settings.suite)
            if settings.master_key is not None:  # CipherSettings and open_apdu have seen to it
                self._wrapped = wrap_key(key, kek=settings.master_key)
        return self._session


#: Initiate messages inside AARQ, AARE and RLRQ keep their own ciphered form also with the general ones.
_INITIATE = frozenset({0x01, 0x08, 0x0E})
