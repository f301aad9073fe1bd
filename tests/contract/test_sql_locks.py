"""Every statement that locks: that it does, in which order, and what becomes of who comes second. The simulation cannot
see SQL, so each is tried on the real database by two sessions.

Rows lie in the table in the other order than that of their keys, and are asked for in that order: who does not say in
which order to lock locks them the other way round.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest

from tests.contract.conftest import PostgresBackend, postgres_backend
from tests.support.sql import SQL_FILES, load
from tests.support.sql_mutants import LOCKING

pytestmark = pytest.mark.integration

AT: Final = datetime(2025, 5, 17, 3, 4, 5, tzinfo=UTC)
LATER: Final = AT + timedelta(days=1)
FIRST, SECOND = 1, 2
ROWS: Final = (FIRST, SECOND)
"""Numbers of the rows that each table has, in the order of their keys and of their times."""


def uuid_of(n: int) -> UUID:
    return UUID(int=n)


def at(n: int) -> datetime:
    return AT + timedelta(seconds=n)


Seed = Callable[[int], tuple[str, tuple[object, ...]]]


def payment_row(n: int, *, state: str = "approved") -> tuple[str, tuple[object, ...]]:
    return (
        (
            "INSERT INTO payment (partner_id, payment_id, order_id, consent_id, consent_version, merchant_id, "
            "operation, "
            "amount_minor, currency, order_digest, state, version, network_id, terminal_id, stan, rrn, transmitted_at, "
            "limit_windows, ordered_at, decided_at, changed_at) VALUES ('p', $1, $2, 'c', 1, 'm', 'purchase', 1, "
            "'KRW', "
            "'\\x00', $3, 1, 'bcard', 't', 1, $2, $4, '', $4, $4, $4)"
        ),
        (uuid_of(n), f"{n:012d}", state, at(n)),
    )


def consent_row(n: int) -> tuple[str, tuple[object, ...]]:
    terms = '{"payment": {"funding_token": "tok"}}'
    return (
        (
            "WITH v AS (INSERT INTO consent_version (partner_id, consent_id, version, terms, digest, created_at) "
            "VALUES ('p', $1, 1, '{}', encode(sha256('{}'), 'hex'), $3)) "
            "INSERT INTO consent (partner_id, consent_id, customer_id, version, status, terms, valid_until) "
            "VALUES ('p', $1, 'k', 1, 'AUTH', $2::text::jsonb, $3)"
        ),
        (f"c{n}", terms, at(n)),
    )


def usage_row(n: int) -> tuple[str, tuple[object, ...]]:
    return (
        "INSERT INTO consent_usage (partner_id, consent_id, limit_key, starts_at) VALUES ('p', 'c', $1, $2)",
        (f"l{n}", AT),
    )


def follow_up_row(queue: str, n: int) -> tuple[str, tuple[object, ...]]:
    return (
        (
            f"INSERT INTO {queue} (partner_id, payment_id, network_id, terminal_id, stan, transmitted_at, "
            "next_attempt_at, "
            "queued_at) VALUES ('p', $1, 'bcard', $2, 1, $3, $3, $3)"
        ),
        (uuid_of(n), f"t{n}", at(n)),
    )


def standing_row(n: int) -> tuple[str, tuple[object, ...]]:
    return (
        (
            "INSERT INTO standing_order (partner_id, standing_order_id, consent_id, merchant_id, amount_minor, "
            "currency, "
            "schedule, status, version, occurrences, next_due_at, proven, digest, reference, ordered_at, changed_at) "
            "VALUES ('p', $1, 'c', 'm', 1, 'KRW', '{}', 'active', 1, 0, $2, false, '\\x00', $1, $2, $2)"
        ),
        (f"s{n}", at(n)),
    )


def scheduled_row(n: int) -> tuple[str, tuple[object, ...]]:
    return (
        (
            "INSERT INTO scheduled_order (partner_id, payment_id, due_at, look_at, expires_at, order_type, body, "
            "proven, "
            "reference, ordered_at) VALUES ('p', $1, $2, $2, $2, 't', '\\x00', false, 'r', $2)"
        ),
        (uuid_of(n), at(n)),
    )


def cancellation_row(n: int) -> tuple[str, tuple[object, ...]]:
    return (
        (
            "INSERT INTO cancellation (partner_id, cancellation_id, consent_id, order_id, payment_id, body_digest, "
            "effect, "
            "is_open, reference, handled_at) VALUES ('p', $1, 'c', 'o', $2, '\\x00', 'once_known', true, 'r', $3)"
        ),
        (f"x{n}", uuid_of(n), at(n)),
    )


def clearing_row(n: int) -> tuple[str, tuple[object, ...]]:
    return (
        (
            "INSERT INTO clearing_record (network_id, cycle_id, record_no, kind, rrn, stan, terminal_id, acceptor_id, "
            "amount_minor, currency, partner_id, payment_id, break_kind) "
            "VALUES ('bcard', 'y', $1, 'sale', $2, 1, 't', 'a', 1, 'KRW', 'p', $3, 'not_approved')"
        ),
        (n, f"{n:012d}", uuid_of(n)),
    )


def proof_row(n: int) -> tuple[str, tuple[object, ...]]:
    return (
        "INSERT INTO used_assertion (jti, issuer, partner_id, used_by, keep_until) VALUES ($1, 'i', 'p', $2, $3)",
        (f"j{n}", uuid_of(n), at(n)),
    )


def request_row(n: int) -> tuple[str, tuple[object, ...]]:
    return (
        (
            "INSERT INTO portability_request (partner_id, request_id, consent_id, customer_id, rcv_org_code, body, "
            "digest, status, exports, next_due_at, accessed_at, reference, created_at) "
            "VALUES ('p', $1, 'c', 'k', 'o', '{}', '\\x00', 'active', 1, $2, $2, 'r', $2)"
        ),
        (f"q{n}", at(n)),
    )


def export_row(n: int) -> tuple[str, tuple[object, ...]]:
    return (
        (
            "INSERT INTO portability_export (partner_id, request_id, number, consent_id, state, created_at, "
            "changed_at) VALUES ('p', $1, 1, 'c', 'waiting', $2, $2)"
        ),
        (f"q{n}", at(n)),
    )


def notice_row(n: int) -> tuple[str, tuple[object, ...]]:
    return (
        "INSERT INTO disclosure_notice (partner_id, customer_id, told_until, next_at) VALUES ('p', $1, $2, $2)",
        (f"k{n}", at(n)),
    )


def console_user_row(n: int) -> tuple[str, tuple[object, ...]]:
    return (
        "INSERT INTO console_user (name, role, password_hash, created_at) VALUES ($1, 'viewer', '$argon2id$', $2)",
        (f"u{n}", at(n)),
    )


def holder_row(n: int) -> tuple[str, tuple[object, ...]]:
    return (
        (
            "WITH a AS (INSERT INTO affiliate (affiliate_id, name, home_group) VALUES ($1, 'a', 'telecom')) "
            "INSERT INTO share_holder (partner_id, consent_id, customer_id, affiliate_id, round, reference, key_ids, "
            "since, notice_id, cause, noticed_at, erase_by) "
            "VALUES ('p', 'c', 'k', $1, 1, 'r', '{}', $2, $3, 'ended', $2, $2)"
        ),
        (f"a{n}", at(n), uuid_of(n)),
    )


def reminded_row(n: int) -> tuple[str, tuple[object, ...]]:
    sql, values = holder_row(n)
    return sql.replace("erase_by)", "erase_by, remind_at)").replace("$2, $2)", "$2, $2, $2)"), values


def campaign_row(n: int) -> tuple[str, tuple[object, ...]]:
    return (
        (
            "INSERT INTO campaign (campaign_id, body, currency, budget_minor, budget_offers, active, applied_at) "
            "VALUES ('a' || $1::integer, '{}', 'KRW', 9, 9, true, $2)"
        ),
        (n, AT),
    )


def marketing_customer_row(n: int) -> tuple[str, tuple[object, ...]]:
    return "INSERT INTO marketing_customer (customer_id) VALUES ('u' || $1::integer)", (n,)


def offer_row(n: int) -> tuple[str, tuple[object, ...]]:
    return (
        (
            "INSERT INTO offer (campaign_id, customer_id, offer_id, partner_id, consent_id, consent_version, "
            "affiliate_id, channels, currency, worth_minor, uses_max, granted_at, expires_at, state, uses, used_minor) "
            "VALUES ('a' || $1::integer, 'u' || $1::integer, $2, 'p', 'c', 1, 'bank', '{app}', 'KRW', 1, 1, $3, $4, "
            "'open', 0, 0)"
        ),
        (n, uuid_of(n), AT, LATER),
    )


def permission_row(n: int) -> tuple[str, tuple[object, ...]]:
    return (
        (
            "WITH t AS (INSERT INTO funding_token (token, key_id, nonce, ciphertext) "
            "VALUES ('tok', 'k', '123456789012', '1234567890123456789012345678901234567890') ON CONFLICT DO NOTHING), "
            "p AS (INSERT INTO partner (partner_id, name, home_group) "
            "VALUES ($1, 'p', 'telecom') ON CONFLICT DO NOTHING) "
            "INSERT INTO funding_token_partner (token, partner_id, allowed_at) VALUES ('tok', $1, $2)"
        ),
        (f"p{n}", at(n)),
    )


def affiliate_row(n: int) -> tuple[str, tuple[object, ...]]:
    return "INSERT INTO affiliate (affiliate_id, name, home_group) VALUES ($1, 'a', 'telecom')", (f"a{n}",)


def approval_row(n: int) -> tuple[str, tuple[object, ...]]:
    return (
        (
            "INSERT INTO affiliate_approval (affiliate_id, purpose, legal_basis, approved_by, approved_at) "
            "VALUES ($1, 'loyalty', 'l', 'o', $2)"
        ),
        (f"a{n}", at(n)),
    )


def recipient_row(n: int) -> tuple[str, tuple[object, ...]]:
    return "INSERT INTO recipient (org_code, name) VALUES ('A1AAAA000' || $1::integer, 'r')", (n,)


@dataclass(frozen=True)
class Lock:
    """One locking statement.

    Attributes:
        arguments: of the statement, for rows of these numbers in this order; of one that takes what is due: for at most
            so many rows.
        locked: WHERE of the row with number $1, among ``seeds``' last table.
    """

    sql: str
    table: str
    seeds: tuple[Seed, ...]
    arguments: Callable[[Sequence[int]], tuple[object, ...]]
    locked: str


def ids(prefix: str, rows: Sequence[int]) -> tuple[list[str], list[str]]:
    return ["p" for _ in rows], [f"{prefix}{n}" for n in rows]


def keys(rows: Sequence[int]) -> tuple[list[str], list[UUID]]:
    return ["p" for _ in rows], [uuid_of(n) for n in rows]


def number_of(column: str, prefix: str) -> str:
    return f"{column} = '{prefix}' || $1::integer"


def held(rows: Sequence[int]) -> tuple[object, ...]:
    return (*ids("c", rows), [None for _ in rows])


def usages(rows: Sequence[int]) -> tuple[object, ...]:
    named = (["p" for _ in rows], ["c" for _ in rows], [f"l{n}" for n in rows], [AT for _ in rows])
    return (*named, [1 for _ in rows], [1 for _ in rows])


UUID_NUMBER = "payment_id = lpad(to_hex($1::integer), 32, '0')::uuid"

WAITS: Final = {
    "consent.lock": Lock(
        *(load("consent").lock, "consent", (consent_row,), held, number_of("consent_id", "c")),
    ),
    "consent.lock_records": Lock(
        *(load("consent").lock_records, "consent", (consent_row,), partial(ids, "c"), number_of("consent_id", "c")),
    ),
    "consent.take": Lock(load("consent").take, "consent_usage", (usage_row,), usages, number_of("limit_key", "l")),
    "consent.give_back": Lock(
        load("consent").give_back, "consent_usage", (usage_row,), usages, number_of("limit_key", "l")
    ),
    "payment.lock": Lock(load("payment").lock, "payment", (payment_row,), keys, UUID_NUMBER),
    "payment.lock_versions": Lock(load("payment").lock_versions, "payment", (payment_row,), keys, UUID_NUMBER),
    "clearing.payments_by_rrn": Lock(
        *(load("clearing").payments_by_rrn, "payment", (payment_row,)),
        lambda rows: ("bcard", [f"{n:012d}" for n in rows]),
        UUID_NUMBER,
    ),
    "clearing.lock": Lock(
        *(load("clearing").lock, "clearing_record", (payment_row, clearing_row)),
        lambda rows: ("bcard", "y", list(rows)),
        "record_no = $1",
    ),
    "standing.lock": Lock(
        *(load("standing").lock, "standing_order", (standing_row,), partial(ids, "s")),
        number_of("standing_order_id", "s"),
    ),
    "schedule.lock": Lock(load("schedule").lock, "scheduled_order", (scheduled_row,), keys, UUID_NUMBER),
    "affiliate_registry.hold_campaigns": Lock(
        *(load("affiliate_registry").hold_campaigns, "campaign", (campaign_row,)),
        lambda rows: ([f"a{n}" for n in rows],),
        number_of("campaign_id", "a"),
    ),
    "marketing.lock_campaigns": Lock(
        *(load("marketing").lock_campaigns, "campaign", (campaign_row,)),
        lambda rows: ([f"a{n}" for n in rows],),
        number_of("campaign_id", "a"),
    ),
    "marketing.lock_customers": Lock(
        *(load("marketing").lock_customers, "marketing_customer", (marketing_customer_row,)),
        lambda rows: ([f"u{n}" for n in rows],),
        number_of("customer_id", "u"),
    ),
    "marketing.lock_offers": Lock(
        *(load("marketing").lock_offers, "offer", (campaign_row, marketing_customer_row, offer_row)),
        lambda rows: ([uuid_of(n) for n in rows],),
        number_of("customer_id", "u"),
    ),
    "consent_registry.lock_under": Lock(
        *(load("consent_registry").lock_under, "consent", (consent_row,)),
        lambda rows: ("tok", "p"),
        number_of("consent_id", "c"),
    ),
    "token.lock_permissions": Lock(
        *(load("token").lock_permissions, "funding_token_partner", (permission_row,)),
        lambda rows: ("tok", [f"p{n}" for n in rows]),
        number_of("partner_id", "p"),
    ),
    "sharing.lock_notices": Lock(
        *(load("sharing").lock_notices, "share_holder", (holder_row,)),
        lambda rows: ([uuid_of(n) for n in rows],),
        "notice_id = lpad(to_hex($1::integer), 32, '0')::uuid",
    ),
}
"""Statements for whose rows the second one waits."""


ONE_ROW: Final = {
    "affiliate_registry.lock_affiliate": Lock(
        *(load("affiliate_registry").lock_affiliate, "affiliate", (affiliate_row,)),
        lambda rows: (f"a{rows[0]}",),
        number_of("affiliate_id", "a"),
    ),
    "affiliate_registry.lock_approval": Lock(
        *(load("affiliate_registry").lock_approval, "affiliate_approval", (affiliate_row, approval_row)),
        lambda rows: (f"a{rows[0]}", "loyalty"),
        number_of("affiliate_id", "a"),
    ),
    "campaign_registry.lock_applied": Lock(
        *(load("campaign_registry").lock_applied, "campaign", (campaign_row,)),
        lambda rows: (f"a{rows[0]}",),
        number_of("campaign_id", "a"),
    ),
    "recipient_registry.lock_certificate": Lock(
        *(load("recipient_registry").lock_certificate, "recipient", (recipient_row,)),
        lambda rows: (f"A1AAAA000{rows[0]}",),
        number_of("org_code", "A1AAAA000"),
    ),
    "portability.lock_export": Lock(
        *(load("portability").lock_export, "portability_export", (export_row,)),
        lambda rows: ("p", f"q{rows[0]}", 1),
        number_of("request_id", "q"),
    ),
    "consent_registry.lock_changes": Lock(
        *(load("consent_registry").lock_changes, "consent", (consent_row,)),
        lambda rows: ("p", f"c{rows[0]}"),
        number_of("consent_id", "c"),
    ),
    "console_user.lock_user": Lock(
        *(load("console_user").lock_user, "console_user", (console_user_row,)),
        lambda rows: (f"U{rows[0]}",),
        number_of("name", "u"),
    ),
}
"""Statements that lock one row, for which the second one waits: there is no order in which to lock it."""


def claim(rows: Sequence[int]) -> tuple[object, ...]:
    return ("bcard", "w", LATER, LATER, len(rows), False, "none")


SKIPS: Final = {
    "cancellation.lock_due": Lock(
        *(load("cancellation").lock_due, "cancellation", (payment_row, cancellation_row)),
        lambda rows: (len(rows),),
        number_of("cancellation_id", "x"),
    ),
    "clearing.moved_since": Lock(
        *(load("clearing").moved_since, "clearing_record", (payment_row, clearing_row)),
        lambda rows: (len(rows),),
        "record_no = $1",
    ),
    "consent.lock_past_end": Lock(
        *(load("consent").lock_past_end, "consent", (consent_row,)),
        lambda rows: (LATER, len(rows)),
        number_of("consent_id", "c"),
    ),
    "schedule.claim": Lock(
        *(load("schedule").claim, "scheduled_order", (scheduled_row,)),
        lambda rows: (LATER, LATER, len(rows), "", ""),
        UUID_NUMBER,
    ),
    "schedule.claim_expired": Lock(
        *(load("schedule").claim_expired, "scheduled_order", (scheduled_row,)),
        lambda rows: (LATER, LATER, len(rows)),
        UUID_NUMBER,
    ),
    "standing.claim_due": Lock(
        *(load("standing").claim_due, "standing_order", (standing_row,)),
        lambda rows: (LATER, len(rows)),
        number_of("standing_order_id", "s"),
    ),
    "standing.active": Lock(
        *(load("standing").active, "standing_order", (standing_row,)),
        lambda rows: ("", "", len(rows)),
        number_of("standing_order_id", "s"),
    ),
    **{
        f"follow_up.claim {queue}": Lock(
            *(load("follow_up", queue=queue).claim, queue, (partial(follow_up_row, queue),), claim, UUID_NUMBER),
        )
        for queue in ("reversal", "inquiry")
    },
    "portability.claim": Lock(
        *(load("portability").claim, "portability_export", (export_row,)),
        lambda _: ("w", LATER, LATER + timedelta(days=1), ""),
        number_of("request_id", "q"),
    ),
    "portability.claim_due": Lock(
        *(load("portability").claim_due, "portability_request", (request_row,)),
        lambda rows: (LATER, len(rows)),
        number_of("request_id", "q"),
    ),
    "sharing.take_reminders": Lock(
        *(load("sharing").take_reminders, "share_holder", (reminded_row,)),
        lambda rows: (len(rows),),
        "notice_id = lpad(to_hex($1::integer), 32, '0')::uuid",
    ),
    "contents.due_notices": Lock(
        *(load("contents").due_notices, "disclosure_notice", (notice_row,)),
        lambda rows: (LATER, len(rows)),
        number_of("customer_id", "k"),
    ),
    "purge_used_assertions": Lock(
        *(load("authentication").purge, "used_assertion", (proof_row,)),
        lambda rows: (LATER, len(rows)),
        number_of("jti", "j"),
    ),
}
"""Statements that pass over rows which another holds: work is shared out, and nobody waits."""


CURSOR: Final = "contents.lock_cursor"
"""There is one such row ever, and one who moves it at a time."""

TURNS: Final = ("affiliate_registry.take_turn", "sharing.take_turn")
"""There is one such row, too: who shares moves it, and who lets affiliates erase, or gives them no more, holds it."""


HOLDS: Final = {
    "consent.hold": Lock(
        *(load("consent").hold, "consent", (consent_row,), held, number_of("consent_id", "c")),
    ),
}
"""Statements that hold rows still beside others who do, by PostgreSQL's weakest lock."""

