"""What an engineer makes of announced devices: meters of ours, or nothing. Audited in its transaction."""

from datetime import datetime
from pathlib import Path

from headend.store import announcements, audit, meters, network
from headend.store.announcements import AnnouncementState, InboxDevice
from headend.store.errors import ConflictError
from headend.store.placing import place_announced
from headend.store.sql import Connection
from schemas.address import LinkAddress
from schemas.meter import Meter, MeterState, NewMeter
from schemas.model import ModelError
from schemas.models import load_any


async def accept(
    connection: Connection,
    number: int,
    *,
    actor: str,
    now: datetime,
    asset_id: str | None = None,
    model: str | None = None,
    address: str | None = None,
    state: MeterState = MeterState.INSTALLED,
    profile_folders: tuple[Path, ...] = (),
) -> Meter:
    """Make the device a meter in ``state`` from ``now`` on, below the station that announced it.

    What is None is as it was announced, the asset id its identity. A rejected device may be accepted later.
    Raises UnknownError for the number; ConflictError where it was accepted before, or the asset id is in use;
    ModelError and AddressError for a model or address that cannot be used.
    """
    async with connection.transaction():
        device = await announcements.get(connection, number)
        if device.state is AnnouncementState.ACCEPTED:
            raise ConflictError(f"announcement {number} was accepted as meter {device.asset_id}")
        told = device.announced
        new = NewMeter(
            asset_id=told.identity if asset_id is None else asset_id,
            model=_model(device, model, profile_folders),
            address=_address(told.address if address is None else address),
        )
        for node, _ in await network.find(connection, codes=[new.asset_id]):
            raise ConflictError(f"{new.asset_id} is a {node.kind} of the network; give another asset id")
        made = await meters.add_many(connection, [new], since=now, state=state)
        meter_id = made[new.asset_id]
        await place_announced(
            connection, device.station_id, {told.identity: told}, {told.identity: meter_id}, now=now
        )
        await announcements.decide(connection, number, AnnouncementState.ACCEPTED, now=now, meter_id=meter_id)
        await audit.record(
            connection,
            actor=actor,
            action="announcement.accepted",
            object_=f"meter:{new.asset_id}",
            detail=_detail(device) | {"model": new.model, "address": new.address, "state": state},
        )
        return await meters.get(connection, meter_id)


async def reject(connection: Connection, number: int, *, actor: str, now: datetime) -> InboxDevice:
    """Keep the device quiet from now on. Raises UnknownError; ConflictError where it was decided before."""
    async with connection.transaction():
        device = await announcements.get(connection, number)
        if device.state is not AnnouncementState.WAITING:
            raise ConflictError(f"announcement {number} is {device.state} already")
        await announcements.decide(connection, number, AnnouncementState.REJECTED, now=now)
        await audit.record(
            connection,
            actor=actor,
            action="announcement.rejected",
            object_=f"announcement:{number}",
            detail=_detail(device),
        )
        return await announcements.get(connection, number)


def _model(device: InboxDevice, given: str | None, folders: tuple[Path, ...]) -> str:
    name = device.announced.model if given is None else given
    if name is None:
        raise ModelError(f"announcement {device.number} names no meter model: give one")
    return load_any(name, folders).name


def _address(text: str | None) -> str | None:
    return None if text is None else str(LinkAddress.parse(text))


def _detail(device: InboxDevice) -> dict[str, object]:
    return {
        "announcement": device.number,
        "station": device.station,
        "identity": device.announced.identity,
    }
