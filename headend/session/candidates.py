"""Which keys a meter may be using while they are changed, and what tells that a key was the wrong one.

A transfer of keys takes effect at once, and its answer may be lost; a meter may also take some of its keys
and refuse others. So each pending key is tried with the current and the pending ones of the other purposes.
"""

from collections.abc import Iterable, Sequence

from headend.keys.counters import CounterJumpRefused
from headend.keys.subsets import subsets
from headend.session.client import MeterSession
from headend.session.plan import SessionPlan
from protocols.dlms.association.settings import CipherForm
from protocols.errors import (
    CommunicationError,
    GatewayRefused,
    LinkError,
    LinkTimeout,
    PeerRefused,
    RemoteProtocolError,
)
from schemas.meter import KeyPurpose


def combinations(pending: Iterable[KeyPurpose], plan: SessionPlan) -> list[frozenset[KeyPurpose]]:
    """Sets of pending keys that make a difference to sessions of the plan, the whole set first."""
    cipher = plan.settings.cipher
    used = {KeyPurpose.ENCRYPTION, KeyPurpose.AUTHENTICATION}
    if cipher is not None and cipher.form is CipherForm.GENERAL_CIPHERING_WRAPPED:
        used.add(KeyPurpose.MASTER)
    return subsets(used & set(pending))


def may_be_the_key(error: CommunicationError, session: MeterSession) -> bool:
    """Whether an association may have failed because its keys are not the meter's.

    A meter that cannot decipher what it gets refuses, answers what we cannot decipher, hangs up, or is
    silent; only where nothing ciphered ever went out it is away, and no key's fault.
    """
    if not session.plan.uses_counter or isinstance(error, GatewayRefused):
        return False
    if isinstance(error, RemoteProtocolError | PeerRefused | CounterJumpRefused):
        return True
    return isinstance(error, LinkError) and session.bytes_out > 0


def worst(failures: Sequence[CommunicationError]) -> CommunicationError:
    """What is told of several failures: a silence first, which may be another time; else the first."""
    return next((one for one in failures if isinstance(one, LinkTimeout)), failures[0])
