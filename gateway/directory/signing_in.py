"""Who may use the console, in PostgreSQL: its users as people write them, and who is signed in."""

from datetime import datetime

import asyncpg

from gateway.database.queries import load
from gateway.database.statements import OnConnection
from gateway.directory.console_roles import (
    ConsoleRole,
    ConsoleSession,
    ConsoleUser,
    Failures,
    ListedUser,
    SignIn,
)

_USERS = load(__name__, "console_user")
_SQL = load(__name__, "signing_in")


class PostgresConsoleUsers(OnConnection):
    """The console's users, as the operator's commands change them."""

    async def add(self, user: ConsoleUser, *, enabled: bool = True) -> bool:
        """Add a user, who may sign in if ``enabled``; False if there is one of this name, in whatever spelling."""
        return bool(await self._fetch(_USERS.add_user, user.name, user.role.value, user.password_hash, enabled))

    async def set_role(self, name: str, role: ConsoleRole) -> bool:
        """Give a user another role, and end their sessions; False if there is no such user."""
        return await self._set(_USERS.set_role, name, role.value)

    async def set_password(self, name: str, password_hash: str, *, disable: bool = False) -> bool:
        """Give a user another password, and end their sessions; False if there is no such user.

        ``disable``: nobody is let in with it before the user is enabled.
        """
        return await self._set(_USERS.set_password, name, password_hash, not disable)

    async def set_enabled(self, name: str, *, enabled: bool) -> bool:
        """Let a user in again, or no more, and end their sessions; False if there is no such user."""
        return await self._set(_USERS.set_enabled, name, enabled)

    async def _set(self, sql: str, name: str, *values: object) -> bool:
        async with self.transaction():
            found = await self._fetch(sql, name, *values)
            await self.end_sessions(name)
        return bool(found)

    async def end_sessions(self, name: str) -> int:
        """End every session of this name, in whatever spelling and however it began; return how many there were."""
        return len(await self._fetch(_USERS.end_sessions_of, name))

    async def lock(self, name: str) -> ListedUser | None:
        """One user, whom nobody else changes until this transaction ends; None if there is none."""
        rows = await self._fetch(_USERS.lock_user, name)
        return _listed(rows[0]) if rows else None

    async def all(self) -> list[ListedUser]:
        """Every user, by name."""
        return [_listed(r) for r in await self._fetch(_USERS.users)]


def _listed(row: asyncpg.Record) -> ListedUser:
    return ListedUser(**{**dict(row), "role": ConsoleRole(row["role"])})


class PostgresSignIns(OnConnection):
    """Who is signed in, as the console itself sees and writes it."""

    async def user(self, name: str) -> ConsoleUser | None:
        """The user of this name, in whatever spelling, unless disabled."""
        rows = await self._fetch(_SQL.user, name)
        return ConsoleUser(**{**dict(rows[0]), "role": ConsoleRole(rows[0]["role"])}) if rows else None

    async def spelling(self, name: str) -> str | None:
        """The name as it was registered; None where nobody is called so, disabled or not."""
        rows = await self._fetch(_SQL.spelling, name)
        return rows[0]["name"] if rows else None

    async def lock_name(self, name: str) -> None:
        """Let nobody else try this name, in whatever spelling, until this transaction ends."""
        await self._fetch(_SQL.lock_name, name)

    async def failures(self, name: str, peer: str, *, since: datetime) -> Failures:
        """How often this name, and whoever comes from there, was refused since then."""
        return Failures(**dict((await self._fetch(_SQL.failures, name, peer, since))[0]))

    async def note(self, name: str, peer: str, outcome: SignIn) -> None:
        """Write down how an attempt ended."""
        await self._fetch(_SQL.note, name, peer, outcome.value)

    async def begin(self, token_hash: bytes, session: ConsoleSession, *, idle_since: datetime, old: datetime) -> None:
        """Begin a session; forget those that nobody has used since ``idle_since``, or that are older than ``old``."""
        await self._fetch(
            _SQL.begin,
            token_hash,
            session.name,
            session.role.value,
            session.is_local,
            session.began_at,
            idle_since,
            old,
            session.identity,
        )

    async def session(self, token_hash: bytes, *, idle_since: datetime, old: datetime) -> ConsoleSession | None:
        """The session of a token, if it counts: used since ``idle_since``, begun since ``old``, its user enabled."""
        rows = await self._fetch(_SQL.session, token_hash, idle_since, old)
        return ConsoleSession(**{**dict(rows[0]), "role": ConsoleRole(rows[0]["role"])}) if rows else None

    async def seen(self, token_hash: bytes, now: datetime) -> None:
        """Put off a session's end."""
        await self._fetch(_SQL.seen, token_hash, now)

    async def end(self, token_hash: bytes) -> None:
        """End a session."""
        await self._fetch(_SQL.end, token_hash)
