"""The server's side of the HDLC link: it speaks when polled, and says FRMR to what cannot be."""

from protocols.dlms.hdlc import LLC_RESPONSE, FrameType, HdlcFrame, u_control
from protocols.dlms.hdlc_link import HdlcLink
from protocols.dlms.hdlc_parameters import FrameReject, LinkParameters
from protocols.dlms.hdlc_states import (
    SERVER_TRANSITIONS,
    Connected,
    Disconnected,
    Event,
    LinkRejected,
    State,
    Transmit,
)
from protocols.errors import RemoteProtocolError


class HdlcServerLink(HdlcLink):
    """The meter's side for one pair of client and server address. It speaks when polled."""

    _transitions = SERVER_TRANSITIONS
    _llc = LLC_RESPONSE

    def _reset(self) -> None:
        super()._reset()
        self._turn = False  # polled and not yet answered: waiting for the application
        self._report = FrameReject(0, 0, 0)  # what FRMR said last, and says again while rejected

    def send(self, apdu: bytes) -> list[Event]:
        """One APDU.

        At once if the client waits for it, else when it polls. Raises LocalProtocolError unless connected.
        """
        self._enqueue(apdu)
        return self._answer() if self._turn else []

    def give_turn(self) -> list[Event]:
        """Give the turn back without an answer, for a request that has none."""
        return self._answer() if self._turn else []

    def on_timeout(self) -> list[Event]:
        """The inactivity time-out: the link is down without a word."""
        if self.state is State.DISCONNECTED:
            return []
        self._reset()
        return [self._emit(Disconnected("nothing heard for too long"))]

    def receive_frame(self, frame: HdlcFrame) -> list[Event]:
        broadcast = frame.destination.is_all_station
        if frame.source.station != self.peer.station or not (
            broadcast or frame.destination.station == self.own.station
        ):
            return []
        if frame.type is FrameType.UI:
            return self._take_ui(frame)
        if broadcast:
            return []  # nobody answers a broadcast, or all would at once
        if frame.type is FrameType.SNRM:
            return self._snrm(frame)
        if frame.type is FrameType.DISC:
            return self._disc()
        if self.state is State.DISCONNECTED:
            return [self._dm()] if frame.poll else []
        if self.state is State.REJECTED:
            return [self._frmr()] if frame.poll else []
        report = self._fault(frame)
        if report is not None:
            self._report = report
            return [self._emit(LinkRejected(report)), self._frmr()]
        return self._connected(frame)

    def _snrm(self, frame: HdlcFrame) -> list[Event]:
        try:
            theirs = LinkParameters.from_bytes(frame.information)
        except RemoteProtocolError:
            # We refuse to connect on terms we cannot read; a link that is up stays up.
            return [self._dm()] if self.state is State.DISCONNECTED else []
        self._reset()
        self.parameters = self.limits.negotiate(theirs)
        answer = self._frame(u_control(FrameType.UA, poll=True), self.parameters.to_bytes())
        return [self._emit(Connected(self.parameters)), answer]

    def _disc(self) -> list[Event]:
        if self.state is State.DISCONNECTED:
            return [self._dm()]
        self._reset()
        return [self._emit(Disconnected("by the client")), self._frame(u_control(FrameType.UA, poll=True))]

    def _dm(self) -> Transmit:
        return self._frame(u_control(FrameType.DM, poll=True))

    def _frmr(self) -> Transmit:
        return self._frame(u_control(FrameType.FRMR, poll=True), self._report.to_bytes())

    def _fault(self, frame: HdlcFrame) -> FrameReject | None:
        """What is wrong with a frame whose checks hold, as FRMR tells it."""
        report = FrameReject(frame.control, self._vs, self._vr)
        if frame.type not in (FrameType.I, FrameType.RR, FrameType.RNR):
            return report._replace(unknown_control=True)
        if frame.type is not FrameType.I and frame.information:
            return report._replace(unknown_control=True, information_not_permitted=True)
        if len(frame.information) > self.parameters.max_receive:
            return report._replace(information_too_long=True)
        return None if self._nr_valid(frame.nr) else report._replace(invalid_nr=True)

    def _connected(self, frame: HdlcFrame) -> list[Event]:
        events: list[Event] = []
        self._acknowledge(frame.nr)
        self._peer_busy = frame.type is FrameType.RNR
        whole = False
        if frame.type is FrameType.I and frame.ns == self._vr and not self.busy:
            event = self._take(frame)
            if event is not None:
                events.append(self._emit(event))
                whole = True
            if isinstance(event, Disconnected):
                return [*events, self._dm()]
        if not frame.poll:
            return events
        self._turn = True
        if not whole or (self._out and not self._peer_busy):
            events += self._answer()
        return events

    def _answer(self) -> list[Event]:
        self._turn = False
        return self._window() if self._out and not self._peer_busy else [self._ready()]
