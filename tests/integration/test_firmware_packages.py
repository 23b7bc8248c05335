"""Packages by command line and API: made, signed, uploaded, refused, and all of it audited."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from typer.testing import CliRunner

from api.app import create_app
from api.services import Services
from headend.cli.main import app
from headend.firmware.package import PackageError
from headend.firmware.upload import package_of
from headend.moment.moment import Moment
from headend.store import firmware, tokens
from headend.store.pool import open_pool
from headend.store.tokens import Scope


def told(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["firmware", *arguments], env={"COLUMNS": "250"})
    return done.exit_code, done.output


def made(folder: Path) -> tuple[Path, str]:
    """A package, and the public key that signed it."""
    (folder / "image").write_bytes(b"\x00\x01" * 500)
    status, output = told("keygen", str(folder / "key.pem"))
    assert status == 0, output
    assert (folder / "key.pem").stat().st_mode & 0o077 == 0
    public = output.strip().splitlines()[-1]
    status, output = told(
        "pack", str(folder / "image"), "--key", str(folder / "key.pem"), "--identifier", "FOO1",
        "--version", "1.1.0", "--model", "headend-sim-hls5", "--from", "1.0.*", "--out", str(folder / "p.fw"),
        "--signature", "0xAB01",
    )  # fmt: skip
    assert status == 0, output
    return folder / "p.fw", public


def actions(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT action FROM audit_log ORDER BY audit_id").fetchall()
    return [action for (action,) in found]


def test_a_package_from_image_to_list(
    embedded_database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADEND_DATABASE_URL", embedded_database.dsn)
    package, public = made(tmp_path)
    status, output = told("upload", str(package))
    assert (status, "HEADEND_FIRMWARE_KEYS" in output) == (1, True)  # nobody is trusted yet
    monkeypatch.setenv("HEADEND_FIRMWARE_KEYS", f'["{public}"]')
    shown = told("verify", str(package))[1]
    assert "1.0.* -> 1.1.0" in shown
    assert "ab01" in shown
    flipped = bytearray(package.read_bytes())
    flipped[200] ^= 1
    (tmp_path / "flipped.fw").write_bytes(flipped)
    status, output = told("upload", str(tmp_path / "flipped.fw"))
    assert (status, "fetch it again" in output) == (1, True)
    for _ in range(2):
        assert told("upload", str(package))[0] == 0
    assert "1.1.0" in told("list")[1]
    digest = told("verify", str(package), "--json")[1]
    assert told("show", digest.split('"package": "')[1][:12])[0] == 0
    assert "keygen" not in told("keygen", str(tmp_path / "key.pem"))[1]  # a key is never written over
    assert actions(embedded_database.dsn) == ["firmware.refused", "firmware.refused", "firmware.upload"]


async def test_a_package_over_the_api(
    embedded_database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, public = await asyncio.to_thread(made, tmp_path)
    data = package.read_bytes()
    async with open_pool(embedded_database.dsn) as pool:
        async with pool.connection() as connection:
            operator = await tokens.create(connection, name="o", scopes=[Scope.OPERATE])
            reader = await tokens.create(connection, name="r", scopes=[Scope.READ])
        moment = Moment.__new__(Moment)  # nothing is read here
        api = create_app(Services(pool, moment, firmware_keys=(public,)))
        transport = httpx.ASGITransport(api)
        async with httpx.AsyncClient(transport=transport, base_url="http://test/api/v1") as client:
            client.headers["Authorization"] = f"Bearer {reader.secret}"
            assert (await client.post("/firmware", content=data)).status_code == 403
            client.headers["Authorization"] = f"Bearer {operator.secret}"
            answer = await client.post("/firmware", content=data[:-1])
            assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
            for _ in range(2):
                answer = await client.post("/firmware", content=data)
                assert answer.status_code == 201, answer.text
            (listed,) = (await client.get("/firmware")).json()["packages"]
            assert listed == answer.json() == (await client.get(f"/firmware/{listed['package']}")).json()
            assert (await client.get(f"/firmware/{'0' * 64}")).status_code == 404
        # and it is checked again before it is used
        async with pool.connection() as connection:
            assert (await package_of(connection, listed["package"], [public])).image == b"\x00\x01" * 500
            with pytest.raises(PackageError, match="no key is trusted"):
                await package_of(connection, listed["package"], [])
            await connection.execute("UPDATE firmware_packages SET data = set_byte(data, 300, 9)")
            with pytest.raises(PackageError, match="does not hold"):
                await package_of(connection, listed["package"], [public])


async def test_versions_are_noted_where_they_change(embedded_database: Any) -> None:
    from datetime import UTC, datetime, timedelta

    now = datetime(2026, 1, 1, tzinfo=UTC)
    async with open_pool(embedded_database.dsn) as pool, pool.connection() as connection:
        for hours, version in enumerate(["1.0", "1.0", "1.1", "1.0"]):
            await firmware.note_version(connection, 7, version, None, at=now + timedelta(hours=hours))
        found = await firmware.versions(connection, 7)
    assert [(one.version, (one.read_at - now) // timedelta(hours=1)) for one in found] == [
        ("1.0", 3), ("1.1", 2), ("1.0", 0),
    ]  # fmt: skip


def test_it_is_put_forward_by_its_digest(
    embedded_database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADEND_DATABASE_URL", embedded_database.dsn)
    package, public = made(tmp_path)
    monkeypatch.setenv("HEADEND_FIRMWARE_KEYS", f'["{public}"]')
    assert told("upload", str(package))[0] == 0
    digest = json.loads(told("verify", str(package), "--json")[1])["package"]
    assert "0 packages begin with" in told("apply", "0" * 64, "--meter", "M-1")[1]
    assert "has no offset" in told("apply", digest[:12], "--all-meters", "--at", "2027-03-01T02:00:00")[1]
    assert "'concentrators', 'meters'" in told("apply", digest[:12], "--all-meters", "--through", "x")[1]
    status, output = told("apply", digest[:12], "--all-meters", "--through", "meters")
    assert (status, "no commissioned meter" in output) == (1, True), output