CHANGES: Final = ("consent.lock_records", "consent_registry.lock_under", "consent_registry.lock_changes")
"""Locks of those who change what others hold still: a weaker one would let the change by."""

INSERTS: Final[dict[str, tuple[str, Callable[[Sequence[int]], tuple[object, ...]]]]] = {
    "authentication.use": (
        load("authentication").use,
        lambda rows: (
            *([f"j{n}" for n in rows], ["i" for _ in rows], ["p" for _ in rows]),
            *([uuid_of(n) for n in rows], [AT for _ in rows]),
        ),
    ),
    "authentication.mark_authenticated": (
        load("authentication").mark_authenticated,
        lambda rows: (*ids("c", rows), AT),
    ),
    "consent.take": (load("consent").take, usages),
    "portability.add": (
        load("portability").add,
        lambda rows: (
            *(*ids("q", rows), ["c" for _ in rows], ["k" for _ in rows], ["o" for _ in rows], ["{}" for _ in rows]),
            *([b"" for _ in rows], ["active" for _ in rows], [1 for _ in rows], [None for _ in rows]),
            *([AT for _ in rows], ["r" for _ in rows], [None for _ in rows], [AT for _ in rows]),
        ),
    ),
    "sharing.add_shares": (
        load("sharing").add_shares,
        lambda rows: (
            *(*keys(rows), ["a" for _ in rows], ["c" for _ in rows], [1 for _ in rows], [1 for _ in rows]),
            *(["s" for _ in rows], ["k" for _ in rows], ["" for _ in rows], ["" for _ in rows]),
            *([LATER for _ in rows], [AT for _ in rows]),
        ),
    ),
    "consent.insert": (
        load("consent").insert,
        lambda rows: (
            *(*ids("c", rows), ["k" for _ in rows], [1 for _ in rows], ["AUTH" for _ in rows], ["{}" for _ in rows]),
            *([AT for _ in rows], [0 for _ in rows], ["" for _ in rows], AT),
        ),
    ),
}
"""Statements that make rows which another may make at the same moment: who is second waits for the end of the first."""


