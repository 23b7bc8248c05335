"""Clocks: when one is left alone, shifted or set."""

from typing import Literal, Self

from pydantic import Field, model_validator

from schemas.programs.shape import Shape


class ClockProgram(Shape):
    """A meter's clock is left alone up to ``leave_s`` off, shifted up to ``shift_s`` (at most 900 s, class 8
    method 6), and set beyond, where ``may_set``.

    It is changed only where it is ``boundary_s`` and the uncertainty of its reading away from the boundaries
    of load profiles, before and after. ``summer_time``: its own rules of summer time are held against its
    model's time zone, and corrected. ``of`` concentrators: the selection names them, not meters behind them.
    """

    kind: Literal["clock"] = "clock"
    of: Literal["meters", "concentrators"] = "meters"
    leave_s: int = Field(default=5, ge=0, le=900)
    shift_s: int = Field(default=60, ge=0, le=900)
    may_set: bool = True
    boundary_s: int = Field(default=60, ge=60, le=300)
    summer_time: bool = True

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.leave_s > self.shift_s:
            raise ValueError("leave_s is at most shift_s")
        return self
