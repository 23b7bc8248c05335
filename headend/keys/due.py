"""Keys of meters that are due, by age and by counter: a campaign that changes them is proposed.

One at a time: none while another campaign of keys is open, none within a day of the end of one, and none
within a week of one that people refused or aborted. What is proposed waits for approval as any other campaign
does.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from headend.approvals.policy import Policy
from headend.approvals.proposing import put_forward
from headend.drivers.contract import Target
from headend.foundation import Base
from headend.programs.contract import Procedure
from headend.store import key_generations, key_status, meters
from headend.store.key_status import KeyDue, KeyPolicy
from headend.store.sql import Connection
from schemas.campaign import CampaignState, Plan
from schemas.config import Settings
from schemas.job import Selection
from schemas.people import Permission, Principal
from schemas.program import ProgramKind
from schemas.programs.keys import KeysProgram

log = logging.getLogger(__name__)

#: Who proposes. It has no account, and so can approve nothing.
SCHEDULER: Final = Principal("scheduler", frozenset({Permission.KEYS}))
#: How often it is looked: ages and counters change slowly, and the whole fleet is looked through.
EVERY: Final = timedelta(hours=1)
_AFTER_END: Final = timedelta(days=1)
_AFTER_NO: Final = timedelta(days=7)
_CANARIES: Final = 10
#: Meters that are not fit are passed over: so many more are looked at.
_SPARE: Final = 10


class Rotations:
    """Proposes rotations. ``procedures`` know which meters are fit."""

    def __init__(self, base: Base, procedures: Sequence[Procedure]) -> None:
        self._base = base
        self._procedures = procedures
        self._next: datetime | None = None

    async def tick(self, now: datetime) -> int | None:
        """Forget what need not be kept, and propose what is due, once an hour; the campaign's number.

        Raises UnavailableError.
        """
        if self._next is not None and now < self._next:
            return None
        settings = self._base.settings
        keep = timedelta(days=settings.keys_keep_former_days)
        async with self._base.pool.connection() as connection:
            await key_generations.tidy(connection, before=now - keep)
            async with connection.transaction():
                made = await self._propose(connection, settings, now)
        self._next = now + EVERY
        return made

    async def _propose(self, connection: Connection, settings: Settings, now: datetime) -> int | None:
        if not await key_status.rotation_turn(connection) or not await _is_time(connection, now):
            return None
        most = settings.keys_rotate_meters
        due = await key_status.due(connection, KeyPolicy.of(settings), now, limit=most * _SPARE)
        named = await self._fit(connection, [one for one in due if one.has_master], most)
        if not named:
            return None
        plan = Plan(
            selection=Selection(meters=tuple(named)),
            canaries=min(_CANARIES, len(named) // _CANARIES),
            waves=(10.0, 90.0) if len(named) >= _CANARIES * _CANARIES else (100.0,),
        )
        made = await put_forward(
            connection,
            KeysProgram(),
            plan,
            name="keys that are due",
            title=f"keys of {len(named)} meters are due",
            procedures=self._procedures,
            principal=SCHEDULER,
            policy=Policy.of(settings),
            correlation_id=uuid4().hex,
            now=now,
        )
        number = made.campaign.campaign_id
        log.warning("keys of %d meters are due: campaign %d is %s", len(named), number, made.campaign.state)
        return number

    async def _fit(self, connection: Connection, due: Sequence[KeyDue], most: int) -> list[str]:
        """Asset ids of the first that can be given keys."""
        program = KeysProgram()
        procedure = next((one for one in self._procedures if one.kind is ProgramKind.KEYS), None)
        if procedure is None:
            return []
        found = await meters.find(connection, ids=[one.meter_id for one in due])
        fit = {one.meter_id for one in found if procedure.unfit(program, Target(one)) is None}
        return [one.asset_id for one in due if one.meter_id in fit][:most]


async def _is_time(connection: Connection, now: datetime) -> bool:
    last = await key_status.last_rotation(connection)
    if last is None:
        return True
    state, ended_at = last
    wait = _AFTER_END if state is CampaignState.DONE else _AFTER_NO
    return ended_at is not None and now >= ended_at + wait