@pytest.fixture
async def backend(contract_dsn: str) -> AsyncIterator[PostgresBackend]:
    async with postgres_backend(contract_dsn) as backend:
        yield backend


WITHOUT_INDEXES: Final = "; ".join(f"SET LOCAL enable_{kind}scan = off" for kind in ("index", "indexonly", "bitmap"))
"""An index gives its own order: which one a statement gets must not be left to the plan that is made for it."""


@asynccontextmanager
async def session(backend: PostgresBackend) -> AsyncIterator[asyncpg.Connection]:
    """A transaction of its own, undone at the end. Who waits in it fails in the end, where the test would hang."""
    connection = await asyncpg.connect(backend.dsn)
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '20s'; {WITHOUT_INDEXES}")
            yield connection
            await connection.execute("ROLLBACK AND CHAIN")
    finally:
        await connection.close()


async def seed(backend: PostgresBackend, lock: Lock) -> None:
    for make in lock.seeds:
        for n in reversed(ROWS):
            sql, values = make(n)
            await backend.connection.execute(sql, *values)


async def is_free(backend: PostgresBackend, lock: Lock, n: int, *, strength: str = "NO KEY UPDATE") -> bool:
    found = await backend.connection.fetchval(
        f"SELECT true FROM {lock.table} WHERE {lock.locked} FOR {strength} SKIP LOCKED", n
    )
    return found is not None


