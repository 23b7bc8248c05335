"""Messages of our own schema for images (`schemas.image_message`), as JSON."""

import base64
import binascii
from collections.abc import Iterable, Iterator, Sequence

from protocols.errors import RemoteProtocolError
from protocols.mqtt import messages
from schemas.image_message import MESSAGE, ImageChunk, ImageMessage


def decode(payload: bytes) -> ImageMessage:
    """A request or an answer. Raises RemoteProtocolError as `protocols.mqtt.messages.decode`."""
    return messages.decode(MESSAGE, payload)


def chunk(request_id: str, number: int, value: bytes) -> ImageChunk:
    """The request that brings ``value``."""
    return ImageChunk(id=request_id, number=number, data=base64.b64encode(value).decode("ascii"))


def value_of(message: ImageChunk) -> bytes:
    """What a chunk brings. Raises RemoteProtocolError."""
    try:
        return base64.b64decode(message.data, validate=True)
    except binascii.Error as error:
        raise RemoteProtocolError(f"data is no Base64: {error}") from error


def ranges(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Numbers in order as ranges, from and to, both within."""
    first = last = None
    for number in numbers:
        if first is None or last is None:
            first = last = number
        elif number == last + 1:
            last = number
        else:
            yield first, last
            first = last = number
    if first is not None and last is not None:
        yield first, last


def numbers(within: Sequence[tuple[int, int]]) -> Iterator[int]:
    """The numbers of ranges."""
    for first, last in within:
        yield from range(first, last + 1)
