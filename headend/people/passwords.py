"""Passwords: argon2id in its own written form, verified in a thread, as dearly for nobody as for somebody.

RFC 9106's second recommendation: 64 MiB, three passes, four lanes. The memory is why few are verified at
once: log-ins that come in a flood wait here, and never starve readers of the API.
"""

import asyncio
import unicodedata
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

#: Characters. NIST SP 800-63B asks for length and for nothing else.
SHORTEST: Final = 12
LONGEST: Final = 256
#: Verified at once.
AT_ONCE: Final = 2


class WeakPassword(ValueError):
    """A password that is not taken; the message says what would be."""


def check(password: str, *, login: str) -> None:
    """Raises WeakPassword."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise WeakPassword(f"a password has {SHORTEST} to {LONGEST} characters; several words do well")
    if len(set(password)) < 5:
        raise WeakPassword("a password needs more than a few characters repeated")
    if login.casefold() in password.casefold() and len(password) < SHORTEST + len(login):
        raise WeakPassword("a password that is mostly the login is guessed first")


class Passwords:
    """Hashes and verifies. ``verified`` counts how often the dear function ran: once for each log-in, whether
    or not there is such an account."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._few = asyncio.Semaphore(AT_ONCE)
        self._nobody = ""
        self.verified = 0

    async def hash(self, password: str) -> str:
        """Its argon2id form."""
        async with self._few:
            return await asyncio.to_thread(self._hasher.hash, _normal(password))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether it is the one; for ``stored`` None the same work is done, and the answer is no."""
        async with self._few:
            self.verified += 1
            if not self._nobody:
                self._nobody = await asyncio.to_thread(self._hasher.hash, "a password that nobody has")
            matches = await asyncio.to_thread(self._matches, stored or self._nobody, _normal(password))
        return matches and stored is not None

    def is_cheap(self, stored: str) -> bool:
        """Whether it was hashed at another cost than today's."""
        return self._hasher.check_needs_rehash(stored)

    def _matches(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerifyMismatchError, InvalidHashError):
            return False


def _normal(password: str) -> str:
    # The same characters, however a keyboard composes them (NIST SP 800-63B).
    return unicodedata.normalize("NFKC", password)
