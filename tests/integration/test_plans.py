"""No statement of the rooms reads a table from end to end that grows with payments: plans over a grown database."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest

from gateway.database.migrate import migrate
from gateway.database.plans import PLANS_LAST_S, Plans
from gateway.database.sessions import set_sql, working_settings
from gateway.proving.seeding import BIG, seed
from tests.support.sql import SQL_FILES, load

PAYMENTS: Final = 20_000
FEW: Final = 100
QUEUES: Final = ("reversal", "inquiry")

READS_WHOLE_TABLES: Final = {
    "attention.recent_events": "it reads an index from its end, and stops after the latest events",
    "attention.recent_outcomes": "likewise",
    "disclosures.bundles": "likewise",
    "disclosures.oldest": "it reads an index from its beginning, and stops after the first event",
    "disclosures.unlogged": "people's check of the whole log: it compares every event that is still there",
}
"""Statement → why it may."""

JOINED_WHOLE_WHILE_YOUNG: Final = {
    "cancellation.lock_due": "each few seconds, for what was cancelled",
    "consent.give_back": "for payments that failed, under locks in the keys' order",
    "payment.begin_scheduled": "for payments of a later day alone",
    "portability.payments": "once an export",
}
"""Statement → how seldom it is carried out: its join reads an index whole as long as that is small."""

_TYPES: Final = "ARRAY['kr.mypay.payment.settled.v1']"
PAGES: Final = {
    "disclosure.look": "'{last}', 0, 2000",
    "disclosure.read": f"'{{last}}', 0, '{{last}}', 9, 2000, {_TYPES}",
    "marketing.follow": "'{last}', 0, 2000, 'mypay.events.', 'kr.mypay.consent.changed.v1', 'kr.mypay.payment.sent.v1'",
    "outbox.read": "'{last}', 0, 2000, ARRAY[1, 2], false",
    "sharing.look": "'{last}', 0, 2000",
    "sharing.read": f"'{{last}}', 0, '{{last}}', 9, 2000, {_TYPES}",
}
"""Statements that read the outbox from a place on → what they are asked; ``last``: of the events that there are."""


def statements() -> Iterator[tuple[str, str]]:
    for noun in SQL_FILES:
        for queue in QUEUES if noun == "follow_up" else (None,):
            blocks = vars(load(noun, queue=queue) if queue else load(noun))
            for name, sql in blocks.items():
                yield f"{queue or noun}.{name}", sql


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def reads_all(node: dict[str, Any], partial: set[str]) -> bool:
    """From end to end: the table, or an index of it; those of some rows only are small at all times."""
    index = node.get("Index Name")
    return node["Node Type"] == "Seq Scan" or (bool(index) and index not in partial and "Index Cond" not in node)


@pytest.fixture(scope="module")
async def grown(module_database: str) -> AsyncIterator[asyncpg.Connection]:
    await migrate(module_database)
    await seed(module_database, PAYMENTS)
    connection = await asyncpg.connect(module_database, statement_cache_size=0)
    yield connection
    await connection.close()


@pytest.fixture
async def young(database: str) -> AsyncIterator[asyncpg.Connection]:
    await migrate(database)
    await seed(database, FEW)
    connection = await asyncpg.connect(database, statement_cache_size=0)
    yield connection
    await connection.close()


async def test_no_statement_reads_a_table_that_grows_from_end_to_end(grown: asyncpg.Connection) -> None:
    await grown.execute("SET plan_cache_mode = force_generic_plan")
    assert await _read_whole(grown) == []


async def test_nor_does_a_stage_by_a_plan_that_it_made_while_the_table_was_young(young: asyncpg.Connection) -> None:
    """A stage keeps its plans: one that reads the few rows of the first day whole would do so on the second."""
    await young.execute("SET plan_cache_mode = force_generic_plan")
    in_any_session = await _read_whole(young)
    await young.execute(set_sql(working_settings("mypay-test"), local=False))
    left = {told.partition(":")[0] for told in await _read_whole(young)}
    assert left == JOINED_WHOLE_WHILE_YOUNG.keys()
    assert len(in_any_session) > 5 * len(left)


async def _read_whole(connection: asyncpg.Connection) -> list[str]:
    """Statements that would read such a table whole as the session plans them now, and may not."""
    wrong = []
    rows = await connection.fetch("SELECT indexrelid::regclass::text FROM pg_index WHERE indpred IS NOT NULL")
    partial = {r[0] for r in rows}
    for name, sql in statements():
        try:
            asked = await connection.prepare(sql)
            await connection.execute(f"DEALLOCATE ALL; PREPARE looked_at AS {sql}")
        except asyncpg.PostgresSyntaxError:
            continue  # SET, and other statements without a plan
        values = f"({', '.join(['NULL'] * count)})" if (count := len(asked.get_parameters())) else ""
        # A plan for any values: one for these would read nothing.
        told = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE looked_at{values}")
        found = {n.get("Relation Name", "") for n in nodes(json.loads(told)[0]["Plan"]) if reads_all(n, partial)}
        # Partitions of the outbox that are empty have no index to gain from.
        big = {table for table in found if table in BIG or table == "outbox_first"}
        if big and name not in READS_WHOLE_TABLES:
            wrong.append(f"{name}: {sorted(big)}")
    return wrong


@pytest.mark.parametrize("name", sorted(PAGES))
async def test_a_page_of_events_is_read_and_what_waits_behind_it_is_not(grown: asyncpg.Connection, name: str) -> None:
    sql = dict(statements())[name]
    await grown.execute(f"DEALLOCATE ALL; SET plan_cache_mode = force_custom_plan; PREPARE page AS {sql}")
    # A place behind all that the statistics know: as if everything after it were a few rows.
    last = await grown.fetchval("SELECT tx::text FROM outbox ORDER BY outbox.tx DESC, outbox.id DESC LIMIT 1")
    told = await grown.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE page({PAGES[name].format(last=last)})")
    limits = [n for n in nodes(json.loads(told)[0]["Plan"]) if n["Node Type"] == "Limit"]
    assert limits
    sorts = [part for n in limits for part in n["Plans"] if "Sort" in part["Node Type"]]
    assert {t for sort in sorts for n in nodes(sort) if (t := n.get("Relation Name", "")).startswith("outbox")} == set()


DUE: Final = 5_000
_DUE: Final = """
    INSERT INTO scheduled_order (partner_id, payment_id, due_at, look_at, expires_at, order_type, body, proven,
        reference, ordered_at)
    SELECT CASE WHEN n <= $1 THEN 'many' ELSE 'few-' || n % 10 END, md5(n::text)::uuid, $2::timestamptz, $2,
        $2 + interval '1 hour' * CASE WHEN n > $1 THEN 1 ELSE 2 END, 't', '', false, 'r', $2
    FROM generate_series(1, $1 + 20) AS n
