"""Keys at rest: each sealed with AES-256-GCM under the master key, bound to its meter and purpose.

A sealed key is ``nonce (12) || ciphertext || tag (16)``; the meter's number and the purpose are authenticated
with it, so that a row copied to another meter does not open. The master key never enters the database; its
id, which is stored beside each sealed key, is a hash that does not tell it.
"""

import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protocols.dlms.security import Key
from schemas.config import Settings
from schemas.meter import KeyPurpose

_NONCE: Final = 12
_LENGTH: Final = 32


class SealError(Exception):
    """A key cannot be sealed or opened; the message says what to change and never holds a key."""


_AUDIT: Final = b"headend audit seal"


class MasterKey:
    """The key that seals keys. It shows in no ``repr`` and is not pickled."""

    __slots__ = ("_aead", "key_id")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != _LENGTH:
            raise SealError(f"a master key has {_LENGTH} bytes, this one has {len(secret)}")
        self._aead = AESGCM(secret)
        #: 16 hexadecimal digits that name this master key
        self.key_id: Final = hmac.digest(secret, b"headend master key id", hashlib.sha256).hex()[:16]

    @classmethod
    def from_hex(cls, text: str, *, where: str) -> "MasterKey":
        """From 64 hexadecimal digits; ``where`` is named in the SealError when they are not."""
        try:
            secret = bytes.fromhex(text.strip())
        except ValueError:
            raise SealError(f"{where} must be {2 * _LENGTH} hexadecimal digits") from None
        if len(secret) != _LENGTH:
            raise SealError(f"{where} must be {2 * _LENGTH} hexadecimal digits")
        return cls(secret)

    def encrypt(self, plain: bytes, context: bytes) -> bytes:
        """``nonce || ciphertext || tag``, bound to ``context``."""
        nonce = secrets.token_bytes(_NONCE)
        return nonce + self._aead.encrypt(nonce, plain, context)

    def decrypt(self, sealed: bytes, context: bytes) -> bytes:
        """Raises SealError where anything of it was changed, or the context is another."""
        try:
            return self._aead.decrypt(sealed[:_NONCE], sealed[_NONCE:], context)
        except (InvalidTag, ValueError):
            raise SealError("a sealed key does not verify: it was changed, or belongs elsewhere") from None

    def __repr__(self) -> str:
        return f"MasterKey({self.key_id}, <redacted>)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a MasterKey is not pickled or copied")


class Sealer:
    """Seals under the current master key, and opens what that or a former one sealed."""

    def __init__(self, current: MasterKey, former: Sequence[MasterKey] = ()) -> None:
        self._current = current
        self._by_id = {key.key_id: key for key in (*former, current)}

    @property
    def current_id(self) -> str:
        """Id of the master key that seals."""
        return self._current.key_id

    def seal(self, key: Key, meter_id: int, purpose: KeyPurpose) -> bytes:
        """A meter's key, sealed for this meter and purpose only."""
        return self._current.encrypt(key.reveal(), _meter_context(meter_id, purpose))

    def open(self, sealed: bytes, sealed_by: str, meter_id: int, purpose: KeyPurpose) -> Key:
        """The key again. Raises SealError: sealed by a master key we do not have, or changed."""
        return Key(self._key(sealed_by).decrypt(sealed, _meter_context(meter_id, purpose)))

    def seal_fingerprint_key(self, secret: bytes) -> bytes:
        """The key of the fingerprints, sealed."""
        return self._current.encrypt(secret, b"headend fingerprint key")

    def open_fingerprint_key(self, sealed: bytes, sealed_by: str) -> bytes:
        """The key of the fingerprints again. Raises SealError."""
        return self._key(sealed_by).decrypt(sealed, b"headend fingerprint key")

    def seal_webhook_secret(self, secret: bytes) -> bytes:
        """The secret that a webhook is signed with, sealed for this purpose only."""
        return self._current.encrypt(secret, b"headend webhook secret")

    def open_webhook_secret(self, sealed: bytes, sealed_by: str) -> bytes:
        """A webhook's secret again. Raises SealError."""
        return self._key(sealed_by).decrypt(sealed, b"headend webhook secret")

    def seal_totp_secret(self, secret: bytes, account_id: int) -> bytes:
        """The secret of a person's one-time passwords, sealed for this account only."""
        return self._current.encrypt(secret, _account_context(account_id))

    def open_totp_secret(self, sealed: bytes, sealed_by: str, account_id: int) -> bytes:
        """That secret again. Raises SealError."""
        return self._key(sealed_by).decrypt(sealed, _account_context(account_id))

    def _key(self, key_id: str) -> MasterKey:
        key = self._by_id.get(key_id)
        if key is None:
            raise SealError(
                f"keys are sealed by master key {key_id}, which is not among {', '.join(self._by_id)}: "
                "give it as former_master_keys, or the right master key"
            )
        return key

    def __repr__(self) -> str:
        return f"Sealer({self.current_id})"


class Fingerprint:
    """Names keys without telling them: HMAC-SHA-256 under a random key that the database holds sealed."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def of(self, key: Key) -> bytes:
        """32 bytes that are the same for the same key, and tell nothing of it."""
        return hmac.digest(self._secret, key.reveal(), hashlib.sha256)

    def audit_seal(self, told: bytes) -> bytes:
        """32 bytes that nobody makes who has the database alone: of the end of the audit trail."""
        return hmac.digest(hmac.digest(self._secret, _AUDIT, hashlib.sha256), told, hashlib.sha256)

    def __repr__(self) -> str:
        return "Fingerprint(<redacted>)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Fingerprint is not pickled or copied")


def _meter_context(meter_id: int, purpose: KeyPurpose) -> bytes:
    return b"headend meter key\0" + meter_id.to_bytes(8, "big") + purpose.value.encode()


def _account_context(account_id: int) -> bytes:
    return b"headend one-time passwords\0" + account_id.to_bytes(8, "big")


def load_sealer(settings: Settings) -> Sealer:
    """The sealer that the settings name. Raises SealError saying how to give a master key."""
    former = [
        MasterKey.from_hex(text, where="former_master_keys: each")
        for text in (
            settings.former_master_keys.get_secret_value().split(",") if settings.former_master_keys else ()
        )
    ]
    if settings.master_key is not None:
        return Sealer(MasterKey.from_hex(settings.master_key.get_secret_value(), where="master_key"), former)
    if settings.master_key_file is not None:
        return Sealer(_from_file(settings.master_key_file), former)
    raise SealError(
        "no master key: set HEADEND_MASTER_KEY_FILE to a file that holds 64 hexadecimal digits "
        "(openssl rand -hex 32), or HEADEND_MASTER_KEY to the digits"
    )


def _from_file(path: Path) -> MasterKey:
    try:
        mode = path.stat().st_mode
        text = path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise SealError(f"master key file {path} cannot be read: {error.__class__.__name__}") from None
    if mode & (stat.S_IWGRP | stat.S_IRWXO):
        raise SealError(f"master key file {path} is open to others: chmod 600 {path}")
    return MasterKey.from_hex(text, where=f"master key file {path}")


def create_master_key_file(path: Path) -> None:
    """Make a random master key, readable by its owner alone. For the demo; keeps a file that is there."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(_LENGTH) + "\n")
        file.flush()
        os.fsync(file.fileno())
