"""What came of a round of a concentrator."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class StationOutcome:
    """What came of one concentrator's round.

    ``meters`` are in its directory, ``unknown`` of them no meters of ours, ``silent`` not reached by it;
    ``lost`` rows it overwrote before they were released, in all its time. ``fetched`` rows came, and
    ``released`` profiles were released. ``bad`` says what is wrong with a meter's part, by identity.
    """

    meters: int = 0
    unknown: int = 0
    silent: int = 0
    lost: int = 0
    fetched: int = 0
    released: int = 0
    bad: dict[str, str] = field(default_factory=dict)
