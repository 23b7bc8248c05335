"""Parameters that a kind of meter lets programs write."""

from pydantic import Field

from schemas.model.parts import ObisPattern, Part


class AllowedParameter(Part):
    """``attributes`` of a class's objects by OBIS code or pattern; of class 9 ``scripts`` by number."""

    class_id: int = Field(ge=0, le=0xFFFF)
    obis: ObisPattern
    attributes: tuple[int, ...] = ()
    scripts: tuple[int, ...] = ()


class ParametersRules(Part):
    """What may be written and run; nothing else may. Keys, security, images, breakers, clocks and calendars
    have programs of their own, and are written by no list."""

    allow: tuple[AllowedParameter, ...] = ()
