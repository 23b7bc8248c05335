"""The reader for descriptors without tags and for values cut short."""

import pytest

from protocols.dlms import axdr, tolerant
from protocols.dlms.axdr import DataType

# array of two structures: (class 3, 1-0:1.7.0*255, attribute 2), 5 and (class 1, 0-0:96.1.0*255, 2), "A"
UNTAGGED = bytes.fromhex("01020202 0003 0100010700ff 02 06000000050202 0001 0000600100ff 02 090141")


def test_strict_data_is_read_as_the_strict_reader_does() -> None:
    data = axdr.structure(axdr.u32(0), axdr.octets(b""), axdr.array([axdr.i8(-1)]))
    raw = axdr.encode(data)
    assert tolerant.read(raw) == (data, len(raw), None)
    assert not tolerant.has_descriptors(data)


def test_untagged_descriptors() -> None:
    reading = tolerant.read(UNTAGGED)
    assert reading.error is None
    assert reading.end == len(UNTAGGED)
    first, second = reading.data.value
    assert isinstance(first.value[0].value, tolerant.Descriptor)
    assert first.value[0].value == (
        axdr.u16(3),
        axdr.octets(bytes.fromhex("0100010700ff")),
        axdr.i8(2),
    )
    assert first.value[1] == axdr.u32(5)
    assert second.value[1] == axdr.octets(b"A")
    assert tolerant.has_descriptors(reading.data)


@pytest.mark.parametrize(
    "descriptor",
    [
        "0100 0100010700ff 02",  # class id above those of the standard
        "0003 1000010700ff 02",  # no such medium
        "0003 01000107007f 02",  # last group not 255
        "0003 0100010700ff 00",  # no such attribute
        "0003 0100010700ff 80",
    ],
)
def test_what_is_no_descriptor_is_an_error(descriptor: str) -> None:
    reading = tolerant.read(bytes.fromhex("0101 0202" + descriptor + "0600000005"))
    assert reading.error is not None


@pytest.mark.parametrize(
    # Before the first descriptor is whole, its bytes may happen to be good tags.
    ("raw", "least"),
    [(UNTAGGED, 14), (axdr.encode(axdr.array([axdr.u16(1), axdr.u16(2)])), 0)],
)
def test_cut_short_anywhere_says_where_and_keeps_what_was_there(raw: bytes, least: int) -> None:
    whole = tolerant.read(raw).data
    for size in range(least, len(raw)):
        reading = tolerant.read(raw[:size])
        assert reading.error is not None
        assert reading.error.offset is not None
        assert reading.error.offset <= size
        if reading.data is not None and reading.data.value:
            complete = reading.data.value[:-1]
            assert complete == whole.value[: len(complete)]


def test_reason_counts_the_elements_of_the_outer_array() -> None:
    error = tolerant.read(UNTAGGED[:-1]).error
    assert error.reason == "cut short: 1 bytes needed, 0 left (1 of 2 elements of the array are whole)"


def test_bytes_behind_the_value() -> None:
    reading = tolerant.read(b"\x11\x05\x00")
    assert reading.data == axdr.u8(5)
    assert (reading.error.offset, reading.error.reason) == (2, "1 bytes after the value")


def test_nesting_is_bounded() -> None:
    reading = tolerant.read(b"\x02\x01" * 100 + b"\x00")
    assert "nested deeper" in reading.error.reason
    assert reading.data.type is DataType.STRUCTURE
