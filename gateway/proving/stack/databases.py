"""Databases of their own inside one server, for tests and the demo."""

from typing import Final
from urllib.parse import quote, urlsplit

import asyncpg

from gateway.proving.stack.readiness import run

DDL_TIMEOUT_S: Final = 90.0
"""Making and dropping a database flushes everything to disk: milliseconds, or many seconds on a busy machine."""


def create_database(server_dsn: str, name: str) -> str:
    """Create an empty database; return its DSN.

    Raises:
        asyncpg.DuplicateDatabaseError: there is one of that name.
    """
    run(execute(server_dsn, f"CREATE DATABASE {_quoted(name)}"), timeout_s=DDL_TIMEOUT_S)
    return database_dsn(server_dsn, name)


def drop_database(server_dsn: str, name: str) -> None:
    """Drop a database if it is there, ending the sessions that use it."""
    run(execute(server_dsn, f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)"), timeout_s=DDL_TIMEOUT_S)


def database_dsn(server_dsn: str, name: str) -> str:
    """Return the DSN of another database of the same server."""
    server = urlsplit(server_dsn)
    query = f"?{server.query}" if server.query else ""
    # Not by urlunsplit, which drops the slashes of a DSN without a host.
    return f"{server.scheme}://{server.netloc}/{quote(name)}{query}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def execute(dsn: str, statement: str) -> None:
    """Run one statement on a connection of its own."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
