"""The server's side of an association, sans-I/O: what a meter does with the APDUs of one client SAP.

`receive` never raises for the peer's bytes: it answers as the protocol wants it (AARE with a diagnostic,
Exception-Response, Data-Access-Result) and tells the application why in a `Refused`. A request that the
application must serve comes as an event, and one of the ``respond_...`` methods returns the APDUs of its
answer: long ones are cut into blocks of the negotiated size, ciphered ones travel in the form and with at
least the protection of the request.
"""

from protocols.dlms import apdu as apdus
from protocols.dlms.apdu import acse, action, block_transfer
from protocols.dlms.association.cipher import RepeatedMessage
from protocols.dlms.association.events import Refused, ServerEvent, Transmit
from protocols.dlms.association.server_requests import ServerRequests
from protocols.dlms.association.states import ServerState
from protocols.dlms.blocks import GbtReceiver
from protocols.dlms.ciphering import CIPHERED_TAGS
from protocols.dlms.enums import Conformance, ServiceErrorCode, StateError
from protocols.dlms.security import Protection, ReplayedCounter, check_policy
from protocols.errors import RemoteProtocolError, SecurityError


class ServerAssociation(ServerRequests):
    """One client SAP's association with one logical device.

    ``next_counter`` gives the server's next invocation counter, ``peer_counter`` holds the client's last.
    """

    __slots__ = ()

    def receive(self, apdu: bytes) -> list[ServerEvent]:
        """Take one whole APDU from the client; see the module for what comes back."""
        try:
            if apdu and apdu[0] == block_transfer.TAG:
                return self._on_general_block(block_transfer.decode(apdu))
            self._gbt_request = None
            return self._on_apdu(apdu)
        except ReplayedCounter as exc:
            return self._exception(exc, ServiceErrorCode.INVOCATION_COUNTER_ERROR, exc.expected)
        except SecurityError as exc:
            return self._exception(exc, ServiceErrorCode.DECIPHERING_ERROR)
        except RemoteProtocolError as exc:
            return self._exception(exc, ServiceErrorCode.OTHER_REASON, state=StateError.SERVICE_UNKNOWN)

    def _on_apdu(self, apdu: bytes) -> list[ServerEvent]:
        if not apdu:
            raise RemoteProtocolError("empty APDU", offset=0)
        tag = apdu[0]
        if tag == acse.AARQ_TAG:
            return self._on_aarq(apdu)
        if tag == acse.RLRQ_TAG:
            return self._on_rlrq(apdu)
        if self.state is ServerState.IDLE:
            return self._not_allowed("no association stands")
        self._control = None
        if tag in CIPHERED_TAGS:
            if self._cipher is None or not self._ciphered:
                raise SecurityError("ciphered message in an association without ciphering", offset=0)
            try:
                opened = self._cipher.open(apdu, least=self._request)
            except RepeatedMessage:
                return [Refused("the link doubled a ciphered message")]
            self._cipher.follow(opened)
            self._control, self._key_use = opened.control, opened.key_use
            apdu = opened.plain
        elif self._ciphered:
            check_policy(Protection(self._request), None)
        handler = self._HANDLERS.get(apdu[0])
        if handler is None:
            raise RemoteProtocolError(f"{apdus.name_of(apdu[0])} is nothing a client sends here", offset=0)
        service, handle = handler
        if self.state is ServerState.ANSWERING:
            return self._not_allowed("the request before is not answered yet")
        if self.state is ServerState.HLS_PENDING and apdu[0] != action.REQUEST_TAG:
            return self._not_allowed("the client has not proven itself yet")
        if not service & self._services and self.state is ServerState.ASSOCIATED:
            return self._not_allowed(
                f"{Conformance(service).name} is not negotiated", ServiceErrorCode.SERVICE_NOT_SUPPORTED
            )
        return handle(self, apdu)

    def _on_general_block(self, block: block_transfer.GeneralBlockTransfer) -> list[ServerEvent]:
        if Conformance.GENERAL_BLOCK_TRANSFER not in self.conformance:
            return self._not_allowed("general block transfer is not negotiated")
        if self._gbt_out is not None and not block.data and self._gbt_in is None:
            return [Transmit(out.to_bytes()) for out in self._gbt_out.acknowledged(block)]
        if self._gbt_in is None:
            self._gbt_out = None
            self._gbt_in = GbtReceiver(window=self.settings.gbt_window, limit=self.settings.max_total)
        receiver = self._gbt_in
        try:
            answer, whole = receiver.receive(block)
        except RemoteProtocolError:
            self._gbt_in = None
            raise
        if whole is None:
            return [] if answer is None else [Transmit(answer.to_bytes())]
        self._gbt_in = None
        if not whole or whole[0] == block_transfer.TAG:
            raise RemoteProtocolError("general blocks join to nothing, or to general blocks again")
        self._gbt_request = (block.window, block.block_number, receiver.next_number)
        return self._on_apdu(whole)
