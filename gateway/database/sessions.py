"""Sessions with the server: what each of ours asks of it, and the same through a pooler that lends sessions out.

Row locks and the relay's lead belong to a session. A process that is stopped, or a machine that is gone without a word
(no packet ends its connection), would keep them: for as long as it stands, or the two hours of TCP's own keep-alive.

A pooler (PgBouncer) keeps the server's sessions for itself and lends them, in its transaction mode for one transaction
at a time. What is set for a session is then lost or another's, a statement that was prepared is somebody else's, and a
session's lock is held by nobody. So through a pooler nothing is set or prepared for a session: each piece of work is a
transaction that begins with its settings. Whether there is one is seen, not configured: the number of the server's
process is then not the one that was told at the connection.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from gateway.base.errors import SilentServerError
from gateway.database.arrays import name_containers
from gateway.database.errors import translated

if TYPE_CHECKING:
    from asyncpg import Connection

COMMAND_TIMEOUT_S: Final = 10.0
"""A statement that takes longer counts as the database being away."""

CONNECT_TIMEOUT_S: Final = 10.0
"""So does a server that takes the connection and says nothing, or is behind a network that drops it. The library itself
would wait for a minute."""

IDLE_IN_TRANSACTION_S: Final = 10.0
"""Between two statements of a transaction nothing but computing happens: milliseconds. Past this it is undone."""

PEOPLE_S: Final = 120.0
"""The same for a command that waits for a person, or for Kafka, in a transaction of its own."""

KEPT_BY_POOLERS: Final = frozenset({"application_name"})
"""Of the settings that a connection begins with, those that a pooler takes. With others it lets no client in."""

SOCKET: Final = "tcp_keepalives_"
"""Settings of these names are about the server's socket: a pooler's, where there is one."""

name_containers()


def session_settings(name: str, *, idle_in_transaction_s: float = IDLE_IN_TRANSACTION_S) -> dict[str, str]:
    """Settings of one session; ``name`` is what people see of it in ``pg_stat_activity``."""
    return {
        "application_name": name,
        "idle_in_transaction_session_timeout": str(round(idle_in_transaction_s * 1000)),
        # Temporary tables last, and no schema but ours: nobody can put a table of his own in front.
        "search_path": "public, pg_temp",
        "timezone": "UTC",
        # Who waited for a lock sees what its holder wrote.
        "default_transaction_isolation": "read committed",
        # A peer that is gone is noticed after 25 s without an answer.
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
    }


def working_settings(name: str, *, idle_in_transaction_s: float = IDLE_IN_TRANSACTION_S) -> dict[str, str]:
    """The same of a process that asks by key, all its life, in statements that are planned once.

    A plan that was made while its table was young would read that table whole, and goes on to when it has grown: it
    lasts until the server looks at the table's size again.
    """
    return {
        **session_settings(name, idle_in_transaction_s=idle_in_transaction_s),
        "enable_seqscan": "off",
        # Where a table has no index that serves, its plan counts as so dear that the server would compile it.
        "jit": "off",
    }


def looking_settings(name: str, *, statement_timeout_s: float) -> dict[str, str]:
    """Settings of a session that only looks, and not for long."""
    return {
        **session_settings(name, idle_in_transaction_s=PEOPLE_S),
        "default_transaction_read_only": "on",
        "statement_timeout": str(round(statement_timeout_s * 1000)),
    }


def pooler_options(settings: Mapping[str, str]) -> dict[str, Any]:
    """How to connect through a pooler, or to what may be one: arguments of ``asyncpg.connect``."""
    return {
        "server_settings": {n: v for n, v in settings.items() if n in KEPT_BY_POOLERS},
        # A prepared statement with a name belongs to one of the server's sessions.
        "statement_cache_size": 0,
    }


async def connect(dsn: str, **options: Any) -> "Connection[Any]":
    """Connect; ``options`` are ``asyncpg.connect``'s.

    Raises:
        SilentServerError: nothing answers within :data:`CONNECT_TIMEOUT_S`.
    """
    try:
        connection: Connection[Any] = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S, **options)
    except TimeoutError as error:
        if error.errno is not None:
            raise  # the operating system's own, of a connection that it gave up
        raise SilentServerError("PostgreSQL", CONNECT_TIMEOUT_S) from None
    return connection


async def is_pooled(connection: "Connection[Any]") -> bool:
    """True if the server's session is not this connection's own."""
    # In a transaction: a statement and its parameters go to one session also through a pooler.
    async with connection.transaction():
        pid = await connection.fetchval("SELECT pg_backend_pid()")
    return bool(pid != connection.get_server_pid())


async def looks_pooled(dsn: str, settings: Mapping[str, str], *, timeout_s: float) -> bool:
    """Connect once to see whether a pooler lies between."""
    connection = await connect(dsn, command_timeout=timeout_s, **pooler_options(settings))
    try:
        return await is_pooled(connection)
    finally:
        await connection.close()


def set_sql(settings: Mapping[str, str], *, local: bool) -> str:
    """SQL that sets them: for the session, or (``local``) for the transaction that it is run in."""
    wanted = {n: v for n, v in settings.items() if n not in KEPT_BY_POOLERS and not n.startswith(SOCKET)}
    if local:
        # One for transactions to come, too: this one has begun with it.
        wanted.pop("default_transaction_isolation", None)
    if local and "default_transaction_read_only" in wanted:
        # That one is for transactions to come.
        wanted["transaction_read_only"] = wanted.pop("default_transaction_read_only")
    return "; ".join(f"SET {'LOCAL ' * local}{n} TO {_value(n, v)}" for n, v in wanted.items())


@asynccontextmanager
async def session(dsn: str, settings: Mapping[str, str]) -> AsyncIterator["Connection[Any]"]:
    """One connection for as long as the block lasts; through a pooler the block is one transaction.

    Raises:
        StoreUnavailableError: the server cannot be reached.
    """
    async with translated():
        connection = await connect(dsn, command_timeout=COMMAND_TIMEOUT_S, **pooler_options(settings))
    try:
        async with translated():
            transaction = connection.transaction(isolation="read_committed") if await is_pooled(connection) else None
            if transaction is not None:
                await transaction.start()
            await connection.execute(set_sql(settings, local=transaction is not None))
        yield connection
        if transaction is not None:
            async with translated():
                await transaction.commit()
    finally:
        await connection.close()


def _value(name: str, value: str) -> str:
    # A list of names, each of which would be quoted by itself.
    return value if name == "search_path" else "'" + value.replace("'", "''") + "'"
