"""The limiter of a DLMS meter (class 71)."""

from datetime import datetime
from decimal import Decimal
from typing import Final

from headend.drivers.commands.limit import LoadLimit
from headend.drivers.dlms.bounds import stamp
from headend.drivers.dlms.commands.base import Commands
from headend.drivers.dlms.ranged import moment_of
from protocols.dlms import axdr
from protocols.dlms.axdr import Data
from protocols.dlms.cosem import REGISTER_ATTRIBUTES, Attribute, ClassId, ScalerUnit
from protocols.dlms.cosem import limiter as lim
from protocols.dlms.cosem.limiter import EmergencyProfile
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.obis import Obis
from protocols.errors import DataAccessRefused, LocalProtocolError

_READ: Final = (
    lim.MONITORED_VALUE, lim.THRESHOLD_ACTIVE, lim.THRESHOLD_NORMAL, lim.THRESHOLD_EMERGENCY,
    lim.MIN_OVER_DURATION, lim.EMERGENCY_PROFILE, lim.EMERGENCY_GROUPS,
)  # fmt: skip
_WATT: Final = "W"


class LimitCommands(Commands):
    """`headend.drivers.commands.limit.Limitable`."""

    async def read_limit(self) -> LoadLimit:
        """Thresholds, durations and the emergency profile. Raises DataAccessRefused, LocalProtocolError where
        the limiter does not monitor a power in W, and as `MeterSession.get`."""
        found = await self._attributes(_READ)
        scale = Decimal(1).scaleb(await self._scaler(found[lim.MONITORED_VALUE]))
        profile = EmergencyProfile.decode(found[lim.EMERGENCY_PROFILE])
        begins = None
        if profile.begins is not None:
            begins = moment_of(axdr.octets(profile.begins.to_bytes()), self._model)
        return LoadLimit(
            lim.threshold(found[lim.THRESHOLD_ACTIVE]) * scale,
            lim.threshold(found[lim.THRESHOLD_NORMAL]) * scale,
            lim.threshold(found[lim.THRESHOLD_EMERGENCY]) * scale,
            lim.threshold(found[lim.MIN_OVER_DURATION]),
            begins,
            profile.duration_s,
            profile.number,
            lim.groups(found[lim.EMERGENCY_GROUPS]),
        )

    async def limit(self, watts: int, over_s: int | None) -> None:
        """Set the normal threshold. Raises as `read_limit` and `MeterSession.set`."""
        await self._threshold(lim.THRESHOLD_NORMAL, watts, over_s)

    async def limit_for(
        self, watts: int, over_s: int | None, group: int, begins: datetime, for_s: int
    ) -> None:
        """Set the emergency threshold, then the profile that makes it hold. Raises as `limit`."""
        await self._threshold(lim.THRESHOLD_EMERGENCY, watts, over_s)
        profile = EmergencyProfile(group, stamp(begins, self._model), for_s)
        await self._write(lim.EMERGENCY_PROFILE, profile.encode())

    async def _threshold(self, index: int, watts: int, over_s: int | None) -> None:
        found = await self._attributes((lim.MONITORED_VALUE, index))
        raw = Decimal(watts).scaleb(-await self._scaler(found[lim.MONITORED_VALUE]))
        if raw != raw.to_integral_value():
            raise LocalProtocolError(
                f"the meter's thresholds are coarser than {watts} W: choose a rounder one"
            )
        await self._write(index, lim.encode_threshold(int(raw), found[index]))
        if over_s is not None:
            await self._write(lim.MIN_OVER_DURATION, axdr.u32(over_s))

    async def _scaler(self, monitored: Data) -> int:
        """Power of ten of the monitored value, which is in W."""
        of = lim.monitored_value(monitored)
        where = REGISTER_ATTRIBUTES.get(of.class_id)
        if where is None:
            raise LocalProtocolError(f"the limiter monitors {of}, which is no register")
        raw = await self._session.get(Attribute(of.class_id, of.obis, where.scaler_unit))
        scaling = ScalerUnit.decode(axdr.decode_exact(raw))
        if scaling.symbol != _WATT:
            raise LocalProtocolError(
                f"the limiter monitors {of} in {scaling.symbol or f'unit {scaling.unit}'}, not in W"
            )
        return scaling.scaler

    async def _attributes(self, indices: tuple[int, ...]) -> dict[int, Data]:
        raws = await self._session.get_many([self._attribute(index) for index in indices])
        found: dict[int, Data] = {}
        for index, raw in zip(indices, raws, strict=True):
            if isinstance(raw, DataAccessResult):
                raise DataAccessRefused(f"{self._attribute(index)}: {raw.name.lower()}", result=int(raw))
            found[index] = axdr.decode_exact(raw)
        return found

    async def _write(self, index: int, value: Data) -> None:
        await self._session.set(self._attribute(index), axdr.encode(value))

    def _attribute(self, index: int) -> Attribute:
        if self._model.limit is None:
            raise LocalProtocolError(f"model {self._model.name} has no [limit]: its limiter is not known")
        return Attribute(ClassId.LIMITER, Obis.parse(self._model.limit.obis), index)
