"""The connection pool: deadlines on everything, and no password in any log."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from headend.store.migrate import DatabaseError, check_dsn, redacted
from headend.store.sql import Connection

#: What the rest of the store takes.
Pool = AsyncConnectionPool[Connection]

T = TypeVar("T")


class Reaching(Protocol):
    """Whatever knows how the database is reached: a pool."""

    @property
    def conninfo(self) -> Any:
        """As psycopg takes it."""


CONNECT_TIMEOUT_S: Final = 10
STATEMENT_TIMEOUT_S: Final = 60
LOCK_TIMEOUT_S: Final = 30
IDLE_IN_TRANSACTION_TIMEOUT_S: Final = 60


#: A connection that was good so lately is taken without asking it again, which is a round trip. One that
#: broke since fails its first statement, and that every caller bears anyway.
_GOOD_FOR_S: Final = 5.0


def _checks() -> Callable[[Connection], Awaitable[None]]:
    good_at: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()

    async def check_if_old(connection: Connection) -> None:
        now = asyncio.get_running_loop().time()
        if now - good_at.get(connection, -_GOOD_FOR_S) >= _GOOD_FOR_S or connection.closed:
            await AsyncConnectionPool.check_connection(connection)
            good_at[connection] = now

    return check_if_old


@asynccontextmanager
async def open_pool(
    dsn: str,
    *,
    application_name: str = "headend",
    min_size: int = 1,
    max_size: int = 8,
    statement_timeout_s: float = STATEMENT_TIMEOUT_S,
) -> AsyncIterator[Pool]:
    """A pool of autocommit-off connections for as long as the context lasts.

    Every statement is bounded by ``statement_timeout_s``, every lock by `LOCK_TIMEOUT_S`, and a connection
    that is left in a transaction by `IDLE_IN_TRANSACTION_TIMEOUT_S`. Waiting for a free connection is
    bounded by 30 s (psycopg_pool.PoolTimeout). Raises DatabaseError, without a password, when the first
    connection cannot be had.
    """
    check_dsn(dsn)
    options = " ".join(
        f"-c {name}={value}"
        for name, value in {
            "statement_timeout": round(statement_timeout_s * 1000),
            "lock_timeout": LOCK_TIMEOUT_S * 1000,
            "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_TIMEOUT_S * 1000,
            "default_transaction_isolation": "read\\ committed",
            "timezone": "UTC",
            # Recursive queries are thought expensive: to compile them took twice the time that they run.
            "jit": "off",
        }.items()
    )
    arguments: dict[str, Any] = {
        "application_name": application_name,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "options": options,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
    }
    try:
        # The pool would try for ever and say only "timeout": one connection of our own tells the reason.
        async with await psycopg.AsyncConnection.connect(make_conninfo(dsn, **arguments)):
            pass
    except psycopg.OperationalError as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise DatabaseError(f"{redacted(dsn)} cannot be reached or does not let us in: {reason}") from error
    pool: Pool = AsyncConnectionPool(
        make_conninfo(dsn, **arguments),
        min_size=min_size,
        max_size=max_size,
        open=False,
        timeout=30.0,
        name=application_name,
        check=_checks(),
    )
    try:
        await pool.open(wait=True, timeout=30.0)
    except PoolTimeout as error:
        await pool.close()
        raise DatabaseError(f"{redacted(dsn)} gave no connection within 30 s") from error
    try:
        yield pool
    finally:
        await pool.close()


async def apart(pool: Reaching, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Do ``work`` in a thread with an event loop and a connection of its own: what computes for seconds
    between its statements stalls nobody here. Commits behind it, and rolls back where it raises.

    A thread cannot be cancelled: who is cancelled meanwhile leaves it to end by itself. Raises what ``work``
    raises, and UnavailableError.
    """

    async def alone() -> T:
        async with await psycopg.AsyncConnection.connect(str(pool.conninfo)) as connection:
            return await work(connection)

    return await asyncio.to_thread(lambda: asyncio.run(alone()))


@asynccontextmanager
async def aside(pool: Pool) -> AsyncIterator[Connection]:
    """A connection beside those of the pool, in autocommit, for what must not wait until one of them is free.

    Raises UnavailableError.
    """
    # the pool's own way of resolving it is private; ours is always text
    connection = await psycopg.AsyncConnection.connect(str(pool.conninfo), autocommit=True)
    async with connection:
        yield connection
