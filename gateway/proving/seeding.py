"""A database that has grown: payments of the past, settled, with their transfers, clearing, events and used windows.

Made by the server itself, so that millions take minutes. It is for measurements and for plans: nothing in it was ever
ordered, and the check of the books does not hold over it.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg
from asyncpg import Connection

SLICE: Final = 250_000
"""Payments a transaction."""

_ROWS: Final = """(
    SELECT n, md5('seed-' || n)::uuid AS id, $3::timestamptz + n * interval '20 ms' AS at
    FROM generate_series($1::bigint, $2::bigint) AS n
) AS s"""

# Of used assertions those that a replay could bring back: the others would be forgotten already.
_STATEMENTS: Final = (
    """
    INSERT INTO payment (partner_id, payment_id, order_id, consent_id, consent_version, merchant_id, operation,
        amount_minor, currency, funding_token, order_digest, state, version, network_id, terminal_id, stan, rrn,
        transmitted_at, approval_code, limit_windows, ordered_at, decided_at, changed_at, sent_by)
    SELECT 'seed-' || n % 50, id, 'seed-' || n, 'seed-' || n % 20000, 1, 'seed-' || n % 500, 'purchase',
        1000 + n % 90000, 'KRW', 'seed-token-' || n % 20000, sha256(n::text::bytea), 'settled', 3, 'seed-' || n % 2,
        'seed' || n % 1000, 1 + n % 500000, 's' || lpad(n::text, 11, '0'), at, lpad((n % 1000000)::text, 6, '0'),
        'month/calendar/KRW@1761922800', at, at, at + interval '2 s', 'seed' FROM {_ROWS}
    """,
    """
    INSERT INTO ledger_transfer (partner_id, payment_id, kind, debit, credit, amount_minor, currency, posted_at, round)
    SELECT 'seed-' || n % 50, id, kind, 'seed:' || kind || ':debit', 'seed:' || kind || ':credit', 1000 + n % 90000,
        'KRW', at, 0 FROM {_ROWS}, unnest(ARRAY['approved', 'settled']) AS kind
    """,
    """
    INSERT INTO clearing_record (network_id, cycle_id, record_no, kind, rrn, stan, terminal_id, acceptor_id,
        amount_minor, currency, partner_id, payment_id, imported_at)
    SELECT 'seed-' || n % 2, 'seed-' || n / 10000, n % 10000, 'sale', 's' || lpad(n::text, 11, '0'), 1 + n % 500000,
        'seed' || n % 1000, 'seed', 1000 + n % 90000, 'KRW', 'seed-' || n % 50, id, at FROM {_ROWS}
    """,
    """
    INSERT INTO consent_usage (partner_id, consent_id, limit_key, starts_at, reserved_minor, reserved_count)
    SELECT 'seed-' || n % 50, 'seed-' || n % 20000, 'month/calendar/KRW',
        '2020-01-01'::timestamptz + n / 20000 * interval '1 day',
        1000, 1 FROM {_ROWS} WHERE n % 10 = 0 ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO used_assertion (jti, issuer, partner_id, used_by, keep_until)
    SELECT md5('jti-' || n), 'https://seed.example', 'seed-' || n % 50, id, at + interval '1 day'
    FROM {_ROWS} WHERE n % 2 = 0 AND at + interval '1 day' > clock_timestamp() + interval '1 hour'
    """,
)

_EVENTS: Final = """
    INSERT INTO outbox (topic, key, event_id, event_type, occurred_at, body)
    SELECT 'mypay.events.seed-' || n % 50, id::text, id || '/' || version, 'seed', at,
        convert_to('{"version": ' || version || ', "status": "ACSC", "seed": "' || repeat('x', 360) || '"}', 'UTF8')
    FROM {_ROWS}, generate_series(1, 3) AS version
