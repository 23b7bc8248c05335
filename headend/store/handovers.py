"""Images that concentrators are handed once for all their meters: where each stands, and for whom it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from psycopg.types.json import Jsonb

from headend.store import sql
from headend.store.sql import Connection
from schemas.campaign import CampaignState

_QUERIES: Final = sql.load("handovers")


class ShareState(StrEnum):
    """Of one meter's share."""

    ASKED = "asked"  # the concentrator does not know of it
    TOLD = "told"  # it was told, or is about to be
    HOLDS = "holds"  # the meter has verified the image, says the concentrator
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Share:
    """A meter that shall have the package (digest in hexadecimal) from its ``station`` (number of its node).

    ``gateway`` is where it is behind that, as `schemas.address.GatewayAddress` is written; ``block_size`` the
    meter's own. ``told_at`` and ``look_at``, when the station is looked at next, are aware UTC.
    """

    campaign_id: int
    meter_id: int
    station: int
    package: str
    gateway: str
    block_size: int
    state: ShareState
    reason: str | None
    told_at: datetime | None
    look_at: datetime

    @property
    def is_open(self) -> bool:
        """Whether the concentrator has still to do with it."""
        return self.state in (ShareState.ASKED, ShareState.TOLD)

    @property
    def key(self) -> tuple[int, int]:
        """Campaign and meter."""
        return self.campaign_id, self.meter_id


@dataclass(frozen=True, slots=True)
class StationImage:
    """Where a concentrator stands with the package that it is given: facts and steps as of a meter in a
    campaign (`headend.store.campaign_meters.CampaignMeter`)."""

    package: str
    facts: Mapping[str, Any]
    steps: Mapping[str, str]


async def ask(
    connection: Connection,
    campaign_id: int,
    meter_id: int,
    *,
    station: int,
    package: str,
    gateway: str,
    block_size: int,
    now: datetime,
) -> None:
    """The meter shall have the package from its station, which is looked at from ``now`` (aware) on."""
    await connection.execute(
        _QUERIES["ask"],
        {
            "campaign": campaign_id,
            "meter": meter_id,
            "station": station,
            "package": bytes.fromhex(package),
            "gateway": gateway,
            "block_size": block_size,
            "now": sql.aware(now),
        },
    )


async def share_of(connection: Connection, campaign_id: int, meter_id: int) -> Share | None:
    """The meter's share; None where it was never asked for."""
    cursor = await connection.execute(_QUERIES["share"], {"campaign": campaign_id, "meter": meter_id})
    row = await cursor.fetchone()
    return None if row is None else _share(row)


async def open_shares(connection: Connection, station: int) -> list[Share]:
    """What the station is still to do, oldest first."""
    cursor = await connection.execute(_QUERIES["shares"], {"station": station})
    return [_share(row) for row in await cursor.fetchall()]


async def states_shared(connection: Connection, station: int) -> dict[int, CampaignState]:
    """The states of the campaigns of open shares, which nobody changes until the transaction ends."""
    cursor = await connection.execute(_QUERIES["states"], {"station": station})
    return {number: CampaignState(state) for number, state in await cursor.fetchall()}


async def over(connection: Connection, station: int) -> set[tuple[int, int]]:
    """Campaign and meter of open shares whose meter has ended in its campaign."""
    cursor = await connection.execute(_QUERIES["over"], {"station": station})
    return set(await cursor.fetchall())


async def image_of(connection: Connection, station: int) -> StationImage | None:
    """Where the station stands; None where it was never asked for anything."""
    cursor = await connection.execute(_QUERIES["image"], {"station": station})
    row = await cursor.fetchone()
    return None if row is None else StationImage(bytes(row[0]).hex(), row[1], row[2])


async def serve(connection: Connection, station: int, package: str) -> None:
    """From now on the station is given this package; counts of the former are forgotten."""
    await connection.execute(_QUERIES["serve"], {"station": station, "package": bytes.fromhex(package)})


async def note(
    connection: Connection, station: int, campaign_id: int, *, step: str, phase: str, facts: Mapping[str, Any]
) -> None:
    """Write a step at the station down, and remember ``facts`` beside those known."""
    await connection.execute(
        _QUERIES["note"],
        {
            "station": station,
            "campaign": campaign_id,
            "step": step,
            "phase": phase,
            "facts": Jsonb(dict(facts)),
        },
    )


async def tell(connection: Connection, share: Share, *, now: datetime) -> None:
    """The station is about to be told of it."""
    await connection.execute(
        _QUERIES["tell"], {"campaign": share.campaign_id, "meter": share.meter_id, "now": sql.aware(now)}
    )


async def end(connection: Connection, share: Share, state: ShareState, *, reason: str | None = None) -> None:
    """The station is done with it: the meter holds the image, or it failed."""
    await connection.execute(
        _QUERIES["end"],
        {"campaign": share.campaign_id, "meter": share.meter_id, "state": state.value, "reason": reason},
    )


async def look_at(connection: Connection, station: int, at: datetime) -> None:
    """The station is looked at next at ``at`` (aware)."""
    await connection.execute(_QUERIES["look_at"], {"station": station, "look_at": sql.aware(at)})


async def bring_on(
    connection: Connection, campaign_id: int, meters: Sequence[int], at: datetime
) -> list[str]:
    """These meters are visited from ``at`` (aware) on, if not before; the lanes, which the caller wakes."""
    cursor = await connection.execute(
        _QUERIES["bring_on"], {"campaign": campaign_id, "meters": list(meters), "at": sql.aware(at)}
    )
    return [lane for (lane,) in await cursor.fetchall()]


def _share(row: Sequence[Any]) -> Share:
    campaign, meter, station, package, gateway, block_size, state, reason, told_at, at = row
    return Share(
        campaign, meter, station, bytes(package).hex(), gateway, block_size, ShareState(state), reason,
        None if told_at is None else told_at.astimezone(UTC), at.astimezone(UTC),
    )  # fmt: skip
