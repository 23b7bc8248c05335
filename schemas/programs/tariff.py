"""Time-of-use programs."""

from typing import Any, Literal

from schemas.programs.shape import Shape


class TariffProgram(Shape):
    """A tariff calendar, as a document."""

    kind: Literal["tariff"] = "tariff"
    document: dict[str, Any]