async def run(connection: asyncpg.Connection, lock: Lock, rows: Sequence[int]) -> None:
    await connection.fetch(lock.sql, *lock.arguments(rows))


@pytest.mark.parametrize("name", [*WAITS, *ONE_ROW])
async def test_the_second_waits_for_the_first(backend: PostgresBackend, name: str) -> None:
    lock = (WAITS | ONE_ROW)[name]
    await seed(backend, lock)
    async with session(backend) as first, session(backend) as second:
        await run(first, lock, [FIRST])
        assert not await is_free(backend, lock, FIRST)
        waiter = asyncio.create_task(run(second, lock, [FIRST]))
        await backend.until_blocked(waiter)
        await first.execute("ROLLBACK AND CHAIN")
        await waiter


@pytest.mark.parametrize("name", WAITS)
async def test_rows_are_locked_in_the_order_of_their_keys(backend: PostgresBackend, name: str) -> None:
    """Who waits for the second row holds the first; who waits for the first holds none: no two wait for each other."""
    lock = WAITS[name]
    await seed(backend, lock)
    for held, first_is_free, second_is_free in ((FIRST, False, True), (SECOND, False, False)):
        async with session(backend) as holder, session(backend) as worker:
            await holder.fetch(f"SELECT FROM {lock.table} WHERE {lock.locked} FOR NO KEY UPDATE", held)
            waiter = asyncio.create_task(run(worker, lock, list(reversed(ROWS))))
            await backend.until_blocked(waiter)
            assert await is_free(backend, lock, FIRST) == first_is_free
            assert await is_free(backend, lock, SECOND) == second_is_free
            await holder.execute("ROLLBACK AND CHAIN")
            await waiter


