from decimal import Decimal

import pytest

from protocols.dlms import units
from schemas.model import ModelError, load_model, model_names
from schemas.reading import INTERVAL_QUANTITIES
from schemas.register_model import (
    Group,
    RegisterType,
    load_register_model,
    register_model_names,
)

MODELS = (
    "carlogavazzi-em24", "carlogavazzi-ex3x0", "eastron-sdm120", "eastron-sdm230", "eastron-sdm630",
    "eastron-sdm72", "eastron-sdm72-v2", "garo-gnm3d", "headend-sim-modbus", "janitza-b23", "orno-we-514",
    "schneider-iem3000", "sunspec",
)  # fmt: skip


def write(folder, name="m", **texts):
    (folder / "modbus").mkdir(exist_ok=True)
    for one, text in texts.items():
        (folder / "modbus" / f"{one}.toml").write_text(text)
    return (folder,)


HEAD = 'title = "t"\ndriver = "modbus"\n'


def test_every_packaged_model_loads_and_knows_its_units():
    assert register_model_names() == MODELS
    for name in MODELS:
        model = load_register_model(name)
        for register in model.registers.values():
            assert register.unit is None or units.code(register.unit)


def test_the_families_do_not_mix():
    assert not set(model_names()) & set(MODELS)
    with pytest.raises(ModelError, match="no meter model 'eastron-sdm630'"):
        load_model("eastron-sdm630")
    with pytest.raises(ModelError, match=r"no meter model 'generic-dlms'.*eastron-sdm630"):
        load_register_model("generic-dlms")


def test_columns_of_the_load_curve():
    first, second, third, fourth = load_register_model("eastron-sdm630").layout().channels
    assert [c.quantity for c in (first, second, third, fourth)] == list(INTERVAL_QUANTITIES)
    assert (first.obis, first.scaler, first.unit) == ("1-0:1.8.0*255", -6, "Wh")
    em24 = load_register_model("carlogavazzi-em24").layout().channels[0]
    assert em24.exact(7) == Decimal(700)


def test_every_measuring_model_has_a_column_to_fill():
    for name in MODELS[:-1]:
        assert load_register_model(name).layout().channels[0] is not None


def test_defaults_lie_under_every_register_and_heirs_change_single_ones(tmp_path):
    folders = write(
        tmp_path,
        a=f'{HEAD}[defaults]\ntype = "f32"\nspace = "input"\n'
        '[registers]\nx = { at = 0 }\ny = { at = 2, type = "u16" }',
        b='inherit = "a"\n[registers]\nx = { at = 8 }\nz = { at = 9, type = "text", words = 4 }',
    )
    model = load_register_model("b", folders)
    assert {n: (r.at, r.type, r.width) for n, r in model.registers.items()} == {
        "x": (8, RegisterType.F32, 2),
        "y": (2, RegisterType.U16, 1),
        "z": (9, RegisterType.TEXT, 4),
    }
    assert register_model_names(folders)[:2] == ("a", "b")


@pytest.mark.parametrize(
    ("kind", "words"),
    [("u16", 1), ("s16", 1), ("u32", 2), ("s32", 2), ("u64", 4), ("s64", 4), ("f32", 2), ("f64", 4),
     ("bits16", 1), ("bits32", 2), ("bcd16", 1), ("bcd32", 2), ("text", None)],
)  # fmt: skip
def test_words_of_each_type(kind, words):
    assert RegisterType(kind).words == words


