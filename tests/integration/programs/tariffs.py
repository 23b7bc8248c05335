"""Tariff programs that tests apply."""

from datetime import datetime
from typing import Any

from schemas.programs.tariff import TariffProgram

#: Three periods, two seasons, two special days.
THREE: dict[str, Any] = {
    "name": "THREE",
    "zone": "Europe/Berlin",
    "periods": {"peak": 1, "off-peak": 2, "half-peak": 3},
    "days": [
        {
            "name": "work",
            "switches": [
                {"from": "00:00", "period": "off-peak"},
                {"from": "06:00", "period": "half-peak"},
                {"from": "17:00", "period": "peak"},
                {"from": "21:00", "period": "off-peak"},
            ],
        },
        {"name": "rest", "switches": [{"from": "00:00", "period": "off-peak"}]},
    ],
    "weeks": [
        {
            "name": "W",
            **dict.fromkeys(("monday", "tuesday", "wednesday", "thursday", "friday"), "work"),
            **dict.fromkeys(("saturday", "sunday"), "rest"),
        },
        {
            "name": "S",
            **dict.fromkeys(
                ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"), "rest"
            ),
        },
    ],
    "seasons": [
        {"name": "winter", "from": "10-01", "week": "W"},
        {"name": "summer", "from": "04-01", "week": "S"},
    ],
    "special_days": [
        {"date": "12-25", "day": "rest"},
        {"date": "2027-03-26", "weekday": "friday", "day": "rest"},
    ],
}


def program(activation: datetime | None = None, **changes: Any) -> TariffProgram:
    """The program, activated at once or at a time."""
    when = "at once" if activation is None else activation.isoformat()
    return TariffProgram.model_validate(
        {"kind": "tariff", "document": {**THREE, "activation": when, **changes}}
    )
