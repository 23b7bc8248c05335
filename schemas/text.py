"""Names as people write them in bodies and settings."""

from typing import Annotated

from pydantic import AfterValidator, Field


def _utf8(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as exc:  # JSON can write half of a surrogate pair, which no text holds
        raise ValueError(f"{value!r} is no text that UTF-8 can hold") from exc
    return value


#: A name. Blanks around it and control characters are typing errors, and PostgreSQL has no NUL.
Name = Annotated[
    str,
    AfterValidator(_utf8),
    Field(min_length=1, max_length=128, pattern=r"^[^\s\x00-\x1f]([^\x00-\x1f]*[^\s\x00-\x1f])?$"),
]

#: A name that stands in paths of the API too.
PathName = Annotated[
    str,
    AfterValidator(_utf8),
    Field(min_length=1, max_length=128, pattern=r"^[^\s\x00-\x1f/]([^\x00-\x1f/]*[^\s\x00-\x1f/])?$"),
]