"""
CLAIMS: Final = {
    "schedule.claim": ("'{now}', '{now}', 60, '', ''", 60, 20),
    "schedule.claim_expired": ("'{now}', '{now}', 60", 20, 20),
    "schedule.held_for": ("", 0, 1),
}
"""Statement → what it is asked, and how many it finds where none are held for a network, and where the many are."""


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("name", sorted(CLAIMS))
async def test_of_a_day_s_due_orders_no_more_are_read_than_everybody_s_turn(
    young: asyncpg.Connection, name: str, held: bool
) -> None:
    asked, found = CLAIMS[name][0], CLAIMS[name][1 + held]
    midnight = datetime(2026, 1, 5, tzinfo=UTC)
    await young.execute(_DUE, DUE, midnight)
    if held:
        await young.execute("UPDATE scheduled_order SET held_for = 'net-a' WHERE partner_id = 'many'")
    await young.execute(set_sql(working_settings("mypay-test"), local=False))
    await young.execute(f"SET plan_cache_mode = force_generic_plan; PREPARE claim AS {dict(statements())[name]}")
    now = midnight + timedelta(minutes=90)
    values = f"({asked.format(now=now)})" if asked else ""
    told = await young.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE claim{values}")
    plan = json.loads(told)[0]["Plan"]
    reads = [n for n in nodes(plan) if n.get("Relation Name") == "scheduled_order" and "Scan" in n["Node Type"]]
    assert plan["Actual Rows"] == found
    most = max(n["Actual Loops"] * (n["Actual Rows"] + n.get("Rows Removed by Filter", 0)) for n in reads)
    assert most < DUE / 10


MANY: Final = 100


async def claimed(
    young: asyncpg.Connection, name: str, given: str, *, of: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """How a claim was carried out with a generic plan: the plan, and what it read of a table."""
    await young.execute(set_sql(working_settings("mypay-test"), local=False))
    sql = dict(statements())[name]
    await young.execute(f"SET plan_cache_mode = force_generic_plan; PREPARE claim AS {sql}")
    told = await young.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE claim({given})")
    plan = json.loads(told)[0]["Plan"]
    return plan, [n for n in nodes(plan) if n.get("Relation Name") == of and "Scan" in n["Node Type"]]


async def test_of_many_partners_due_orders_no_more_are_read_than_one_of_each(young: asyncpg.Connection) -> None:
    """Where there are more partners than are claimed at a time: nobody has a second turn then."""
    await young.execute(
        "INSERT INTO scheduled_order (partner_id, payment_id, due_at, look_at, expires_at, order_type, body, proven, "
        "reference, ordered_at) SELECT 'p-' || n % $1, md5(n::text)::uuid, now(), now(), now(), 't', '', false, 'r', "
        "now() FROM generate_series(1, 50 * $1) AS n",
        MANY,
    )
    plan, reads = await claimed(young, "schedule.claim", "now(), now(), 60, '', ''", of="scheduled_order")
    assert plan["Actual Rows"] == 60
    assert max(n["Actual Loops"] * n["Actual Rows"] for n in reads) <= 2 * MANY


@pytest.mark.parametrize(("many", "partners", "read_max"), [(DUE, 1, DUE / 10), (50, MANY, 2 * MANY)])
async def test_of_a_day_s_standing_orders_no_more_are_read_than_everybody_s_turn(
    young: asyncpg.Connection, many: int, partners: int, read_max: float
) -> None:
    await young.execute(
        "INSERT INTO standing_order (partner_id, standing_order_id, consent_id, merchant_id, amount_minor, currency, "
        "schedule, status, version, occurrences, next_due_at, proven, digest, reference, ordered_at, changed_at) "
        "SELECT CASE WHEN n <= $1 THEN 'p-' || n % $2 ELSE 'few-' || n END, 's-' || n, 'c', 'm', 1, 'KRW', '{}', "
        "'active', 1, 0, now(), false, sha256('x'), 'r', now(), now() FROM generate_series(1, $1 + 20) AS n",
        many * partners,
        partners,
    )
    plan, reads = await claimed(young, "standing.claim_due", "now(), 60", of="standing_order")
    assert plan["Actual Rows"] == 60
    assert max(n["Actual Loops"] * (n["Actual Rows"] + n.get("Rows Removed by Filter", 0)) for n in reads) < read_max


@pytest.mark.parametrize("after", ["", "many", "few-1"])
async def test_of_the_exports_that_wait_no_more_are_read_than_the_one_that_is_made(
    young: asyncpg.Connection, after: str
) -> None:
    await young.execute(
        "INSERT INTO portability_export (partner_id, request_id, number, consent_id, state, created_at, changed_at) "
        "SELECT CASE WHEN n <= $1 THEN 'many' ELSE 'few-' || n % 3 END, 'r-' || n, 1, 'c', 'waiting', now(), now() "
        "FROM generate_series(1, $1 + 20) AS n",
        DUE,
    )
    _, reads = await claimed(young, "portability.claim", f"'w', now(), now(), '{after}'", of="portability_export")
    assert max(n["Actual Loops"] * (n["Actual Rows"] + n.get("Rows Removed by Filter", 0)) for n in reads) <= 1


_GROWN: Final = """
    INSERT INTO payment (partner_id, payment_id, order_id, consent_id, consent_version, merchant_id, operation,
        amount_minor, currency, order_digest, state, version, limit_windows, ordered_at, decided_at, changed_at)
    SELECT 'p', md5('p' || n)::uuid, 'o-' || n, 'c', 1, 'm', 'purchase', 1, 'KRW', '\\x00', 'rejected', 1, '',
        at, at, at
    FROM generate_series(1, $1::int) AS n, LATERAL (SELECT $2::timestamptz + n * interval '1 hour') AS t (at)
