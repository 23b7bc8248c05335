"""What all programs are made of."""

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    """A part of a program: exact, and never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)
