"""People on the command line, as an operator of the host starts with them."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pyotp
import pytest
from typer.testing import CliRunner, Result

from headend.cli.main import app
from headend.people import passwords
from headend.people.identity import host_actor
from tests.integration.people import CHEAP, PASSWORD

OTHER = "staple horse battery correct"


@pytest.fixture
def headend(embedded_database: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADEND_DATABASE_URL", embedded_database.dsn)
    monkeypatch.setenv("HEADEND_MASTER_KEY", "42" * 32)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(passwords, "PasswordHasher", lambda: CHEAP)

    def run(*arguments: str, typed: str = "", status: int = 0) -> Result:
        done = CliRunner().invoke(app, list(arguments), input=typed, env={"COLUMNS": "200"})
        assert done.exit_code == status, done.output
        assert PASSWORD not in done.output
        return done

    return run


def test_from_the_first_administrator_on(
    headend: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedded_database: Any
) -> None:
    who = json.loads(headend("whoami", "--json").stdout)
    assert (who["actor"], who["account"], "approve" in who["permissions"]) == (host_actor(), None, False)
    assert "12 to 256" in headend("account", "create", "adam", "--admin", typed="short\n", status=1).stderr
    assert json.loads(headend("account", "list", "--json").stdout) == [], "nothing half made"
    headend("account", "create", "adam", "--admin", typed=PASSWORD + "\n")
    assert "already" in headend("account", "create", "eve", "--admin", typed=PASSWORD, status=1).stderr
    assert "no login" in headend("account", "create", "Eve", typed=PASSWORD, status=1).stderr
    assert "not right" in headend("login", "adam", typed="wrong password\n", status=1).stderr

    headend("login", "adam", typed=PASSWORD + "\n")
    kept = tmp_path / "config" / "headend" / "session"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert json.loads(headend("whoami", "--json").stdout)["permissions"] == [], (
        "until a second factor is there"
    )
    assert "administrator" in headend("account", "list", status=1).stderr

    # The secret is told before the code is asked for: a telephone would be between.
    shown: list[str] = []
    from headend.cli import own

    def code(**_: Any) -> str:
        return PASSWORD if not shown else pyotp.TOTP(shown[0]).now()

    def begun(value: str, **_: Any) -> None:
        if value.startswith("otpauth://"):
            shown.append(pyotp.parse_uri(value).secret)

    with monkeypatch.context() as patch:
        patch.setattr(own, "ask_password", code)
        patch.setattr(own.out, "print", begun)
        headend("account", "totp")
    assert "administer" in json.loads(headend("whoami", "--json").stdout)["permissions"]
    assert [one["login"] for one in json.loads(headend("account", "list", "--json").stdout)] == ["adam"]

    made = json.loads(headend("account", "create", "bob", "--json", typed=OTHER + "\n").stdout)
    assert (made["roles"], made["must_change_password"]) == ([], True)
    assert "second person" in headend("account", "roles", "bob", "operator").stdout
    assert "no role" in headend("account", "roles", "bob", "king", status=1).stderr
    assert "host" in headend("account", "password", "bob", typed=PASSWORD, status=1).stderr
    assert "last administrator" in headend("account", "disable", "adam", status=1).stderr
    sessions = json.loads(headend("account", "sessions", "adam", "--json").stdout)
    assert [one["kind"] for one in sessions] == ["cli"]

    headend("account", "disable", "bob", "--lock")
    headend("account", "enable", "bob")
    headend("account", "revoke", "adam")
    over = headend("whoami", status=1).stderr
    assert "headend login" in over, "nobody falls back to the host's rights"
    headend("logout")
    assert json.loads(headend("whoami", "--json").stdout)["actor"] == host_actor()
    assert not kept.exists()

    headend("account", "totp", "adam", "--remove")
    shown_now = json.loads(headend("account", "show", "adam", "--json").stdout)
    assert (shown_now["second_factor_since"], shown_now["sessions"]) == (None, 0)
    with psycopg.connect(embedded_database.dsn) as connection:
        done = connection.execute("SELECT actor, action FROM audit_log ORDER BY audit_id").fetchall()
    adam = next(actor for actor, action in done if action == "session.open")
    assert ("nobody", "session.refused") in done
    assert (adam, "account.password.refused") in done, "what was refused is on record"
    assert (adam, "account.roles.ask") in done
    assert (host_actor(), "account.totp.remove") in done


def test_commands_by_a_token(headend: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    headend("account", "create", "adam", "--admin", typed=PASSWORD + "\n")
    secret = json.loads(
        headend("token", "create", "t", "--scope", "admin", "--account", "adam", "--json").stdout
    )["secret"]
    monkeypatch.setenv("HEADEND_TOKEN", secret)
    who = json.loads(headend("whoami", "--json").stdout)
    assert who["actor"] == "token:1 t of adam"
    assert "people" in who["permissions"]
    assert "approve" not in who["permissions"]
    monkeypatch.setenv("HEADEND_TOKEN", secret[:-1] + ("A" if secret[-1] != "A" else "B"))
    refused = headend("whoami", status=1).stderr
    assert "HEADEND_TOKEN" in refused
    assert secret[:20] not in refused


def test_a_file_that_others_can_read_is_not_believed(headend: Callable[..., Result], tmp_path: Path) -> None:
    headend("account", "create", "adam", "--admin", typed=PASSWORD + "\n")
    headend("login", "adam", typed=PASSWORD + "\n")
    (tmp_path / "config" / "headend" / "session").chmod(0o644)
    assert "open to others" in headend("whoami", status=1).stderr
    headend("logout")
    headend("login", "adam", typed=PASSWORD + "\n")
    headend("whoami")
