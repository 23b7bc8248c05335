"""The meters that messages name, by the identity in topic or payload: a memory in front of the database.

Decoding never waits: it asks the memory. Who owns the database connection learns what was not there, for a
whole bunch of messages at once, and decodes those again.
"""

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

from headend.store import meters
from headend.store.sql import Connection
from schemas.address import AddressError, LinkAddress, Scheme
from schemas.meter import MeterState
from schemas.model import ModelError
from schemas.mqtt_model import MqttModel, load_mqtt_model, mqtt_model_names

log = logging.getLogger(__name__)

#: Seconds that answers are believed: a meter that is changed or removed is seen so after that at the latest.
_BELIEVED_S: Final = 300.0
_MOST: Final = 500_000


class Known(NamedTuple):
    """A meter of the fleet. ``model`` is its MQTT model, None where its language is another (a concentrator
    brings the readings of meters of any language), or the model cannot be used."""

    meter_id: int
    asset_id: str
    model: MqttModel | None


class Meters:
    """Meters by identity. A device is known by its address (``mqtt:identity``), a meter behind a concentrator
    also by its asset id. What is not found is not remembered: a new meter is met at once."""

    def __init__(
        self, *, profile_folders: tuple[Path, ...] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folders = profile_folders
        self._clock = clock
        self._known: dict[str, Known] = {}
        self._until = clock() + _BELIEVED_S

    def of(self, identity: str) -> Known | None:
        """The meter, as far as it was learnt not long ago."""
        return self._known.get(identity)

    def age(self) -> None:
        """Forget what is too old to be believed: all of it, which is learnt again as it is needed."""
        now = self._clock()
        if now >= self._until:
            self._known.clear()
            self._until = now + _BELIEVED_S

    async def learn(self, connection: Connection, identities: Iterable[str]) -> None:
        """Ask the database for these. Raises what the store raises."""
        asked = sorted(set(identities))
        addresses = [str(address) for one in asked if (address := _address(one)) is not None]
        found = await meters.find(connection, asset_ids=asked, addresses=addresses)
        if len(self._known) + len(found) > _MOST:
            self._known.clear()
        names = set(mqtt_model_names(self._folders))
        wanted = set(asked)
        by_asset: dict[str, Known] = {}
        by_address: dict[str, Known] = {}
        twice: set[str] = set()
        for meter in found:
            model = self._model(meter.model) if meter.model in names else None
            known = by_asset[meter.asset_id] = Known(meter.meter_id, meter.asset_id, model)
            identity = _identity(meter.address)
            if identity is None or meter.state is MeterState.REMOVED:
                continue  # the device may be another meter's by now
            if identity in by_address:
                twice.add(identity)
            by_address[identity] = known
        for identity in twice:
            log.warning(
                "mqtt:%s is the address of several meters: its messages are kept, not stored", identity
            )
            del by_address[identity]
        # an address names the device, and wins over an asset id that happens to be the same word
        for name, known in (by_asset | by_address).items():
            if name in wanted and name not in twice:
                self._known[name] = known

    def _model(self, name: str) -> MqttModel | None:
        try:
            return load_mqtt_model(name, self._folders)
        except ModelError as error:  # written wrongly since we started: that harms its own meters alone
            log.error("%s", error)  # noqa: TRY400 - a person's mistake, no traceback to learn from
            return None


def _address(identity: str) -> LinkAddress | None:
    try:
        return LinkAddress.parse(str(LinkAddress(Scheme.MQTT, identity=identity)))
    except AddressError:
        return None  # no address can name it: only an asset id could


def _identity(address: str | None) -> str | None:
    if address is None or not address.startswith("mqtt:"):
        return None
    try:
        return LinkAddress.parse(address).identity
    except AddressError:
        return None
