"""Rotation of a meter's keys, such that no crash and no lost answer makes it unreachable.

::

    make new keys, store them sealed ──> intend ──> "may be told" ──> one transfer ──> answer written down
      (pending; the old ones stay)                  (both are tried                     │
                                                     by everybody from here on)         ▼
    next visit, a new association: new keys, else old ones ──> new work: they are current, old ones former
                                                           └─> old work: sent again, or dropped

Whoever talks with the meter finds out which keys it has, and promotes those that work
(`headend.session.access`); only here, under the meter's lane and in an association that began behind the
transfer, are pending keys given up. A transfer that is still on its way then cannot come into force: the
meter has taken a higher counter since.

A master key is seen in no association, but for one form of ciphering. It is proven by transferring it once
more, wrapped under itself: a meter that unwraps it has it. That changes nothing, and may be done again.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final

from headend.clock import utc_now
from headend.drivers.commands.keys import KeysConversation
from headend.drivers.contract import Conversation, Target
from headend.keys.vault import MeterKeys, Pending, Vault
from headend.programs.contract import Failed, Finished, Journal, Later, Outcome, Task, Unfit, Unsure
from headend.session.access import Connect
from headend.store import key_generations
from protocols.dlms.enums import SecuritySuite
from protocols.dlms.security import Key, key_length
from protocols.errors import ActionRefused, DataAccessRefused, LinkError, PeerRefused, RemoteProtocolError
from schemas.meter import KeyPurpose
from schemas.model import MeterModel, ModelError, load_model
from schemas.program import Program, ProgramKind
from schemas.programs.keys import ORDER, KeysProgram

#: Languages with Security Setup: of meters, and of concentrators.
_DRIVERS: Final = frozenset({"dlms", "dlms-station"})
TRANSFER: Final = "transfer"
PROVE_MASTER: Final = "prove master"
_MASTER: Final = KeyPurpose.MASTER
_ACCEPTED: Final = "accepted"
#: Transfers without an answer, and looks at a meter that accepted and goes on with its old keys.
MOST_TRANSFERS: Final = 5
MOST_LOOKS: Final = 3
_BETWEEN_LOOKS: Final = timedelta(minutes=1)
_HEX: Final = 16


class _Has(Enum):
    """Which of two master keys a meter has."""

    NEW = auto()
    OLD = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class _Visit:
    """What one visit knows. ``pending`` as it stands behind what this conversation has proven."""

    conversation: KeysConversation
    task: Task
    journal: Journal
    vault: Vault
    current: MeterKeys
    pending: Pending | None

    @property
    def wanted(self) -> tuple[KeyPurpose, ...]:
        """Purposes that the program changes."""
        program = self.task.program
        assert isinstance(program, KeysProgram)  # noqa: S101 - by its kind
        return tuple(purpose for purpose in ORDER if purpose in program.purposes)


class KeysProcedure:
    """The `headend.programs.contract.Procedure` of keys.

    Args:
        connect: gives a connection outside of a transaction.
        vault: opens the vault. Raises SealError.
        profile_folders: where models are looked for before the packaged ones.
        random: the source of keys, the operating system's.
    """

    kind: Final = ProgramKind.KEYS

    def __init__(
        self,
        connect: Connect,
        vault: Callable[[], Awaitable[Vault]],
        *,
        profile_folders: tuple[Path, ...] = (),
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._connect = connect
        self._open_vault = vault
        self._vault: Vault | None = None
        self._folders = profile_folders
        self._random = random

    def unfit(self, program: Program, target: Target) -> str | None:
        """See `Procedure`. Whether the meter's keys are known is seen when it is visited."""
        if not isinstance(program, KeysProgram):
            return "it is no program of keys"
        name = target.meter.model
        try:
            model = load_model(name, self._folders)
        except ModelError as error:
            return f"its model has no keys that can be changed: {error}"
        if model.keys is None or model.driver not in _DRIVERS:
            return f"meters of model {name} are not given keys: their profile has no [keys]"
        if target.meter.meter_id < 0:
            return (
                f"no keys of concentrator {target.meter.asset_id} are stored: import it under this name with "
                "`headend meters import`"
            )
        lacking = [purpose for purpose in program.purposes if purpose not in model.keys.purposes]
        if lacking:
            return f"meters of model {name} take no new key for {_listed(lacking)}"
        return None

    async def apply(self, conversation: Conversation, task: Task, journal: Journal) -> Outcome:
        """See `Procedure`. Raises SealError where keys cannot be opened."""
        if not isinstance(conversation, KeysConversation):
            return Unfit("its language has no transfer of keys")
        if self._vault is None:
            self._vault = await self._open_vault()
        meter_id, vault = task.meter_id, self._vault
        async with self._connect() as connection:
            # whoever opened the conversation has done so already, if the database was there
            await key_generations.promote(connection, meter_id, conversation.renewed_keys, actor=task.actor)
            current = await vault.get(connection, meter_id)
            pending = (await vault.pending_many(connection, [meter_id])).get(meter_id)
        visit = _Visit(conversation, task, journal, vault, current, pending)
        lacking = [one for one in (*visit.wanted, _MASTER) if one not in current]
        if lacking:
            return Unfit(
                f"its key for {_listed(dict.fromkeys(lacking))} is not stored, and new keys are wrapped "
                "under its master key: import them with `headend meters import`"
            )
        if journal.is_intended(TRANSFER) or journal.is_done(TRANSFER):
            return await self._go_on(visit)
        return await self._begin(visit)

    # ---- before the transfer --------------------------------------------------------------------------

    async def _begin(self, visit: _Visit) -> Outcome:
        """Nothing was sent for this campaign."""
        pending = visit.pending
        if pending is not None and not _is_ours(pending, visit):
            unclear = await self._clear(visit, pending)
            if unclear is not None:
                return unclear
            pending = None
        meter_id = visit.task.meter_id
        if pending is None:
            suite = SecuritySuite(self._model(visit).association.suite)
            length = key_length(suite)
            made = {purpose: Key(self._random(length)) for purpose in visit.wanted}
            async with self._connect() as connection:
                await visit.vault.add_pending(
                    connection, meter_id, made, campaign_id=visit.task.campaign_id, actor=visit.task.actor
                )
                # what is stored is what is sent, should somebody else have been here at the same time
                pending = (await visit.vault.pending_many(connection, [meter_id])).get(meter_id)
        if pending is None or set(pending.keys) != set(visit.wanted):
            return Later(utc_now(), "its pending keys were changed by somebody else", counts=True)
        return await self._send(visit, pending)

    async def _clear(self, visit: _Visit, pending: Pending) -> Outcome | None:
        """Give up pending keys of an earlier campaign: as this conversation shows it has others."""
        given_up = set(pending.keys)
        if pending.sent_at is not None and _MASTER in given_up - visit.conversation.key_purposes:
            has = await self._master_of(visit, pending.keys[_MASTER], force=False)
            if has is _Has.UNKNOWN:
                return Failed(
                    "an earlier rotation left two master keys, and it takes neither: "
                    "import the right one with `headend meters import`"
                )
            if has is _Has.NEW:
                await self._promote(visit, pending, _MASTER)
                return Later(utc_now(), "its master key of an earlier rotation is proven")
        reason = "it was never told them" if pending.sent_at is None else "it goes on with its former keys"
        await self._drop(visit, given_up, reason)
        return None

    # ---- the transfer ---------------------------------------------------------------------------------

    async def _send(self, visit: _Visit, pending: Pending) -> Outcome:
        """Tell the meter, and write down what it answers. The truth is seen in the next association."""
        journal, times = visit.journal, int(visit.journal.facts.get("transfers", 0)) + 1
        named = {purpose.value: key_id.hex()[:_HEX] for purpose, key_id in pending.key_ids.items()}
        await journal.intend(TRANSFER, keys=named, transfers=times)
        async with self._connect() as connection:
            await key_generations.sent(connection, visit.task.meter_id)
        try:
            await visit.conversation.transfer_keys(pending.keys, under=visit.current[_MASTER])
        except (ActionRefused, DataAccessRefused) as refused:
            answer = f"refused: {refused.reason}"
        except (LinkError, RemoteProtocolError, PeerRefused) as error:
            await journal.note(TRANSFER, why=error.reason)
            return Later(utc_now(), f"nobody knows whether it took the keys: {error.reason}", counts=True)
        else:
            answer = _ACCEPTED
        await journal.done(TRANSFER, answer=answer)
        if visit.conversation.key_purposes.isdisjoint(pending.keys):
            return await self._go_on(visit, pending)  # this conversation stands as it did
        return Later(utc_now(), "its keys are tried in a new association")

    # ---- behind it ------------------------------------------------------------------------------------

    async def _go_on(self, visit: _Visit, pending: Pending | None = None) -> Outcome:
        """A transfer was sent, or nearly, before this conversation began."""
        pending = pending or visit.pending
        if pending is not None and pending.campaign_id != visit.task.campaign_id:
            pending = None  # another campaign changes them meanwhile: what is pending is its affair
        left = set() if pending is None else set(pending.keys)
        if pending is not None and pending.sent_at is None and not visit.journal.is_done(TRANSFER):
            return await self._send(visit, pending)
        taken = self._taken(visit)
        answer = visit.journal.facts.get("answer")
        refused = left & visit.conversation.key_purposes
        if pending is not None and refused:
            if not taken and answer is None:
                return await self._once_more(visit, pending)
            if not taken and answer == _ACCEPTED:
                return await self._look_again(visit)
            await self._drop(visit, refused, "it goes on with its former keys")
        if pending is not None and _MASTER in left - refused:
            unproven = await self._settle_master(visit, pending, force=answer in (None, _ACCEPTED))
            if unproven is not None:
                return unproven
            taken = await self._taken_now(visit)
        return self._result(visit, taken)

    async def _once_more(self, visit: _Visit, pending: Pending) -> Outcome:
        """It never got the transfer, or made nothing of it."""
        if int(visit.journal.facts.get("transfers", 0)) >= MOST_TRANSFERS:
            await self._drop(visit, set(pending.keys), "no answer")
            why = visit.journal.facts.get("why", "it fell silent")
            return Failed(
                f"it took no key in {MOST_TRANSFERS} transfers, and answered none ({why}): "
                "it goes on with its former keys"
            )
        return await self._send(visit, pending)

    async def _look_again(self, visit: _Visit) -> Outcome:
        """It accepted new keys and goes on with the old: perhaps it takes its time. They stay pending, so
        that it is reached whenever it changes."""
        looks = int(visit.journal.facts.get("looks", 0)) + 1
        await visit.journal.note("look", looks=looks)
        if looks < MOST_LOOKS:
            return Later(utc_now() + _BETWEEN_LOOKS, "it accepted new keys and goes on with the former ones")
        return Failed(
            "it accepted new keys and goes on with its former ones; both are tried until one of another "
            "rotation works: look at the meter"
        )

    async def _settle_master(self, visit: _Visit, pending: Pending, *, force: bool) -> Outcome | None:
        """Find out whether it has the new master key; None where that is known now."""
        await visit.journal.intend(PROVE_MASTER)
        has = await self._master_of(visit, pending.keys[_MASTER], force=force)
        if has is _Has.UNKNOWN:
            return Unsure(
                "which of its two master keys it has is not known: it takes no key under either; "
                "both are kept, and the next rotation tries both"
            )
        if has is _Has.NEW:
            await self._promote(visit, pending, _MASTER)
        else:
            await self._drop(visit, {_MASTER}, "it has its former master key")
        await visit.journal.done(PROVE_MASTER, master=has.name.lower())
        return None

    async def _master_of(self, visit: _Visit, new: Key, *, force: bool) -> _Has:
        """Which master key it has, by giving it the one that it has. With ``force`` it gets the new one,
        under either: for a transfer whose answer was lost."""
        old = visit.current[_MASTER]
        tries = [(new, new, _Has.NEW), (new, old, _Has.NEW) if force else (old, old, _Has.OLD)]
        for key, under, has in tries:
            try:
                await visit.conversation.transfer_keys({_MASTER: key}, under=under)
            except (ActionRefused, DataAccessRefused):
                continue
            return has
        return _Has.UNKNOWN

    def _result(self, visit: _Visit, taken: Mapping[KeyPurpose, str]) -> Outcome:
        answer = visit.journal.facts.get("answer", "none")
        proof: dict[str, Any] = {"keys": {one.value: taken[one] for one in taken}, "answer": answer}
        lacking = [purpose for purpose in visit.wanted if purpose not in taken]
        if not lacking:
            return Finished(proof)
        if not taken:
            return Failed(f"it took no new key ({answer}) and goes on with its former ones", proof)
        return Failed(
            f"it took its new key for {_listed(taken)} and not for {_listed(lacking)} ({answer}): "
            "it is reached under those; rotate the rest anew",
            proof,
        )

    # ---- underneath -----------------------------------------------------------------------------------

    def _model(self, visit: _Visit) -> MeterModel:
        return load_model(visit.task.target.meter.model, self._folders)

    def _taken(self, visit: _Visit, current: MeterKeys | None = None) -> dict[KeyPurpose, str]:
        """Which of this campaign's keys are current by now: purpose and short fingerprint."""
        named = visit.journal.facts.get("keys", {})
        current = visit.current if current is None else current
        found = {one: visit.vault.fingerprint.of(current[one]).hex()[:_HEX] for one in visit.wanted}
        return {one: key_id for one, key_id in found.items() if named.get(one.value) == key_id}

    async def _taken_now(self, visit: _Visit) -> dict[KeyPurpose, str]:
        async with self._connect() as connection:
            return self._taken(visit, await visit.vault.get(connection, visit.task.meter_id))

    async def _promote(self, visit: _Visit, pending: Pending, purpose: KeyPurpose) -> None:
        async with self._connect() as connection:
            await key_generations.promote(
                connection,
                visit.task.meter_id,
                {purpose: pending.key_ids[purpose]},
                actor=visit.task.actor,
            )

    async def _drop(self, visit: _Visit, purposes: set[KeyPurpose], reason: str) -> None:
        async with self._connect() as connection:
            await key_generations.drop_pending(
                connection, visit.task.meter_id, sorted(purposes), actor=visit.task.actor, reason=reason
            )


def _is_ours(pending: Pending, visit: _Visit) -> bool:
    """Whether it was made for this campaign, which died before it could send it."""
    return (
        pending.campaign_id == visit.task.campaign_id
        and pending.sent_at is None
        and set(pending.keys) == set(visit.wanted)
    )


def _listed(purposes: Any) -> str:
    return " and ".join(str(purpose) for purpose in purposes)
