from pathlib import Path

import pytest

from protocols.dlms import hdlc_client, hdlc_link
from protocols.dlms.hdlc import (
    ALL_STATION,
    NO_STATION,
    PUBLIC_CLIENT,
    FrameType,
    HdlcAddress,
    HdlcFrame,
    HdlcReader,
    encode_frame,
    i_control,
    s_control,
    server_address,
    u_control,
)
from protocols.dlms.hdlc_client import HdlcClientLink
from protocols.dlms.hdlc_parameters import FrameReject, LinkParameters
from protocols.dlms.hdlc_server import HdlcServerLink
from protocols.dlms.hdlc_states import (
    CLIENT_TRANSITIONS,
    SERVER_TRANSITIONS,
    Apdu,
    Connected,
    Disconnected,
    LinkRejected,
    State,
    Transmit,
    state_diagram,
)
from protocols.errors import LocalProtocolError

METER = server_address(1, 17)
WIDE = LinkParameters(20, 20, 3, 3)


def frames(events: list) -> list[HdlcFrame]:
    reader = HdlcReader()
    for event in events:
        if isinstance(event, Transmit):
            reader.feed(event.data)
    found = []
    while (item := reader.next()) is not None:
        assert isinstance(item, HdlcFrame)
        found.append(item)
    return found


def shorts(events: list) -> list[str]:
    """Frames sent, as 'I 0 0 P' (N(S), N(R), poll) and the like."""
    texts = []
    for frame in frames(events):
        numbers = {
            FrameType.I: f" {frame.ns} {frame.nr}",
            FrameType.RR: f" {frame.nr}",
            FrameType.RNR: f" {frame.nr}",
        }
        texts.append(f"{frame.type}{numbers.get(frame.type, '')}{' P' if frame.poll else ''}")
    return texts


def others(events: list) -> list:
    return [event for event in events if not isinstance(event, Transmit)]


def data(events: list) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Transmit))


def client_frame(
    control: int, information: bytes = b"", *, to: HdlcAddress = METER, segmented: bool = False
) -> HdlcFrame:
    return HdlcFrame(to, PUBLIC_CLIENT, control, information, segmented)


def server_frame(control: int, information: bytes = b"", *, segmented: bool = False) -> HdlcFrame:
    return HdlcFrame(PUBLIC_CLIENT, METER, control, information, segmented)


def connected(limits: LinkParameters = WIDE) -> tuple[HdlcClientLink, HdlcServerLink]:
    client = HdlcClientLink(PUBLIC_CLIENT, METER, limits)
    server = HdlcServerLink(METER, PUBLIC_CLIENT, limits)
    answer = server.receive(data(client.connect()))
    assert others(client.receive(data(answer))) == [Connected(limits)]
    return client, server


def exchange(
    client: HdlcClientLink, server: HdlcServerLink, events: list, answer: bytes | None = None
) -> list:
    """Carry frames to and fro until the line is quiet; both applications' events in their order."""
    seen = []
    outgoing = events
    for _ in range(1000):
        if not any(isinstance(event, Transmit) for event in outgoing):
            return seen
        back = server.receive(data(outgoing))
        seen += others(back)
        if answer is not None and any(isinstance(event, Apdu) for event in back):
            back += server.send(answer)
        outgoing = client.receive(data(back))
        seen += others(outgoing)
    raise AssertionError("the line never becomes quiet")


def test_connect_negotiates_and_releases():
    client = HdlcClientLink(PUBLIC_CLIENT, METER, LinkParameters(1000, 2000, 7, 2))
    server = HdlcServerLink(METER, PUBLIC_CLIENT, LinkParameters(500, 600, 1, 4))
    snrm = client.connect()
    assert shorts(snrm) == ["SNRM P"]
    ua = server.receive(data(snrm))
    assert others(ua) == [Connected(LinkParameters(500, 600, 1, 4))]
    assert shorts(ua) == ["UA P"]
    assert client.receive(data(ua)) == [Connected(LinkParameters(600, 500, 4, 1))]
    disc = client.disconnect()
    assert shorts(disc) == ["DISC P"]
    ua = server.receive(data(disc))
    assert others(ua) == [Disconnected("by the client")]
    assert client.receive(data(ua)) == [Disconnected("as asked")]
    assert client.state is server.state is State.DISCONNECTED
    assert shorts(client.connect()) == ["SNRM P"]


