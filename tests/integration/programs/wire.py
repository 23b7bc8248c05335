"""What went over the wire to and from simulated meters: each pair of key and counter, seen from outside."""

from collections import Counter, deque
from dataclasses import replace
from itertools import product

import pytest

from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.station import Station
from protocols.dlms.apdu import acse
from protocols.dlms.apdu.ciphered import GENERAL_TAG, WrappedKey, decode_general
from protocols.dlms.apdu.initiate import decode_request
from protocols.dlms.ciphering import CIPHERED_TAGS, KeyUse, OpenedApdu, open_apdu
from protocols.dlms.enums import Mechanism, SecuritySuite
from protocols.dlms.hls import Party, verify
from protocols.dlms.security import CipherKeys, Key, unwrap_key
from protocols.errors import CommunicationError

_RECENT = 4


class Wire:
    """Records every ciphered message and every HLS proof by what opens it: (key, sender's title, counter).
    The key is the global one, the dedicated one that the association agreed on, or one that came along
    wrapped: ``uses``. ``unknown`` are those that no key opens."""

    def __init__(self, meter: SimulatedMeter) -> None:
        self.seen: Counter[tuple[bytes, bytes, int]] = Counter()
        self.uses: set[KeyUse] = set()
        self.unknown = 0
        self._suite = SecuritySuite(meter.mode.suite)
        self._client = b""
        self._server = meter.system_title
        keys = meter.keys
        assert keys.encryption is not None
        assert keys.authentication is not None
        assert keys.master is not None
        self._keys: dict[int, deque[Key]] = {
            0: deque([keys.encryption], maxlen=_RECENT),
            1: deque([keys.authentication], maxlen=_RECENT),
            2: deque([keys.master], maxlen=_RECENT),
        }
        #: of the association: the dedicated key, the challenges of client and meter
        self._dedicated: Key | None = None
        self._challenges = {True: b"", False: b""}

    def made(self, encryption: bytes, authentication: bytes, master: bytes) -> None:
        """The head-end made new keys."""
        self._keys[2].append(Key(master))
        self._keys[0].append(Key(encryption))
        self._keys[1].append(Key(authentication))

    @property
    def reused(self) -> list[tuple[bytes, int]]:
        """Titles and counters of pairs that came more than once."""
        return [(title, counter) for (_, title, counter), times in self.seen.items() if times > 1]

    def take(self, apdu: bytes, *, ours: bool) -> None:
        """A message of the client's, or of the meter's."""
        if ours and apdu[0] == acse.AARQ_TAG:
            aarq = acse.decode_aarq(apdu)
            self._client = aarq.calling_ap_title or b""
            self._challenges[True] = aarq.calling_authentication_value or b""
            self._dedicated = None
            initiate = self._ciphered(aarq.user_information or b"", ours=True)
            if initiate:
                key = decode_request(initiate).dedicated_key
                self._dedicated = None if key is None else Key(key)
        elif apdu[0] == acse.AARE_TAG:
            aare = acse.decode_aare(apdu)
            self._challenges[False] = aare.responding_authentication_value or b""
            self._ciphered(aare.user_information or b"", ours=False)
        elif apdu[0] == acse.RLRQ_TAG:
            self._ciphered(acse.decode_rlrq(apdu).user_information or b"", ours=True)
        else:
            self._ciphered(apdu, ours=ours)

    def _ciphered(self, apdu: bytes, *, ours: bool) -> bytes | None:
        """What is inside; None where it is not ciphered, or no key opens it."""
        if not apdu or apdu[0] not in CIPHERED_TAGS:
            return None
        title = self._client if ours else self._server
        masters = self._keys[2] if apdu[0] == GENERAL_TAG else (self._keys[2][-1],)
        for keys, master in product(self._pairs(), reversed(masters)):
            dedicated = None if self._dedicated is None else replace(keys, encryption=self._dedicated)
            try:
                opened = open_apdu(
                    apdu, keys=keys, dedicated=dedicated, system_title=title, master_key=master
                )
            except CommunicationError:
                continue
            self.uses.add(opened.key_use)
            self.seen[_secret(apdu, opened, keys, dedicated, master), title, opened.counter] += 1
            at = opened.plain.find(bytes((0x09, 0x11, 0x10 | self._suite)))
            if at >= 0:
                self._proof(opened.plain[at + 2 : at + 19], ours=ours)
            return opened.plain
        self.unknown += 1
        return None

    def _proof(self, proof: bytes, *, ours: bool) -> None:
        """An HLS proof has a counter of its own, always under the global key."""
        title, challenge = (self._client if ours else self._server), self._challenges[not ours]
        for keys in self._pairs():
            party = Party(Mechanism.HLS_GMAC, b"", title, challenge, b"", keys=keys)
            try:
                verify(party, proof)
            except CommunicationError:
                continue
            self.seen[keys.encryption.reveal(), title, int.from_bytes(proof[1:5], "big")] += 1
            return
        self.unknown += 1

    def _pairs(self) -> list[CipherKeys]:
        """Of the newest keys first."""
        pairs = product(reversed(self._keys[0]), reversed(self._keys[1]))
        return [CipherKeys(encryption, authentication, self._suite) for encryption, authentication in pairs]


def _secret(
    apdu: bytes, opened: OpenedApdu, keys: CipherKeys, dedicated: CipherKeys | None, master: Key
) -> bytes:
    """The key that the message is under."""
    if opened.key_use is KeyUse.DEDICATED:
        assert dedicated is not None
        return dedicated.encryption.reveal()
    if opened.key_use is KeyUse.WRAPPED:
        came = decode_general(apdu).key_info
        assert isinstance(came, WrappedKey)
        return unwrap_key(came.key_ciphered_data, kek=master).reveal()
    return keys.encryption.reveal()


def tapped(monkeypatch: pytest.MonkeyPatch, meter: SimulatedMeter) -> Wire:
    """All that the stations of this process get and give; there is one meter."""
    wire, receive = Wire(meter), Station.receive

    def through(station: Station, client: int, server: int, apdu: bytes) -> list[bytes]:
        if client != 1:
            return receive(station, client, server, apdu)
        wire.take(apdu, ours=True)
        answers = receive(station, client, server, apdu)
        for answer in answers:
            wire.take(answer, ours=False)
        return answers

    monkeypatch.setattr(Station, "receive", through)
    return wire
