"""Which driver speaks with a meter: its model says it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from headend.drivers.contract import Driver, Feature, Target, Way
from headend.keys.seal import SealError
from protocols.errors import LocalProtocolError
from schemas.model import ModelError
from schemas.models import load_any


class Reachable(NamedTuple):
    """A meter's driver, and the way to the meter."""

    driver: Driver
    way: Way

    @property
    def is_away(self) -> bool:
        """Whether the meter can only be waited for now."""
        return self.driver.is_away(self.way)


class Drivers:
    """All languages that this head-end speaks.

    Raises ValueError where two drivers have the same name.
    """

    def __init__(self, drivers: Sequence[Driver], *, profile_folders: tuple[Path, ...] = ()) -> None:
        self._by_name: dict[str, Driver] = {}
        self._folders = profile_folders
        for driver in drivers:
            for name in driver.names:
                if self._by_name.setdefault(name, driver) is not driver:
                    raise ValueError(f"two drivers are called {name!r}")

    def of(self, model: str) -> Driver:
        """The driver of meters of this model. Raises ModelError, also where nobody speaks their language."""
        wanted = load_any(model, self._folders).driver
        try:
            return self._by_name[wanted]
        except KeyError:
            known = ", ".join(sorted(self._by_name))
            raise ModelError(f"{model}: no driver {wanted!r} here; known: {known}") from None

    def forwards(self, station_model: str | None) -> bool:
        """Whether stations of this model keep their meters' load curves and hand them on; not where the model
        or its language is unknown."""
        if station_model is None:
            return False
        try:
            return Feature.FORWARDS in self.of(station_model).features(station_model)
        except ModelError:
            return False

    async def prepare(self, targets: Sequence[Target]) -> dict[int, Reachable | Exception]:
        """How each meter is reached, by its number, or why it cannot be: LocalProtocolError, SealError.

        Raises UnavailableError while the database is away.
        """
        found: dict[int, Reachable | Exception] = {}
        by_driver: dict[int, tuple[Driver, list[Target]]] = {}
        for target in targets:
            try:
                driver = self.of(target.meter.model)
            except ModelError as error:
                found[target.meter.meter_id] = LocalProtocolError(str(error))
            else:
                by_driver.setdefault(id(driver), (driver, []))[1].append(target)
        for driver, some in by_driver.values():
            found |= await _prepare(driver, some)
        return found

    async def prepare_one(self, target: Target) -> Reachable:
        """How one meter is reached. Raises LocalProtocolError, SealError, and as `prepare`."""
        found = (await self.prepare([target]))[target.meter.meter_id]
        if isinstance(found, Exception):
            raise found
        return found


async def _prepare(driver: Driver, targets: Sequence[Target]) -> dict[int, Reachable | Exception]:
    try:
        ways = await driver.prepare(targets)
    except (SealError, LocalProtocolError) as error:
        if len(targets) == 1:
            return {targets[0].meter.meter_id: error}
        # one of them is bad: each by itself, so that it harms nobody else
        found: dict[int, Reachable | Exception] = {}
        for target in targets:
            found |= await _prepare(driver, [target])
        return found
    return {
        meter_id: way if isinstance(way, Exception) else Reachable(driver, way)
        for meter_id, way in ways.items()
    }