@pytest.mark.parametrize("name", INSERTS)
async def test_rows_are_made_in_the_order_of_their_keys(backend: PostgresBackend, name: str) -> None:
    sql, arguments = INSERTS[name]
    async with session(backend) as holder, session(backend) as worker, session(backend) as other:
        await holder.fetch(sql, *arguments([FIRST]))
        waiter = asyncio.create_task(worker.fetch(sql, *arguments([SECOND, FIRST])))
        await backend.until_blocked(waiter)
        # Who waits for the first has not made the second. (Had he, the session's own limit would end this test.)
        await other.execute("SET LOCAL lock_timeout = '200ms'")
        await other.fetch(sql, *arguments([SECOND]))
        await other.execute("ROLLBACK AND CHAIN")
        await holder.execute("ROLLBACK AND CHAIN")
        await waiter


@pytest.mark.parametrize("name", SKIPS)
async def test_the_second_takes_what_the_first_left(backend: PostgresBackend, name: str) -> None:
    lock = SKIPS[name]
    await seed(backend, lock)
    async with session(backend) as first, session(backend) as second:
        # The one that has waited longest comes first.
        await run(first, lock, [FIRST])
        assert not await is_free(backend, lock, FIRST)
        assert await is_free(backend, lock, SECOND)
        # Its turn is over in a moment: it waits for nobody. (Where it did, the session's own limit ends this test.)
        await second.execute("SET LOCAL lock_timeout = '200ms'")
        await run(second, lock, [SECOND])
        assert not await is_free(backend, lock, SECOND)


