"""What an approver reads of a program: all of it."""

from typing import Any

from headend.cli.program_view import lines, program_lines
from schemas.people import Permission, lacking

TARIFF = {
    "kind": "tariff",
    "document": {
        "name": "TOU27",
        "zone": "Europe/Berlin",
        "activation": "2027-01-01T00:00",
        "periods": {"peak": 1, "off-peak": 2},
        "days": [
            {
                "name": "work",
                "switches": [{"from": "00:00", "period": "off-peak"}, {"from": "17:30", "period": "peak"}],
            },
            {"name": "rest", "switches": [{"from": "00:00", "period": "off-peak"}]},
        ],
        "weeks": [
            {"name": "W"}
            | dict.fromkeys(("monday", "tuesday", "wednesday", "thursday", "friday"), "work")
            | dict.fromkeys(("saturday", "sunday"), "rest")
        ],
        "seasons": [{"name": "all", "from": "01-01", "week": "W"}],
        "special_days": [
            {"date": "12-25", "day": "rest", "weekday": None, "name": "Christmas"},
            {"date": "2027-03-26", "day": "rest", "weekday": "friday", "name": None},
        ],
    },
}


def values(plain: Any) -> set[str]:
    if isinstance(plain, dict):
        return set().union(*map(values, plain.values()))
    if isinstance(plain, list):
        return set().union(*map(values, plain))
    return set() if plain is None else {str(plain)}


def test_a_tariff_program_is_told_in_its_own_words() -> None:
    told = dict(program_lines(TARIFF))
    assert told["activation"] == "2027-01-01T00:00, local times of Europe/Berlin"
    assert told["day work"] == "00:00 off-peak, 17:30 peak"
    assert told["week W"] == "Mo work, Tu work, We work, Th work, Fr work, Sa rest, Su rest"
    assert told["season all"] == "from 01-01: week W"
    assert told["special days"] == "12-25 (Christmas): day rest, 2027-03-26 (friday): day rest"
    whole = " ".join(part for line in told.items() for part in line)
    assert not [one for one in values(TARIFF["document"]) if one not in whole]


def test_any_other_program_is_told_field_by_field() -> None:
    program = {"kind": "switch", "action": "disconnect", "reason": "arrears", "note": ""}
    assert dict(program_lines(program)) == {"action": "disconnect", "reason": "arrears"}
    assert dict(lines({"a": [1, None], "b": [{"c": False}], "d": {}})) == {
        "a": "1, -",
        "b[0].c": "false",
        "d": "{}",
    }
    assert not [*lines({})]


def test_who_lacks_a_permission_is_told_the_roles_that_have_it() -> None:
    assert lacking(Permission.TARIFF) == (
        "this needs the permission program.tariff, of a role that is billing or metering_engineer"
    )
