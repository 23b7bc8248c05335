"""What concentrators push: rows of many meters in one message, for `headend.listen.recognise`.

A concentrator is believed of the meters that hang below it in the network, and of no others: whoever has its
name or its keys cannot write what another concentrator's meters have measured.
"""

from typing import NamedTuple

from headend.drivers.dlms.profile_check import Shapes
from headend.drivers.dlms.station import STATION, kept_rows, layout_of, shape_by_layout
from headend.listen.directory import Connect, Directory, Known
from headend.listen.identities import names_of
from headend.store import network
from protocols.dlms.forwarded import Forwarded
from protocols.errors import CommunicationError, LocalProtocolError
from schemas.reading import ReadingBatch, concatenate


class Understood(NamedTuple):
    """The rows of a push, None where none can be stored, and what cannot, with the reason."""

    batch: ReadingBatch | None
    remarks: tuple[str, ...]


class ForwardedRows:
    """Reads such pushes; remembers how rows of a kind of meters become batches."""

    def __init__(self, connect: Connect, directory: Directory) -> None:
        self._connect = connect
        self._directory = directory
        self._shapes = Shapes()

    async def sender(self, push: Forwarded) -> Known | str:
        """The concentrator that a push without ciphering says to be from, or why it is not believed."""
        found = [
            one for one in await self._directory.by_names([push.identity]) if one.model.driver == STATION
        ]
        if len(found) != 1:
            return f"no concentrator {push.identity} is among the devices"
        if found[0].required:
            return f"concentrator {push.identity}: its model allows no push without ciphering"
        return found[0]

    async def understand(self, known: Known, push: Forwarded) -> Understood:
        """The rows of those of its meters that we know. Raises UnavailableError."""
        source = f"{STATION} {known.meter.asset_id}"
        if known.model.driver != STATION or push.identity not in names_of(known):
            return Understood(None, (f"{known.meter.asset_id} is not the concentrator {push.identity}",))
        meters = {
            name: one
            for one in await self._directory.by_names([rows.identity for rows in push.rows])
            for name in names_of(one)
        }
        below = await self._below(known, [one.meter.meter_id for one in meters.values()])
        batches, remarks = [], []
        for rows in push.rows:
            meter = meters.get(rows.identity)
            if meter is None or meter.meter.meter_id not in below:
                remarks.append(f"{rows.identity} is no meter of ours below {known.meter.asset_id}")
                continue
            try:
                layout = layout_of(push.layouts, rows.layout)
                shape = shape_by_layout(self._shapes, meter.model, rows.profile, rows.period_s, layout)
                batches.append(kept_rows(shape, rows.buffer, meter.meter.meter_id, source))
            except (CommunicationError, LocalProtocolError) as error:
                remarks.append(f"{rows.identity}: {error}")
        return Understood(concatenate(batches, source=source) if batches else None, tuple(remarks))

    async def _below(self, station: Known, meter_ids: list[int]) -> set[int]:
        async with self._connect() as connection:
            places = await network.places(connection, meter_ids)
        return {meter for meter, place in places.items() if place.station == station.meter.asset_id}
