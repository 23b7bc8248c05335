"""One tree for everything that can go wrong between us and a peer.

::

    CommunicationError                    .fault says whose it is, .offset where in the bytes
    ├── LocalProtocolError                ours: we asked for something the protocol forbids
    ├── RemoteProtocolError               the peer's: bytes that break the standard
    │   └── SecurityError                 tag does not verify, counter replayed, policy not met, unsupported
    ├── PeerRefused                       the peer's, in good form: it understood and said no
    │   ├── AssociationRejected           .result, .diagnostic (AARE)
    │   ├── DataAccessRefused             .result (GET, SET: Data-Access-Result)
    │   ├── ActionRefused                 .result (ACTION: Action-Result)
    │   ├── ServiceRefused                .service, .error_group, .value (ConfirmedServiceError)
    │   ├── ExceptionResponse             .state_error, .service_error, .invocation_counter
    │   └── ModbusRefused                 .code (exception of the Modbus application protocol)
    └── LinkError                         the link's
        ├── LinkTimeout                   nothing came before the deadline
        ├── LinkClosed                    the peer or the network closed the stream
        └── GatewayRefused                the concentrator answers, and does not reach the meter
"""

from enum import StrEnum

from schemas.failure import Stage


class Fault(StrEnum):
    """Whose fault it is: the first thing an engineer asks."""

    OURS = "ours"
    PEER = "peer"
    LINK = "link"


class CommunicationError(Exception):
    """Base of the tree. ``offset`` counts bytes from the start of the decoded input; None: no place.

    ``stage`` is at which stage a conversation failed, where whoever raised this knew more of it than its
    kind tells; `headend.links.failures.stage_of` tells it for all.
    """

    fault = Fault.OURS

    def __init__(self, reason: str, *, offset: int | None = None, stage: Stage | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.offset = offset
        self.stage = stage

    def __str__(self) -> str:
        place = "" if self.offset is None else f" at byte {self.offset}"
        return f"{self.reason}{place}"


class LocalProtocolError(CommunicationError):
    """We asked for something the protocol or the association's state forbids. A defect of ours."""


class RemoteProtocolError(CommunicationError):
    """The peer sent bytes that break the standard."""

    fault = Fault.PEER


class SecurityError(RemoteProtocolError):
    """A tag that does not verify, a replayed counter, a policy that is not met, or unsupported protection."""


class PeerRefused(CommunicationError):
    """The peer understood the request and refused it."""

    fault = Fault.PEER


class AssociationRejected(PeerRefused):
    """AARE with a result other than accepted (Green Book, ACSE A-ASSOCIATE)."""

    def __init__(self, reason: str, *, result: int, diagnostic: int | None = None) -> None:
        super().__init__(reason)
        self.result = result
        self.diagnostic = diagnostic


class DataAccessRefused(PeerRefused):
    """GET or SET answered with a Data-Access-Result other than success."""

    def __init__(self, reason: str, *, result: int) -> None:
        super().__init__(reason)
        self.result = result


class ActionRefused(PeerRefused):
    """ACTION answered with an Action-Result other than success."""

    def __init__(self, reason: str, *, result: int) -> None:
        super().__init__(reason)
        self.result = result


class ServiceRefused(PeerRefused):
    """ConfirmedServiceError: service, error group and value as the peer sent them."""

    def __init__(self, reason: str, *, service: int, error_group: int, value: int) -> None:
        super().__init__(reason)
        self.service = service
        self.error_group = error_group
        self.value = value


class ExceptionResponse(PeerRefused):
    """Exception-Response APDU; ``invocation_counter`` is set where the peer told the counter it expects."""

    def __init__(
        self, reason: str, *, state_error: int, service_error: int, invocation_counter: int | None = None
    ) -> None:
        super().__init__(reason)
        self.state_error = state_error
        self.service_error = service_error
        self.invocation_counter = invocation_counter


class ModbusRefused(PeerRefused):
    """An exception of the Modbus application protocol, other than those that a gateway sends."""

    def __init__(self, reason: str, *, code: int) -> None:
        super().__init__(reason)
        self.code = code


class LinkError(CommunicationError):
    """The link between us and the peer failed; says nothing about the peer."""

    fault = Fault.LINK


class LinkTimeout(LinkError):
    """Nothing came before the deadline."""


class LinkClosed(LinkError):
    """The stream was closed under us."""


class GatewayRefused(LinkError):
    """The concentrator or gateway said in the meter's place that it does not reach it: the way's fault, and
    nothing about the meter."""
