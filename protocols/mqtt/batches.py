"""Batches of our own schema (`schemas.batch`), as JSON."""

from pydantic import ValidationError

from protocols.errors import RemoteProtocolError
from protocols.mqtt.documents import check_size
from schemas.batch import BATCH, BatchMessage


def decode(payload: bytes) -> BatchMessage:
    """A batch, a request for batches, or a declaration that batches are lost.

    Raises:
        RemoteProtocolError: too long, or not of the schema; with the first place that is wrong.
    """
    check_size(payload)
    try:
        return BATCH.validate_json(payload)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False, include_context=False)
        # both may repeat the peer's own text, of any length
        place = ".".join(map(str, wrong[0]["loc"]))[:80] or "batch"
        reason = wrong[0]["msg"].removeprefix("Value error, ")[:160]
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise RemoteProtocolError(f"{place}: {reason}{more}") from error


def encode(message: BatchMessage) -> bytes:
    """The payload of a message; what has no value is left out."""
    return message.model_dump_json(exclude_defaults=True).encode("utf-8")
