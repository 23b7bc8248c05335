"""What the store refuses in words of the domain; everything else is the database's own error."""

from typing import Final

from psycopg import OperationalError


class UnknownError(LookupError):
    """There is no such meter, point, token or key."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ConflictError(Exception):
    """What was asked contradicts what is stored: a name in use, an overlapping installation, a state out of
    order."""


#: The database cannot be reached, has no connection free, or took too long (psycopg_pool's errors are its
#: children).
UnavailableError: Final = OperationalError
