"""Attributes and scripts of a DLMS meter."""

from typing import Any, Final

from headend.drivers.commands.parameters import Parameter
from headend.drivers.dlms.commands.base import Commands
from protocols.dlms import axdr
from protocols.dlms.cosem import Attribute, ClassId, Method
from protocols.dlms.cosem.plain_values import data_of, is_same, plain
from protocols.dlms.obis import Obis

#: Script table (class 9): execute takes the script's number.
_EXECUTE: Final = 1


class ParametersCommands(Commands):
    """`headend.drivers.commands.parameters.Parametrised`."""

    async def read_parameter(self, class_id: int, obis: str, attribute: int) -> Parameter:
        """As `MeterSession.get`."""
        raw = await self._session.get(Attribute(class_id, Obis.parse(obis), attribute))
        return Parameter(raw, plain(axdr.decode_exact(raw)))

    async def write_parameter(self, class_id: int, obis: str, attribute: int, value: dict[str, Any]) -> None:
        """As `MeterSession.set`."""
        raw = axdr.encode(data_of(value))
        await self._session.set(Attribute(class_id, Obis.parse(obis), attribute), raw)

    async def run_script(self, obis: str, script: int) -> None:
        """As `MeterSession.action`."""
        method = Method(ClassId.SCRIPT_TABLE, Obis.parse(obis), _EXECUTE)
        await self._session.action(method, axdr.encode(axdr.u16(script)))

    def is_same(self, value: dict[str, Any], found: Parameter) -> bool:
        """See `Parametrised`."""
        return is_same(data_of(value), axdr.decode_exact(found.raw))
