"""Driver errors, translated once into the ports' own: by class and constraint name, never by message text."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from gateway.ports import StoreConflictError, StoreUnavailableError

_UNAVAILABLE = (
    OSError,  # includes ConnectionError and TimeoutError
    asyncpg.InterfaceError,  # the driver's word for a connection that closed under us
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.QueryCanceledError,
    asyncpg.ReadOnlySQLTransactionError,  # a primary that became a replica
    asyncpg.InsufficientResourcesError,  # too many connections, disk full, out of memory
    asyncpg.PostgresSystemError,  # input/output error on the server
)
_CONFLICT = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.UniqueViolationError,
)


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Raise StoreUnavailableError or StoreConflictError in place of the driver's errors; let bugs through."""
    try:
        yield
    except _CONFLICT as error:
        raise StoreConflictError(_describe(error)) from error
    except _UNAVAILABLE as error:
        raise StoreUnavailableError(_describe(error)) from error


def _describe(error: Exception) -> str:
    # The server's message may quote a row; class, SQLSTATE and constraint say enough and hold no data.
    parts = [type(error).__name__, getattr(error, "sqlstate", None), getattr(error, "constraint_name", None)]
    return " ".join(str(p) for p in parts if p)
