"""Messages of our own schemas for single devices (images, tariff programs), as JSON."""

from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from protocols.errors import RemoteProtocolError
from protocols.mqtt.documents import check_size

T = TypeVar("T")


def decode(form: TypeAdapter[T], payload: bytes) -> T:
    """A message of the ``form``.

    Raises:
        RemoteProtocolError: too long, no JSON, or not of the schema; with the first place that is wrong.
    """
    check_size(payload)
    try:
        return form.validate_json(payload)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False, include_context=False)[0]
        # both may repeat the peer's own text, of any length
        place = ".".join(map(str, wrong["loc"]))[:80] or "message"
        raise RemoteProtocolError(f"{place}: {wrong['msg'][:160]}") from error


def encode(message: BaseModel) -> bytes:
    """The message as JSON; what has no value is left out."""
    return message.model_dump_json(exclude_none=True).encode("utf-8")
