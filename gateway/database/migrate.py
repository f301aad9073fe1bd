"""Plain SQL migrations, applied in order, once, by one process at a time."""

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Any

import asyncpg

from gateway.database.grants import apply_grants
from gateway.database.roles import Role
from gateway.database.sessions import connect, is_pooled

_LOCK_KEY = 0x6D79706179  # "mypay": any constant, the same in every process


class MigrationError(Exception):
    """The database's history is not a prefix of ours; a person must look."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: ``0001_core.sql``."""

    name: str
    sql: str

    @property
    def digest(self) -> str:
        """SHA-256 of the text; an applied migration may never change."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> list[Migration]:
    """Every migration that this version knows, in order."""
    folder = resources.files("gateway.database") / "migrations"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [Migration(f.name, f.read_text(encoding="utf-8")) for f in files]


async def migrate(dsn: str) -> list[str]:
    """Apply what is missing and return the names of what was applied. Safe to run from many processes at once.

    Where the owner's role owns the schema, everything is done as the owner, and at the end every role is given exactly
    its rights. Where there are no roles (:func:`gateway.database.grants.apply_roles`), the user that connects
    owns what is made, and is the one whom all processes must be.

    Raises:
        MigrationError: an applied migration is unknown to this version, or its text has changed; or a pooler lies
            between.
    """
    connection = await connect(dsn, statement_cache_size=0)
    try:
        if await is_pooled(connection):
            raise MigrationError(
                "a pooler lends its sessions, and migrations hold a lock of their session: "
                "give them PostgreSQL's own address in MYPAY_POSTGRES_DSN_OWNER"
            )
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK_KEY)
        # Not what the user's own search path may put in front.
        await connection.execute("SET search_path TO public, pg_temp")
        owned = await _become_owner(connection)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migration "
            "(name text PRIMARY KEY, digest text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        applied = {r["name"]: r["digest"] for r in await connection.fetch("SELECT name, digest FROM schema_migration")}
        known = migrations()
        _check_history(applied, known)
        missing = [m for m in known if m.name not in applied]
        for migration in missing:
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(
                    "INSERT INTO schema_migration (name, digest) VALUES ($1, $2)", migration.name, migration.digest
                )
        if owned:
            async with connection.transaction():
                await apply_grants(connection)
        return [m.name for m in missing]
    finally:
        await connection.close()


async def _become_owner(connection: "asyncpg.Connection[Any]") -> bool:
    """Be the owner's role from here on, if the schema is its; else False."""
    owner = await connection.fetchval("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'public'")
    if owner != Role.OWNER.user:
        return False
    await connection.execute(f"SET ROLE {Role.OWNER.user}")
    return True


def _check_history(applied: dict[str, str], known: list[Migration]) -> None:
    names = {m.name for m in known}
    for name in sorted(applied.keys() - names):
        raise MigrationError(
            f"the database has migration {name}, which this version does not know: it is older than its data"
        )
    for migration in known:
        if applied.get(migration.name, migration.digest) != migration.digest:
            raise MigrationError(f"migration {migration.name} was changed after it was applied")