"""
"""What the outbox holds for some days only, and a payment for years."""

# The older half of a slice as it stands in a log that is older than this release: in two rows each.
_USES: Final = (
    """
    INSERT INTO disclosure_entry (seq, source_tx, source_id, content_hash, entry_hash)
    SELECT n, 1, n, sha256(n::text::bytea), sha256(n::text::bytea) FROM {_ROWS}
    WHERE $3::timestamptz IS NOT NULL AND n <= ($1 + $2) / 2
    """,
    """
    INSERT INTO disclosure_content (seq, salt, kind, customer_id, partner_id, consent_id, consent_version, recipient,
        purpose, legal_basis, what, reference, occurred_at, source_tx, source_id, content_hash, entry_hash)
    SELECT n, '\\x00', 'payment', 'seed-customer-' || n % 20000, 'seed-' || n % 50, 'seed-' || n % 20000, 1,
        'seed-' || n % 2, 'payment', 'seed', 'seed', id::text, at, CASE WHEN hash IS NOT NULL THEN 1 END,
        CASE WHEN hash IS NOT NULL THEN n END, hash, hash
    FROM {_ROWS}, LATERAL (SELECT CASE WHEN n > ($1 + $2) / 2 THEN sha256(n::text::bytea) END) AS h (hash)
    """,
)

CONSENTS: Final = 20_000
"""What payments are paid under, in turn."""

_ENDS: Final = """
    SELECT p FROM (SELECT min(partner_id), max(partner_id) FROM payment) AS ends (lo, hi), unnest(ARRAY[lo, hi]) AS p
    WHERE p !~ '^seed-' LIMIT 1
"""
_STRANGE: Final = (
    ("partners", "partner", "SELECT partner_id FROM partner WHERE partner_id !~ '^seed-' LIMIT 1"),
    # From the index's two ends: millions of seeded ones lie between.
    (
        "payments",
        "payment",
        _ENDS,
    ),
    ("users", "console_user", "SELECT name FROM console_user WHERE name !~ '^measuring-' LIMIT 1"),
)
"""What is there of, its table, and what finds one that measuring did not make."""


class NotOurDatabaseError(Exception):
    """The database is somebody's: what measures fills none but its own. Nothing was changed."""


BIG: Final = ("payment", "ledger_transfer", "clearing_record", "outbox", "consent_usage", "used_assertion")
"""Tables that grow with payments."""


async def refuse_anothers(dsn: str) -> None:
    """Make sure that a database is empty, or holds nothing but what measuring made.

    Raises:
        NotOurDatabaseError: it holds something else.
    """
    connection = await asyncpg.connect(dsn)
    try:
        tables = {r[0] for r in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
        if tables and "payment" not in tables:
            raise NotOurDatabaseError("the database has tables that are not the gateway's: give one of its own")
        for what, table, sql in _STRANGE:
            if table in tables and await connection.fetchval(sql) is not None:
                raise NotOurDatabaseError(
                    f"the database has {what} that nobody made for measuring: give one of its own"
                )
    finally:
        await connection.close()


async def seed(
    dsn: str, payments: int, *, first: int = 1, with_events: int | None = None, with_uses: bool = False
) -> None:
    """Add so many payments of the past, as a superuser; all their events count as relayed.

    Args:
        dsn: of a database of its own, with the gateway's tables.
        payments: how many.
        first: number of the first one; others than are there already.
        with_events: how many of them, the youngest, have their events in the outbox still; None: all.
        with_uses: those have their entries in the disclosure log, too.
    """
    last = first + payments - 1
    begin = first if with_events is None else last + 1 - with_events
    connection = await asyncpg.connect(dsn)
    try:
        # Each row would be compared with its payment by triggers: they agree by construction.
        await connection.execute("SET session_replication_role = replica")
        # The youngest is of now, whichever slice it is in: rows lie in the order of their times, as they do in life.
        zero = await connection.fetchval("SELECT now() - $1::bigint * interval '20 ms'", last)
        for start in range(first, last + 1, SLICE):
            end = min(start + SLICE - 1, last)
            await _slice(connection, start, end, zero, _STATEMENTS)
            if end >= begin:
                await _slice(connection, max(start, begin), end, zero, (_EVENTS, *(_USES if with_uses else ())))
        await connection.execute(
            "UPDATE outbox_cursor SET (tx, id) = (SELECT tx, id FROM outbox ORDER BY tx DESC, id DESC LIMIT 1)"
        )
        for table in (*BIG, *(("disclosure_entry", "disclosure_content") if with_uses else ())):
            await connection.execute(f"VACUUM (ANALYZE) {table}")
    finally:
        await connection.close()


async def _slice(
    connection: "Connection[Any]", start: int, end: int, zero: datetime, statements: Sequence[str]
) -> None:
    async with connection.transaction():
        for statement in statements:
            await connection.execute(statement.replace("{_ROWS}", _ROWS), start, end, zero)
