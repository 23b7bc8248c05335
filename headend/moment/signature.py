"""Signatures of what is told: ``t=<seconds since 1970>,v1=<HMAC-SHA-256 in hexadecimal>``.

The HMAC is over ``<t>.`` followed by the body's bytes, under the secret's UTF-8. The receiver computes it
over the body as it came, compares in constant time, and refuses a ``t`` that is minutes off his clock: then
neither a changed body nor an old one that somebody kept can be passed off as ours. Receivers take further
``v...`` members that they do not know without a word, so that another scheme can be added beside this one.
"""

import hashlib
import hmac
from typing import Final

#: The header that carries it.
HEADER: Final = "Headend-Signature"
#: Seconds that a signature may be off the receiver's clock.
TOLERANCE_S: Final = 300


def sign(secret: str, body: bytes, *, at_s: int) -> str:
    """The header's value for a body that is sent at ``at_s``, seconds since 1970."""
    return f"t={at_s},v1={_mac(secret, body, at_s)}"


def is_genuine(secret: str, body: bytes, header: str, *, now_s: int, tolerance_s: int = TOLERANCE_S) -> bool:
    """Whether this header is ours for this body, and of now. What a receiver does, in few words."""
    told = [part.partition("=") for part in header.split(",")]
    times = [value for name, _, value in told if name.strip() == "t"]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit() and len(times[0]) <= 12):
        return False
    at_s = int(times[0])
    if abs(now_s - at_s) > tolerance_s:
        return False
    right = _mac(secret, body, at_s).encode()
    given = [value.strip().encode("utf-8", "replace") for name, _, value in told if name.strip() == "v1"]
    return any([hmac.compare_digest(right, one) for one in given])  # noqa: C419 - all, in constant time


def _mac(secret: str, body: bytes, at_s: int) -> str:
    return hmac.new(secret.encode(), b"%d." % at_s + body, hashlib.sha256).hexdigest()