async def test_who_comes_second_to_the_cursor_of_notices_leaves_it(backend: PostgresBackend) -> None:
    sql = load("contents").lock_cursor
    async with session(backend) as first, session(backend) as second:
        assert len(await first.fetch(sql)) == 1
        await second.execute("SET LOCAL lock_timeout = '200ms'")
        assert await second.fetch(sql) == []
        await first.execute("ROLLBACK AND CHAIN")
        assert len(await second.fetch(sql)) == 1


@pytest.mark.parametrize("name", TURNS)
async def test_who_takes_the_turn_waits_for_who_moves_the_place_and_is_waited_for(
    backend: PostgresBackend, name: str
) -> None:
    sql, take_turn = load("sharing"), load(name.partition(".")[0]).take_turn
    async with session(backend) as mover, session(backend) as taker:
        assert len(await mover.fetch(sql.advance, "0", 0, "1", 1)) == 1
        waiter = asyncio.create_task(taker.fetch(take_turn))
        await backend.until_blocked(waiter)
        await mover.execute("ROLLBACK AND CHAIN")
        assert len(await waiter) == 1
        waiter = asyncio.create_task(mover.fetch(sql.advance, "0", 0, "1", 1))
        await backend.until_blocked(waiter)
        await taker.execute("ROLLBACK AND CHAIN")
        assert len(await waiter) == 1


