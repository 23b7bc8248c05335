"""Raw DLMS frames that gateways publish: the way of every other push, in their own transactions."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from headend.drivers.mqtt.told import Frames
from headend.listen.handler import Pending, PushHandler
from headend.listen.heartbeat import Beat
from headend.listen.push_stream import PushStream
from protocols.dlms.framing import BadFrame

_MAX_APDU: Final = 16 * 1024


class Pushed(NamedTuple):
    """What a gateway passed on under ``topic``."""

    topic: str
    frames: Frames


class FrameDoor:
    """Hands frames to the handler of pushes, which stores their values or keeps them in the inbox.

    A message stands for itself: segments of one APDU come in one message, or are bad frames. Nothing is
    confirmed to the meter, which does not hear us.
    """

    def __init__(self, handler: PushHandler) -> None:
        self._handler = handler

    async def store(self, pushed: Sequence[Pushed]) -> None:
        """Done when everything is committed. Waits for the database. Raises PipelineClosed."""
        begun: list[Pending] = []
        for topic, frames in pushed:
            source = f"mqtt {topic}"
            stream = PushStream(max_apdu=_MAX_APDU, datagrams=True)
            for item in [*stream.feed(frames.data), *stream.end()]:
                match item:
                    case Beat():
                        continue
                    case BadFrame(data=data, reason=reason):
                        await self._handler.keep_bad(data, source, reason)
                    case payload:
                        pending = await self._handler.begin(payload, source, None)
                        if pending is not None:
                            begun.append(pending)
        for pending in begun:
            await self._handler.finish(pending)
