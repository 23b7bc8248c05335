"""Messages as nearly all of them travel, at the least cost: service-specific, under the global key,
authenticated and encrypted.

`protocols.dlms.ciphering` seals and opens every form. What the messages of one sender have in common is
prepared here once: key schedule, title, additional data, control byte. The bytes are those of `seal_apdu`;
what does not open at first sight is left to `open_apdu`, which finds the words for what is wrong with it.
"""

import hmac
from typing import Final, Self

from protocols.dlms import axdr
from protocols.dlms.security import (
    HEADER_LENGTH,
    MAX_COUNTER,
    SYSTEM_TITLE_LENGTH,
    TAG_LENGTH,
    CipherKeys,
    Protection,
)
from protocols.errors import LocalProtocolError

_BOTH: Final = int(Protection.AUTHENTICATED_ENCRYPTED)
_FULL_TAG: Final = 16  # what AESGCM appends; DLMS keeps the first 12 bytes
_CUT: Final = TAG_LENGTH - _FULL_TAG
_AROUND: Final = HEADER_LENGTH + TAG_LENGTH
_LENGTH_IN_TWO: Final = 0x82  # a length's first byte that says: it follows in two bytes
_LENGTH_LONG: Final = 0x80


class Envelope:
    """All messages of one sender, named by its system title, under one pair of keys."""

    __slots__ = ("_aad", "_encrypt", "_head", "_title", "control")

    def __init__(self, keys: CipherKeys, authentication: bytes, system_title: bytes) -> None:
        self.control = _BOTH | int(keys.suite)
        self._head = bytes((self.control,))
        self._aad = self._head + authentication
        self._encrypt = keys.encryption.aead().encrypt
        self._title = system_title

    @classmethod
    def of(cls, keys: CipherKeys, system_title: bytes | None) -> Self | None:
        """The envelope; None where there is no authentication key, or no title of 8 bytes."""
        if keys.aad is None or system_title is None or len(system_title) != SYSTEM_TITLE_LENGTH:
            return None
        return cls(keys, keys.aad, system_title)

    def seal(self, plain: bytes, tag: int, counter: int) -> bytes:
        """The APDU of ``tag`` around ``plain``. Raises LocalProtocolError for a counter that is used up."""
        if not 0 <= counter <= MAX_COUNTER:
            raise LocalProtocolError("invocation counter is used up: the key must be changed")
        count = counter.to_bytes(4, "big")
        sealed = self._encrypt(self._title + count, plain, self._aad)
        length = HEADER_LENGTH + len(sealed) + _CUT
        head = bytes((tag, length)) if length < _LENGTH_LONG else bytes((tag,)) + axdr.encode_length(length)
        return head + self._head + count + sealed[:_CUT]

    def open(self, apdu: bytes) -> tuple[bytes, int] | None:
        """What is inside and its invocation counter, verified; None where it is another form, or forged."""
        size = len(apdu)
        if size < 2 + _AROUND:
            return None
        first = apdu[1]
        if first == _LENGTH_IN_TWO:  # as every full block has it
            length, start = apdu[2] << 8 | apdu[3], 4
        else:
            length, start = first, 2
            if first >= _LENGTH_LONG:
                return None
        if start + length != size or length < _AROUND or apdu[start] != self.control:
            return None
        body = start + HEADER_LENGTH
        count = apdu[start + 1 : body]
        nonce = self._title + count
        # GCM is counter mode below its tag: enciphering the ciphertext again gives the plain text.
        # AESGCM.decrypt would want all 16 bytes of the tag.
        encrypt = self._encrypt
        plain = encrypt(nonce, apdu[body:-TAG_LENGTH], None)[:-_FULL_TAG]
        expected = encrypt(nonce, plain, self._aad)[-_FULL_TAG:_CUT]
        if not hmac.compare_digest(expected, apdu[-TAG_LENGTH:]):
            return None
        return plain, int.from_bytes(count, "big")
