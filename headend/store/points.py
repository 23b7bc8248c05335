"""Metering points: which meter is where from when to when, and the CT/VT ratio that holds there.

Register readings at installation and removal are exact decimals by OBIS code. The life cycle of a meter
(`headend.store.meters.change_state`) is a record of its own: an installation may be entered days after the
fact.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from psycopg import errors
from psycopg.types.json import Jsonb

from headend.store import sql
from headend.store.errors import ConflictError, UnknownError
from headend.store.sql import Connection
from schemas.meter import Installation, MeteringPoint, Ratio

_QUERIES: Final = sql.load("points")


def _written(registers: Mapping[str, Decimal]) -> Jsonb:
    for obis, value in registers.items():
        if not value.is_finite():
            raise ValueError(f"register {obis} must be a finite number")
    return Jsonb({obis: format(value, "f") for obis, value in registers.items()})


def _read(registers: Mapping[str, str]) -> dict[str, Decimal]:
    return {obis: Decimal(value) for obis, value in registers.items()}


def _installation(row: Sequence[Any]) -> Installation:
    number, point, meter, since, until, start, removal = row
    return Installation(
        number, point, meter, since, until, _read(start), None if removal is None else _read(removal)
    )


async def ensure(connection: Connection, codes: Sequence[str]) -> dict[str, int]:
    """Numbers of the points with these codes; those that do not exist yet are made."""
    wanted = sorted(set(codes))  # in one order, so that two writers never wait for each other in a circle
    await connection.execute(_QUERIES["add_many"], {"codes": wanted})
    cursor = await connection.execute(_QUERIES["find"], {"codes": wanted})
    return dict(await cursor.fetchall())


async def known(connection: Connection, codes: Sequence[str]) -> frozenset[str]:
    """Those of these codes that a point has."""
    cursor = await connection.execute(_QUERIES["find"], {"codes": list(codes)})
    return frozenset(code for code, _ in await cursor.fetchall())


async def get(connection: Connection, code: str) -> MeteringPoint:
    """One point by its code. Raises UnknownError."""
    cursor = await connection.execute(_QUERIES["find"], {"codes": [code]})
    row = await cursor.fetchone()
    if row is None:
        raise UnknownError(f"no metering point {code!r}")
    return MeteringPoint(row[1], row[0])


async def create(connection: Connection, code: str) -> bool:
    """Make a point; False where there is one with this code already."""
    cursor = await connection.execute(_QUERIES["add_many"], {"codes": [code]})
    return cursor.rowcount == 1


async def page(connection: Connection, *, limit: int, after: str | None = None) -> list[MeteringPoint]:
    """At most ``limit`` points whose code comes after ``after``, in order of codes."""
    cursor = await connection.execute(_QUERIES["page"], {"limit": limit, "after": after})
    return [MeteringPoint(number, code) for code, number in await cursor.fetchall()]


async def install(
    connection: Connection,
    *,
    point_id: int,
    meter_id: int,
    since: datetime,
    registers: Mapping[str, Decimal] | None = None,
) -> int:
    """Install a meter at a point; the installation's number.

    Raises ConflictError where meter or point are taken then or later, UnknownError for a wrong number.
    """
    try:
        async with connection.transaction():
            cursor = await connection.execute(
                _QUERIES["install"],
                {
                    "point": point_id,
                    "meter": meter_id,
                    "since": sql.aware(since),
                    "registers": _written(registers or {}),
                },
            )
            row = await cursor.fetchone()
    except errors.ExclusionViolation as error:
        taken = "meter" if "meter" in (error.diag.constraint_name or "") else "point"
        raise ConflictError(f"the {taken} has another installation then or later") from error
    except errors.ForeignKeyViolation as error:
        raise UnknownError("no such meter or metering point") from error
    if row is None:
        raise UnknownError("no such meter or metering point")
    number: int = row[0]
    return number


async def install_many(connection: Connection, pairs: Sequence[tuple[int, int]], *, since: datetime) -> None:
    """Install (point, meter) pairs from the same moment on. Raises ConflictError; then none is installed."""
    try:
        async with connection.transaction():
            await connection.execute(
                _QUERIES["install_many"],
                {
                    "points": [point for point, _ in pairs],
                    "meters": [meter for _, meter in pairs],
                    "since": sql.aware(since),
                },
            )
    except errors.ExclusionViolation as error:
        raise ConflictError("a meter or point has another installation then or later") from error


async def remove(
    connection: Connection, *, meter_id: int, until: datetime, registers: Mapping[str, Decimal]
) -> int:
    """End a meter's open installation with its removal readings; the point's number.

    Raises ConflictError where the meter has no installation that began before and is open.
    """
    cursor = await connection.execute(
        _QUERIES["close"], {"meter": meter_id, "until": sql.aware(until), "registers": _written(registers)}
    )
    row = await cursor.fetchone()
    if row is None:
        raise ConflictError("the meter has no open installation that began before that time")
    point: int = row[0]
    return point


async def exchange(
    connection: Connection,
    *,
    old_meter_id: int,
    new_meter_id: int,
    at: datetime,
    removal_registers: Mapping[str, Decimal],
    start_registers: Mapping[str, Decimal],
) -> int:
    """Take a meter off its point and put another one there, at the same moment and in one transaction.

    The number of the new installation. Raises ConflictError or UnknownError; then both stay as they were.
    """
    async with connection.transaction():
        point = await remove(connection, meter_id=old_meter_id, until=at, registers=removal_registers)
        return await install(
            connection, point_id=point, meter_id=new_meter_id, since=at, registers=start_registers
        )


async def at_point(connection: Connection, point_id: int) -> list[Installation]:
    """All installations at a point, oldest first."""
    cursor = await connection.execute(_QUERIES["at_point"], {"point": point_id})
    return [_installation(row) for row in await cursor.fetchall()]


async def of_meter(connection: Connection, meter_id: int) -> list[Installation]:
    """All installations of a meter, oldest first."""
    cursor = await connection.execute(_QUERIES["of_meters"], {"meters": [meter_id]})
    return [_installation(row) for row in await cursor.fetchall()]


async def codes_at(connection: Connection, meter_ids: Sequence[int], at: datetime) -> dict[int, str]:
    """The code of the point where each meter is at that moment; meters that are nowhere are left out."""
    cursor = await connection.execute(_QUERIES["codes_now"], {"meters": list(meter_ids), "at": sql.aware(at)})
    return dict(await cursor.fetchall())


async def codes_ever(connection: Connection, meter_ids: Sequence[int]) -> set[tuple[int, str]]:
    """(meter, point's code) for every point where a meter is or was."""
    cursor = await connection.execute(_QUERIES["codes_ever"], {"meters": list(meter_ids)})
    return set(await cursor.fetchall())


async def occupied(connection: Connection, codes: Sequence[str], since: datetime) -> dict[str, str]:
    """Of these points those that have a meter at ``since`` or later: code -> asset id of one such meter."""
    cursor = await connection.execute(_QUERIES["occupied"], {"codes": list(codes), "since": sql.aware(since)})
    return dict(await cursor.fetchall())


async def set_ratio(connection: Connection, point_id: int, ratio: Ratio) -> None:
    """Let a ratio hold from its beginning on; the one that was open ends there.

    Raises ConflictError where it overlaps a ratio that is not open or begins later, UnknownError for a wrong
    number.
    """
    try:
        async with connection.transaction():
            cursor = await connection.execute(_QUERIES["lock"], {"point": point_id})
            if await cursor.fetchone() is None:
                raise UnknownError(f"no metering point number {point_id}")
            await connection.execute(
                _QUERIES["end_ratio"], {"point": point_id, "since": sql.aware(ratio.since)}
            )
            await connection.execute(
                _QUERIES["add_ratio"],
                {
                    "point": point_id,
                    "since": sql.aware(ratio.since),
                    "until": None if ratio.until is None else sql.aware(ratio.until),
                    "ct_numerator": ratio.ct_numerator,
                    "ct_denominator": ratio.ct_denominator,
                    "vt_numerator": ratio.vt_numerator,
                    "vt_denominator": ratio.vt_denominator,
                },
            )
    except (errors.ExclusionViolation, errors.CheckViolation, errors.DataException) as error:
        raise ConflictError("the ratio overlaps another one, or ends before it begins") from error


async def ratios(connection: Connection, point_id: int) -> list[Ratio]:
    """All ratios of a point, oldest first."""
    cursor = await connection.execute(_QUERIES["ratios"], {"point": point_id})
    return [Ratio(*row) for row in await cursor.fetchall()]
