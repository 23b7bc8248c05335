"""Ciphered APDUs: every form in which a message travels protected, opened and sealed without an association.

The forms (IEC 62056-5-3): service-specific global and dedicated (``glo-get-request`` ...), general-glo and
general-ded (any message, with the sender's system title), and general-ciphering with identified or wrapped
key. What is signed, or whose key was agreed on, is refused by name. A push listener and ``headend decode``
use `open_apdu` as it is; an association adds counters and policy.
"""

import hmac
from dataclasses import replace
from enum import StrEnum, auto
from typing import NamedTuple

from protocols.dlms import axdr
from protocols.dlms.apdu import ciphered
from protocols.dlms.apdu.fields import encode_octets
from protocols.dlms.security import (
    HEADER_LENGTH,
    SYSTEM_TITLE_LENGTH,
    CipherKeys,
    Key,
    key_length,
    protect,
    unprotect,
    unwrap_key,
)
from protocols.errors import RemoteProtocolError, SecurityError

GENERAL_GLO = 0xDB
GENERAL_DED = 0xDC
GENERAL_CIPHERING = 0xDD
GENERAL_SIGNING = 0xDF

#: Plain tag -> tag of its service-specific ciphering, with the global and with the dedicated key.
GLOBAL_TAG = {
    0x01: 0x21, 0x08: 0x28, 0x0E: 0x2E,
    0xC0: 0xC8, 0xC1: 0xC9, 0xC2: 0xCA, 0xC3: 0xCB, 0xC4: 0xCC, 0xC5: 0xCD, 0xC7: 0xCF,
}  # fmt: skip
DEDICATED_TAG = {
    0x0E: 0x4E, 0xC0: 0xD0, 0xC1: 0xD1, 0xC2: 0xD2, 0xC3: 0xD3, 0xC4: 0xD4, 0xC5: 0xD5, 0xC7: 0xD7,
}  # fmt: skip
PLAIN_OF_GLOBAL = {secured: plain for plain, secured in GLOBAL_TAG.items()}
_PLAIN_OF_DEDICATED = {secured: plain for plain, secured in DEDICATED_TAG.items()}
_LENGTH_IN_TWO = 0x82  # a length's first byte that says: it follows in two bytes
_GENERAL = frozenset({GENERAL_GLO, GENERAL_DED, GENERAL_CIPHERING, GENERAL_SIGNING})
CIPHERED_TAGS = frozenset(PLAIN_OF_GLOBAL) | frozenset(_PLAIN_OF_DEDICATED) | _GENERAL


class KeyUse(StrEnum):
    """Which key protected a message."""

    GLOBAL = auto()
    DEDICATED = auto()
    WRAPPED = auto()


# Members looked up once: on the enum's class that costs a good part of what deciphering a short message does.
_GLOBAL, _DEDICATED, _WRAPPED = KeyUse.GLOBAL, KeyUse.DEDICATED, KeyUse.WRAPPED


class OpenedApdu(NamedTuple):
    """A ciphered APDU opened: the ``plain`` one inside, and how it travelled.

    ``system_title`` is the sender's. Where ``control`` has no authentication bit nothing was verified.
    """

    plain: bytes
    control: int
    counter: int
    system_title: bytes
    key_use: KeyUse
    tag: int


