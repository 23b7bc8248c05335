"""Pushed data: Data-Notification with its confirm, and Event-Notification (IEC 62056-5-3)."""

from dataclasses import dataclass

from protocols.dlms.apdu.fields import (
    LongInvokeIdAndPriority,
    Raw,
    Reader,
    encode_date_time,
    encode_descriptor,
    encode_octets,
)
from protocols.dlms.cosem import Attribute

DATA_TAG = 0x0F
CONFIRM_TAG = 0x10
EVENT_TAG = 0xC2

_OCTET_STRING = 0x09
_DATE_TIME_LENGTH = 0x0C


@dataclass(frozen=True, slots=True)
class DataNotification:
    """Pushed data. ``date_time`` the 12 bytes of a COSEM date-time, None if empty; ``body`` one A-XDR value.

    ``tagged_time``: the date-time came with a data type byte (09) before its length. The standard has none
    there; Kaifa writes one. It cannot be mistaken: 9 is no length of a date-time.
    """

    long_invoke: LongInvokeIdAndPriority
    date_time: bytes | None
    body: Raw
    tagged_time: bool = False

    def to_bytes(self) -> bytes:
        """The APDU, with the maker's extra byte where ``tagged_time`` says so."""
        tag = bytes((_OCTET_STRING,)) if self.tagged_time else b""
        return (
            bytes((DATA_TAG,))
            + self.long_invoke.to_bytes()
            + tag
            + encode_date_time(self.date_time)
            + self.body.data
        )


@dataclass(frozen=True, slots=True)
class DataNotificationConfirm:
    """The receiver has the data of the notification with the same long invoke id."""

    long_invoke: LongInvokeIdAndPriority
    date_time: bytes | None = None

    def to_bytes(self) -> bytes:
        """The APDU."""
        return bytes((CONFIRM_TAG,)) + self.long_invoke.to_bytes() + encode_date_time(self.date_time)


@dataclass(frozen=True, slots=True)
class EventNotificationRequest:
    """One attribute's value, told unasked. ``time`` as raw bytes of an octet string, None if absent."""

    time: bytes | None
    attribute: Attribute
    value: Raw

    def to_bytes(self) -> bytes:
        """The APDU."""
        time = b"\x00" if self.time is None else b"\x01" + encode_octets(self.time)
        return bytes((EVENT_TAG,)) + time + encode_descriptor(self.attribute) + self.value.data


def decode_data(data: bytes) -> DataNotification:
    """Decode a data-notification, its tag already looked at; the body is not looked into.

    Raises RemoteProtocolError.
    """
    reader = Reader(data, "data-notification", 1)
    long_invoke = reader.long_invoke()
    tagged = data[5:7] == bytes((_OCTET_STRING, _DATE_TIME_LENGTH))
    if tagged:
        reader.offset += 1
    return DataNotification(long_invoke, reader.date_time(), reader.rest("body"), tagged)


def decode_confirm(data: bytes) -> DataNotificationConfirm:
    """Decode a data-notification-confirm, its tag already looked at. Raises RemoteProtocolError."""
    reader = Reader(data, "data-notification-confirm", 1)
    confirm = DataNotificationConfirm(reader.long_invoke(), reader.date_time())
    reader.end()
    return confirm


def decode_event(data: bytes) -> EventNotificationRequest:
    """Decode an event-notification-request, its tag already looked at; the value is not looked into.

    Raises RemoteProtocolError.
    """
    reader = Reader(data, "event-notification-request", 1)
    time = reader.octets("time") if reader.optional("time") else None
    return EventNotificationRequest(time, reader.attribute(), reader.rest("value"))
