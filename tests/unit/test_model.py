import json
from decimal import Decimal
from pathlib import Path

import pytest

from schemas import obis_pattern
from schemas.model import ModelError, load_model, model_names
from schemas.reading import INTERVAL_QUANTITIES, Kind

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/models/push_lists.json").read_text())


def test_every_packaged_profile_loads():
    names = model_names()
    assert {
        "generic-dlms", "headend-sim", "aidon", "kaifa-ma304", "kamstrup-omnipower", "iskra-am550",
        "landisgyr-e450", "kaifa-ma309", "egd", "sagemcom-xt211",
    } <= set(names)  # fmt: skip
    for name in names:
        model = load_model(name)
        assert model.name == name
        for profile in model.load_profiles:
            assert profile.columns


def test_the_simulated_meter():
    model = load_model("headend-sim")
    assert (model.association.client_sap, model.association.server_sap) == (1, 1)
    assert model.association.invocation_counter == "0-0:43.1.0*255"  # inherited
    profile = model.load_profile(1)
    assert (profile.obis, profile.period_s, profile.sort) == ("1-0:99.1.0*255", 900, "fifo")
    assert [c.role for c in profile.columns] == ["clock", "status", "value", "value", "value", "value"]
    assert [c.interface_class for c in profile.columns] == [8, 1, 3, 3, 3, 3]
    assert profile.columns[1].obis == "0-0:96.10.1*255"
    channels = profile.layout().channels
    assert [c.quantity for c in channels if c] == list(INTERVAL_QUANTITIES)
    assert [c.obis for c in channels if c] == [f"1-0:{n}.8.0*255" for n in (1, 2, 3, 4)]
    assert [c.unit for c in channels if c] == ["Wh", "Wh", "varh", "varh"]
    assert all(c and (c.scaler, c.kind, c.modulus) == (0, Kind.CUMULATIVE, 2**32) for c in channels)
    with pytest.raises(KeyError):
        model.load_profile(2)


def test_scalers_come_from_the_meter_where_the_profile_has_none():
    profile = load_model("generic-dlms").load_profile(1)
    with pytest.raises(ModelError, match=r"1-0:1\.8\.0\*255"):
        profile.layout()
    first, second, third, fourth = profile.layout(
        {"1-0:1.8.0*255": (0, "Wh"), "1-0:2.8.0*255": (-1, "kWh")}
    ).channels
    assert (first.scaler, first.unit) == (0, "Wh")
    assert (second.scaler, second.unit) == (-1, "kWh")
    assert third is None
    assert fourth is None


def explain(model, values):
    """A list's values by OBIS code, from plain Python values: an explanation for the test alone."""
    first = values[0] if isinstance(values[0], str) else None
    listed = model.push_list("structure", len(values), first)
    assert listed is not None
    told = {}
    for position in listed.positions:
        told[position.obis] = (values[position.at], position.scaler)
    if listed.rest == "pairs":
        for obis, value in zip(values[listed.rest_from :: 2], values[listed.rest_from + 1 :: 2], strict=True):
            if obis is not None:
                scaling = model.scaling_of(obis)
                told[obis] = (value, scaling.scaler if scaling else 0)
    return {
        obis: str(Decimal(value).scaleb(scaler)) if isinstance(value, int) else value
        for obis, (value, scaler) in told.items()
    }


@pytest.mark.parametrize("entry", VECTORS["entries"], ids=lambda e: e["id"])
def test_captured_lists_get_their_listed_values(entry):
    told = explain(load_model(entry["model"]), entry["values"])
    for obis, expected in entry["expected"].items():
        if isinstance(expected, (int, float)):
            assert Decimal(told[obis]) == Decimal(str(expected)), obis
        else:
            assert told[obis] == expected, obis


def test_lists_are_told_apart():
    kaifa = load_model("kaifa-ma304")
    assert kaifa.push_list("structure", 1, None).name == "power"
    assert kaifa.push_list("structure", 13, "KFM_001").name == "3-phase"
    assert kaifa.push_list("structure", 14, "KFM_001").name == "1-phase, hourly"
    assert kaifa.push_list("structure", 13, "KFM_002") is None
    assert kaifa.push_list("array", 13, "KFM_001") is None
    assert kaifa.push_list("structure", 12, "KFM_001") is None


def test_the_most_exact_scaling_wins(tmp_path):
    (tmp_path / "m.toml").write_text(
        'title = "m"\n[scaling]\n"x-x:1.8.x*255" = { scaler = 3 }\n"1-0:1.8.x*255" = { scaler = 0 }\n'
    )
    model = load_model("m", (tmp_path,))
    assert model.scaling_of("1-0:1.8.2*255").scaler == 0
    assert model.scaling_of("1-1:1.8.2*255").scaler == 3
    assert model.scaling_of("1-1:2.8.2*255") is None
    assert model.scaling_of("no code") is None


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)
    return (folder,)