def open_apdu(
    apdu: bytes,
    *,
    keys: CipherKeys,
    dedicated: CipherKeys | None = None,
    system_title: bytes | None = None,
    our_title: bytes | None = None,
    master_key: Key | None = None,
) -> OpenedApdu:
    """Open one ciphered APDU of any form.

    ``system_title`` is the sender's as the association knows it: service-specific forms need it, the general
    ones bring their own, which must then be the same. ``our_title`` not None must be the recipient of
    general-ciphering, where it names one. Raises SecurityError (does not verify, unsupported, no key for it)
    and RemoteProtocolError (malformed), with the offset in ``apdu``.
    """
    if not apdu:
        raise RemoteProtocolError("empty APDU", offset=0)
    tag = apdu[0]
    inner = PLAIN_OF_GLOBAL.get(tag)
    if inner is not None:
        return _open(apdu, 1, keys, _known(system_title), _GLOBAL, inner)
    inner = _PLAIN_OF_DEDICATED.get(tag)
    if inner is not None:
        return _open(apdu, 1, _agreed(dedicated), _known(system_title), _DEDICATED, inner)
    if tag == GENERAL_GLO:
        title, start = _title(apdu, system_title)
        return _open(apdu, start, keys, title, _GLOBAL)
    if tag == GENERAL_DED:
        title, start = _title(apdu, system_title)
        return _open(apdu, start, _agreed(dedicated), title, _DEDICATED)
    if tag == GENERAL_CIPHERING:
        return _open_general(ciphered.decode_general(apdu), apdu, keys, system_title, our_title, master_key)
    if tag == GENERAL_SIGNING:
        raise SecurityError("general-signing is not supported", offset=0)
    raise RemoteProtocolError(f"APDU tag 0x{tag:02x} is not a ciphered one", offset=0)


def seal_apdu(
    plain: bytes,
    *,
    control: int,
    counter: int,
    system_title: bytes,
    keys: CipherKeys,
    dedicated: bool = False,
    general: bool = False,
) -> bytes:
    """``plain`` ciphered: service-specific, or general-glo / general-ded where ``general`` or needed.

    ``keys`` are the dedicated ones when ``dedicated``. Raises as `protocols.dlms.security.protect` does.
    """
    body = protect(plain, control=control, counter=counter, system_title=system_title, keys=keys)
    tag = None if general else (DEDICATED_TAG if dedicated else GLOBAL_TAG).get(plain[0])
    if tag is not None:
        return bytes((tag,)) + encode_octets(body)
    tag = GENERAL_DED if dedicated else GENERAL_GLO
    return bytes((tag,)) + encode_octets(system_title) + encode_octets(body)


def seal_general_ciphering(
    plain: bytes,
    *,
    control: int,
    counter: int,
    system_title: bytes,
    recipient: bytes,
    transaction_id: bytes,
    keys: CipherKeys,
    wrapped: bytes | None = None,
) -> bytes:
    """``plain`` in general-ciphering: under the global key, or under ``keys`` sent along as ``wrapped``.

    The header (transaction id, titles, date-time, other information) is authenticated with its length bytes,
    as it is sent. We have no worked example of that from the standard; the peer's tag would tell.
    """
    key_info = (
        ciphered.IdentifiedKey(ciphered.IdentifiedKeyId.GLOBAL_UNICAST_ENCRYPTION)
        if wrapped is None
        else ciphered.WrappedKey(0, wrapped)
    )
    frame = ciphered.GeneralCiphering(
        transaction_id,
        system_title,
        recipient,
        b"",
        b"",
        key_info,
        ciphered.SecuredBody(control, counter, b""),
    )
    body = protect(
        plain,
        control=control,
        counter=counter,
        system_title=system_title,
        keys=keys,
        extra_aad=frame.header,
    )
    return replace(frame, body=ciphered.SecuredBody(control, counter, body[HEADER_LENGTH:])).to_bytes()


def _open(
    apdu: bytes, offset: int, keys: CipherKeys, title: bytes, use: KeyUse, inner: int | None = None
) -> OpenedApdu:
    size = len(apdu)
    if size > offset + 3 and apdu[offset] == _LENGTH_IN_TWO:  # as every full block has it
        length, start = apdu[offset + 1] << 8 | apdu[offset + 2], offset + 3
    else:
        length, start = axdr.decode_length(apdu, offset)
    if start + length != size:
        what = "is cut short" if start + length > size else "has bytes behind its end"
        raise RemoteProtocolError(f"ciphered APDU {what}", offset=min(start + length, size))
    try:
        plain, control, counter = unprotect(apdu[start:], system_title=title, keys=keys)
    except RemoteProtocolError as exc:
        exc.offset = None if exc.offset is None else exc.offset + start
        raise
    if not plain or plain[0] != inner:
        _check_inner(plain, inner)
    return OpenedApdu(plain, control, counter, title, use, apdu[0])


