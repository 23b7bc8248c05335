"""Bytes that came as they are, or dressed as hexadecimal digits."""

import re
from typing import Final

from protocols.mqtt.documents import check_size

_HEX: Final = re.compile(rb"\s*(?:0x)?(?:[0-9a-f]{2}[\s:]*)+", re.IGNORECASE)


def undressed(payload: bytes) -> bytes:
    """The bytes that hexadecimal digits stand for (with spaces or colons between pairs), else ``payload``.

    Raises:
        RemoteProtocolError: too long.
    """
    check_size(payload)
    if _HEX.fullmatch(payload) is None:
        return payload
    digits = payload.strip().removeprefix(b"0x").removeprefix(b"0X")
    return bytes.fromhex(digits.replace(b":", b"").decode("ascii"))