@pytest.mark.parametrize("name", HOLDS)
async def test_rows_are_held_still_in_the_order_of_their_keys_and_by_many(backend: PostgresBackend, name: str) -> None:
    lock = HOLDS[name]
    await seed(backend, lock)
    for changed, first_is_free, second_is_free in ((FIRST, False, True), (SECOND, False, False)):
        async with session(backend) as changer, session(backend) as holder, session(backend) as other:
            await changer.fetch(f"SELECT FROM {lock.table} WHERE {lock.locked} FOR UPDATE", changed)
            waiter = asyncio.create_task(run(holder, lock, list(reversed(ROWS))))
            await backend.until_blocked(waiter)
            assert await is_free(backend, lock, FIRST, strength="UPDATE") == first_is_free
            assert await is_free(backend, lock, SECOND, strength="UPDATE") == second_is_free
            await changer.execute("ROLLBACK AND CHAIN")
            await waiter
            await other.execute("SET LOCAL lock_timeout = '200ms'")
            await run(other, lock, ROWS)


@pytest.mark.parametrize("name", CHANGES)
async def test_who_changes_what_is_held_still_waits_and_is_waited_for(backend: PostgresBackend, name: str) -> None:
    changing, holding = (WAITS | ONE_ROW)[name], HOLDS["consent.hold"]
    await seed(backend, changing)
    async with session(backend) as changer, session(backend) as holder:
        for first, waits in (((holder, holding), (changer, changing)), ((changer, changing), (holder, holding))):
            await run(*first, [FIRST])
            waiter = asyncio.create_task(run(*waits, [FIRST]))
            await backend.until_blocked(waiter)
            await first[0].execute("ROLLBACK AND CHAIN")
            await waiter
            await waits[0].execute("ROLLBACK AND CHAIN")


