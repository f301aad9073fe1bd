"""Is this database fit for this process: asked once, when it starts, before anything relies on it.

What makes it unfit is told in words that say what to do: a process that runs without its tables, its rights or a disk
behind its commits fails later, in the middle of a payment.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
from asyncpg import Connection

from gateway.database.errors import DatabaseUnfitError
from gateway.database.migrate import migrations
from gateway.database.queries import load
from gateway.database.roles import ALL, APPEND_ONLY, TABLES, Role

_SQL = load(__name__, "fitness")

_LEADING: Final = frozenset({Role.RELAY, Role.DISCLOSURE})
"""One of these works at a time, by a lock of its session."""

SERVER_VERSION_MIN: Final = 160000
"""PostgreSQL 16: the oldest that is still kept and has all that is used here."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the server says of itself and of whom we are to it.

    Attributes:
        pooled: something between keeps the server's sessions, and lends them.
        who: the user that the session runs as.
        is_powerful: superuser, or one who makes roles, replicates or passes row security.
        owns_tables: it owns a table of ours, or may become who does.
        missing: rights that the role needs and this user has not.
        can_rewrite: append-only tables that this user may change.
        applied: migration → digest, as the database remembers them.
        began_anew: the server's transaction numbers are behind those that a reader of the outbox has passed.
        ahead_s: how far this machine's clock is ahead of the server's, at least; below zero where it is behind.
    """

    server_version: int
    in_recovery: bool
    read_only: bool
    synchronous_commit: str
    fsync: bool
    search_path: str
    encoding: str
    idle_ms: int
    pooled: bool
    who: str
    is_powerful: bool
    owns_tables: bool
    missing: tuple[str, ...]
    can_rewrite: tuple[str, ...]
    applied: Mapping[str, str]
    began_anew: bool = False
    ahead_s: float = 0.0

    @property
    def unknown_migrations(self) -> list[str]:
        """Those that this version does not have: another has brought the database further."""
        return sorted(self.applied.keys() - {m.name for m in migrations()})


async def examine(connection: "Connection[Any]", role: Role) -> Found:
    """Ask the server.

    Raises:
        DatabaseUnfitError: it has no tables of ours, or does not let us see them.
    """
    needs = list(_needs(role))
    asked = datetime.now(UTC)
    row = await connection.fetchrow(_SQL.examine, *map(list, zip(*needs, strict=True)), sorted(APPEND_ONLY))
    answered = datetime.now(UTC)
    if row is None:
        raise AssertionError("a session without a user")
    fields = dict(row)
    clock = fields.pop("clock")
    fields["ahead_s"] = ahead_of(clock, asked=asked, answered=answered)
    fields["pooled"] = fields.pop("backend_pid") != connection.get_server_pid()
    try:
        applied = {r["name"]: r["digest"] for r in await connection.fetch(_SQL.migrations)}
    except asyncpg.UndefinedTableError:
        raise DatabaseUnfitError("the database has not our tables: run `mypay migrate`") from None
    except asyncpg.InsufficientPrivilegeError:
        raise DatabaseUnfitError(
            f"the database does not let {row['who']} see our tables: run `mypay migrate` as their owner, "
            f"and run this process as {role.user}"
        ) from None
    fields |= {"missing": tuple(row["missing"]), "can_rewrite": tuple(row["can_rewrite"]), "applied": applied}
    return Found(**fields, began_anew=not row["missing"] and await _began_anew(connection, role))


def ahead_of(clock: datetime, *, asked: datetime, answered: datetime) -> float:
    """By how many seconds our clock is ahead at least of one that told its time between a question and its answer."""
    if asked > clock:
        return (asked - clock).total_seconds()
    return min(0.0, (answered - clock).total_seconds())


async def _began_anew(connection: "Connection[Any]", role: Role) -> bool:
    """As far as the role may see who has read how far."""
    passed = {
        "outbox_cursor": _SQL.places_outbox_cursor,
        "disclosure_head": _SQL.places_disclosure_head,
        "sharing_place": _SQL.places_sharing_place,
    }
    asked = [sql for table, sql in passed.items() if (access := TABLES[table].get(role)) and access.select == ALL]
    return any([await connection.fetchval(sql) for sql in asked])


def faults(found: Found, role: Role, *, any_role: bool) -> list[str]:
    """What is wrong, each with what to do; nothing where all is well.

    Args:
        found: what the server said.
        role: whose process it is.
        any_role: a user who may do more than the process needs is accepted.
    """
    return [text for wrong, text in _checks(found, role, any_role=any_role) if wrong]


def _checks(found: Found, role: Role, *, any_role: bool) -> Iterator[tuple[bool, str]]:
    known = {m.name: m.digest for m in migrations()}
    behind = sorted(known.keys() - found.applied.keys())
    changed = sorted(n for n, digest in found.applied.items() if known.get(n, digest) != digest)
    old = f"PostgreSQL {found.server_version // 10000} is too old: {SERVER_VERSION_MIN // 10000} or later is needed"
    yield found.server_version < SERVER_VERSION_MIN, old
    yield bool(behind), f"its tables are older than this version ({', '.join(behind)} not applied): run `mypay migrate`"
    yield (
        bool(changed),
        f"migration {', '.join(changed)} is not the one that was applied there: it is another's database",
    )
    # What follows from tables that are not there yet need not be said.
    shown = ", ".join(found.missing[:3]) + (", …" if len(found.missing) > 3 else "")
    lacks = f"user {found.who} lacks {shown}: run `mypay migrate` as the owner, and this process as {role.user}"
    yield bool(found.missing) and not behind, lacks
    yield found.encoding != "UTF8", f"its encoding is {found.encoding}: make it with UTF8"
    yield not found.fsync, "fsync is off: a crash of the machine would lose payments that were sent"
    lazy = (
        "synchronous_commit is off: a crash would forget payments that were sent; set it to on, "
        f"or run `mypay migrate roles --apply`, which does so for {role.user}"
    )
    yield found.synchronous_commit == "off", lazy
    anew = (
        "its transaction numbers are behind those of events that were told: it was restored from a dump, and would "
        "tell no event any more. Let the numbers go on first (deploy/README.md, After a dump and restore)"
    )
    yield found.began_anew, anew
    read_only = f"default_transaction_read_only is on for {found.who}: it must write"
    yield found.read_only and role is not Role.READONLY, read_only
    led = (
        "a pooler lends it sessions, and its lead is a lock of its session: "
        f"give it PostgreSQL's own address in MYPAY_POSTGRES_DSN_{role.value.upper()}"
    )
    yield found.pooled and role in _LEADING, led
    held = "idle_in_transaction_session_timeout is 0: a process that stands still would keep its locks for ever"
    yield found.idle_ms == 0, held
    too_much = found.is_powerful or found.owns_tables or bool(found.can_rewrite)
    powers = (
        f"user {found.who} may do more than this process needs (it could rewrite the ledger): run it as {role.user} "
        "(see deploy/postgres), or say MYPAY_POSTGRES_ALLOW_ANY_ROLE=1"
    )
    yield too_much and not any_role, powers


def _needs(role: Role) -> Iterator[tuple[str, str | None, str]]:
    """(table, column or None for all, right) of everything that the role's table grants."""
    for table, accesses in TABLES.items():
        if (access := accesses.get(role)) is None:
            continue
        for right, columns in (("SELECT", access.select), ("INSERT", access.insert), ("UPDATE", access.update)):
            for column in columns:
                yield table, None if (column,) == ALL else column, right
        if access.delete:
            yield table, None, "DELETE"
