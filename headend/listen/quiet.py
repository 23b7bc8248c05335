"""A line whose heartbeats a session does not see."""

from typing import Final

from headend.listen import heartbeat
from headend.listen.heartbeat import Beat
from headend.transport.stream import Stream
from schemas.model import Heartbeat


class QuietStream:
    """``stream`` without the heartbeats (``patterns``) that a meter sends between answers; each is answered.

    They are looked for where a piece of bytes begins, as a meter sends them: on their own. One that is cut in
    two goes through, since holding back its beginning could hold back the end of an answer.
    """

    def __init__(self, stream: Stream, *patterns: Heartbeat) -> None:
        self._stream: Final = stream
        self._patterns: Final = patterns

    @property
    def peer(self) -> str:
        """Where the other end is."""
        return self._stream.peer

    @property
    def is_open(self) -> bool:
        """False once either side closed."""
        return self._stream.is_open

    @property
    def is_quiet(self) -> bool:
        """Open, and everything that came has been taken."""
        return self._stream.is_quiet

    def write(self, data: bytes) -> None:
        """Hand over bytes to be sent. Raises LinkClosed."""
        self._stream.write(data)

    async def drain(self, deadline: float) -> None:
        """Wait until the peer takes bytes again. Raises LinkTimeout, LinkClosed."""
        await self._stream.drain(deadline)

    async def read_some(self, deadline: float) -> bytes:
        """All bytes that are there but heartbeats, at least one. Raises LinkTimeout, LinkClosed."""
        while True:
            data = await self._stream.read_some(deadline)
            while isinstance(beat := heartbeat.find(self._patterns, data), Beat):
                data = data[beat.end :]
                if beat.answer:
                    self._stream.write(beat.answer)
            if data:
                return data

    def unread(self, data: bytes) -> None:
        """Put bytes back that the next `read_some` shall give first."""
        self._stream.unread(data)

    def close(self) -> None:
        """Send what was written, then close."""
        self._stream.close()

    def abort(self) -> None:
        """Close at once."""
        self._stream.abort()

    async def wait_closed(self, deadline: float) -> None:
        """Close and wait until it is done."""
        await self._stream.wait_closed(deadline)
