"""Parameters: attributes that are written and read back, read alone, and scripts that are run."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from schemas.obis_pattern import check_obis
from schemas.programs.parameter_value import ParameterValue
from schemas.programs.shape import Shape

Obis = Annotated[str, AfterValidator(check_obis)]
_Class = Annotated[int, Field(ge=0, le=0xFFFF)]
_Attribute = Annotated[int, Field(ge=2, le=127)]
_Name = Annotated[str, Field(max_length=128)]


class WriteItem(Shape):
    """An attribute gets a value, unless it has it."""

    do: Literal["write"] = "write"
    name: _Name = ""
    class_id: _Class
    obis: Obis
    attribute: _Attribute
    value: ParameterValue

    def __str__(self) -> str:
        return f"{self.class_id}/{self.obis}/{self.attribute}"


class ReadItem(Shape):
    """An attribute is read."""

    do: Literal["read"]
    name: _Name = ""
    class_id: _Class
    obis: Obis
    attribute: _Attribute

    def __str__(self) -> str:
        return f"{self.class_id}/{self.obis}/{self.attribute}"


class RunItem(Shape):
    """A script of a script table (class 9) is run: what it does cannot be done again.

    ``proven_by`` is a profile that gets a row by it (a billing reset: the billing profile), and so tells
    whether it ran; without one, a run whose answer was lost is a person's to look at.
    """

    do: Literal["run"]
    name: _Name = ""
    obis: Obis = "0-0:10.0.1*255"
    script: int = Field(ge=1, le=0xFFFF)
    proven_by: Obis | None = None

    def __str__(self) -> str:
        return f"9/{self.obis}/script {self.script}"


Item = Annotated[WriteItem | ReadItem | RunItem, Field(discriminator="do")]


class ParametersProgram(Shape):
    """What is done at a meter, in this order."""

    kind: Literal["parameters"] = "parameters"
    items: Annotated[tuple[Item, ...], Field(min_length=1, max_length=256)]
