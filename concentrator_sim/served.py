"""What a field and its stations are to each other."""

from collections.abc import Iterator
from typing import Protocol

from concentrator_sim.faults import Faults
from concentrator_sim.scenario import Scenario
from concentrator_sim.tree import Station


class House(Protocol):
    """What a station finds around it: the field, as far as it concerns stations."""

    @property
    def scenario(self) -> Scenario:
        """The field's settings."""

    def now(self) -> int:
        """Unix seconds."""

    def faults_of(self, target: str) -> Faults:
        """What goes wrong with the meter or station of this name."""


class Served(Protocol):
    """A station on the ports of this machine, or at a broker."""

    @property
    def station(self) -> Station:
        """Its place in the tree."""

    @property
    def address(self) -> str:
        """Where the head-end reaches it, empty where it does not or not yet."""

    @property
    def model(self) -> str:
        """The head-end's model of it, empty where it has none."""

    async def start(self, port: int) -> None:
        """Listen. Raises OSError where the port is taken."""

    async def run(self) -> None:
        """What it does of its own accord, until cancelled."""

    async def stop(self) -> None:
        """Close all."""

    def meter_rows(self) -> Iterator[dict[str, str]]:
        """Of each meter below it, what its row in the meters' file says of model, address and keys."""
