"""Import of meters from CSV: all of the file or nothing, and every error with its line and column.

The columns are described in `headend.ingest.meter_rows`. A meter that is stored already must agree with every
cell of its line that is not empty: then it is reported as unchanged, otherwise it is an error, since an
import never changes a meter. Importing a file a second time therefore does nothing.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from headend.ingest.csv_table import LineError
from headend.ingest.meter_rows import ImportRules, MeterLine, read_meters
from headend.keys.vault import Vault
from headend.store import audit, meters, points
from headend.store.errors import ConflictError
from headend.store.sql import Connection
from protocols.dlms.security import Key
from schemas.meter import Meter, MeterState


@dataclass(frozen=True, slots=True)
class MeterImport:
    """What an import did: asset ids added and unchanged. With errors nothing was stored."""

    added: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    errors: tuple[LineError, ...] = ()


async def import_meters(
    connection: Connection,
    data: bytes,
    *,
    vault: Vault | None,
    since: datetime,
    actor: str,
    transport: Key | None = None,
    allow_plain_keys: bool = False,
    profile_folders: tuple[Path, ...] = (),
) -> MeterImport:
    """Import a file; meters begin their state, and their installation, at ``since`` (aware).

    ``vault`` may be None where the file has no keys, ``transport`` where it has no wrapped ones. Raises
    SealError where keys that are stored cannot be opened for comparison.
    """
    rules = ImportRules(transport, allow_plain_keys, vault is not None, profile_folders)
    lines, errors = read_meters(data, rules)
    try:
        async with connection.transaction():
            new, known = await _compare(connection, lines, vault, since, errors)
            if errors:
                return MeterImport(errors=tuple(sorted(errors)))
            if new:
                await _store(connection, new, vault, since)
                await audit.record(
                    connection,
                    actor=actor,
                    action="meters.imported",
                    object_="meters",
                    detail={"added": len(new)},
                )
    except ConflictError as error:
        # somebody stored the like between our look and our write
        reason = f"{error}; the database changed during the import: import again"
        return MeterImport(errors=(LineError(0, "", reason),))
    return MeterImport(
        tuple(line.meter.asset_id for line in new), tuple(line.meter.asset_id for line in known)
    )


async def _compare(
    connection: Connection,
    lines: Sequence[MeterLine],
    vault: Vault | None,
    since: datetime,
    errors: list[LineError],
) -> tuple[list[MeterLine], list[MeterLine]]:
    """Lines that are new, and lines stored already; what contradicts the database goes to ``errors``."""
    found = await meters.find(
        connection,
        asset_ids=[line.meter.asset_id for line in lines],
        titles=[line.meter.system_title for line in lines if line.meter.system_title is not None],
        names=[
            line.meter.logical_device_name for line in lines if line.meter.logical_device_name is not None
        ],
    )
    by_asset = {meter.asset_id: meter for meter in found}
    owners: dict[tuple[str, bytes | str | None], Meter] = {}
    owners |= {("system_title", meter.system_title): meter for meter in found}
    owners |= {("logical_device_name", meter.logical_device_name): meter for meter in found}
    new = [line for line in lines if line.meter.asset_id not in by_asset]
    known = [line for line in lines if line.meter.asset_id in by_asset]
    for line in lines:
        for column in ("system_title", "logical_device_name"):
            value = getattr(line.meter, column)
            owner = None if value is None else owners.get((column, value))
            if owner is not None and owner.asset_id != line.meter.asset_id:
                errors.append(LineError(line.line, column, f"belongs to meter {owner.asset_id}"))
    taken = await points.occupied(connection, [line.point for line in new if line.point is not None], since)
    errors += (
        LineError(line.line, "point", f"has meter {taken[line.point]} already")
        for line in new
        if line.point in taken
    )
    stored = [by_asset[line.meter.asset_id] for line in known]
    numbers = [meter.meter_id for meter in stored]
    keys = {} if vault is None else await vault.get_many(connection, numbers)
    places = await points.codes_ever(connection, numbers)
    for line, meter in zip(known, stored, strict=True):
        errors += _differences(line, meter)
        for purpose, key in line.keys.items():
            if keys.get(meter.meter_id, {}).get(purpose) != key:
                errors.append(LineError(line.line, line.key_columns[purpose], "differs from the stored key"))
        if line.point is not None and (meter.meter_id, line.point) not in places:
            errors.append(LineError(line.line, "point", "the meter is stored and was never at this point"))
    return new, known


def _differences(line: MeterLine, stored: Meter) -> list[LineError]:
    given = line.meter
    return [
        LineError(line.line, column, "the meter is stored with another value")
        for column, here, there in (
            ("model", given.model, stored.model),
            ("address", given.address, stored.address),
            ("system_title", given.system_title, stored.system_title),
            ("logical_device_name", given.logical_device_name, stored.logical_device_name),
            ("feeder", given.feeder, stored.feeder),
            ("transformer", given.transformer, stored.transformer),
        )
        if here is not None and here != there
    ]


async def _store(
    connection: Connection, new: Sequence[MeterLine], vault: Vault | None, since: datetime
) -> None:
    by_state: dict[MeterState, list[MeterLine]] = defaultdict(list)
    for line in new:
        by_state[line.state].append(line)
    numbers: dict[str, int] = {}
    for state, lines in by_state.items():
        numbers |= await meters.add_many(connection, [line.meter for line in lines], since=since, state=state)
    if vault is not None:
        await vault.put(connection, {numbers[line.meter.asset_id]: line.keys for line in new})
    at = {line.point: numbers[line.meter.asset_id] for line in new if line.point is not None}
    if at:
        codes = await points.ensure(connection, list(at))
        await points.install_many(
            connection, [(codes[code], meter) for code, meter in at.items()], since=since
        )
