"""A share of a field: one of several processes that serve it together."""

from typing import Final, NamedTuple, Self


class Part(NamedTuple):
    """Share ``number`` (from 1) of ``of`` shares. Direct meters and stations are dealt out in turn; a station
    stays whole. Names, numbers, keys and ports are those of the whole field."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``2/3``: the second of three. Raises ValueError."""
        number, found, of = text.partition("/")
        if not (found and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise ValueError(f"{text!r} is no part, as 1/2 and 2/2 are")
        return cls(int(number), int(of))

    def has(self, place: int) -> bool:
        """Whether the direct meter or station at ``place``, from 0, is served here."""
        return place % self.of == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


WHOLE: Final = Part(1, 1)
