"""Switching customers off and on, and limits of their load."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from schemas.programs.shape import Shape


class SwitchAction(StrEnum):
    """What becomes of the breaker (Disconnect Control, class 70)."""

    DISCONNECT = "disconnect"
    RECONNECT = "reconnect"  # as far as the meter's mode allows: on, or ready for the customer's button
    ARM = "arm"  # ready for reconnection: the customer pushes the button


class SwitchReason(StrEnum):
    """Why: each switching has one."""

    ARREARS = "arrears"
    MOVE_OUT = "move_out"
    SAFETY = "safety"
    PREPAY = "prepay"


Note = Annotated[str, Field(max_length=500)]


class SwitchProgram(Shape):
    """Switch the customer off, on, or let him push the button. ``note`` says what the code does not."""

    kind: Literal["switch"] = "switch"
    action: SwitchAction
    reason: SwitchReason
    note: Note = ""


class LimitProgram(Shape):
    """A limit of the load (Limiter, class 71).

    ``watts`` for ``for_s`` seconds from when it is set (the emergency threshold under a profile of that
    length), or until another is set (None: the normal threshold). The meter acts when the load has been above
    it for ``over_s`` seconds; None: as the meter has it.
    """

    kind: Literal["limit"] = "limit"
    reason: SwitchReason
    note: Note = ""
    watts: int = Field(ge=1, le=10_000_000)
    for_s: int | None = Field(default=None, ge=60, le=366 * 86_400)
    over_s: int | None = Field(default=None, ge=0, le=86_400)
