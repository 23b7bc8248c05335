"""Breakers of DL/T 645 meters: by hand against the standard's form, then over a simulated line.

No recorded trace of control code 1C exists here; both ends of the line are ours.
"""

from pathlib import Path
from typing import Any

import pytest

from concentrator_sim.breaker import Breaker
from protocols.dlt645 import conversation as dlt
from protocols.dlt645.control import SwitchCommand
from protocols.errors import LocalProtocolError
from schemas.campaign import MeterProgress
from schemas.line_model import Dlt645Switch
from schemas.programs.switch import SwitchAction, SwitchProgram, SwitchReason
from tests.integration.programs.field import Works, works

LINE = [{"kind": "dlt645_tcp", "count": 1, "meters": 2}]
PROFILE = """
inherit = "dlt645-2007"
title = "with a relay"
[load_records]
identifier = "06-04-00-01"
period_s = 900
at_once = 8
[switch]
password = "{password}"
operator = "11223344"
"""


def _program(action: str) -> SwitchProgram:
    return SwitchProgram(action=SwitchAction(action), reason=SwitchReason.SAFETY)


def test_a_trip_by_hand() -> None:
    """Start, address low byte first, 1C, 16 bytes: password, operator, N1 N2, until ss mm hh DD MM YY."""
    data = bytes.fromhex("02000000" + "11223344" + "1A00" + "070512010326")
    body = bytes.fromhex("68 563412000000 68 1C 10") + bytes(b + 0x33 for b in data)
    request = dlt.switch(
        "000000123456", SwitchCommand.TRIP, "260301120507",
        password=bytes.fromhex("02000000"), operator=bytes.fromhex("11223344"),
    )  # fmt: skip
    whole = b"\xfe" * 4 + body + bytes((sum(body) & 0xFF, 0x16))
    assert dlt.Conversation(request).start() == whole
    with pytest.raises(LocalProtocolError, match="four bytes"):
        dlt.switch("000000123456", SwitchCommand.TRIP, "260301120507", password=b"", operator=bytes(4))
    with pytest.raises(ValueError, match="four bytes"):
        Dlt645Switch.model_validate({"password": "02"})
    assert "02000000" not in repr(request) + repr(Dlt645Switch.model_validate({"password": "02000000"}))


def house(tmp_path: Path, password: str) -> dict[str, Any]:
    folder = tmp_path / "dlt645"
    folder.mkdir()
    (folder / "dlt645-2007-load-records.toml").write_text(PROFILE.format(password=password))
    return {"profiles_dir": tmp_path}


def _breakers(here: Works) -> list[Breaker]:
    (station,) = here.field.stations
    return [one.meter.part(Breaker) for one in station._meters]  # type: ignore[attr-defined]


async def test_trip_allow_and_close(embedded_database: Any, tmp_path: Path) -> None:
    settings = house(tmp_path, "02000000")
    async with works(embedded_database.dsn, meters=0, stations=LINE, settings=settings) as here:
        found = await here.apply(_program("disconnect"))
        assert [one.state for one in found] == [MeterProgress.DONE] * 2, found[0].reason
        assert [(one.output, one.moves) for one in _breakers(here)] == [(False, 1)] * 2
        (one, _) = await here.apply(_program("arm"))
        assert one.proof["waits_for"] == "ready for reconnection, waits for the customer's button"
        assert [one.state for one in await here.apply(_program("reconnect"))] == [MeterProgress.DONE] * 2
        assert all(one.output for one in _breakers(here))


async def test_a_wrong_password_is_told(embedded_database: Any, tmp_path: Path) -> None:
    settings = house(tmp_path, "02999999")
    async with works(embedded_database.dsn, meters=0, stations=LINE, settings=settings) as here:
        found = await here.apply(_program("disconnect"))
        assert {one.state for one in found} == {MeterProgress.FAILED}
        assert "wrong password" in (found[0].reason or "")
        assert all(one.output for one in _breakers(here))
