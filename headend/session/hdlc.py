"""APDUs over HDLC: drives an `HdlcClientLink` over a stream, with its repetitions and its end."""

import asyncio
from collections import deque

from headend.session.deadlines import Deadlines
from headend.transport.stream import Stream
from protocols.dlms.hdlc import HdlcAddress, server_address
from protocols.dlms.hdlc_client import HdlcClientLink
from protocols.dlms.hdlc_parameters import LinkParameters
from protocols.dlms.hdlc_states import Apdu, Connected, Disconnected, Event, LinkRejected, State, Transmit
from protocols.errors import LinkClosed, LinkTimeout, RemoteProtocolError
from schemas.model import Hdlc


class HdlcChannel:
    """One HDLC connection to one server address.

    A frame that is not answered within ``frame_s`` is sent again, as often as the link allows; then the link
    is down. Sequence numbers keep a late frame from being taken for the next answer. Unconfirmed frames (UI)
    are a push, not an answer: dropped and counted.
    """

    __slots__ = ("_apdus", "_frame_s", "_link", "_loop", "_stream", "_unconfirmed")

    def __init__(
        self, stream: Stream, *, client: int, server: int, parameters: Hdlc, deadlines: Deadlines
    ) -> None:
        self._stream = stream
        self._frame_s = deadlines.frame_s
        self._loop = asyncio.get_running_loop()
        self._apdus: deque[bytes] = deque()
        self._unconfirmed = 0
        limits = LinkParameters(
            parameters.max_info, parameters.max_info, parameters.window, parameters.window
        )
        size = parameters.address_length
        peer = server_address(server, None if size == 1 else parameters.physical_address, size)
        self._link = HdlcClientLink(HdlcAddress(client), peer, limits)

    @property
    def peer(self) -> str:
        """Where the other end is."""
        return self._stream.peer

    @property
    def is_clean(self) -> bool:
        """Never: what else is on the line is not known."""
        return False

    @property
    def outlasts_silence(self) -> bool:
        """Never: frames were repeated already, and their numbers go on."""
        return False

    @property
    def ignored(self) -> int:
        """Bad stretches on the line, and unconfirmed frames."""
        return self._link.bad_frames + self._unconfirmed

    async def open(self, deadline: float) -> None:
        """SNRM until UA. Raises LinkTimeout, LinkClosed (refused), RemoteProtocolError."""
        await self._carry_out(self._link.connect(), deadline)
        while self._is(State.CONNECTING):
            await self._turn(deadline)

    async def send(self, apdu: bytes, deadline: float) -> None:
        """Send one APDU. Raises LinkTimeout, LinkClosed, LocalProtocolError (not connected)."""
        await self._carry_out(self._link.send(apdu), deadline)

    async def receive(self, deadline: float) -> bytes:
        """The next APDU. Raises LinkTimeout, LinkClosed (DM), RemoteProtocolError (FRMR)."""
        while not self._apdus:
            await self._turn(deadline)
        return self._apdus.popleft()

    async def close(self, deadline: float) -> None:
        """DISC until UA or DM. Raises LinkTimeout, LinkClosed."""
        if self._is(State.CONNECTED):
            await self._carry_out(self._link.disconnect(), deadline)
            while self._is(State.DISCONNECTING):
                await self._turn(deadline)

    def _is(self, state: State) -> bool:
        return self._link.state is state

    async def _turn(self, deadline: float) -> None:
        """Bytes, or a repetition when none come."""
        again = self._loop.time() + self._frame_s
        try:
            events = self._link.receive(await self._stream.read_some(min(deadline, again)))
        except LinkTimeout:
            if again >= deadline:
                raise
            events = self._link.on_timeout()
            for event in events:
                if isinstance(event, Disconnected):
                    raise LinkTimeout(f"{self.peer}: HDLC: {event.reason}") from None
        await self._carry_out(events, deadline)

    async def _carry_out(self, events: list[Event], deadline: float) -> None:
        out = b"".join([event.data for event in events if isinstance(event, Transmit)])
        if out:
            self._stream.write(out)
            await self._stream.drain(deadline)
        for event in events:
            match event:
                case Apdu(unconfirmed=True):
                    self._unconfirmed += 1
                case Apdu(apdu):
                    self._apdus.append(apdu)
                case Disconnected("as asked"):
                    pass
                case Disconnected(reason):
                    raise LinkClosed(f"{self.peer}: HDLC: {reason}")
                case LinkRejected(report):
                    raise RemoteProtocolError(f"{self.peer}: HDLC: the server rejected a frame ({report})")
                case Transmit() | Connected():
                    pass
