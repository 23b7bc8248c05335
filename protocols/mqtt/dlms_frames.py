"""Raw DLMS frames as payloads: a gateway that passes on what its meter pushes, in any framing."""

from typing import Final

from protocols.dlms.decode import Status, decode_stream
from protocols.errors import RemoteProtocolError
from protocols.mqtt.hexadecimal import undressed
from protocols.mqtt.reading import DlmsFrames

#: A gateway passes on one message at a time; in a longer payload the search for frames would take too long.
MAX_FRAMES: Final = 16_384


def decode(topic: str, payload: bytes) -> DlmsFrames:
    """The frames, and what they say without keys. What is ciphered is no refusal: its bytes are there.

    Raises:
        RemoteProtocolError: nothing of DLMS in it.
    """
    data = undressed(payload)
    if len(data) > MAX_FRAMES:
        raise RemoteProtocolError(f"{len(data)} bytes, more than a DLMS payload has ({MAX_FRAMES})")
    messages = tuple(decode_stream(data))
    if all(message.status is Status.BAD for message in messages):
        problem = next((problem for message in messages for problem in message.problems), None)
        raise RemoteProtocolError(
            "no DLMS message" if problem is None else f"no DLMS message: {problem.reason}",
            offset=None if problem is None else problem.offset,
        )
    return DlmsFrames(topic, data, messages)
