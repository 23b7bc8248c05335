"""Modbus behind the contract: TCP, RTU over TCP gateways, RTU on serial lines."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from pydantic import ValidationError

from headend.clock import utc_now
from headend.drivers.commands.firmware import Upgradable
from headend.drivers.contract import Conversation, Curve, Feature, Recall, Target, Way
from headend.drivers.modbus.bus import Bus
from headend.drivers.modbus.conversation import CurveForm, ModbusConversation, ModbusWay, shared
from headend.drivers.modbus.firmware import ModbusFirmware
from headend.drivers.modbus.maps import Memory
from headend.drivers.ways import settled, to_each
from protocols.errors import LocalProtocolError
from schemas.address import Scheme
from schemas.model import ModelError, explain
from schemas.register_model import RegisterModel, Sampling, load_register_model

MODBUS: Final = "modbus"
SCHEMES: Final = frozenset({Scheme.MODBUS_TCP, Scheme.MODBUS_RTU_TCP, Scheme.MODBUS_RTU})


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: ``connect_s`` for a connection, ``answer_s`` for an answer where nobody says it, ``idle_s``
    that a connection is kept without use: gateways are slow to open one, and have few."""

    connect_s: float = 10.0
    answer_s: float = 2.0
    idle_s: float = 30.0


class ModbusDriver:
    """The `headend.drivers.contract.Driver` of Modbus. `close` it when the loop is to end.

    Args:
        profile_folders: where models are looked for before the packaged ones.
        sampling: how meters are sampled, where their model does not say it.
        now: aware, UTC.
    """

    names = (MODBUS,)

    def __init__(
        self,
        *,
        profile_folders: tuple[Path, ...] = (),
        sampling: Sampling | None = None,
        timing: Timing | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._folders = profile_folders
        self._sampling = Sampling() if sampling is None else sampling
        self._timing = Timing() if timing is None else timing
        self._now = now
        self._memory = Memory()
        self._forms: dict[str, CurveForm] = {}
        self._buses: dict[tuple[object, ...], Bus] = {}

    def features(self, model: str) -> frozenset[Feature]:
        """Curves and registers, firmware where the model says how; there is no event log in Modbus. Raises
        ModelError."""
        found = {Feature.CURVES, Feature.REGISTERS}
        if load_register_model(model, self._folders).firmware is not None:
            found.add(Feature.FIRMWARE)
        return frozenset(found)

    def curves(self, model: str) -> tuple[Curve, ...]:
        """The one curve that sampling gives. Raises ModelError."""
        sampling = self._sampling_of(load_register_model(model, self._folders))
        return (Curve(sampling.profile, sampling.period_s, Recall.SAMPLED, tolerance_s=sampling.tolerance_s),)

    async def prepare(self, targets: Sequence[Target]) -> dict[int, Way | LocalProtocolError]:
        """The slave of each."""
        return to_each(targets, self._way)

    def is_away(self, way: Way) -> bool:
        """Never: slaves wait to be asked."""
        return False

    def open(self, way: Way, *, answer_s: float | None = None) -> AbstractAsyncContextManager[Conversation]:
        """The bus, connected. Raises LinkTimeout, LinkError."""
        if not isinstance(way, ModbusWay):
            raise TypeError(f"a way of Modbus is a ModbusWay, not a {type(way).__name__}")
        timing = self._timing
        bus = self._buses.get(way.line)
        if bus is None:
            bus = self._buses[way.line] = Bus(way.address, connect_s=timing.connect_s, idle_s=timing.idle_s)
        patience_s = timing.answer_s if answer_s is None else answer_s
        if way.model.firmware is not None:
            return ModbusFirmware(bus, way, way.model.firmware, self._memory, patience_s, self._now)
        return ModbusConversation(bus, way, self._memory, patience_s, self._now)

    def close(self) -> None:
        """Close the connections that are kept."""
        for bus in self._buses.values():
            bus.close()

    def _way(self, target: Target) -> ModbusWay:
        """Raises LocalProtocolError, saying what of the meter's settings to change."""
        meter = target.meter
        model, address = settled(target, partial(load_register_model, folders=self._folders))
        if address.scheme not in SCHEMES:
            known = ", ".join(sorted(SCHEMES))
            raise LocalProtocolError(
                f"{meter.asset_id}: Modbus is not spoken over {address.scheme}: but {known}"
            )
        if not address.unit:
            raise LocalProtocolError(
                f"{meter.asset_id}: {address} names no slave; add unit=1 to 247 (0 is the broadcast)"
            )
        line = address.line
        if line is None:  # no Modbus address is without
            raise LocalProtocolError(f"{meter.asset_id}: {address} names no bus")
        curve, meter_ids = self._curve_of(model), shared(meter.meter_id, np.int32)
        return ModbusWay(target, address, address.unit, model, curve, meter_ids, line, str(address))

    def _curve_of(self, model: RegisterModel) -> CurveForm:
        form = self._forms.get(model.name)
        if form is None:
            form = self._forms[model.name] = CurveForm.of(model, self._sampling_of(model))
        return form

    def _sampling_of(self, model: RegisterModel) -> Sampling:
        """The model's words, and the settings' where it says none."""
        said = model.sampling.model_dump(include=model.sampling.model_fields_set)
        try:
            return Sampling.model_validate({**self._sampling.model_dump(), **said})
        except ValidationError as error:
            raise ModelError(
                f"{model.name}: sampling, together with the settings: {explain(error)}"
            ) from error


if TYPE_CHECKING:  # what `features` says, the conversation can
    _FIRMWARE: type[Upgradable] = ModbusFirmware
