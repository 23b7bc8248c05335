"""What the store refuses in words of the domain; everything else is the database's own error."""

from typing import Final

from psycopg import Error, OperationalError


class UnknownError(LookupError):
    """There is no such meter, point, token or key."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ConflictError(Exception):
    """Asked against what is stored: a name in use, an overlapping installation, a state out of order."""


class RefusedError(ValueError):
    """The database will not have what it was given, now or ever; trying again is of no use."""


#: Whatever the database says.
DatabaseError: Final = Error

#: The database cannot be reached, has no connection free, or took too long (psycopg_pool's errors are its
#: children).
UnavailableError: Final = OperationalError

#: SQLSTATE class of a value that is beyond a limit of the server's: psycopg counts it as operational.
_LIMIT_EXCEEDED: Final = "54"


def is_transient(error: Error) -> bool:
    """Whether the same again may succeed: the database is away, short of something, or busy with others."""
    return isinstance(error, OperationalError) and not (error.sqlstate or "").startswith(_LIMIT_EXCEEDED)
