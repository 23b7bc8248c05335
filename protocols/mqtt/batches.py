"""Messages of our own schema (`schemas.batch`), as JSON and in the compact form (CBOR).

Both forms are one tree. The compact one is turned into the words of the schema and then judged by the same
rules, so that a message means the same in both.
"""

import io
import json
from typing import Any, Final

import cbor2
import pydantic_core
from pydantic import ValidationError

from protocols.errors import RemoteProtocolError
from protocols.mqtt.documents import check_size
from schemas.batch import BATCH, CBOR_KEYS, BatchMessage

#: RFC 8949, 3.4.6: "this is CBOR".
_SELF_DESCRIBED: Final = b"\xd9\xd9\xf7"
_MAPS: Final = range(0xA0, 0xC0)
_NAMES: Final = {number: name for name, number in CBOR_KEYS.items()}
#: A batch is nested six deep; what is deeper is no batch.
_DEEPEST: Final = 12
_NUMBERS: Final = frozenset({int, type(None)})
_PLAIN: Final = _NUMBERS | {str, bool}


def _no_tag(_item: object, _immutable: bool) -> Any:
    raise ValueError("a tag that has no place in it")


#: Numbers beyond 64 bits and references, which could make of a small payload a huge tree. What other tags
#: make is no value of ours and refused as such.
_NO_TAGS: Final = dict.fromkeys((2, 3, 25, 28, 29, 256), _no_tag)


def is_compact(payload: bytes) -> bool:
    """Whether the payload is a CBOR map."""
    return payload.startswith(_SELF_DESCRIBED) or (bool(payload) and payload[0] in _MAPS)


def decode(payload: bytes) -> BatchMessage:
    """A batch, an announcement, a declaration that batches are lost, or what we send: a request, an
    acknowledgement.

    Raises:
        RemoteProtocolError: too long, neither JSON nor CBOR, or not of the schema; with the first place that
            is wrong.
    """
    check_size(payload)
    return _judged(json.dumps(_compact(payload)) if is_compact(payload) else payload)


def judge(document: dict[str, Any]) -> BatchMessage:
    """The message that a `tree` is. Raises RemoteProtocolError as `decode` does."""
    try:
        return _judged(json.dumps(document))
    except ValueError as error:  # an integer of thousands of digits
        raise RemoteProtocolError("an integer of too many digits") from error


def tree(payload: bytes) -> dict[str, Any]:
    """A message of either form in the words of the schema; nothing of it is judged but its form.

    Raises:
        RemoteProtocolError: too long, neither JSON nor CBOR, no object, a name that the schema has not in the
            compact form, or a value that JSON has not.
    """
    check_size(payload)
    if is_compact(payload):
        return _compact(payload)
    try:
        found = pydantic_core.from_json(payload, allow_inf_nan=False)
    except ValueError as error:
        raise RemoteProtocolError(f"not JSON: {str(error)[:120]}") from error
    if not isinstance(found, dict):
        raise RemoteProtocolError(f"a JSON {type(found).__name__}, not an object")
    return found


def _judged(text: str | bytes) -> BatchMessage:
    try:
        return BATCH.validate_json(text)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False, include_context=False)
        # both may repeat the peer's own text, of any length
        place = ".".join(map(str, wrong[0]["loc"]))[:80] or "batch"
        reason = wrong[0]["msg"].removeprefix("Value error, ")[:160]
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise RemoteProtocolError(f"{place}: {reason}{more}") from error


def _compact(payload: bytes) -> dict[str, Any]:
    data = payload.removeprefix(_SELF_DESCRIBED)
    stream = io.BytesIO(data)
    try:
        found = cbor2.CBORDecoder(
            stream, semantic_decoders=_NO_TAGS, max_depth=_DEEPEST, allow_duplicate_keys=False
        ).decode()
    except (cbor2.CBORDecodeError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"not CBOR: {str(error)[:120]}") from error
    if stream.tell() != len(data):
        raise RemoteProtocolError("bytes behind the message", offset=stream.tell())
    named = _named(found)
    if not isinstance(named, dict):
        raise RemoteProtocolError(f"a CBOR {type(found).__name__}, not a map")
    return named


def encode(message: BatchMessage) -> bytes:
    """The message as JSON; what has no value is left out."""
    return message.model_dump_json(exclude_defaults=True).encode("utf-8")


def encode_compact(message: BatchMessage) -> bytes:
    """The message in the compact form."""
    return cbor2.dumps(_numbered(message.model_dump(mode="json", exclude_defaults=True)))


def _numbered(item: Any) -> Any:
    if isinstance(item, dict):
        return {CBOR_KEYS[name]: _numbered(value) for name, value in item.items()}
    return [_numbered(value) for value in item] if isinstance(item, list) else item


def _named(item: Any) -> Any:
    if type(item) is dict:
        named: dict[str, Any] = {}
        for number, value in item.items():
            name = _NAMES.get(number) if type(number) is int else None
            if name is None:
                raise RemoteProtocolError(f"{str(number)[:40]!r} is the number of no name")
            named[name] = _named(value)
        return named
    if type(item) is list:
        # a column of plain numbers is most of a message
        return item if set(map(type, item)) <= _NUMBERS else [_named(value) for value in item]
    if type(item) in _PLAIN:
        return item
    raise RemoteProtocolError(f"a CBOR {type(item).__name__} in it")
