import os

import pytest

from schemas.config import Settings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("HEADEND_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_defaults_need_nothing():
    settings = load_settings()
    assert settings.database_url is None
    assert (settings.api_host, settings.api_port) == ("127.0.0.1", 8000)
    assert settings.profile_folders == ()


def test_given_beats_environment_beats_file(monkeypatch, tmp_path):
    (tmp_path / "headend.toml").write_text("api_port = 1\nread_attempts = 7\nlog_level = 'debug'\n")
    monkeypatch.setenv("HEADEND_API_PORT", "2")
    monkeypatch.setenv("HEADEND_READ_ATTEMPTS", "8")
    settings = load_settings(api_port=3)
    assert (settings.api_port, settings.read_attempts, settings.log_level) == (3, 8, "debug")


def test_the_file_may_be_named(monkeypatch, tmp_path):
    (tmp_path / "other.toml").write_text("api_port = 0\n")
    monkeypatch.setenv("HEADEND_CONFIG", str(tmp_path / "other.toml"))
    assert load_settings().api_port == 0
    monkeypatch.setenv("HEADEND_CONFIG", str(tmp_path / "absent.toml"))
    with pytest.raises(SettingsError, match=r"absent\.toml, which is no file"):
        load_settings()


def test_unknown_keys_are_refused_with_their_place(monkeypatch, tmp_path):
    (tmp_path / "headend.toml").write_text("databse_url = 'x'\n")
    with pytest.raises(SettingsError, match=r"headend\.toml: databse_url: Extra inputs"):
        load_settings()
    (tmp_path / "headend.toml").write_text("api_port = \n")
    with pytest.raises(SettingsError, match=r"headend\.toml: .*line 1"):
        load_settings()
    (tmp_path / "headend.toml").unlink()
    monkeypatch.setenv("HEADEND_DATABSE_URL", "x")
    with pytest.raises(SettingsError, match="unknown environment variables: HEADEND_DATABSE_URL"):
        load_settings()
    monkeypatch.delenv("HEADEND_DATABSE_URL")
    monkeypatch.setenv("HEADEND_TEST_TIMESCALEDB_URL", "for the tests")
    load_settings()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("API_PORT", "65536", "less than or equal"),
        ("API_PORT", "", "integer"),
        ("RESPONSE_TIMEOUT_S", "0", "greater than 0"),
        ("RESPONSE_TIMEOUT_S", "nan", ""),
        ("RESPONSE_TIMEOUT_S", "inf", ""),
        ("SYSTEM_TITLE", "4845", "16 hexadecimal"),
        ("LISTEN_PUSH_TCP", "4059", "host:port"),
        ("LOG_LEVEL", "loud", "debug"),
    ],
)
def test_wrong_values_are_refused_with_their_place(monkeypatch, name, value, said):
    monkeypatch.setenv(f"HEADEND_{name}", value)
    with pytest.raises(SettingsError, match=f"environment variable HEADEND_{name}: .*{said}"):
        load_settings()


def test_an_empty_variable_is_not_set(monkeypatch):
    monkeypatch.setenv("HEADEND_DATABASE_URL", "")
    monkeypatch.setenv("HEADEND_LISTEN_PUSH_UDP", "")
    assert load_settings().database_url is None
    assert load_settings().listen_push_udp is None


def test_secrets_show_nowhere(monkeypatch, tmp_path):
    monkeypatch.setenv("HEADEND_MASTER_KEY", "5ec7e7" * 10)
    monkeypatch.setenv("HEADEND_DATABASE_URL", "postgresql://u:5ec7e7@h/db")
    settings = load_settings()
    assert "5ec7e7" not in repr(settings)
    assert "5ec7e7" not in str(settings)
    assert "5ec7e7" not in str(settings.model_dump())
    monkeypatch.setenv("HEADEND_MASTER_KEY_FILE", "5ec7e7")
    with pytest.raises(SettingsError, match="master_key and master_key_file") as both:
        load_settings()
    assert "5ec7e7" not in repr(both.value)
    monkeypatch.delenv("HEADEND_MASTER_KEY_FILE")
    (tmp_path / "headend.toml").write_text("transport_key = ['5ec7e7']\n")
    with pytest.raises(SettingsError, match="transport_key") as wrong:
        load_settings()
    assert "5ec7e7" not in repr(wrong.value)
    assert wrong.value.__cause__ is None


def test_every_wait_has_a_bound():
    for name, field in Settings.model_fields.items():
        if name.endswith("_s"):
            assert any(getattr(m, "le", None) is not None for m in field.metadata), name


def test_slots_are_topic_filters_that_do_not_meet(monkeypatch):
    def slots(*filters):
        return load_settings(mqtt_slots=filters).mqtt_slots

    assert slots(["a/#"], ["b/+", "c"]) == (("a/#",), ("b/+", "c"))
    for wrong in ([["a/#/b"]], [["a+"]], [[]], [], [["a/#"], ["a/b"]], [["+/x"], ["a/+"]], [["a/#"], ["a"]]):
        with pytest.raises(SettingsError, match="mqtt_slots"):
            slots(*wrong)
    assert slots(["+/x"], ["a/y", "a/x/+"])
    monkeypatch.setenv("HEADEND_MQTT_SLOTS", '[["a/#"], ["b/#"]]')
    assert load_settings().mqtt_slots == (("a/#",), ("b/#",))


@pytest.mark.parametrize("url", ["mqtt://me:hunter2@host", "http://host", "mqtt://", "mqtt://host/path"])
def test_a_broker_is_a_place_without_secrets(url):
    with pytest.raises(SettingsError, match="mqtt_url") as wrong:
        load_settings(mqtt_url=url)
    assert "hunter2" not in str(wrong.value)


def test_a_list_that_is_no_json_is_told_how_lists_are_written(monkeypatch):
    monkeypatch.setenv("HEADEND_FIRMWARE_KEYS", "5ec7e7" * 10)
    with pytest.raises(SettingsError, match=r"variable HEADEND_FIRMWARE_KEYS: .* as JSON") as caught:
        load_settings()
    assert "5ec7e7" not in str(caught.value)
