"""JSON payloads, read without losing a digit and within bounds; and times as devices write them."""

import json
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple, NoReturn

from protocols.errors import RemoteProtocolError

#: The largest payload that is looked at, in bytes.
MAX_PAYLOAD: Final = 1 << 20

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: A device whose clock was never set counts from 1970 or 2000; no meter of ours is as old as that.
_FIRST: Final = datetime(2005, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(2100, 1, 1, tzinfo=UTC)


class Time(NamedTuple):
    """A device's time, aware; or None and why."""

    value: datetime | None
    note: str | None = None


def load(payload: bytes) -> dict[str, Any]:
    """A JSON object; numbers with a point are Decimal.

    Raises:
        RemoteProtocolError: too long, not UTF-8, not JSON (NaN and infinities are not), a name twice in one
            object, or not an object.
    """
    check_size(payload)
    try:
        text = payload.decode("utf-8")
        if text[:1] == "{":  # no blanks to be passed over, as is usual: half of the work
            found, end = _DECODER.raw_decode(text)
            if end == len(text):
                return found  # type: ignore[no-any-return] # an object, by its brace
        found = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise RemoteProtocolError("not UTF-8", offset=error.start) from error
    except json.JSONDecodeError as error:
        raise RemoteProtocolError(f"not JSON: {error.msg}", offset=error.pos) from error
    except InvalidOperation as error:
        raise RemoteProtocolError("a number with an exponent beyond all bounds") from error
    except ValueError as error:  # an integer of thousands of digits, which Python does not read
        raise RemoteProtocolError("an integer of too many digits") from error
    except RecursionError as error:
        raise RemoteProtocolError("nested too deep") from error
    if not isinstance(found, dict):
        raise RemoteProtocolError(f"a JSON {type(found).__name__}, not an object")
    return found


def check_size(payload: bytes) -> None:
    """Raises RemoteProtocolError for a payload beyond MAX_PAYLOAD."""
    if len(payload) > MAX_PAYLOAD:
        raise RemoteProtocolError(f"{len(payload)} bytes, more than {MAX_PAYLOAD}")


def part(document: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The object ``name``, None where it is absent or null.

    Raises:
        RemoteProtocolError: it is something else.
    """
    found = document.get(name)
    if found is not None and not isinstance(found, dict):
        raise RemoteProtocolError(f"{name} is {type(found).__name__}, not an object")
    return found


def unix_time(value: object) -> Time:
    """Seconds since 1970 UTC, with fractions; None is no time.

    Raises:
        RemoteProtocolError: not a number.
    """
    if value is None:
        return Time(None)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise RemoteProtocolError(f"a time that is {type(value).__name__}, not a number")
    if not -(10**12) < value < 10**12:
        return Time(None, "a time beyond all bounds")
    return believed(_EPOCH + timedelta(microseconds=int(value * 1_000_000)))


def text_time(value: object, zone: tzinfo | None) -> Time:
    """ISO 8601; a time without offset is the device's local time, of ``zone`` where that is known.

    Raises:
        RemoteProtocolError: not text, or no time.
    """
    if value is None:
        return Time(None)
    if not isinstance(value, str) or len(value) > 40:
        raise RemoteProtocolError("a time that is no text of ISO 8601")
    try:
        written = datetime.fromisoformat(value)
    except ValueError as error:
        raise RemoteProtocolError(f"{value!r} is no time of ISO 8601") from error
    if written.tzinfo is not None:
        return _utc(written)
    if zone is None:
        return Time(None, f"local time {value} of an unknown zone")
    early, late = (_utc(written.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))
    if early != late:
        return Time(None, f"local time {value} occurs twice or not at all")
    return early


def _utc(written: datetime) -> Time:
    try:
        return believed(written.astimezone(UTC))
    except OverflowError:  # the year 1 or 9999 beside an offset
        return Time(None, f"{written.replace(tzinfo=None)} is no time of this century")


def believed(time: datetime) -> Time:
    """An aware time, or a note where the device's clock was obviously never set."""
    if _FIRST <= time < _LAST:
        return Time(time)
    return Time(None, f"{time.isoformat()}: the device's clock is not set")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RemoteProtocolError("a name occurs twice in one JSON object")
    return found


def _refuse(constant: str) -> NoReturn:
    raise RemoteProtocolError(f"{constant} is no JSON number")


#: Made once: to make it takes longer than to read a message.
_DECODER: Final = json.JSONDecoder(parse_float=Decimal, parse_constant=_refuse, object_pairs_hook=_object)
