"""What all commands to a device of the broker stand on: a request, and the answer that is its own."""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Exchanging(ABC):
    """A conversation that publishes requests and waits for answers."""

    @abstractmethod
    async def _exchange(
        self, topic: str, payload: bytes, answers: str, take: Callable[[bytes], T | None]
    ) -> T:
        """Publish, and what ``take`` makes of the first message of ``answers`` of which it makes something.
        Both topics are patterns; what is retained is no answer. Raises LinkError."""


def new_id() -> str:
    """Of a request, and so of its answer."""
    return secrets.token_hex(8)
