"""Parameters: attributes of objects by class and OBIS code, and scripts."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

from headend.drivers.contract import Conversation


class Parameter(NamedTuple):
    """A value as it was sent (``raw``), and written out as people write it."""

    raw: bytes
    value: dict[str, Any]


@runtime_checkable
class Parametrised(Conversation, Protocol):
    """A conversation with a meter whose attributes can be written."""

    async def read_parameter(self, class_id: int, obis: str, attribute: int) -> Parameter:
        """The attribute now. Raises DataAccessRefused, and the tree of `protocols.errors`."""

    async def write_parameter(self, class_id: int, obis: str, attribute: int, value: dict[str, Any]) -> None:
        """Write it. Raises as `read_parameter`."""

    async def run_script(self, obis: str, script: int) -> None:
        """Run a script of a script table. Raises ActionRefused, and the tree of `protocols.errors`."""

    def is_same(self, value: dict[str, Any], found: Parameter) -> bool:
        """Whether the meter has this value, in whatever widths and tags it writes it."""
