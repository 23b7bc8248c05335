"""What came of rounds of concentrators."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class StationOutcome:
    """What came of one concentrator's round.

    ``meters`` are in its directory, ``unknown`` of them no meters of ours, ``silent`` not reached by it;
    ``lost`` rows it overwrote before they were released, in all its time. ``fetched`` rows came, and
    ``released`` profiles were released. ``bad`` says what is wrong with a meter's part, by identity;
    ``failure`` what ended the round, None where it came to its end.
    """

    station: str
    meters: int = 0
    unknown: int = 0
    silent: int = 0
    lost: int = 0
    fetched: int = 0
    released: int = 0
    seconds: float = 0.0
    bad: dict[str, str] = field(default_factory=dict)
    failure: Exception | None = None


def summary(outcomes: Sequence[StationOutcome]) -> str:
    """One line on a round of all concentrators."""
    failed = [one for one in outcomes if one.failure is not None]
    return (
        f"concentrators: {len(outcomes) - len(failed)} read, {len(failed)} failed, "
        f"{sum(one.fetched for one in outcomes)} rows of {sum(one.meters for one in outcomes)} meters, "
        f"{sum(one.silent for one in outcomes)} silent, {sum(one.unknown for one in outcomes)} unknown"
    )
