"""The elements of one ACSE APDU by tag, read and written: what AARQ, AARE, RLRQ and RLRE are made of."""

from protocols.dlms import ber
from protocols.dlms.enums import ApplicationContext, Mechanism
from protocols.errors import RemoteProtocolError

# 2.16.756.5.8.1 and 2.16.756.5.8.2 as BER contents; the last arc follows.
_CONTEXT_ARC = bytes.fromhex("608574050801")
_MECHANISM_ARC = bytes.fromhex("608574050802")
_CHARSTRING = 0x80  # Authentication-value ::= CHOICE, charstring [0]
_FUNCTIONAL_UNIT = 0x80  # the one bit of ACSE-requirements: authentication

_CONTEXTS = {_CONTEXT_ARC + bytes((context,)): context for context in ApplicationContext}
_MECHANISMS = {_MECHANISM_ARC + bytes((mechanism,)): mechanism for mechanism in Mechanism}


class Elements:
    """The elements of one ACSE APDU: each comes once, in any order, and only those that its type has.

    Every method raises RemoteProtocolError with the offset of what is wrong; an absent element is None.
    """

    __slots__ = ("_data", "_spans")

    def __init__(self, data: bytes, allowed: frozenset[int]) -> None:
        offset, end = ber.span(data, 0, len(data))
        if end != len(data):
            raise RemoteProtocolError(f"{len(data) - end} bytes follow the complete APDU", offset=end)
        self._data = data
        self._spans: dict[int, tuple[int, int]] = {}
        while offset < end:
            tag = data[offset]
            if tag not in allowed:
                raise RemoteProtocolError(f"element 0x{tag:02x} has no place here", offset=offset)
            if tag in self._spans:
                raise RemoteProtocolError(f"element 0x{tag:02x} comes twice", offset=offset)
            self._spans[tag] = found = ber.span(data, offset, end)
            offset = found[1]

    def missing(self, what: str) -> RemoteProtocolError:
        """The error for a mandatory element that is not there."""
        return RemoteProtocolError(f"the {what} is missing", offset=len(self._data))

    def offset(self, tag: int) -> int:
        """Where the content of an element that is there starts."""
        return self._spans[tag][0]

    def end(self, tag: int) -> int:
        """Where the content of an element that is there ends."""
        return self._spans[tag][1]

    def plain(self, tag: int) -> bytes | None:
        """Content of an implicitly tagged element."""
        found = self._spans.get(tag)
        return None if found is None else self._data[found[0] : found[1]]

    def octets(self, tag: int) -> bytes | None:
        """OCTET STRING in an explicitly tagged element."""
        return self._only(tag, ber.OCTET_STRING)

    def authentication(self, tag: int) -> bytes | None:
        """Authentication-value; any but a charstring is refused."""
        return self._only(tag, _CHARSTRING)

    def integer(self, tag: int) -> int | None:
        """INTEGER in an explicitly tagged element."""
        content = self._only(tag, ber.INTEGER)
        return None if content is None else ber.integer(content, self._spans[tag][0])

    def plain_integer(self, tag: int) -> int | None:
        """INTEGER, implicitly tagged."""
        content = self.plain(tag)
        return None if content is None else ber.integer(content, self._spans[tag][0])

    def choice_of_integer(self, tag: int, choices: tuple[int, ...]) -> tuple[int, int] | None:
        """INTEGER under one of the explicit tags ``choices``, as (that tag, the number)."""
        found = self._spans.get(tag)
        if found is None:
            return None
        start, stop = ber.span(self._data, found[0], found[1])
        choice = self._data[found[0]]
        if choice not in choices or stop != found[1]:
            reason = f"element 0x{tag:02x} does not hold exactly one of its choices"
            raise RemoteProtocolError(reason, offset=found[0])
        return choice, ber.integer(ber.only(self._data, start, stop, ber.INTEGER), start)

    def context(self, tag: int) -> ApplicationContext:
        """Application context name, mandatory."""
        oid = self._only(tag, ber.OBJECT_IDENTIFIER)
        if oid is None:
            raise self.missing("application context name")
        context = _CONTEXTS.get(oid)
        if context is None:
            reason = f"application context {oid.hex()} is not one of DLMS"
            raise RemoteProtocolError(reason, offset=self._spans[tag][0])
        return context

    def mechanism(self, tag: int) -> Mechanism | None:
        """Authentication mechanism name."""
        oid = self.plain(tag)
        if oid is None:
            return None
        mechanism = _MECHANISMS.get(oid)
        if mechanism is None:
            reason = f"authentication mechanism {oid.hex()} is not one of DLMS"
            raise RemoteProtocolError(reason, offset=self._spans[tag][0])
        return mechanism

    def requirements(self, tag: int) -> bool | None:
        """ACSE-requirements: is the authentication functional unit wanted."""
        content = self.plain(tag)
        if content is None:
            return None
        if len(content) != 2:
            raise RemoteProtocolError(
                "ACSE requirements are not one byte of bits", offset=self._spans[tag][0]
            )
        return bool(content[1] & _FUNCTIONAL_UNIT)

    def _only(self, tag: int, inner: int) -> bytes | None:
        found = self._spans.get(tag)
        return None if found is None else ber.only(self._data, found[0], found[1], inner)


def plain(tag: int, content: bytes | None) -> bytes:
    """Implicitly tagged element; nothing for None, as in all of these."""
    return b"" if content is None else ber.encode_element(tag, content)


def octets(tag: int, content: bytes | None) -> bytes:
    """OCTET STRING in an explicitly tagged element."""
    return b"" if content is None else ber.encode_element(tag, ber.encode_element(ber.OCTET_STRING, content))


def integer(tag: int, value: int | None) -> bytes:
    """INTEGER in an explicitly tagged element."""
    if value is None:
        return b""
    return ber.encode_element(tag, ber.encode_element(ber.INTEGER, ber.encode_integer(value)))


def plain_integer(tag: int, value: int | None) -> bytes:
    """INTEGER, implicitly tagged."""
    return b"" if value is None else ber.encode_element(tag, ber.encode_integer(value))


def context_name(tag: int, context: ApplicationContext) -> bytes:
    """Application context name."""
    oid = ber.encode_element(ber.OBJECT_IDENTIFIER, _CONTEXT_ARC + bytes((context,)))
    return ber.encode_element(tag, oid)


def mechanism_name(tag: int, mechanism: Mechanism | None) -> bytes:
    """Authentication mechanism name."""
    return plain(tag, None if mechanism is None else _MECHANISM_ARC + bytes((mechanism,)))


def requirements(tag: int, wanted: bool | None) -> bytes:
    """ACSE-requirements: a BIT STRING of one bit."""
    return plain(tag, None if wanted is None else bytes((7, _FUNCTIONAL_UNIT if wanted else 0)))


def authentication(tag: int, value: bytes | None) -> bytes:
    """Authentication-value as a charstring."""
    return plain(tag, None if value is None else ber.encode_element(_CHARSTRING, value))