X = '[registers]\nx = { at = 0, type = "u16", space = "input"'


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ('title = "t"\ndriver = "dlms"\n' + X + " }", "driver"),
        (HEAD, "registers are given"),
        (HEAD + 'map = "sunspec"\n' + X + " }", "registers are given"),
        (HEAD + X.replace("at = 0", "at = 65536") + " }", "less than 65536"),
        (HEAD + X.replace("at = 0", "at = -1") + " }", "greater than or equal to 0"),
        (HEAD + X.replace('at = 0, type = "u16"', 'at = 65535, type = "u32"') + " }", "beyond the last"),
        (HEAD + X + ", colour = 1 }", "Extra inputs"),
        (HEAD + X + ", words = 2 }", "words is for text"),
        (HEAD + X.replace("u16", "text") + " }", "words is for text"),
        (HEAD + X.replace("u16", "text") + ', words = 2, unit = "V" }', "text has no unit"),
        (HEAD + X + ', quantity = "warmth", unit = "Wh", obis = "1-0:1.8.0*255" }', "must be one of"),
        (HEAD + X + ', quantity = "active_import", unit = "Wh" }', "needs unit and obis"),
        (HEAD + X + ", modulus = 7 }", "for registers with a quantity"),
        (HEAD + X + ', scale_register = "y" }', "must name a register of type s16"),
        (HEAD + "[reads]\nmax_words = 126\n" + X + " }", "less than or equal to 125"),
        (HEAD + "[reads]\nmax_words = 1\n" + X.replace("u16", "u32") + " }", "longer than a read"),
        (
            HEAD + '[reads]\nforbidden = [{ space = "input", first = 0, last = 3 }]\n' + X + " }",
            "forbidden stretch",
        ),
        (
            HEAD + '[reads]\nforbidden = [{ space = "input", first = 9, last = 3 }]\n' + X + " }",
            "last is before",
        ),
        (HEAD + "[sampling]\nperiod_s = 60\n" + X + " }", "two boundaries"),
        (HEAD + "defaults = 1\n" + X + " }", "must be tables"),
        (HEAD + "registers = 1\n[defaults]\nat = 0", "must be tables"),
    ],
)
def test_what_is_refused_with_file_and_key(tmp_path, body, complaint):
    with pytest.raises(ModelError, match=rf"modbus/m\.toml: .*{complaint}"):
        load_register_model("m", write(tmp_path, m=body))


def test_a_quantity_belongs_to_one_register(tmp_path):
    meaning = 'quantity = "active_import", unit = "Wh", obis = "1-0:1.8.0*255"'
    one = f'= {{ at = 0, type = "u16", space = "input", {meaning} }}'
    with pytest.raises(ModelError, match="given to two registers"):
        load_register_model("m", write(tmp_path, m=f"{HEAD}[registers]\nx {one}\ny {one}"))
    model = load_register_model("n", write(tmp_path, n=f"{HEAD}[registers]\nx {one}"))
    assert model.named(Group.LIVE) == ("x",)
    assert model.registers["x"].channel().scaler == 0
    with pytest.raises(ModelError, match="has no quantity"):
        load_register_model("eastron-sdm630").registers["frequency"].channel()


FIRMWARE = """
[firmware]
version = "v"
control = "c"
status = "s"
identifier = "i"
size = "n"
file = 2
bitmap_file = 1
block_bytes = 242
begin = 1
verify = 2
activate = 3
states = { 0 = "none", 1 = "initiated" }
"""
IMAGES = """
[defaults]
space = "holding"
[registers]
v = { at = 0, type = "text", words = 8 }
s = { at = 8, type = "u16", space = "input" }
i = { at = 9, type = "text", words = 4 }
n = { at = 13, type = "u32" }
c = { at = 15, type = "u16" }
"""


def test_where_blocks_lie_in_files(tmp_path):
    said = load_register_model("m", write(tmp_path, m=HEAD + IMAGES + FIRMWARE)).firmware
    # 121 registers: 82 of them in a file of 10,000
    assert [said.place(n) for n in (0, 1, 81, 82, 83)] == [(2, 0), (2, 121), (2, 9801), (3, 0), (3, 121)]
    for n in range(500):
        assert said.number(*said.place(n)) == n
    assert [said.number(*place) for place in ((1, 0), (2, 120), (2, 9922))] == [None, None, None]
    assert said.most_blocks == 160_000
    assert load_register_model("eastron-sdm120").firmware is None


@pytest.mark.parametrize(
    ("was", "is_", "complaint"),
    [
        ("block_bytes = 242", "block_bytes = 244", "less than or equal to 242"),
        ("block_bytes = 242", "block_bytes = 121", "multiple of 2"),
        ("bitmap_file = 1", "bitmap_file = 2", "bitmap_file must be below"),
        ("activate = 3", "activate = 2", "three codes"),
        ('1 = "initiated"', '1 = "begun"', "states"),
        ('version = "v"', 'version = "s"', "'s' must be a register of type text"),
        ('control = "c"', 'control = "s"', "'s' must be a register of type u16 among the holding"),
        ('size = "n"', 'size = "x"', "'x' must be a register of type u32"),
        ('type = "u32"', 'type = "u32", order = "little"', "big order"),
    ],
)
def test_what_of_firmware_is_refused(tmp_path, was, is_, complaint):
    table = HEAD + IMAGES + FIRMWARE
    assert was in table
    with pytest.raises(ModelError, match=complaint):
        load_register_model("m", write(tmp_path, m=table.replace(was, is_)))