def test_inheritance_merges_tables_and_replaces_arrays(tmp_path):
    folders = write(
        tmp_path,
        a='title = "a"\n[association]\nclient_sap = 1\nserver_sap = 2\n[association.hdlc]\nwindow = 7\n'
        '[[registers]]\nobis = "1-0:1.8.0*255"\n',
        b='inherit = "a"\n[association]\nserver_sap = 0\n[association.hdlc]\nmax_info = 64\n',
        c='inherit = "b"\ntitle = "c"\n[[registers]]\nobis = "1-0:2.8.0*255"\n',
    )
    model = load_model("c", folders)
    assert model.title == "c"
    assert (model.association.client_sap, model.association.server_sap) == (1, 0)
    assert (model.association.hdlc.window, model.association.hdlc.max_info) == (7, 64)
    assert [r.obis for r in model.registers] == ["1-0:2.8.0*255"]
    assert "c" in model_names(folders)


def test_an_operators_folder_comes_first(tmp_path):
    assert load_model("headend-sim", write(tmp_path, **{"headend-sim": 'title = "mine"'})).title == "mine"
    assert load_model("headend-sim").title == "Simulated meter"


CLOCK = '{ role = "clock", obis = "0-0:1.0.0*255" }'
VALUE = '{ role = "value", obis = "1-0:1.8.0*255", quantity = "active_import" }'


def profile(*columns, number=1):
    return (
        f'[[load_profiles]]\nnumber = {number}\nobis = "1-0:99.1.0*255"\nperiod_s = 900\n'
        f"columns = [{', '.join(columns)}]\n"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour = 1", r"wrong\.toml: colour: Extra inputs"),
        ("[association]\nclientsap = 1", r"wrong\.toml: association\.clientsap: Extra inputs"),
        ("[association]\nclient_sap = 65536", r"association\.client_sap"),
        ("[association]\ndedicated_key = true", "dedicated_key needs"),
        ("[association.hdlc]\nwindow = 8", r"association\.hdlc\.window"),
        ("[association.hdlc]\naddress_length = 3", "address_length"),
        ("[association.hdlc]\naddress_length = 2\nphysical_address = 128", "2-byte"),
        ('[clock]\ntime_zone = "Europe/Nowhere"', r"clock\.time_zone: 'Europe/Nowhere' is no time zone"),
        ('[clock]\ntime_zone = "../etc/passwd"', "no time zone"),
        ('[clock]\ndeviation = "unspecified"', "needs a time_zone"),
        ('[[registers]]\nobis = "1.8.0"', r"registers\.0\.obis: '1\.8\.0' is no OBIS code"),
        ('[[registers]]\nobis = "1-0:1.8.x*255"', "no OBIS code"),
        ('[scaling]\n"1-0:1.8.256*255" = {}', "no OBIS pattern"),
        (profile(VALUE), "exactly one clock"),
        (profile(CLOCK, CLOCK), "exactly one clock"),
        (profile(CLOCK, VALUE, VALUE), "given to two columns"),
        (profile(CLOCK, VALUE.replace("active_import", "energy")), "quantity must be one of"),
        (profile(CLOCK, VALUE.replace("}", ", scaler = 0 }")), "together"),
        (profile(CLOCK, VALUE.replace("}", ', kind = "interval", modulus = 10 }')), "cumulative"),
        (profile(CLOCK.replace("}", ', unit = "Wh" }')), "role value"),
        (profile(CLOCK) + profile(CLOCK), "same number"),
        ('[[push]]\nname = "p"\nmatch = {}', "needs positions or rest"),
        (
            '[[push]]\nname = "p"\nmatch = { length = 2 }\npositions = [{ at = 2, obis = "1-0:1.8.0*255" }]',
            "outside the list of 2",
        ),
        ('name = "x"', "own name"),
        ("inherit = 1", "name of another profile"),
        ('inherit = "nobody"', "no meter model 'nobody'; known: .*generic-dlms"),
        ('inherit = "../../etc/passwd"', "no meter model"),
        ('inherit = "wrong"', "circle: wrong -> wrong"),
        ("title = ", r"wrong\.toml: Invalid value"),
    ],
)
def test_what_is_wrong_is_refused_with_file_and_key(tmp_path, text, said):
    body = text if text.startswith("title") else f'title = "t"\n{text}'
    with pytest.raises(ModelError, match=said):
        load_model("wrong", write(tmp_path, wrong=body))


def test_zeros_and_wildcards_of_codes():
    assert obis_pattern.check_obis("0-0:0.0.0*0") == "0-0:0.0.0*0"
    for wrong in ("01-0:1.8.0*255", "1-0:1.8.0", "1-0:1.8.0*256", "", "1-0:1.8.0*255\n", "١-0:1.8.0*255"):
        with pytest.raises(ValueError, match="no OBIS code"):
            obis_pattern.check_obis(wrong)
    assert obis_pattern.matches("x-x:x.x.x*x", "1-0:1.8.0*255")
    assert obis_pattern.wildcards("x-0:1.8.x*255") == 2


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/passwd", "modbus/eastron-sdm120", "..", "", "a\0b", "headend-sim\n", "x" * 5000]
)
def test_a_name_is_a_word_and_no_path(name, tmp_path):
    with pytest.raises(ModelError, match="no meter model"):
        load_model(name, (tmp_path,))
