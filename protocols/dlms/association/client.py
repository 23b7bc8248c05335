"""The client's side of an association, sans-I/O: calls return the APDU to send, `receive` takes the answers.

One request is outstanding at a time. A late answer is never taken for the next request: invoke ids rotate
through 1..15, an answer must carry the outstanding id and kind, and once a request was abandoned whatever has
no id of its own (exceptions, general blocks) counts as its late answer until that has come. Ciphered answers
are also held to the peer's rising counter.
"""

from collections.abc import Callable
from typing import Final

from protocols.dlms import apdu as apdus
from protocols.dlms.apdu import acse, block_transfer, exceptions, initiate, notification
from protocols.dlms.association.cipher import RepeatedMessage
from protocols.dlms.association.client_answers import ClientAnswers
from protocols.dlms.association.events import ClientEvent, Notification, Stale, Transmit
from protocols.dlms.association.states import ClientState
from protocols.dlms.blocks import GbtReceiver
from protocols.dlms.ciphering import CIPHERED_TAGS
from protocols.dlms.security import check_policy
from protocols.errors import LocalProtocolError, RemoteProtocolError, SecurityError

#: May come plain in a ciphered association: the server cannot always cipher a refusal, and ACSE has its own
#: way.
_ALWAYS_PLAIN = frozenset({acse.AARE_TAG, acse.RLRE_TAG, exceptions.TAG, initiate.SERVICE_ERROR_TAG})
_NOTIFICATIONS: Final[
    dict[int, Callable[[bytes], notification.DataNotification | notification.EventNotificationRequest]]
] = {
    notification.DATA_TAG: notification.decode_data,
    notification.EVENT_TAG: notification.decode_event,
}


class ClientAssociation(ClientAnswers):
    """One client's association with one server, from AARQ to RLRE, any number of times.

    ``next_counter`` gives our next invocation counter; ``peer_counter`` holds the server's last (store its
    ``proven`` afterwards). Methods raise LocalProtocolError when the state forbids them; `receive` raises the
    error tree. After an error a request stays outstanding until it is answered or `abandon` is called.
    """

    __slots__ = ()

    def receive(self, apdu: bytes) -> list[ClientEvent]:
        """Take one whole APDU from the peer.

        Raises RemoteProtocolError (malformed, or not expected here), SecurityError, AssociationRejected,
        ExceptionResponse and ServiceRefused. A refused attribute is no error: `GetResult` carries it.
        """
        if self.state is ClientState.FAILED:
            raise LocalProtocolError("the association has failed: close the link")
        if not apdu:
            raise RemoteProtocolError("empty APDU", offset=0)
        if apdu[0] == block_transfer.TAG:
            return self._on_general_block(block_transfer.decode(apdu))
        return self._on_apdu(apdu)

    def _on_apdu(self, apdu: bytes) -> list[ClientEvent]:
        control: int | None = None
        tag = apdu[0]
        if tag in CIPHERED_TAGS:
            if self._cipher is None:
                raise SecurityError("ciphered message, and no keys are known", offset=0)
            try:
                opened = self._cipher.open(apdu)
            except RepeatedMessage:
                return [Stale("the link doubled a ciphered message")]
            apdu, control = opened.plain, opened.control
            tag = apdu[0]
        elif self.settings.ciphered and self._cipher is not None and tag not in _ALWAYS_PLAIN:
            check_policy(self._cipher.settings.least, None)
        handler = self._HANDLERS.get(tag)
        if handler is not None:
            return handler(self, apdu)
        if tag == acse.AARE_TAG:
            return self._on_aare(apdu)
        if tag == acse.RLRE_TAG:
            return self._on_rlre(apdu)
        if tag in _NOTIFICATIONS:
            return [Notification(_NOTIFICATIONS[tag](apdu), control)]
        raise RemoteProtocolError(f"{apdus.name_of(tag)} is nothing a server sends here", offset=0)

    def _on_general_block(self, block: block_transfer.GeneralBlockTransfer) -> list[ClientEvent]:
        if self._gbt_late and self._comes_again(block):
            return [Stale("a general block of an answer that is complete came again")]
        if self._pending is None or self._abandoned:
            return [Stale("a general block came for no outstanding request")]
        self._used_gbt = True
        if self._gbt_out is not None and not block.data and self._gbt_in is None:
            self._gbt_acks = max(self._gbt_acks, block.block_number)
            return [Transmit(out.to_bytes()) for out in self._gbt_out.acknowledged(block)]
        if self._gbt_in is None:
            # Our blocks and the peer's acknowledgements of them have used up numbers, on peers that count
            # those.
            first = self._gbt_acks + 1 if block.block_number > self._gbt_acks else 1
            self._gbt_in = GbtReceiver(
                window=self.settings.gbt_window or 1,
                first=first,
                next_number=1 if self._gbt_out is None else self._gbt_out.next_number,
                limit=self.settings.max_total,
            )
        answer, whole = self._gbt_in.receive(block)
        if whole is not None:
            self._gbt_late = self._gbt_in.late() or self._gbt_late
            self._gbt_in = None
            if not whole or whole[0] == block_transfer.TAG:
                raise RemoteProtocolError("general blocks join to nothing, or to general blocks again")
            return self._on_apdu(whole)
        return [] if answer is None else [Transmit(answer.to_bytes())]

    def _comes_again(self, block: block_transfer.GeneralBlockTransfer) -> bool:
        """Blocks carry no id. One that equals a block of an answer of which we asked for repetitions is taken
        for a repetition, as often as we asked: should it be the next answer's after all, we ask for it again.
        """
        part = (block.block_number, block.data)
        times = self._gbt_late.get(part, 0)
        if times > 1:
            self._gbt_late[part] = times - 1
        elif times:
            del self._gbt_late[part]
        return times > 0