@pytest.mark.parametrize("window", range(1, 8))
@pytest.mark.parametrize("length", [1, 17, 18, 20, 100, 400])
def test_request_and_answer_of_any_length(window, length):
    client, server = connected(LinkParameters(20, 20, window, window))
    request, answer = bytes([0xC0]) * length, bytes([0xC4]) * (length * 3)
    for _ in range(3):  # the numbers go round
        assert exchange(client, server, client.send(request), answer) == [Apdu(request), Apdu(answer)]


def test_frames_of_a_window():
    client, server = connected()
    sent = client.send(bytes(75))  # 78 bytes with LLC: four segments
    assert shorts(sent) == ["I 0 0", "I 1 0", "I 2 0 P"]
    assert [frame.segmented for frame in frames(sent)] == [True] * 3
    assert frames(sent)[0].information[:3] == b"\xe6\xe6\x00"
    ready = server.receive(data(sent))
    assert shorts(ready) == ["RR 3 P"]
    last = client.receive(data(ready))
    assert shorts(last) == ["I 3 0 P"]
    assert not frames(last)[0].segmented
    assert server.receive(data(last)) == [Apdu(bytes(75))]
    answer = server.send(bytes(75))
    assert shorts(answer) == ["I 0 4", "I 1 4", "I 2 4 P"]
    assert frames(answer)[0].information[:3] == b"\xe6\xe7\x00"
    poll = client.receive(data(answer))
    assert shorts(poll) == ["RR 3 P"]
    assert client.receive(data(server.receive(data(poll)))) == [Apdu(bytes(75))]
    assert client.on_timeout() == []  # nothing under way


def test_lost_segment_in_the_middle_is_sent_again_at_once():
    client, server = connected()
    first, _, third = client.send(bytes(55))
    ready = server.receive(first.data + third.data)
    assert shorts(ready) == ["RR 1 P"]
    again = client.receive(data(ready))
    assert shorts(again) == ["I 1 0", "I 2 0 P"]
    assert server.receive(data(again)) == [Apdu(bytes(55))]
    first, _, third = server.send(bytes(55))
    poll = client.receive(first.data + third.data)
    assert shorts(poll) == ["RR 1 P"]
    again = server.receive(data(poll))
    assert shorts(again) == ["I 1 3", "I 2 3 P"]
    assert client.receive(data(again)) == [Apdu(bytes(55))]


def test_lost_request_and_lost_answer():
    client, server = connected()
    client.send(b"\xc0")
    again = client.on_timeout()
    assert shorts(again) == ["I 0 0 P"]
    assert server.receive(data(again)) == [Apdu(b"\xc0")]
    server.send(b"\xc4")  # lost
    again = client.on_timeout()
    assert shorts(again) == ["I 0 0 P"]
    answer = server.receive(data(again))
    assert others(answer) == []  # not given to the application twice
    assert shorts(answer) == ["I 0 1 P"]
    assert client.receive(data(answer)) == [Apdu(b"\xc4")]
    assert client.receive(data(answer)) == []


def test_retries_end():
    client, _ = connected()
    client.send(b"\xc0")
    assert [shorts(client.on_timeout()) for _ in range(3)] == [["I 0 0 P"]] * 3
    (event,) = client.on_timeout()
    assert isinstance(event, Disconnected)
    assert client.state is State.DISCONNECTED
    assert client.on_timeout() == []


@pytest.mark.parametrize("step", ["connect", "disconnect"])
def test_connect_and_disconnect_are_repeated_and_end(step):
    client = connected()[0] if step == "disconnect" else HdlcClientLink(PUBLIC_CLIENT, METER, max_retries=1)
    if step == "disconnect":
        client._max_retries = 1
    first = getattr(client, step)()
    assert client.on_timeout() == first
    assert isinstance(client.on_timeout()[0], Disconnected)


