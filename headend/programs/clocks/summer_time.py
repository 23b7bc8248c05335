"""A meter's own rules of summer time, held against its model's time zone, and corrected."""

from typing import Final

from headend.drivers.commands.clock import SummerTimeConversation
from headend.programs.contract import Failed, Journal
from protocols.errors import DataAccessRefused, PeerRefused

_STEP: Final = "summer-time"


async def correct(conversation: SummerTimeConversation, journal: Journal) -> Failed | None:
    """Compare, set where they differ, read back; once in a campaign. Setting them twice is the same as once.

    A meter that tells no rules is left alone. Raises the tree of `protocols.errors`, and as `Journal`.
    """
    if "rules" in journal.facts and not journal.is_intended(_STEP):
        return None
    try:
        told, right = await conversation.summer_time()
    except DataAccessRefused as refused:
        await journal.note("rules of summer time", rules=f"not told: {refused.reason}")
        return None
    if right:
        if journal.is_intended(_STEP):
            await journal.done(_STEP, rules=told)
        else:
            await journal.note("rules of summer time", rules=told)
        return None
    await journal.intend(_STEP, rules_before=told)
    try:
        await conversation.set_summer_time()
    except PeerRefused as refused:
        await journal.done(_STEP, rules=told)
        return Failed(f"it does not take the rules of summer time of its zone: {refused.reason}")
    told, right = await conversation.summer_time()
    await journal.done(_STEP, rules=told)
    if not right:
        return Failed(f"it took the rules of summer time, and tells others: {told}", {"rules": told})
    return None
