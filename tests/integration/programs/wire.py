"""What went over the wire to and from simulated meters: each pair of key and counter, seen from outside."""

from collections import Counter, deque

import pytest

from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.station import Station
from protocols.dlms.apdu import acse
from protocols.dlms.ciphering import CIPHERED_TAGS, open_apdu
from protocols.dlms.enums import SecuritySuite
from protocols.dlms.security import CipherKeys, Key
from protocols.errors import CommunicationError

_RECENT = 4


class Wire:
    """Records every ciphered message of service-specific and general ciphering, and every HLS proof, by what
    deciphers it: (encryption key, sender's title, counter). ``unknown`` are those that no key opens."""

    def __init__(self, meter: SimulatedMeter) -> None:
        self.seen: Counter[tuple[bytes, bytes, int]] = Counter()
        self.unknown = 0
        self._suite = SecuritySuite(meter.mode.suite)
        self._client = b""
        self._server = meter.system_title
        keys = meter.keys
        assert keys.encryption is not None
        assert keys.authentication is not None
        self._keys: dict[int, deque[Key]] = {
            0: deque([keys.encryption], maxlen=_RECENT),
            1: deque([keys.authentication], maxlen=_RECENT),
        }

    def made(self, encryption: bytes, authentication: bytes) -> None:
        """The head-end made new keys."""
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
            self._ciphered(aarq.user_information or b"", self._client)
        elif apdu[0] == acse.AARE_TAG:
            self._ciphered(acse.decode_aare(apdu).user_information or b"", self._server)
        elif apdu[0] == acse.RLRQ_TAG:
            self._ciphered(acse.decode_rlrq(apdu).user_information or b"", self._client)
        else:
            self._ciphered(apdu, self._client if ours else self._server)

    def _ciphered(self, apdu: bytes, title: bytes) -> None:
        if not apdu or apdu[0] not in CIPHERED_TAGS:
            return
        for encryption in reversed(self._keys[0]):
            for authentication in reversed(self._keys[1]):
                keys = CipherKeys(encryption, authentication, self._suite)
                try:
                    opened = open_apdu(apdu, keys=keys, dedicated=None, system_title=title)
                except CommunicationError:
                    continue
                secret = encryption.reveal()
                self.seen[secret, title, opened.counter] += 1
                at = opened.plain.find(bytes((0x09, 0x11, 0x10 | self._suite)))
                if at >= 0:  # an HLS proof has a counter of its own
                    proof = int.from_bytes(opened.plain[at + 3 : at + 7], "big")
                    self.seen[secret, title, proof] += 1
                return
        self.unknown += 1


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