def test_slow_server_is_polled_but_not_for_ever():
    client, server = connected()
    assert server.receive(data(client.send(b"\xc0"))) == [Apdu(b"\xc0")]
    ready = server.give_turn()
    polls = 0
    while outgoing := client.receive(data(ready)):
        assert shorts(outgoing) == ["RR 0 P"]
        polls += 1
        ready = server.receive(data(outgoing))
        assert shorts(ready) == ["RR 1 P"]
    assert polls == hdlc_client.MAX_IDLE_POLLS + 1  # the first answer acknowledged: that was no idle one
    assert server.send(b"\xc4") == []  # the turn is not the server's
    assert exchange(client, server, client.on_timeout()) == [Apdu(b"\xc4")]


def test_busy_server_pauses_the_client():
    client, server = connected()
    server.busy = True
    busy = server.receive(data(client.send(b"\xc0")))
    assert shorts(busy) == ["RNR 0 P"]
    assert client.receive(data(busy)) == []
    for _ in range(10):  # RNR is a sign of life: no end of retries
        poll = client.on_timeout()
        assert shorts(poll) == ["RR 0 P"]
        assert client.receive(data(server.receive(data(poll)))) == []
    server.busy = False
    assert exchange(client, server, client.on_timeout(), b"\xc4") == [Apdu(b"\xc0"), Apdu(b"\xc4")]


def test_busy_client_pauses_the_server():
    client, server = connected()
    server.receive(data(client.send(b"\xc0")))
    client.busy = True
    assert client.receive(data(server.send(b"\xc4"))) == []  # not taken
    pause = client.on_timeout()
    assert shorts(pause) == ["RNR 0 P"]
    assert shorts(server.receive(data(pause))) == ["RR 1 P"]
    client.receive(encode_frame(PUBLIC_CLIENT, METER, s_control(FrameType.RR, 1, poll=True)))
    client.busy = False
    assert exchange(client, server, client.on_timeout()) == [Apdu(b"\xc4")]


def test_server_with_more_to_say_is_polled():
    client, server = connected()
    assert exchange(client, server, client.send(b"\xc0"), b"\xc4") == [Apdu(b"\xc0"), Apdu(b"\xc4")]
    assert server.send(b"\xc2") == []
    assert exchange(client, server, client.poll()) == [Apdu(b"\xc2")]
    client.poll()
    assert client.poll() == []  # one at a time


def test_no_answer_expected():
    client, server = connected()
    sent = client.send(b"\xc1", expect_answer=False)
    assert server.receive(data(sent)) == [Apdu(b"\xc1")]
    assert client.receive(data(server.give_turn())) == []
    assert client.on_timeout() == []
    assert server.give_turn() == []


# the standard's refusals


@pytest.mark.parametrize("control", [i_control(0, 0, poll=True), s_control(FrameType.RR, 0, poll=True), 0x53])
def test_disconnected_server_says_dm(control):
    server = HdlcServerLink(METER, PUBLIC_CLIENT)
    assert shorts(server.receive_frame(client_frame(control, b"x" if control == 0x10 else b""))) == ["DM P"]
    assert server.state is State.DISCONNECTED


def test_disconnected_server_is_silent_unless_polled():
    server = HdlcServerLink(METER, PUBLIC_CLIENT)
    assert server.receive_frame(client_frame(i_control(0, 0, poll=False), b"x")) == []


@pytest.mark.parametrize(
    ("frame", "report"),
    [
        (client_frame(0x09 | 0x10), FrameReject(0x19, 0, 0, unknown_control=True)),
        (client_frame(0x73), FrameReject(0x73, 0, 0, unknown_control=True)),
        (
            client_frame(0x11, b"x"),
            FrameReject(0x11, 0, 0, unknown_control=True, information_not_permitted=True),
        ),
        (client_frame(0x10, bytes(21)), FrameReject(0x10, 0, 0, information_too_long=True)),
        (client_frame(0x31), FrameReject(0x31, 0, 0, invalid_nr=True)),
    ],
)
def test_server_rejects_and_stays_so_until_reset(frame, report):
    client, server = connected()
    events = server.receive_frame(frame)
    assert others(events) == [LinkRejected(report)]
    assert shorts(events) == ["FRMR P"]
    assert server.state is State.REJECTED
    assert shorts(server.receive_frame(client_frame(i_control(0, 0, poll=True), b"x"))) == ["FRMR P"]
    assert server.receive_frame(client_frame(i_control(0, 0, poll=False), b"x")) == []
    assert client.receive(data(events)) == [LinkRejected(report)]
    assert client.state is State.DISCONNECTED
    answer = server.receive(data(client.connect()))
    assert client.receive(data(answer)) == [Connected(WIDE)]
    assert server.state is State.CONNECTED