async def test_who_holds_consents_still_lets_payments_go_on_and_makes_changes_wait(backend: PostgresBackend) -> None:
    consents, changed = load("consent"), WAITS["consent.lock_records"]
    await seed(backend, changed)
    async with session(backend) as holder, session(backend) as payer, session(backend) as changer:
        await holder.fetch(consents.hold, *held([FIRST]))
        await payer.execute("SET LOCAL lock_timeout = '200ms'")
        assert len(await payer.fetch(consents.lock, *held([FIRST]))) == 1
        await payer.execute("ROLLBACK AND CHAIN")
        # Time's changes pass over it, others wait for it.
        past_end = SKIPS["consent.lock_past_end"]
        assert [r["consent_id"] for r in await payer.fetch(past_end.sql, *past_end.arguments(ROWS))] == [f"c{SECOND}"]
        await payer.execute("ROLLBACK AND CHAIN")
        waiter = asyncio.create_task(run(changer, changed, [FIRST]))
        await backend.until_blocked(waiter)
        await holder.execute("ROLLBACK AND CHAIN")
        await waiter
        # And who changes it is waited for by who wants to hold it.
        waiter = asyncio.create_task(holder.fetch(consents.hold, *held([FIRST])))
        await backend.until_blocked(waiter)
        await changer.execute("ROLLBACK AND CHAIN")
        await waiter


@pytest.mark.parametrize("name", ["consent.versions"])
async def test_rows_come_in_their_order_without_an_index(backend: PostgresBackend, name: str) -> None:
    noun, block = name.split(".")
    add = (
        "INSERT INTO consent_version (partner_id, consent_id, version, terms, digest, created_at) "
        "SELECT 'p', 'c', n, '{}', encode(sha256('{}'), 'hex'), now() FROM unnest($1::integer[]) AS n"
    )
    async with session(backend) as connection:
        await connection.execute(add, [3, 1, 2])
        assert [r["version"] for r in await connection.fetch(getattr(load(noun), block), "p", "c")] == [1, 2, 3]


async def test_what_is_claimed_at_a_time_comes_earliest_first(backend: PostgresBackend) -> None:
    lock = SKIPS["schedule.claim"]
    await seed(backend, lock)
    async with session(backend) as connection:
        rows = await connection.fetch(lock.sql, *lock.arguments(ROWS))
    assert [r["payment_id"] for r in rows] == [uuid_of(n) for n in ROWS]


async def test_what_was_put_aside_of_clearing_comes_in_its_order(backend: PostgresBackend) -> None:
    add = (
        "INSERT INTO clearing_superseded (network_id, cycle_id, record_no, version, kind, rrn, stan, terminal_id, "
        "acceptor_id, amount_minor, currency, imported_at, superseded_at) "
        "SELECT 'bcard', 'y', n, v, 'sale', 'r', 1, 't', 'a', 10 * n + v, 'KRW', now(), now() "
        "FROM unnest($1::integer[], $2::integer[]) AS u (n, v)"
    )
    async with session(backend) as connection:
        # The amounts tell them apart: the version itself is not among what is read.
        await connection.execute(add, [2, 1, 1], [1, 2, 1])
        rows = await connection.fetch(load("clearing").earlier, "bcard", "y", [2, 1])
        assert [r["amount_minor"] for r in rows] == [11, 12, 21]


async def test_events_that_were_set_aside_come_back_in_their_order(backend: PostgresBackend) -> None:
    async with session(backend) as connection:
        for n in (3, 1, 2):
            await connection.execute(
                "WITH o AS (INSERT INTO outbox (tx, id, topic, key, event_id, event_type, occurred_at, body) "
                "OVERRIDING SYSTEM VALUE VALUES ('1', $1, 't', 'k', 'e', 'e', now(), '')) "
                "INSERT INTO outbox_parked (tx, id, topic, reason) VALUES ('1', $1, 't', 'r')",
                n,
            )
        assert [r["id"] for r in await connection.fetch(load("outbox").read_parked, "t", 9, [])] == [1, 2, 3]


def test_every_locking_statement_is_here() -> None:
    """A new one needs its line in a table above, and so its test."""
    found = set()
    for noun in SQL_FILES:
        blocks: dict[str, Any] = vars(load(noun))
        found |= {f"{noun}.{name}" for name, sql in blocks.items() if LOCKING.search(sql)}
    told = {name.partition(" ")[0] for name in (*WAITS, *ONE_ROW, *SKIPS, *HOLDS, CURSOR, *TURNS)}
    assert found == told - {"purge_used_assertions", *INSERTS}
