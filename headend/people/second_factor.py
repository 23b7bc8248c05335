"""The second factor: one-time passwords by time (RFC 6238), each used once, and recovery codes.

A password of the step before or behind is taken too: clocks of telephones differ. What has been used, and
whatever is older, is not taken again, so that a password that somebody looked at is worth nothing.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import pyotp

from headend.keys.seal import Sealer
from headend.store import accounts
from headend.store.accounts import Account, Credentials
from headend.store.errors import ConflictError
from headend.store.sql import Connection

_ISSUER: Final = "Headend"
_STEP_S: Final = 30
_DIGITS: Final = 6
#: Bytes of a secret: as long as SHA-1's digest (RFC 4226, section 4, R6).
_SECRET: Final = 20
_CODES: Final = 10


class NoMasterKey(ConflictError):
    """There is no master key to seal the secret with; the message says what to set."""


class WrongCode(ConflictError):
    """The code does not confirm it."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a telephone needs, told this once."""

    secret: str = field(repr=False)
    uri: str = field(repr=False)


async def enrol(connection: Connection, account: Account, sealer: Sealer | None) -> Enrolment:
    """A new secret, asked of nobody until it is confirmed. Raises NoMasterKey, and ConflictError where there
    is a second factor already."""
    if sealer is None:
        raise NoMasterKey(
            "a second factor is kept sealed by the master key, and there is none: set "
            "HEADEND_MASTER_KEY_FILE to a file that holds 64 hexadecimal digits (openssl rand -hex 32)"
        )
    if account.totp_since is not None:
        raise ConflictError("there is a second factor already: take that away first")
    secret = secrets.token_bytes(_SECRET)
    sealed = sealer.seal_totp_secret(secret, account.account_id)
    await accounts.set_totp(connection, account.account_id, sealed, sealer.current_id)
    told = _base32(secret)
    return Enrolment(told, pyotp.TOTP(told).provisioning_uri(name=account.login, issuer_name=_ISSUER))


async def confirm(
    connection: Connection, account_id: int, sealer: Sealer | None, code: str, *, now: datetime
) -> list[str]:
    """Have it asked for from now on: the recovery codes, told this once. Raises WrongCode, ConflictError."""
    held = await accounts.lock(connection, account_id)
    if held.totp is None or held.totp_since is not None:
        raise ConflictError("there is nothing to confirm: begin with a new second factor")
    step = _step(held, sealer, code, now)
    if step is None:
        raise WrongCode("the code does not fit: see that the telephone's clock is right, and send the newest")
    codes = [f"{secrets.token_hex(4)}-{secrets.token_hex(4)}" for _ in range(_CODES)]
    await accounts.confirm_totp(
        connection, account_id, step=step, codes=[_digest(one) for one in codes], now=now
    )
    return codes


async def shown(
    connection: Connection, held: Credentials, sealer: Sealer | None, code: str, *, now: datetime
) -> bool:
    """Take a one-time password or a recovery code, once. Raises NoMasterKey where it cannot be looked at."""
    if not (code.isascii() and code.isdecimal()):
        return await accounts.use_code(connection, held.account_id, _digest(code), now=now)
    step = _step(held, sealer, code, now)
    return step is not None and await accounts.use_step(connection, held.account_id, step)


async def reseal(connection: Connection, sealer: Sealer) -> int:
    """Seal the secrets of all under the present master key: how many."""
    others = await accounts.other_totps(connection, sealer.current_id)
    for number, sealed, by in others:
        secret = sealer.open_totp_secret(sealed, by, number)
        again = sealer.seal_totp_secret(secret, number)
        await accounts.reseal_totp(connection, number, again, sealer.current_id)
    return len(others)


def _step(held: Credentials, sealer: Sealer | None, code: str, now: datetime) -> int | None:
    """The time step that the code is of; None where it is of none that may be used now."""
    if held.totp is None or held.totp_sealed_by is None:
        return None
    if sealer is None:
        raise NoMasterKey("the second factor is sealed, and the master key is not set here")
    secret = sealer.open_totp_secret(held.totp, held.totp_sealed_by, held.account_id)
    totp = pyotp.TOTP(_base32(secret), digits=_DIGITS, interval=_STEP_S)
    this = int(now.timestamp()) // _STEP_S
    # All are compared, whichever fits.
    fits = [step for step in (this - 1, this, this + 1) if hmac.compare_digest(totp.generate_otp(step), code)]
    return max(fits, default=None)


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.strip().lower().encode()).digest()


def _base32(secret: bytes) -> str:
    return base64.b32encode(secret).decode()
