"""Image Transfer and Single Action Schedule: what is written is read back, and nothing else is taken."""

import datetime as dt

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocols.dlms import axdr
from protocols.dlms.cosem import image_transfer as it
from protocols.dlms.cosem import single_action_schedule as sas
from protocols.dlms.cosem.image_transfer import ImageToActivate, TransferStatus
from protocols.dlms.obis import Obis
from protocols.errors import CommunicationError, RemoteProtocolError

numbers = st.integers(0, 0xFFFF_FFFF)


@given(numbers, st.binary(max_size=300))
@example(7, bytes(65_535))
@example(7, bytes(65_536))
def test_a_block_is_the_structure_of_the_class(number: int, value: bytes) -> None:
    raw = it.encode_block(number, value)
    assert raw == axdr.encode(axdr.structure(axdr.u32(number), axdr.octets(value)))
    assert it.decode_block(raw) == (number, value)


@given(st.binary(max_size=64), numbers)
def test_initiate(identifier: bytes, size: int) -> None:
    assert it.decode_initiate(it.encode_initiate(identifier, size)) == (identifier, size)


def test_initiate_as_it_goes_over_the_wire() -> None:
    assert it.encode_initiate(b"FW2", 262_144).hex() == "0202" + "0903465732" + "0600040000"


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.frozensets(st.integers(0, n - 1)))))
def test_the_bitmap_tells_what_is_missing(drawn: tuple[int, frozenset[int]]) -> None:
    count, there = drawn
    raw = axdr.encode(axdr.Data(axdr.DataType.BIT_STRING, it.blocks_of(there, count)))
    missing = it.missing(it.bitmap(axdr.decode_exact(raw)))
    assert missing == [n for n in range(count) if n not in there]


def test_the_first_block_is_the_first_bit() -> None:
    assert it.missing(it.bitmap(axdr.decode_exact(bytes.fromhex("040380")))) == [1, 2]


@given(
    st.lists(st.builds(ImageToActivate, numbers, st.binary(max_size=40), st.binary(max_size=64)), max_size=4)
)
def test_images_to_activate(images: list[ImageToActivate]) -> None:
    raw = axdr.encode(axdr.array(one.encode() for one in images))
    assert it.images(axdr.decode_exact(raw)) == tuple(images)


@given(st.binary(max_size=40))
def test_what_is_no_value_of_the_class_is_refused(raw: bytes) -> None:
    for decode in (
        it.status, it.block_size, it.enabled, it.first_missing, it.bitmap, it.images, sas.execution_times,
        sas.executed_script,
    ):  # fmt: skip
        try:
            decode(axdr.decode_exact(raw))
        except CommunicationError:
            pass
    for parse in (it.decode_block, it.decode_initiate):
        try:
            parse(raw)
        except CommunicationError:
            pass


def test_states_are_0_to_7_and_blocks_have_bytes() -> None:
    assert [it.status(axdr.enum(n)) for n in range(8)] == list(TransferStatus)
    for wrong in (axdr.enum(8), axdr.i8(-1)):
        with pytest.raises(RemoteProtocolError):
            it.status(wrong)
    with pytest.raises(RemoteProtocolError):
        it.block_size(axdr.u32(0))


MIDNIGHTS = (dt.datetime(2000, 1, 1), dt.datetime(2090, 1, 1))  # noqa: DTZ001 - local times of a meter


@given(st.datetimes(*MIDNIGHTS))
def test_a_moment_of_a_schedule(moment: dt.datetime) -> None:
    moment = moment.replace(microsecond=0)
    raw = axdr.encode(sas.encode_execution_times((sas.Execution.at(moment),)))
    (found,) = sas.execution_times(axdr.decode_exact(raw))
    assert found.moment() == moment


def test_a_moment_as_it_goes_over_the_wire() -> None:
    moment = dt.datetime(2026, 12, 24, 3, 30)  # noqa: DTZ001 - local
    raw = axdr.encode(sas.encode_execution_times((sas.Execution.at(moment),)))
    assert raw.hex() == "0101" + "0202" + "0904031e0000" + "090507ea0c18ff"


def test_a_moment_with_an_open_part_is_none() -> None:
    every_day = bytes.fromhex("01010202" + "0904031e0000" + "0905ffffffffff")
    (found,) = sas.execution_times(axdr.decode_exact(every_day))
    with pytest.raises(RemoteProtocolError):
        found.moment()


def test_the_script() -> None:
    raw = sas.encode_executed_script(Obis.parse("0-0:10.0.107*255"), 1)
    assert sas.executed_script(raw) == (Obis.parse("0-0:10.0.107*255"), 1)
