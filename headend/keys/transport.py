"""Keys on their way from the meters' maker: wrapped under a transport key that came by another way.

Keys are wrapped as RFC 3394 has it. Passwords and HLS secrets are of any length, so they are wrapped with
padding (RFC 5649).
"""

from typing import Final

from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap_with_padding,
)

from protocols.dlms.security import Key, unwrap_key, wrap_key
from protocols.errors import CommunicationError
from schemas.meter import KeyPurpose, check_key

_PADDED: Final = frozenset({KeyPurpose.LLS, KeyPurpose.HLS})


class TransportError(ValueError):
    """A wrapped key that does not open; the message holds no key."""


def transport_key(text: str) -> Key:
    """The transport key from 32 or 64 hexadecimal digits. Raises TransportError."""
    try:
        secret = bytes.fromhex(text.strip())
    except ValueError:
        secret = b""
    if len(secret) not in (16, 32):
        raise TransportError("the transport key must be 32 or 64 hexadecimal digits")
    return Key(secret)


def unwrap(purpose: KeyPurpose, wrapped: bytes, transport: Key) -> Key:
    """The key out of its wrapping. Raises TransportError, ValueError for a key of the wrong length."""
    if purpose in _PADDED:
        try:
            key = Key(aes_key_unwrap_with_padding(transport.reveal(), wrapped))
        except (InvalidUnwrap, ValueError):
            raise TransportError("does not open under the transport key") from None
    else:
        try:
            key = unwrap_key(wrapped, kek=transport)
        except CommunicationError:
            raise TransportError("does not open under the transport key") from None
    check_key(purpose, key.reveal())
    return key


def wrap(purpose: KeyPurpose, key: Key, transport: Key) -> bytes:
    """The key wrapped for transport. Raises ValueError for a key of the wrong length."""
    check_key(purpose, key.reveal())
    if purpose in _PADDED:
        return aes_key_wrap_with_padding(transport.reveal(), key.reveal())
    return wrap_key(key, kek=transport)
