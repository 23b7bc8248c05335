"""Time-of-use programs."""

from typing import Literal, Self

from pydantic import model_validator

from schemas.programs.shape import Shape
from schemas.tariff.check import check
from schemas.tariff.document import TariffDocument
from schemas.tariff.finding import errors_in


class TariffProgram(Shape):
    """A tariff calendar, as a document in which nothing is wrong.

    What a meter model takes of it, and whether its activation is still to come, is judged when it is used.
    """

    kind: Literal["tariff"] = "tariff"
    document: TariffDocument

    @model_validator(mode="after")
    def _right(self) -> Self:
        wrong = errors_in(check(self.document))
        if wrong:
            raise ValueError("; ".join(map(str, wrong)))
        return self
