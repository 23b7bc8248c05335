"""What a meter shows at one moment, by OBIS code: the same truth for every language that a meter speaks."""

import re
from decimal import Decimal
from typing import Final

from concentrator_sim.generator import Consumption

#: Power is the mean of so many seconds: registers count whole Wh, of which a minute has few.
_WINDOW_S: Final = 900
_CODE: Final = re.compile(r"1-\d+:(\d+)\.([78])\.0\*255")
_PHASES: Final = 3
#: Groups of C that belong to one phase: total, then 20 more for each.
_PER_PHASE: Final = 20
_POWER_FACTOR: Final = Decimal("0.98")
_ENERGIES: Final = {1: 0, 2: 1, 3: 2, 4: 3, 5: 2, 7: 3}  # group C -> place in QUANTITIES


class Instant:
    """All that meter ``number`` shows at ``now`` (Unix seconds). Energies in Wh and varh are exact."""

    __slots__ = ("_consumption", "_now", "_number")

    def __init__(self, consumption: Consumption, number: int, now: int) -> None:
        self._consumption = consumption
        self._number = number
        self._now = now

    def energy(self, quantity: int) -> int:
        """Register ``quantity`` (place in QUANTITIES), in Wh or varh."""
        return self._consumption.at(quantity, self._now)

    @property
    def power(self) -> int:
        """Active power in W: drawn, or below zero fed in; none while the customer is cut off."""
        if self._consumption.is_cut_off(self._now):
            return 0
        drawn, fed = (max(0, self.energy(n) - self._consumption.at(n, self._now - _WINDOW_S)) for n in (0, 1))
        return (drawn - fed) * 3600 // _WINDOW_S

    @property
    def voltage(self) -> Decimal:
        """In V, about 230, a little different everywhere and each minute."""
        wobble = (self._number * 7919 + self._now // 60 * 104_729) % 81
        return Decimal(2260 + wobble) / 10

    @property
    def frequency(self) -> Decimal:
        """In Hz, the same for all."""
        return Decimal(4_998 + self._now // 60 % 5) / 100

    @property
    def current(self) -> Decimal:
        """In A, all on one phase."""
        return round(abs(self.power) / (self.voltage * _POWER_FACTOR), 3)

    def value(self, obis: str) -> Decimal | None:
        """What stands behind a code of energy or an instantaneous value; None for what it does not show."""
        found = _CODE.fullmatch(obis)
        if found is None:
            return None
        group = int(found[1])
        phase = (group - 1) // _PER_PHASE
        if phase > _PHASES:
            return None
        total = group - _PER_PHASE * phase
        if found[2] == "8":
            energy = self._energy(total)
            return None if energy is None else Decimal(_share(energy, phase))
        return self._instantaneous(total, phase)

    def _energy(self, total: int) -> int | None:
        if total in _ENERGIES:
            return self.energy(_ENERGIES[total])
        if total in (15, 16):
            drawn, fed = self.energy(0), self.energy(1)
            return drawn + fed if total == 15 else drawn - fed
        return None

    def _instantaneous(self, total: int, phase: int) -> Decimal | None:
        power = self.power
        match total:
            case 1 | 2 | 15 | 16:
                of_direction = {1: max(power, 0), 2: max(-power, 0), 15: abs(power), 16: power}[total]
                return Decimal(_share(of_direction, phase))
            case 9:
                return round(Decimal(abs(_share(power, phase))) / _POWER_FACTOR, 1)
            case 11:
                return self.current if not phase else round(self.current / _PHASES, 3)
            case 12:
                return self.voltage
            case 13:
                return _POWER_FACTOR
            case 14:
                return self.frequency
        return None


def _share(whole: int, phase: int) -> int:
    """A phase's third, so that the three are the whole; the whole for phase 0."""
    return whole if not phase else (whole + phase - 1) // _PHASES
