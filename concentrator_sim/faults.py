"""What goes wrong in a field, on schedule or by chance, and repeatably: each target has dice of its own."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from concentrator_sim.dice import Dice


class FaultKind(StrEnum):
    """Kinds of faults: of messages, of connections, of devices."""

    LOSS = "loss"
    DELAY = "delay"
    DUPLICATE = "duplicate"
    BIT_ERRORS = "bit_errors"
    TRUNCATE = "truncate"
    HALF_OPEN = "half_open"
    REBOOT = "reboot"
    UNREACHABLE = "unreachable"
    CLOCK_DRIFT = "clock_drift"
    COUNTER_RESET = "counter_reset"
    FULL_BUFFER = "full_buffer"
    BREAKER = "breaker"
    REQUEST_LOSS = "request_loss"
    FLASH = "flash"
    BIT_ROT = "bit_rot"
    BRICK = "brick"
    WRONG_TARIFF = "wrong_tariff"


#: What each kind must be told beside time and chance.
_AMOUNTS: Final = {
    FaultKind.DELAY: "delay_s",
    FaultKind.BIT_ERRORS: "per_bit",
    FaultKind.CLOCK_DRIFT: "drift_ppm",
}
#: Restarts of one fault that are remembered.
_KEPT_FAILURES: Final = 1000
_OF_MESSAGES: Final = frozenset(
    {FaultKind.LOSS, FaultKind.DELAY, FaultKind.DUPLICATE, FaultKind.BIT_ERRORS, FaultKind.TRUNCATE}
)
_OF_IMAGES: Final = frozenset({FaultKind.FLASH, FaultKind.BIT_ROT, FaultKind.BRICK, FaultKind.REBOOT})
#: What chance is for.
_BY_CHANCE: Final = _OF_MESSAGES | {FaultKind.REQUEST_LOSS, FaultKind.FLASH, FaultKind.BIT_ROT}


class Fault(BaseModel):
    """One fault. Times are seconds of the field's clock since it started.

    It strikes the meters and stations whose name matches ``targets`` (``*`` stands for anything), of which a
    ``share`` is drawn. It begins ``after_s``, lasts ``for_s`` (0: from then on) and comes back ``every_s``
    (0: never). While it lasts, a fault of messages meets each with ``chance``. ``delay_s`` is the longest
    delay, ``per_bit`` the probability of a wrong bit, ``drift_ppm`` what a clock goes fast (below 0: slow).

    ``half_open``: the connection stands and nobody is there. ``reboot``: for ``for_s`` the power is away and
    nobody listens, what was connected before is cut off; a meter's logs tell of it. ``unreachable``: the same
    without a restart: the way to it is broken, it meters on and its logs tell nothing. ``counter_reset``:
    energy registers begin at zero again, once. ``full_buffer``: a concentrator drops what it has not
    delivered. ``breaker``: a meter's breaker is stuck: it is told, says yes, and does not move.
    ``request_loss``: as ``loss``, for messages to the meter. ``flash``: its memory for images is worn: it
    refuses a block with ``chance``. ``bit_rot``: it takes a block and keeps it wrong. ``brick``: it never
    answers again after it has activated an image.
    ``wrong_tariff``: of a tariff program that is written, a meter stores one switch wrongly.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: FaultKind
    targets: str = "*"
    share: float = Field(default=1.0, gt=0, le=1)
    chance: float = Field(default=1.0, gt=0, le=1)
    after_s: int = Field(default=0, ge=0)
    for_s: int = Field(default=0, ge=0)
    every_s: int = Field(default=0, ge=0)
    delay_s: float | None = Field(default=None, gt=0, le=600)
    per_bit: float | None = Field(default=None, gt=0, le=1)
    drift_ppm: float | None = Field(default=None, ge=-100_000, le=100_000)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        wanted = _AMOUNTS.get(self.kind)
        for name in _AMOUNTS.values():
            if (getattr(self, name) is not None) != (name == wanted):
                raise ValueError(f"{self.kind} {'needs' if name == wanted else 'has no'} {name}")
        if self.every_s and not 0 < self.for_s < self.every_s:
            raise ValueError("what comes back every_s lasts for_s, which is less")
        if self.chance < 1 and self.kind not in _BY_CHANCE:
            raise ValueError(f"chance is for faults of messages; {self.kind} has a share of its targets")
        if self.kind is FaultKind.REBOOT and not self.for_s:
            raise ValueError("reboot needs for_s: how long nobody listens")
        if self.kind is FaultKind.COUNTER_RESET and (self.for_s or self.every_s):
            raise ValueError("counter_reset happens once, after_s")
        return self

    def lasts(self, since_start: float) -> bool:
        """Whether it is on."""
        gone = since_start - self.after_s
        if gone < 0:
            return False
        if self.every_s:
            gone %= self.every_s
        return not self.for_s or gone < self.for_s

    def begun(self, since_start: float) -> int:
        """How many times it has begun."""
        gone = since_start - self.after_s
        if gone < 0:
            return 0
        return 1 + int(gone // self.every_s) if self.every_s else 1


class Delivery(NamedTuple):
    """What arrives of a message, and how much later."""

    delay_s: float
    data: bytes


class Faults:
    """The faults of one meter or station. ``started`` and ``now`` are Unix seconds."""

    __slots__ = ("_dice", "_faults", "_started")

    def __init__(self, target: str, faults: Sequence[Fault], *, seed: int, started: float) -> None:
        self._started = started
        self._dice = Dice(seed, "faults", target)
        self._faults = tuple(
            fault
            for n, fault in enumerate(faults)
            if fnmatchcase(target, fault.targets) and Dice(seed, "struck", n, target).happens(fault.share)
        )

    def __bool__(self) -> bool:
        """Whether any fault is there at all."""
        return bool(self._faults)

    def deliveries(self, data: bytes, now: float) -> list[Delivery]:
        """What becomes of a message sent now: nothing, one that may be late or damaged, or two."""
        out = [Delivery(0.0, data)]
        for fault in self._faults:
            if fault.kind not in _OF_MESSAGES or not fault.lasts(now - self._started):
                continue
            if self._dice.happens(fault.chance):
                out = [found for one in out for found in self._struck(fault, one)]
        return out

    def is_half_open(self, now: float) -> bool:
        """Whether what is sent now on a connection, and ever after on it, goes nowhere."""
        return self._is_on(FaultKind.HALF_OPEN, now)

    def is_down(self, now: float) -> bool:
        """Whether it restarts, or the way to it is broken: nobody listens."""
        return self._is_on(FaultKind.REBOOT, now) or self._is_on(FaultKind.UNREACHABLE, now)

    def restarts(self, now: float) -> int:
        """How many restarts have begun."""
        since = now - self._started
        return sum(fault.begun(since) for fault in self._faults if fault.kind is FaultKind.REBOOT)

    def power_failures(self, now: float) -> Iterator[tuple[int, int]]:
        """When the power was away before each restart that has begun: [begin, end) in Unix seconds."""
        for fault in self._faults:
            if fault.kind is FaultKind.REBOOT:
                begun = fault.begun(now - self._started)
                for n in range(max(0, begun - _KEPT_FAILURES), begun):
                    begin = int(self._started) + fault.after_s + n * fault.every_s
                    yield begin, begin + fault.for_s

    def is_full(self, now: float) -> bool:
        """Whether a concentrator's buffer is full."""
        return self._is_on(FaultKind.FULL_BUFFER, now)

    def breaker_sticks(self, now: float) -> bool:
        """Whether a meter's breaker does not move."""
        return self._is_on(FaultKind.BREAKER, now)

    def loses_request(self, now: float) -> bool:
        """Whether a message that is on its way to it now is lost."""
        return self._meets(FaultKind.REQUEST_LOSS, now)

    def flash_refuses(self, now: float) -> bool:
        """Whether its memory does not take what is written now."""
        return self._meets(FaultKind.FLASH, now)

    def flash_spoils(self, now: float) -> bool:
        """Whether it keeps wrong what is written now."""
        return self._meets(FaultKind.BIT_ROT, now)

    def is_brick(self, now: float) -> bool:
        """Whether an image that it activates now is its last."""
        return self._is_on(FaultKind.BRICK, now)

    @property
    def touches_images(self) -> bool:
        """Whether they ever matter to an image that it is given."""
        return any(fault.kind in _OF_IMAGES for fault in self._faults)

    @property
    def has_breaker(self) -> bool:
        """Whether its breaker ever sticks."""
        return any(fault.kind is FaultKind.BREAKER for fault in self._faults)

    def stores_wrongly(self, now: float) -> bool:
        """Whether it stores tariff programs wrongly."""
        return self._is_on(FaultKind.WRONG_TARIFF, now)

    @property
    def touches_tariffs(self) -> bool:
        """Whether that is ever so."""
        return any(fault.kind is FaultKind.WRONG_TARIFF for fault in self._faults)

    def clock(self, now: float) -> int:
        """What its clock shows: whole Unix seconds."""
        off = 0.0
        for fault in self._faults:
            if fault.kind is FaultKind.CLOCK_DRIFT and fault.drift_ppm is not None:
                off += max(0.0, now - self._started - fault.after_s) * fault.drift_ppm / 1_000_000
        return int(now + off)

    def counter_reset_s(self) -> int | None:
        """When its energy registers begin at zero again."""
        moments = [fault.after_s for fault in self._faults if fault.kind is FaultKind.COUNTER_RESET]
        return int(self._started) + min(moments) if moments else None

    def _meets(self, kind: FaultKind, now: float) -> bool:
        return any(
            fault.kind is kind and fault.lasts(now - self._started) and self._dice.happens(fault.chance)
            for fault in self._faults
        )

    def _is_on(self, kind: FaultKind, now: float) -> bool:
        return any(fault.kind is kind and fault.lasts(now - self._started) for fault in self._faults)

    def _struck(self, fault: Fault, one: Delivery) -> list[Delivery]:
        match fault.kind:
            case FaultKind.LOSS:
                return []
            case FaultKind.DELAY:
                return [Delivery(one.delay_s + self._dice.between(0, fault.delay_s or 0.0), one.data)]
            case FaultKind.DUPLICATE:
                return [one, one]
            case FaultKind.TRUNCATE:
                return [Delivery(one.delay_s, one.data[: self._dice.below(max(1, len(one.data)))])]
            case _:
                return [Delivery(one.delay_s, self._wrong_bits(one.data, fault.per_bit or 0.0))]

    def _wrong_bits(self, data: bytes, per_bit: float) -> bytes:
        wrong = bytearray(data)
        for bit in range(8 * len(wrong)):
            if self._dice.happens(per_bit):
                wrong[bit // 8] ^= 1 << bit % 8
        return bytes(wrong)
