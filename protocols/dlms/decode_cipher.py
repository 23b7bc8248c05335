"""Opens ciphered APDUs for the decode tool: with what keys there are, and saying what was verified.

Unlike a listener or an association it goes on where an engineer wants to look: a message that is only
authenticated is plain to read, and one whose authentication key is missing can be deciphered all the same.
Neither is verified then, and the answer says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, NamedTuple

from construct import BitsInteger, BitStruct, Flag

from protocols.dlms import apdu as apdus
from protocols.dlms import ciphering
from protocols.dlms.apdu import (
    DedicatedCiphered,
    GeneralCiphering,
    GeneralDedCiphering,
    GeneralGloCiphering,
    GlobalCiphered,
    SecuredBody,
    WrappedKey,
)
from protocols.dlms.enums import SecuritySuite
from protocols.dlms.security import TAG_LENGTH, CipherKeys, Key, check_control, key_length
from protocols.errors import CommunicationError, RemoteProtocolError

#: An APDU that has another inside, which a key opens.
Ciphered = GlobalCiphered | DedicatedCiphered | GeneralGloCiphering | GeneralDedCiphering | GeneralCiphering

#: Security control byte (Green Book ed. 8.1, 9.2.7), most significant bit first.
SECURITY_CONTROL: Final = BitStruct(
    "compressed" / Flag,
    "broadcast" / Flag,
    "encrypted" / Flag,
    "authenticated" / Flag,
    "suite" / BitsInteger(4),
)
_AUTHENTICATED: Final = 0x10
_ENCRYPTED: Final = 0x20


@dataclass(frozen=True, slots=True)
class Keys:
    """What the engineer knows. Everything may be missing; nothing of it shows in ``repr``.

    ``system_title`` is the sender's, for messages that do not bring it; ``master`` opens wrapped keys.
    """

    encryption: Key | None = None
    authentication: Key | None = None
    system_title: bytes | None = field(default=None, repr=False)
    master: Key | None = None


class Outcome(StrEnum):
    """What became of a ciphered APDU."""

    OPENED = "opened"
    UNDECRYPTABLE = "undecryptable"  # a key or title is not given: nobody's fault
    BAD = "bad"


class Opening(NamedTuple):
    """``plain`` is set when it was opened; ``verified`` if a tag was there and held; ``reason``: why not."""

    outcome: Outcome
    plain: bytes | None = None
    verified: bool = False
    reason: str | None = None
    offset: int | None = None
    system_title: bytes | None = None


def control_of(control: int) -> dict[str, bool | int]:
    """The security control byte by its fields."""
    fields = SECURITY_CONTROL.parse(bytes((control,)))
    return {name: fields[name] for name in ("suite", "authenticated", "encrypted", "broadcast", "compressed")}


def is_dedicated(message: Ciphered) -> bool:
    """Whether a dedicated key protects the message."""
    return isinstance(message, DedicatedCiphered | GeneralDedCiphering)


def open_message(
    message: Ciphered, keys: Keys, *, dedicated: Key | None = None, titles: Sequence[bytes] = ()
) -> Opening:
    """Open one ciphered APDU with what is known. Never raises CommunicationError.

    ``titles`` are those that the sender may have, likeliest first, for a message that does not tell.
    """
    control = message.body.control
    try:
        check_control(control)
    except RemoteProtocolError as exc:
        return Opening(Outcome.BAD, reason=exc.reason, offset=exc.offset)
    if not control & (_AUTHENTICATED | _ENCRYPTED):
        return Opening(Outcome.BAD, reason="security control asks for no protection at all", offset=0)
    suite = SecuritySuite(control & 0x0F)
    key = dedicated if is_dedicated(message) else keys.encryption
    wrapped = isinstance(message, GeneralCiphering) and isinstance(message.key_info, WrappedKey)
    missing = None
    if wrapped and keys.master is None:
        missing = "the message brings a wrapped key, the master key is not given"
    elif key is None and not wrapped:
        missing = f"the {'dedicated' if is_dedicated(message) else 'encryption'} key is not given"
    elif key is not None and len(key) != key_length(suite):
        missing = f"the key has {len(key)} bytes, security suite {suite.value} takes {key_length(suite)}"
    own = _own_title(message)
    candidates = [own] if own else list(dict.fromkeys(titles))
    if missing is None and not candidates:
        missing = "the sender's system title is not known"
    if missing is not None:
        return _authenticated_only(message, missing)
    # Where the message brings its own key, the one of CipherKeys is never asked: any of the right length.
    chosen = CipherKeys(key or Key(bytes(key_length(suite))), _authentication(keys, suite), suite)
    return _first(message, chosen, keys.master, candidates)


def _first(message: Ciphered, keys: CipherKeys, master: Key | None, titles: Sequence[bytes]) -> Opening:
    """The first title under which the message opens; else what the first one led to."""
    verified = bool(message.body.control & _AUTHENTICATED) and keys.authentication is not None
    if message.body.control & _AUTHENTICATED and not verified:
        if not message.body.control & _ENCRYPTED:
            return _authenticated_only(message, "the authentication key is not given")
        message = _without_tag(message)
    failed: Opening | None = None
    for title in titles:
        try:
            opened = ciphering.open_apdu(
                message.to_bytes(), keys=keys, dedicated=keys, system_title=title, master_key=master
            )
            if not verified:
                apdus.decode(opened.plain)  # nothing else tells a wrong key
        except CommunicationError as exc:
            # Without a tag the error lies in the plain text, which has no place in the input.
            at = exc.offset if verified else None
            failed = failed or Opening(Outcome.BAD, reason=_wrong(exc, verified=verified), offset=at)
            continue
        return Opening(Outcome.OPENED, opened.plain, verified, system_title=title)
    return failed or Opening(Outcome.UNDECRYPTABLE, reason="the sender's system title is not known")


def _wrong(error: CommunicationError, *, verified: bool) -> str:
    if verified:
        return error.reason
    return f"does not decipher to an APDU, wrong key? ({error.reason})"


def _authenticated_only(message: Ciphered, missing: str) -> Opening:
    """What is authenticated without being encrypted can be read without any key."""
    if message.body.control & _ENCRYPTED:
        return Opening(Outcome.UNDECRYPTABLE, reason=missing)
    plain = message.body.ciphertext[:-TAG_LENGTH]
    if not plain:
        return Opening(Outcome.BAD, reason="too short for its tag", offset=len(message.to_bytes()))
    return Opening(Outcome.OPENED, plain, reason=missing)


def _without_tag(message: Ciphered) -> Ciphered:
    body = message.body
    control = body.control & ~_AUTHENTICATED
    return replace(message, body=SecuredBody(control, body.invocation_counter, body.ciphertext[:-TAG_LENGTH]))


def _own_title(message: Ciphered) -> bytes:
    match message:
        case GeneralGloCiphering(system_title=title) | GeneralDedCiphering(system_title=title):
            return title
        case GeneralCiphering(originator=title):
            return title
        case _:
            return b""


def _authentication(keys: Keys, suite: SecuritySuite) -> Key | None:
    key = keys.authentication
    return key if key is not None and len(key) == key_length(suite) else None