"""


async def test_a_session_that_began_over_empty_tables_soon_asks_by_key(database: str) -> None:
    """Nobody analyzes the table meanwhile: the server does that once a minute."""
    await migrate(database)
    connection = await asyncpg.connect(database, statement_cache_size=0)
    now = 0.0
    plans = Plans(clock=lambda: now)
    plans.begin(connection)
    try:
        await connection.execute(
            "SET session_replication_role = replica; ALTER TABLE payment SET (autovacuum_enabled = off)"
        )
        await connection.execute(set_sql(working_settings("mypay-test"), local=False))
        find = dict(statements())["payment.find"]
        await connection.execute(f"SET plan_cache_mode = force_generic_plan; PREPARE find AS {find}")
        asked = f"ARRAY['p'], ARRAY['{UUID(int=0)}'::uuid]"
        before = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE find({asked})")
        await connection.execute(_GROWN, PAID, datetime(2026, 1, 5, tzinfo=UTC))
        indexes = []
        for at in (PLANS_LAST_S - 1, PLANS_LAST_S):
            now = at
            await plans.renew(connection)
            told = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE find({asked})")
            indexes.append({n["Index Name"] for n in nodes(json.loads(told)[0]["Plan"]) if "Index Name" in n})
        assert indexes[0] == {n["Index Name"] for n in nodes(json.loads(before)[0]["Plan"]) if "Index Name" in n}
        assert indexes[0] != indexes[1] == {"payment_pkey", "archived_payment_pkey"}
    finally:
        await connection.close()


PAID: Final = 2_000
_PAID: Final = """
    INSERT INTO payment (partner_id, payment_id, order_id, consent_id, consent_version, merchant_id, operation,
        original_payment_id, amount_minor, currency, order_digest, state, version, network_id, terminal_id, stan, rrn,
        transmitted_at, approval_code, limit_windows, ordered_at, decided_at, changed_at)
    SELECT 'p', md5('p' || n)::uuid, 'o-' || n, 'c', 1, 'm', CASE WHEN n > $1 THEN 'refund' ELSE 'purchase' END,
        CASE WHEN n > $1 THEN md5('p' || n - $1)::uuid END, 1, 'KRW', '\\x00', 'settled', 3, 'n', 't', n, 'r' || n,
        at, 'a', '', at, at, at
    FROM generate_series(1, $1 + 20) AS n, LATERAL (SELECT $2::timestamptz + n * interval '1 hour') AS t (at)
