import struct
from decimal import Decimal

import pytest

from protocols.errors import RemoteProtocolError
from protocols.modbus import sunspec
from protocols.modbus.sunspec import Model, definitions, discover, poll
from schemas.register_model import Space

SUNS = [0x5375, 0x6E53]
END = [0xFFFF, 0]


def text_words(text, count):
    data = text.encode().ljust(2 * count, b"\0")
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, 2 * count, 2)]


def model_words(number, length=None, **points):
    """A model whose points are not implemented, but for those given."""
    definition = definitions()[number]
    words = [0] * definition.registers
    patterns = {"int16": [0x8000], "uint16": [0xFFFF], "sunssf": [0x8000], "pad": [0x8000]}
    for point in definition.points:
        words[point.offset : point.offset + point.size] = patterns.get(point.type, [0] * point.size)
        if point.type == "float32":
            words[point.offset : point.offset + 2] = [0x7FC0, 0]
        if point.type == "bitfield32":
            words[point.offset : point.offset + 2] = [0xFFFF, 0xFFFF]
        if point.name in points:
            value = points[point.name]
            if isinstance(value, str):
                value = text_words(value, point.size)
            elif point.type == "float32":
                value = text_words("", 0) or list(struct.unpack(">HH", struct.pack(">f", value)))
            else:
                value = list((value % 2 ** (16 * point.size)).to_bytes(2 * point.size, "big"))
                value = [value[at] << 8 | value[at + 1] for at in range(0, len(value), 2)]
            words[point.offset : point.offset + point.size] = value
    words[0], words[1] = number, definition.registers - 2
    if length is not None:
        words = [*words[: 2 + length], *[0] * (2 + length - len(words))]
        words[1] = length
    return words


COMMON = model_words(1, Mn="Acme", Md="M1", Vr="1.0", SN="A-0042")
METER = model_words(
    203, A=1234, A_SF=-2, PhVphA=2301, V_SF=-1, Hz=5000, Hz_SF=-2, W=-120, W_SF=1, TotWhImp=2**32 - 1,
    TotWhExp=0, TotWhImpPhA=0, TotWh_SF=2, Evt=4,
)  # fmt: skip


def drive(generator, memory, asked=None, base=40000):
    """A meter whose registers begin at ``base``; a read beyond them is refused."""
    answer = None
    try:
        while True:
            span = generator.send(answer)
            assert span.space is Space.HOLDING
            assert 0 < span.count <= 125
            if asked is not None:
                asked.append((span.address, span.count))
            at = span.address - base
            answer = memory[at : at + span.count] if at >= 0 and at + span.count <= len(memory) else None
    except StopIteration as stop:
        return stop.value


@pytest.mark.parametrize("base", [40000, 0, 50000])
def test_discovery_finds_the_mark_and_walks_the_chain(base):
    asked = []
    device = drive(discover(), SUNS + COMMON + METER + END, asked, base)
    assert device.base == base
    assert device.models == (Model(1, base + 2, 66), Model(203, base + 70, 105))
    assert device.meters == device.models[1:]
    assert (device.text("Mn"), device.text("SN"), device.text("Opt")) == ("Acme", "A-0042", None)
    assert device.notes == ()
    assert asked[0] == (40000, 2)


def test_a_meters_values_are_exact_and_what_is_not_implemented_is_missing():
    memory = SUNS + COMMON + METER + END
    device = drive(discover(), memory)
    values = {value.name: value for value in drive(poll(device.meters[0]), memory)}
    assert (str(values["A"].value), values["A"].unit) == ("12.34", "A")
    assert (str(values["PhVphA"].value), values["PhVphA"].obis) == ("230.1", "1-0:32.7.0*255")
    assert str(values["Hz"].value) == "50.00"
    assert (str(values["W"].value), values["W"].raw) == ("-1200", -120)
    assert (str(values["TotWhImp"].value), values["TotWhImp"].quantity) == ("429496729500", "active_import")
    # mandatory and 0: a new meter; optional and 0: an accumulator that is not there
    assert values["TotWhExp"].value == 0
    assert values["TotWhImpPhA"].reason == "not implemented by the meter"
    assert values["AphB"].reason == "not implemented by the meter"
    assert values["VA"].reason == "not implemented by the meter"
    assert values["Evt"].raw == 4
    assert not any(name.endswith("_SF") for name in values)


