"""High level security: what each side proves to the other in passes 3 and 4 (Green Book ed. 8.1, 9.2.7.4).

The client sends a challenge CtoS in the AARQ and receives StoC in the AARE; then it sends f(StoC) and the
server answers f(CtoS). Mechanism 2 is the maker's own secret algorithm and 7 needs ECDSA: both are refused by
name.
"""

import hashlib
import hmac
from collections.abc import Callable
from typing import NamedTuple

from protocols.dlms.enums import Mechanism
from protocols.dlms.security import (
    HEADER_LENGTH,
    TAG_LENGTH,
    CipherKeys,
    Key,
    Protection,
    protect,
    read_header,
    unprotect,
)
from protocols.errors import LocalProtocolError, SecurityError

MIN_CHALLENGE = 8
MAX_CHALLENGE = 64

_REFUSED = {
    Mechanism.HLS: "mechanism 2 (HLS) is the maker's own algorithm and not supported",
    Mechanism.HLS_ECDSA: "mechanism 7 (HLS ECDSA) is not supported",
}


class Party(NamedTuple):
    """What one side knows of an HLS exchange; ``me`` is the side that computes or verifies.

    ``secret`` serves mechanisms 3, 4 and 6, ``keys`` mechanism 5. Titles have 8 bytes where they matter (5,
    6).
    """

    mechanism: Mechanism
    my_title: bytes
    peer_title: bytes
    my_challenge: bytes
    peer_challenge: bytes
    secret: Key | None = None
    keys: CipherKeys | None = None


def check_mechanism(mechanism: Mechanism) -> None:
    """Raise SecurityError for the two mechanisms that are not ours."""
    reason = _REFUSED.get(mechanism)
    if reason is not None:
        raise SecurityError(reason)


def is_high_level(mechanism: Mechanism | None) -> bool:
    """Whether the mechanism needs passes 3 and 4."""
    return mechanism is not None and mechanism >= Mechanism.HLS


def check_challenge(challenge: bytes | None, *, ours: bytes) -> bytes:
    """The peer's challenge: 8 to 64 bytes and not our own one reflected. Raises SecurityError."""
    if challenge is None or not MIN_CHALLENGE <= len(challenge) <= MAX_CHALLENGE:
        length = 0 if challenge is None else len(challenge)
        raise SecurityError(f"the peer's HLS challenge has {length} bytes instead of 8 to 64")
    if hmac.compare_digest(challenge, ours):
        raise SecurityError("the peer sent our own HLS challenge back")
    return challenge


def prove(party: Party, next_counter: Callable[[], int]) -> bytes:
    """f(peer's challenge): what ``party.me`` sends. Mechanism 5 takes one counter and gives 17 bytes."""
    check_mechanism(party.mechanism)
    if party.mechanism is Mechanism.HLS_GMAC:
        keys = _keys(party)
        body = protect(
            party.peer_challenge,
            # Plain integers: the operators of flags cost more than the ciphering.
            control=int(Protection.AUTHENTICATED) | int(keys.suite),
            counter=next_counter(),
            system_title=party.my_title,
            keys=keys,
        )
        return body[:HEADER_LENGTH] + body[-TAG_LENGTH:]
    return _digest(party)


def verify(party: Party, proof: bytes) -> None:
    """Check the peer's f(our challenge) in constant time. Raises SecurityError.

    The counter inside a GMAC proof is no replay barrier: the challenge is fresh, and makers number it freely.
    """
    check_mechanism(party.mechanism)
    if party.mechanism is Mechanism.HLS_GMAC:
        if len(proof) != HEADER_LENGTH + TAG_LENGTH:
            raise SecurityError(f"a GMAC proof has 17 bytes, got {len(proof)}")
        control, _ = read_header(proof)
        if control & 0x30 != Protection.AUTHENTICATED:
            raise SecurityError("a GMAC proof must be authenticated only", offset=0)
        unprotect(
            proof[:HEADER_LENGTH] + party.my_challenge + proof[HEADER_LENGTH:],
            system_title=party.peer_title,
            keys=_keys(party),
        )
        return
    mirrored = party._replace(
        my_title=party.peer_title,
        peer_title=party.my_title,
        my_challenge=party.peer_challenge,
        peer_challenge=party.my_challenge,
    )
    if not hmac.compare_digest(_digest(mirrored), proof):
        raise SecurityError("the peer's HLS proof does not verify")


def _digest(party: Party) -> bytes:
    if party.secret is None:
        raise LocalProtocolError("this HLS mechanism needs a secret")
    secret = party.secret.reveal()
    match party.mechanism:
        case Mechanism.HLS_MD5:
            # The digest is what the meter computes; nobody chose MD5 here.
            return hashlib.md5(party.peer_challenge + secret, usedforsecurity=False).digest()
        case Mechanism.HLS_SHA1:
            return hashlib.sha1(party.peer_challenge + secret, usedforsecurity=False).digest()
        case Mechanism.HLS_SHA256:
            text = secret + party.my_title + party.peer_title + party.peer_challenge + party.my_challenge
            return hashlib.sha256(text).digest()
    raise LocalProtocolError(f"mechanism {party.mechanism.name} has no passes 3 and 4")


def _keys(party: Party) -> CipherKeys:
    if party.keys is None:
        raise LocalProtocolError("HLS-GMAC needs an encryption and an authentication key")
    return party.keys