def test_rejected_server_takes_disc():
    _, server = connected()
    server.receive_frame(client_frame(0x19))
    events = server.receive_frame(client_frame(0x53))
    assert shorts(events) == ["UA P"]
    assert server.state is State.DISCONNECTED


def test_snrm_starts_anew():
    client, server = connected()
    server.receive(data(client.send(bytes(55)))[:30])
    events = server.receive_frame(client_frame(0x93))
    assert others(events) == [Connected(LinkParameters(20, 20, 1, 1))]
    assert server.receive_frame(client_frame(0x10, b"\xe6\xe6\x00\xc0")) == [Apdu(b"\xc0")]


def test_malformed_snrm_and_ua():
    server = HdlcServerLink(METER, PUBLIC_CLIENT)
    assert shorts(server.receive_frame(client_frame(0x93, b"\x81\x80\x05"))) == ["DM P"]
    _, server = connected()
    assert server.receive_frame(client_frame(0x93, b"\x81\x80\x05")) == []
    assert server.state is State.CONNECTED
    client = HdlcClientLink(PUBLIC_CLIENT, METER)
    client.connect()
    (event,) = client.receive_frame(server_frame(0x73, b"\x81\x80\x05"))
    assert "malformed UA" in event.reason


@pytest.mark.parametrize(
    ("control", "information", "expected"),
    [
        (0x1F, b"", Disconnected),
        (0x97, b"\x93\x00\x01", LinkRejected),
        (0x97, b"\x93", Disconnected),
    ],
)
@pytest.mark.parametrize("up", [False, True])
def test_server_refuses(control, information, expected, up):
    client = connected()[0] if up else HdlcClientLink(PUBLIC_CLIENT, METER)
    if not up:
        client.connect()
    (event,) = client.receive_frame(server_frame(control, information))
    assert isinstance(event, expected)
    assert client.state is State.DISCONNECTED


def test_client_ignores_what_is_stale():
    client, _ = connected()
    client.send(b"\xc0")
    assert client.receive_frame(server_frame(0x73)) == []  # UA again
    assert (
        client.receive_frame(server_frame(s_control(FrameType.RR, 5, poll=True))) == []
    )  # N(R) that cannot be
    assert client.receive_frame(server_frame(i_control(6, 1, poll=True), b"old")) == []
    assert client.state is State.CONNECTED
    idle = HdlcClientLink(PUBLIC_CLIENT, METER)
    assert idle.receive_frame(server_frame(i_control(0, 0, poll=True), b"x")) == []
    idle.connect()
    assert idle.receive_frame(server_frame(i_control(0, 0, poll=True), b"x")) == []


# addresses


def test_frames_of_others_are_not_ours():
    client, server = connected()
    elsewhere = HdlcAddress(1, 18)
    assert server.receive_frame(client_frame(0x53, to=elsewhere)) == []
    assert server.receive_frame(client_frame(0x53)._replace(source=HdlcAddress(1))) == []
    assert client.receive_frame(server_frame(0x1F)._replace(source=elsewhere)) == []
    assert client.receive_frame(server_frame(0x1F)._replace(destination=HdlcAddress(1))) == []
    assert client.state is server.state is State.CONNECTED


def test_another_width_is_the_same_station():
    client = HdlcClientLink(PUBLIC_CLIENT, METER)
    client.connect()
    (event,) = client.receive_frame(server_frame(0x73)._replace(source=server_address(1, 17, size=4)))
    assert isinstance(event, Connected)


def test_broadcast_is_heard_and_not_answered():
    server = HdlcServerLink(METER, PUBLIC_CLIENT)
    everyone = HdlcClientLink(PUBLIC_CLIENT, ALL_STATION)
    assert server.receive(data(everyone.send_unconfirmed(b"\xc1"))) == [Apdu(b"\xc1", unconfirmed=True)]
    assert server.receive_frame(client_frame(0x93, to=ALL_STATION)) == []
    assert server.state is State.DISCONNECTED
    with pytest.raises(LocalProtocolError, match="unconfirmed"):
        everyone.connect()


