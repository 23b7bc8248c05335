import pytest

from headend.ingest.meter_rows import ImportRules, read_meters
from headend.keys.transport import wrap
from protocols.dlms.security import Key
from schemas.meter import KeyPurpose

RULES = ImportRules(allow_plain_keys=True)


def read(text, rules=RULES):
    return read_meters(text.encode(), rules)


@pytest.mark.parametrize(("suite", "length"), [(0, 16), (1, 16), (2, 32)])
def test_keys_have_the_length_of_the_models_suite(tmp_path, suite, length):
    (tmp_path / "mine.toml").write_text(f'title = "mine"\n[association]\nsuite = {suite}\n')
    rules = ImportRules(allow_plain_keys=True, profile_folders=(tmp_path,))
    head = "asset_id,model,encryption_key_plain,authentication_key_plain\n"
    (line,), errors = read(f"{head}1,mine,{'ab' * length},{'cd' * length}\n", rules)
    assert errors == []
    assert line.keys == {
        KeyPurpose.ENCRYPTION: Key(b"\xab" * length),
        KeyPurpose.AUTHENTICATION: Key(b"\xcd" * length),
    }
    wrong = 48 - length
    lines, errors = read(f"{head}1,mine,{'ab' * wrong},\n", rules)
    assert lines == []
    assert [str(e) for e in errors] == [
        f"line 2, encryption_key_plain: has {wrong} bytes, the model's suite {suite} takes {length}"
    ]


def test_a_key_is_given_once():
    transport = Key(bytes(16))
    wrapped = wrap(KeyPurpose.LLS, Key(b"secret"), transport).hex()
    rules = ImportRules(transport, allow_plain_keys=True)
    lines, errors = read(f"asset_id,model,lls_secret,lls_secret_plain\n1,aidon,{wrapped},secret\n", rules)
    assert lines == []
    assert [(e.column, e.reason) for e in errors] == [("lls_secret_plain", "is given in lls_secret too")]


def test_no_line_shows_a_key():
    (line,), _ = read("asset_id,model,lls_secret_plain\n1,aidon,5ec7e7\n")
    assert "5ec7e7" not in repr(line)


@pytest.mark.parametrize(
    ("model", "address", "reason"),
    [
        ("eastron-sdm120", "modbus+tcp://10.0.0.1?unit=1", None),
        ("eastron-sdm120", "modbus+rtu:///dev/ttyUSB0?unit=1", None),
        ("eastron-sdm120", "", None),
        ("headend-sim", "tcp://10.0.0.1", None),
        (
            "eastron-sdm120",
            "tcp://10.0.0.1:4059",
            "tcp: is not spoken by meters of model eastron-sdm120, but modbus+tcp:, modbus+rtu+tcp:, modbus",
        ),
        (
            "headend-sim",
            "modbus+tcp://10.0.0.1?unit=1",
            "modbus+tcp: is not spoken by meters of model headend-sim, but tcp:, udp:, hdlc+tcp:",
        ),
        (
            "headend-sim",
            "p1+serial:///dev/ttyUSB0",
            "p1+serial: is not spoken by meters of model headend-sim",
        ),
    ],
)
def test_a_model_is_reached_over_links_that_its_language_has(model, address, reason):
    lines, errors = read(f"asset_id,model,address\n1,{model},{address}\n")
    if reason is None:
        assert (len(lines), errors) == (1, [])
    else:
        assert lines == []
        assert [e.column for e in errors] == ["address"]
        assert errors[0].reason.startswith(reason)


def test_every_kind_of_link_is_spoken_by_somebody():
    from schemas import models
    from schemas.address import Scheme

    assert set(models._SPEAKERS) == set(Scheme) - {Scheme.MQTT}
    spoken = {name for names in models._SPEAKERS.values() for name in names}
    assert {models.load_any(name).driver for name in models.all_names()} - {"mqtt"} <= spoken