def _open_general(
    frame: ciphered.GeneralCiphering,
    apdu: bytes,
    keys: CipherKeys,
    system_title: bytes | None,
    our_title: bytes | None,
    master_key: Key | None,
) -> OpenedApdu:
    title = _same(frame.originator, system_title)
    if our_title is not None and frame.recipient and not hmac.compare_digest(frame.recipient, our_title):
        raise SecurityError(f"general-ciphering is for {frame.recipient.hex()}, not for us", offset=0)
    use = _GLOBAL
    match frame.key_info:
        case None | ciphered.IdentifiedKey(ciphered.IdentifiedKeyId.GLOBAL_UNICAST_ENCRYPTION):
            chosen = keys
        case ciphered.IdentifiedKey():
            raise SecurityError("the global broadcast key is not supported", offset=0)
        case ciphered.WrappedKey(kek_id=0, key_ciphered_data=data):
            if master_key is None:
                raise SecurityError("the message brings a wrapped key and no master key is known", offset=0)
            chosen = replace(keys, encryption=_unwrapped(data, keys, master_key))
            use = _WRAPPED
        case ciphered.WrappedKey(kek_id=kek_id):
            raise SecurityError(f"key-encrypting key {kek_id} does not exist", offset=0)
        case _:
            raise SecurityError("agreed keys (ECDH) are not supported", offset=0)
    plain, control, counter = unprotect(
        frame.body.to_bytes(), system_title=title, keys=chosen, extra_aad=frame.header
    )
    _check_inner(plain, None)
    return OpenedApdu(plain, control, counter, title, use, apdu[0])


def _unwrapped(data: bytes, keys: CipherKeys, master_key: Key) -> Key:
    key = unwrap_key(data, kek=master_key)
    if len(key) != key_length(keys.suite):
        raise SecurityError(f"the wrapped key has {len(key)} bytes, the suite wants {key_length(keys.suite)}")
    return key


def _check_inner(plain: bytes, expected: int | None) -> None:
    """Refuse a message that is not what its form says, or one ciphered twice: both smell of a wrong key."""
    tag = plain[0] if plain else None
    if (tag is None or tag in CIPHERED_TAGS) if expected is None else tag != expected:
        found = "nothing" if tag is None else f"tag 0x{tag:02x}"
        raise SecurityError(f"deciphering gives {found}, which cannot be: wrong key or forged", offset=0)


def _title(apdu: bytes, known: bytes | None) -> tuple[bytes, int]:
    length, start = axdr.decode_length(apdu, 1)
    if start + length > len(apdu):
        raise RemoteProtocolError("ciphered APDU is cut short in its system title", offset=len(apdu))
    return _same(apdu[start : start + length], known), start + length


def _same(title: bytes, known: bytes | None) -> bytes:
    if not title:
        return _known(known)
    if len(title) != SYSTEM_TITLE_LENGTH:
        raise RemoteProtocolError(f"a system title has 8 bytes, got {len(title)}", offset=1)
    if known is not None and title != known:
        raise SecurityError(
            f"message of system title {title.hex()} where {known.hex()} is the peer", offset=1
        )
    return title


def _known(title: bytes | None) -> bytes:
    if title is None:
        raise SecurityError("the sender's system title is not known: there is no initialisation vector")
    return title


def _agreed(dedicated: CipherKeys | None) -> CipherKeys:
    if dedicated is None:
        raise SecurityError("message under a dedicated key, and none is agreed", offset=0)
    return dedicated
