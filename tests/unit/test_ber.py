"""BER as ACSE uses it: bounds, length forms, integers."""

import pytest

from protocols.dlms import ber
from protocols.errors import LocalProtocolError, RemoteProtocolError


@pytest.mark.parametrize("length", [0, 1, 127, 128, 255, 256, 65535, 65536])
def test_lengths_round_trip(length: int) -> None:
    element = ber.encode_element(0xBE, bytes(length))
    start, stop = ber.span(element, 0, len(element))
    assert (stop - start, stop) == (length, len(element))


@pytest.mark.parametrize(
    ("length", "head"),
    [(127, "047f"), (128, "048180"), (255, "0481ff"), (256, "04820100"), (65536, "0483010000")],
)
def test_lengths_are_minimal(length: int, head: str) -> None:
    assert ber.encode_element(0x04, bytes(length))[: -length or None].hex() == head


def test_longer_length_forms_are_read() -> None:
    assert ber.span(bytes.fromhex("0484000000010a"), 0, 7) == (6, 7)


@pytest.mark.parametrize(
    ("data", "offset", "reason"),
    [
        ("", 0, "cut short before its length"),
        ("04", 1, "cut short before its length"),
        ("0402aa", 0, "claims 2 bytes, 1 are there"),
        ("0482ff", 3, "cut short in its length"),
        ("0480aa0000", 1, "an indefinite length"),
        ("0485000000000100", 1, "a length of 5 bytes"),
        ("048affff", 1, "a length of 10 bytes"),
        ("1f8101aa", 0, "more than one byte"),
        ("04847fffffff", 0, "claims 2147483647 bytes"),
    ],
)
def test_malformed(data: str, offset: int, reason: str) -> None:
    raw = bytes.fromhex(data)
    with pytest.raises(RemoteProtocolError, match=reason) as caught:
        ber.span(raw, 0, len(raw))
    assert caught.value.offset == offset


def test_an_element_ends_within_its_container() -> None:
    data = bytes.fromhex("0402aabbcc")
    assert ber.span(data, 0, 4) == (2, 4)
    with pytest.raises(RemoteProtocolError, match="claims 2 bytes, 1 are there"):
        ber.span(data, 0, 3)


def test_only_wants_one_element_of_its_tag() -> None:
    assert ber.only(bytes.fromhex("0201ff"), 0, 3, ber.INTEGER) == b"\xff"
    with pytest.raises(RemoteProtocolError, match="0x04 where 0x02 belongs"):
        ber.only(bytes.fromhex("0401ff"), 0, 3, ber.INTEGER)
    with pytest.raises(RemoteProtocolError, match="more than one") as caught:
        ber.only(bytes.fromhex("0201ff00"), 0, 4, ber.INTEGER)
    assert caught.value.offset == 3


@pytest.mark.parametrize(
    ("value", "content"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "0080"),
        (-1, "ff"),
        (-128, "80"),
        (-129, "ff7f"),
        (2**31 - 1, "7fffffff"),
    ],
)
def test_integers(value: int, content: str) -> None:
    assert ber.encode_integer(value).hex() == content
    assert ber.integer(bytes.fromhex(content), 0) == value


def test_integers_out_of_bounds() -> None:
    with pytest.raises(LocalProtocolError, match="more than 4 bytes"):
        ber.encode_integer(2**31)
    for content in (b"", bytes(5)):
        with pytest.raises(RemoteProtocolError, match="BER integer of"):
            ber.integer(content, 0)
