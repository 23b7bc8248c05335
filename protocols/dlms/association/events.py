"""What an association tells its user: one small immutable object each.

Values of attributes stay raw A-XDR bytes, joined over blocks, so that a profile buffer reaches the vectorised
decoder untouched. ``repr`` shows lengths, not contents.
"""

from dataclasses import dataclass, field

from protocols.dlms.apdu.access import AccessResponse, AccessSpec
from protocols.dlms.apdu.fields import AttributeItem, Raw
from protocols.dlms.apdu.notification import (
    DataNotification,
    DataNotificationConfirm,
    EventNotificationRequest,
)
from protocols.dlms.cosem import Method
from protocols.dlms.enums import ActionResult, Conformance, DataAccessResult, Mechanism


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send this APDU to the peer now."""

    apdu: bytes = field(repr=False)


# ---- the client's ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Associated:
    """The association stands, and with HLS the peer has proven itself.

    ``max_pdu`` is the longest APDU in bytes that the server takes (0: no bound); ``vaa`` 7 means logical
    names.
    """

    conformance: Conformance
    max_pdu: int
    server_system_title: bytes | None
    vaa: int


@dataclass(frozen=True, slots=True)
class GetResult:
    """Answer to a GET: for each attribute its raw A-XDR bytes or why there are none."""

    results: tuple[bytes | DataAccessResult, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class SetResult:
    """Answer to a SET, one result for each attribute."""

    results: tuple[DataAccessResult, ...]


@dataclass(frozen=True, slots=True)
class MethodOutcome:
    """What became of one method, and what it returned: raw A-XDR bytes, a refusal, or nothing."""

    result: ActionResult
    returned: bytes | DataAccessResult | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ActionDone:
    """Answer to an ACTION, one outcome for each method."""

    outcomes: tuple[MethodOutcome, ...]


@dataclass(frozen=True, slots=True)
class AccessDone:
    """Answer to an ACCESS."""

    response: AccessResponse


@dataclass(frozen=True, slots=True)
class Released:
    """The association is released; the link may be used for another."""


@dataclass(frozen=True, slots=True)
class Notification:
    """The peer told something unasked. ``control`` is None when it came plain."""

    apdu: DataNotification | EventNotificationRequest
    control: int | None = None


@dataclass(frozen=True, slots=True)
class Stale:
    """An answer to nothing that is outstanding: late, doubled, or meant for another. It was dropped."""

    reason: str


ClientEvent = (
    Transmit | Associated | GetResult | SetResult | ActionDone | AccessDone | Released | Notification | Stale
)


# ---- the server's ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClientAssociated:
    """A client has associated (and, with HLS, proven itself). ``public``: it may read public objects only."""

    mechanism: Mechanism
    client_system_title: bytes | None
    conformance: Conformance
    public: bool


@dataclass(frozen=True, slots=True)
class GetRequested:
    """Answer with ``respond_get``: raw A-XDR bytes or a refusal for each item."""

    items: tuple[AttributeItem, ...]


@dataclass(frozen=True, slots=True)
class SetRequested:
    """Answer with ``respond_set``: one result for each item."""

    items: tuple[AttributeItem, ...]
    values: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ActionRequested:
    """Answer with ``respond_action``: one outcome for each method."""

    methods: tuple[Method, ...]
    parameters: tuple[bytes | None, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class AccessRequested:
    """Answer with ``respond_access``: one datum and one result for each specification."""

    specs: tuple[AccessSpec, ...]
    data: tuple[Raw, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The client confirmed a data-notification."""

    apdu: DataNotificationConfirm


@dataclass(frozen=True, slots=True)
class ClientReleased:
    """The client released the association."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The peer's bytes were refused; the protocol's answer, if any, is in a `Transmit` beside this."""

    reason: str


ServerEvent = (
    Transmit
    | ClientAssociated
    | GetRequested
    | SetRequested
    | ActionRequested
    | AccessRequested
    | Confirmed
    | ClientReleased
    | Refused
)