def test_no_station():
    with pytest.raises(LocalProtocolError, match="unconfirmed"):
        HdlcClientLink(PUBLIC_CLIENT, NO_STATION).connect()
    server = HdlcServerLink(METER, PUBLIC_CLIENT)
    assert server.receive_frame(client_frame(0x03, b"\xc1", to=NO_STATION)) == []


# unconfirmed


def test_push_in_ui_frames_of_several_segments():
    client = HdlcClientLink(PUBLIC_CLIENT, METER)
    lost = server_frame(0x03, b"\xe6\xe7\x00lost", segmented=True)
    parts = [server_frame(0x03, b"\xe6\xe7\x00\x0f", segmented=True), server_frame(0x03, b"\x01")]
    assert [event for frame in [lost, *parts] for event in client.receive_frame(frame)] == [
        Apdu(b"\x0f\x01", unconfirmed=True)
    ]


def test_push_does_not_disturb_a_request():
    client, server = connected()
    sent = client.send(b"\xc0")
    assert client.receive(data(server.send_unconfirmed(b"\x0f"))) == [Apdu(b"\x0f", unconfirmed=True)]
    assert exchange(client, server, sent, b"\xc4") == [Apdu(b"\xc0"), Apdu(b"\xc4")]


# bounds and wrong use


def test_apdu_too_long_ends_the_link():
    client = HdlcClientLink(PUBLIC_CLIENT, METER, max_apdu=30)
    server = HdlcServerLink(METER, PUBLIC_CLIENT, max_apdu=30)
    client.receive(data(server.receive(data(client.connect()))))
    client.send(b"\xc0")
    (event,) = client.receive_frame(server_frame(i_control(0, 1, poll=True), bytes(34)))
    assert "more than 30 bytes" in event.reason
    events = server.receive_frame(client_frame(i_control(0, 0, poll=True), bytes(34)))
    assert isinstance(events[0], Disconnected)
    assert shorts(events) == ["DM P"]
    with pytest.raises(LocalProtocolError, match="disconnected"):
        client.send(b"\xc0")


@pytest.mark.parametrize("length", [0, hdlc_link.MAX_APDU + 1])
def test_apdu_that_cannot_be_sent(length):
    client, server = connected()
    with pytest.raises(LocalProtocolError, match=f"{length} bytes"):
        client.send(bytes(length))
    with pytest.raises(LocalProtocolError, match=f"{length} bytes"):
        server.send(bytes(length))


def test_wrong_state():
    client = HdlcClientLink(PUBLIC_CLIENT, METER)
    for call in (client.poll, client.disconnect, lambda: client.send(b"\xc0")):
        with pytest.raises(LocalProtocolError, match="disconnected"):
            call()
    client.connect()
    with pytest.raises(LocalProtocolError, match="connecting"):
        client.connect()


def test_inactivity_of_the_server():
    _, server = connected()
    assert isinstance(server.on_timeout()[0], Disconnected)
    assert server.on_timeout() == []
    assert shorts(server.receive_frame(client_frame(0x11))) == ["DM P"]


def test_noise_is_counted():
    client, server = connected()
    assert server.receive(b"\x55\x55" + data(client.send(b"\xc0"))) == [Apdu(b"\xc0")]
    assert server.bad_frames == 1


def test_ui_control_field():
    assert u_control(FrameType.UI, poll=False) == frames(connected()[1].send_unconfirmed(b"\x0f"))[0].control


@pytest.mark.parametrize("table", [CLIENT_TRANSITIONS, SERVER_TRANSITIONS])
def test_diagrams_are_current(table):
    text = (Path(hdlc_link.__file__).parent / "DESIGN.md").read_text()
    assert f"```mermaid\n{state_diagram(table)}\n```" in text


def test_an_acknowledgement_that_comes_twice_does_not_send_twice():
    client, server = connected(LinkParameters(20, 20, 1, 1))
    ready = server.receive(data(client.send(bytes(40))))
    assert shorts(ready) == ["RR 1 P"]
    assert shorts(client.receive(data(ready))) == ["I 1 0 P"]
    assert client.receive(data(ready)) == []
    assert shorts(client.on_timeout()) == ["I 1 0 P"]
