"""Programs as the API tells them."""

from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field

from api.shapes import Name
from api.times import rfc3339
from headend.store.programs import StoredProgram
from schemas.program import Program, ProgramKind

_CONTENT: Final[dict[str, Any]] = {"kind": "switch", "action": "disconnect", "reason": "arrears"}
PROGRAM_EXAMPLE: Final[dict[str, Any]] = {
    "id": 7,
    "kind": "switch",
    "name": "arrears of March",
    "content": _CONTENT,
    "digest": "9b2e61a0c86e4f5cbd6f4a0e5a2f8e6f1f6c6a3c1f0d9f4b7a8c2d3e4f5a6b7c",
    "actor": "token:3 desk",
    "created_at": "2026-03-01T08:00:00Z",
}


class ProgramBody(BaseModel):
    """A program: its kind says what it consists of."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "arrears of March", "content": _CONTENT}]}
    )

    name: Name
    content: Program


class ProgramModel(BaseModel):
    """A stored program. It never changes: another content is another program."""

    model_config = ConfigDict(json_schema_extra={"examples": [PROGRAM_EXAMPLE]})

    id: int
    kind: ProgramKind
    name: str
    content: Program
    digest: Annotated[str, Field(description="SHA-256 of the content in its canonical form")]
    actor: str
    created_at: str

    @classmethod
    def of(cls, stored: StoredProgram) -> Self:
        """As stored."""
        return cls(
            id=stored.program_id,
            kind=stored.kind,
            name=stored.name,
            content=stored.content,
            digest=stored.digest.hex(),
            actor=stored.actor,
            created_at=rfc3339(stored.created_at),
        )


class ProgramPage(BaseModel):
    """One page of programs."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"programs": [PROGRAM_EXAMPLE], "next": None}]})

    programs: list[ProgramModel]
    next: str | None = Field(description="cursor of the next page; null on the last")