def test_a_value_without_its_scale_is_missing():
    memory = SUNS + model_words(201, W=7) + END
    (model,) = drive(discover(), memory).models
    values = {value.name: value for value in drive(poll(model), memory)}
    assert values["W"].reason == "its scale is not implemented"
    words = model_words(201, W=7, W_SF=11)
    values = {value.name: value for value in sunspec.decode_model(201, words)}
    assert values["W"].reason == "its scale is 11"


@pytest.mark.parametrize("number", [211, 212, 213, 214])
def test_float_meters(number):
    words = model_words(number, TotWhImp=1234.5, Hz=50.1, Evt=0)
    asked = []
    memory = SUNS + words + END
    (model,) = drive(discover(), memory).meters
    values = {value.name: value for value in drive(poll(model), memory, asked)}
    assert (str(values["TotWhImp"].value), values["TotWhImp"].rounded) == ("1234.5", True)
    assert str(values["Hz"].value) == "50.1"
    assert values["W"].reason == "not implemented by the meter"
    assert values["Evt"].raw == 0
    assert asked == [(40002, 124), (40126, 2)]  # 126 registers, and no value of two moments


def test_a_model_1_without_pad_and_models_of_other_lengths():
    memory = SUNS + COMMON[:1] + [65] + COMMON[2:67] + [160, 3, 1, 2, 3] + model_words(203, 60, W=1) + END
    device = drive(discover(), memory)
    assert [(m.number, m.length) for m in device.models] == [(1, 65), (160, 3), (203, 60)]
    assert device.text("SN") == "A-0042"
    assert device.notes == ("model 203 has 60 registers where SunSpec defines 105",)
    values = {value.name for value in drive(poll(device.meters[0]), memory)}
    assert "TotWhImp" in values
    assert "Evt" not in values


def test_a_longer_model_is_read_as_far_as_we_know_it():
    memory = SUNS + model_words(203, 110, W=1, W_SF=0) + END
    device = drive(discover(), memory)
    assert device.notes
    assert {v.name: v.value for v in drive(poll(device.meters[0]), memory)}["W"] == Decimal(1)


def test_a_chain_that_is_not_ended_is_noted():
    device = drive(discover(), SUNS + COMMON)
    assert [one.number for one in device.models] == [1]
    assert device.notes == ("the chain is not ended: the meter refuses to tell what stands at 40070",)


@pytest.mark.parametrize(
    ("memory", "complaint"),
    [
        ([], "no SunSpec mark at 40000, 0, 50000"),
        ([1, 2], "no SunSpec mark"),
        (SUNS + [160, 0] * 200, "does not end"),
        ([*SUNS, 160, 65535], "leaves the address space"),
        ([*SUNS, 160, 65536 - 40004, *([0] * 30000)], "leaves the address space"),
    ],
)
def test_what_is_no_sunspec(memory, complaint):
    with pytest.raises(RemoteProtocolError, match=complaint):
        drive(discover(), memory)


def test_a_short_answer_and_a_word_that_is_none():
    for words in ([0x5375], [0x5375, 0x6E53, 0], [0x5375, -1]):
        generator = discover()
        next(generator)
        with pytest.raises(RemoteProtocolError):
            generator.send(words)


def test_a_map_that_changed_must_be_discovered_anew():
    memory = SUNS + METER + END
    with pytest.raises(RemoteProtocolError, match="203 of 105 registers stands where 201 of 105 was"):
        drive(poll(Model(201, 40002, 105)), memory)
    with pytest.raises(RemoteProtocolError, match="refuses"):
        drive(poll(Model(203, 50002, 105)), memory)
    for call in (lambda: drive(poll(Model(9, 0, 1)), []), lambda: sunspec.decode_model(9, [])):
        with pytest.raises(RemoteProtocolError, match="not known here"):
            call()


def test_columns():
    first, second, third, fourth = sunspec.LAYOUT.channels
    assert (first.quantity, second.quantity, third, fourth) == ("active_import", "active_export", None, None)
