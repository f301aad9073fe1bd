"""Driver errors, translated once into the ports' own: by class and constraint name, never by message text.

The driver's error is not chained: its text quotes rows and parameters, and whoever prints a traceback prints it too.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from asyncpg.exceptions import _base

from gateway.base.errors import (
    SilentServerError,
    StoreConflictError,
    StoreForbiddenError,
    StoreIntegrityError,
    StoreUnavailableError,
)

NoTablesError = asyncpg.UndefinedTableError
"""Raised as it is: the database has not our tables, or not yet all of them."""

_RULES = frozenset(
    {
        *("ledger_transfer_pkey", "consent_version_pkey", "consent_purpose_end_pkey", "scheduled_order_pkey"),
        "clearing_settles_once",
    }
)
"""Unique constraints that no race can break: the payment's or consent's row is locked by whoever writes there."""

_CONFLICT = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.UniqueViolationError,
)
_INTEGRITY = (
    asyncpg.CheckViolationError,
    asyncpg.NotNullViolationError,
    asyncpg.RaiseError,  # append-only tables
    asyncpg.DataError,  # the server refuses a value
    _base.DataError,  # the driver refuses a value; an InterfaceError, so it must be looked for before those
)
_UNAVAILABLE = (
    OSError,  # includes ConnectionError and TimeoutError
    asyncpg.InterfaceError,  # the driver's word for a connection that closed under us
    asyncpg.InternalClientError,  # and its word where the server ended it while it was idle (ran: asyncpg 0.32)
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.QueryCanceledError,
    asyncpg.IdleInTransactionSessionTimeoutError,  # we stood still with locks in hand: the server has undone it
    asyncpg.ReadOnlySQLTransactionError,  # a primary that became a replica
    asyncpg.InsufficientResourcesError,  # too many connections, disk full, out of memory
    asyncpg.PostgresSystemError,  # input/output error on the server
)


class DatabaseUnfitError(Exception):
    """The database cannot be used by this process; the text says what to do."""


_TURNED_AWAY = (
    asyncpg.InvalidAuthorizationSpecificationError,  # no such user, a wrong password, or no rule that lets it in
    asyncpg.InvalidCatalogNameError,
)


@asynccontextmanager
async def letting_in(what: str) -> AsyncIterator[None]:
    """Say in words that the server lets ``what`` not in: waiting would not help."""
    try:
        async with translated():
            yield
    except _TURNED_AWAY as error:
        raise DatabaseUnfitError(
            f"PostgreSQL does not let {what} in ({_describe(error)}): is the user there, with this password, and the "
            "database? `mypay migrate roles` makes the users, `mypay migrate` those of a local stack"
        ) from None


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Raise the ports' errors in place of the driver's; let bugs that hold no data through."""
    try:
        yield
    except _CONFLICT as error:
        kind = StoreIntegrityError if getattr(error, "constraint_name", None) in _RULES else StoreConflictError
        raise kind(_describe(error)) from None
    except _INTEGRITY as error:
        raise StoreIntegrityError(_describe(error)) from None
    except asyncpg.InsufficientPrivilegeError as error:
        raise StoreForbiddenError(_describe(error)) from None
    except _UNAVAILABLE as error:
        raise StoreUnavailableError(_describe(error)) from None


_CANNOT_WRITE = {
    asyncpg.DiskFullError.sqlstate: "its disk is full",
    asyncpg.ReadOnlySQLTransactionError.sqlstate: "it takes no writes",
}


def cannot_write(error: StoreUnavailableError) -> str | None:
    """Why a server that answers took no writes; None where it was something else."""
    return next((why for code, why in _CANNOT_WRITE.items() if code in str(error).split()), None)


def _describe(error: Exception) -> str:
    # The server's message may quote a row; class, SQLSTATE and constraint say enough and hold no data.
    if isinstance(error, SilentServerError):
        return str(error)
    if isinstance(error, TimeoutError):
        return "PostgreSQL did not answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "the connection was refused"
    parts = [type(error).__name__, getattr(error, "sqlstate", None), getattr(error, "constraint_name", None)]
    return " ".join(str(p) for p in parts if p)
