"""Parameters: attributes that are written and read back, and scripts that are run."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.programs.shape import Shape


class ParametersProgram(Shape):
    """Attributes to be written, in order."""

    kind: Literal["parameters"] = "parameters"
    items: Annotated[tuple[dict[str, str], ...], Field(min_length=1, max_length=256)]