"""


async def test_what_was_given_back_is_not_looked_for_with_each_payment_of_a_page(young: asyncpg.Connection) -> None:
    await young.execute("SET session_replication_role = replica")
    await young.execute(
        "INSERT INTO consent (partner_id, consent_id, customer_id, version, status, terms, valid_until) "
        "VALUES ('p', 'c', 'customer', 1, 'AUTH', '{}', now())"
    )
    begun = datetime(2026, 1, 5, tzinfo=UTC)
    await young.execute(_PAID, PAID, begun)
    await young.execute("ANALYZE payment")
    await young.execute(set_sql(working_settings("mypay-test"), local=False))
    await young.execute(f"SET plan_cache_mode = force_generic_plan; PREPARE page AS {dict(statements())['pull.page']}")
    end, since = begun + timedelta(days=999), begun + timedelta(hours=PAID + 10)
    asked = f"'p', 'customer', '{begun}', '{end}', '{UUID(int=0)}', '{since}', NULL, 99"
    plan = json.loads(await young.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE page({asked})"))[0]["Plan"]
    # The refunds since, and what they gave back: of these alone it is asked how much.
    assert plan["Actual Rows"] == 20
    assert max(n["Actual Loops"] for n in nodes(plan) if n.get("Relation Name") == "payment") == 10


async def test_the_database_has_grown(grown: asyncpg.Connection) -> None:
    for table in BIG:
        assert await grown.fetchval(f"SELECT count(*) FROM {table}") >= PAYMENTS // 10
    assert await grown.fetchval("SELECT count(*) FROM outbox o, outbox_cursor c WHERE (o.tx, o.id) > (c.tx, c.id)") == 0
