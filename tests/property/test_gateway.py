"""The gateway prefix: a round trip, and any bytes give a message or RemoteProtocolError."""

from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms import gateway
from protocols.dlms.gateway import Header
from protocols.errors import RemoteProtocolError
from schemas.address import GatewayAddress

addresses = st.builds(GatewayAddress, st.integers(0, 255), st.binary(min_size=1, max_size=255))
apdus = st.binary(min_size=1, max_size=300)


@given(st.sampled_from(Header), addresses, apdus)
def test_a_message_comes_back_as_it_was(header, address, apdu):
    assert gateway.decode(gateway.encode(header, address, apdu)) == (header, address, apdu)


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=20).map(lambda rest: b"\xe7\0" + rest)))
def test_any_bytes_are_a_message_or_refused(data):
    offset = 0
    try:
        message = gateway.decode(data)
    except RemoteProtocolError as error:
        offset = -1 if error.offset is None else error.offset
    else:
        assert gateway.encode(*message) == data
    assert 0 <= offset <= len(data)
    gateway.refusal(data)
