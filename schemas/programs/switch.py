"""Switching customers off and on, and limits of their load."""

from enum import StrEnum
from typing import Literal

from schemas.programs.shape import Shape


class SwitchAction(StrEnum):
    """What becomes of the breaker (Disconnect Control, class 70)."""

    DISCONNECT = "disconnect"
    RECONNECT = "reconnect"
    ARM = "arm"  # ready for reconnection: the customer pushes the button


class SwitchReason(StrEnum):
    """Why: each switching has one."""

    ARREARS = "arrears"
    MOVE_OUT = "move_out"
    SAFETY = "safety"
    PREPAY = "prepay"


class SwitchProgram(Shape):
    """Switch the customer off, on, or let him push the button."""

    kind: Literal["switch"] = "switch"
    action: SwitchAction
    reason: SwitchReason


class LimitProgram(Shape):
    """A limit of the load (Limiter, class 71)."""

    kind: Literal["limit"] = "limit"
    reason: SwitchReason
