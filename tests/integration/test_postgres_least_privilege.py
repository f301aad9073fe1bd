"""Rights against work: each role may run every statement of its process, and has no right that none of these needs.

Nothing is executed: PostgreSQL checks rights when it explains a statement, too.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Final

import asyncpg
import pytest

from gateway.database.roles import FUNCTIONS, RUNNING, SEQUENCES, TABLES, Access, Role
from gateway.disclosure.postgres import BLOCK_COLUMNS, CONTENT_COLUMNS
from gateway.outbox.postgres import BUNDLE_COLUMNS, EVENT_COLUMNS
from gateway.payments.postgres import LATE_COLUMNS, TRANSFER_COLUMNS
from gateway.settlement.postgres import CLEARING_COLUMNS
from gateway.sharing.postgres import SHARE_COLUMNS
from tests.integration.test_postgres_roles import Database, made
from tests.support.sql import load

COPIES: Final = {
    "outbox": EVENT_COLUMNS,
    "bundles": BUNDLE_COLUMNS,
    "ledger_transfer": TRANSFER_COLUMNS,
    "clearing_record": CLEARING_COLUMNS,
    "late_answer": LATE_COLUMNS,
    # By the release before, beside this one.
    "disclosure_entry": ("seq", "source_tx", "source_id", "content_hash", "entry_hash"),
    "disclosure_content": CONTENT_COLUMNS,
    "disclosure_block": BLOCK_COLUMNS,
    "share": SHARE_COLUMNS,
}
"""What is written by COPY, which cannot be explained: table, or what is written to the outbox → columns."""

_TRUST = "directory: active_partners partner_keys; authentication: revoked_keys applied_policy"
_MOVES = (  # what services/transitions.py writes, whoever calls it
    "payment: lock lock_versions find update; copy: outbox"
)
_REVERSES = "reversal: queue begin_anew; payment: next_follow_up_numbers"

RUNS: Final[Mapping[Role, tuple[str, ...]]] = {
    Role.INITIATION: (
        _TRUST,
        _MOVES,
        _REVERSES,
        "directory: merchants open_networks",
        "consent: read lock",
        "authentication: links use users",
        "payment: find insert refunded",
        "refusal: insert find",
        "bulk: find insert dispatched",
        "cancellation: handled remember answer not_sent",
        "schedule: keep",
        "standing: lock insert update",
    ),
    Role.CONSENTS: (
        _TRUST,
        "directory: usable_tokens",
        "authentication: links use users",
        "consent: lock_records digests insert update add_versions add_proofs add_purpose_ends handled remember",
        "payment: in_flight",
        "refusal: insert",
        "copy: outbox",
    ),
    Role.EXECUTION: (
        _TRUST,
        _MOVES,
        _REVERSES,
        "directory: merchants funding_tokens usable_tokens is_paused report_network",
        "authentication: links use users authenticated_at mark_authenticated",
        "consent: lock usage take give_back ended_since last_ends",
        "payment: insert begin_scheduled refunded next_payment_numbers abandoned keys_by_rrn",
        "refusal: insert find",
        "cancellation: not_sent",
        "reversal: claim retry close next_due",
        "inquiry: queue begin_anew claim retry close take_away next_due",
        "copy: ledger_transfer late_answer",
    ),
    Role.PORTABILITY: (
        _TRUST,
        "authentication: links use users",
        "consent: read lock purpose_ends ended_since",
        "refusal: insert",
        "portability: recipients requests gone add access add_exports claim hold lock_export update_export",
        "portability: finish_request payments",
        "copy: outbox",
    ),
    Role.SHARING: (
        "consent: hold read ended_since",
        "sharing: follow place look read sharing merchants tokens settled held advance take_turn approvals approved",
        "sharing: known_affiliates affiliate_keys bundles_are_read",
        "sharing: holders add_shares write_holders must_erase lock_notices confirm take_reminders",
        "outbox: take_numbers; copy: share outbox bundles",
    ),
    Role.PORTABILITY_API: (
        "consent: lock ended_since",
        "pull: *",
        "copy: outbox",
    ),
    Role.MARKETING: (
        "consent: read lock hold ended_since",
        "sharing: affiliates affiliate_keys",
        "marketing: campaigns lock_campaigns write_campaigns candidates paid add_customers lock_customers offers_of",
        "marketing: add_offers offers lock_offers write_offers must_end uses add_uses published add_table",
        "marketing: add_table_payments end_of_events follow",
        "copy: outbox",
    ),
    Role.ARCHIVE: ("archive: *",),
    Role.RELAY: ("outbox: cursor read advance park parked_topics read_parked read_large read_unreadable unpark",),
    Role.DISCLOSURE: (
        "disclosure: head look read payments customers advance add_root tell",
        "copy: disclosure_entry disclosure_content disclosure_block",
    ),
    Role.SETTLEMENT: (
        _MOVES,
        "payment: keys_by_rrn",
        "clearing: payments_by_rrn acceptors lock earlier put_aside supersede confirm write_outcomes moved_since",
        "copy: ledger_transfer clearing_record",
    ),
    Role.SCHEDULE: (
        _MOVES,
        _REVERSES,
        "directory: merchants open_networks",
        "consent: read lock_past_end lock_records digests update add_versions add_proofs insert handled remember",
        "consent: add_purpose_ends last_ends",
        "portability: claim_due last_snapshots update_requests add_exports destroy_silent",
        "payment: in_flight insert refunded open_since",
        "cancellation: lock_due update",
        "standing: claim_due active update",
        "schedule: keep claim claim_expired held_for hold close put_off",
        "authentication: purge",
        "sharing: overdue",
        "old_rows: *",
        "contents: destroy lock_cursor find_customers move_cursor due_notices disclosed notified",
        "outbox: make_partitions drop_partition purge",
        "operating_state: rows",
    ),
    Role.CONSOLE: ("signing_in: *",),
    Role.OPERATOR: (
        "registry: *",
        "public_keys: *",
        "consent_registry: *",
        "recipient_registry: *",
        "campaign_registry: *",
        "recipients: recipients",
        "affiliate_registry: *",
        "affiliates: *",
        "payments: *; consents: *; standing_orders: *; partners: *; merchants: *; tokens: *; identities: *",
        "operator_actions: *",
        "operators: *",
        "console_user: *",
        "token: *",
        "directory: usable_tokens",
        "authentication: add_links unlink revoke_key revoked_keys apply_policy applied_policy",
        "consent: lock_records digests update add_versions add_proofs insert handled remember versions usage",
        "consent: add_purpose_ends",
        "authentication: authenticated_at",
        "payment: in_flight",
        "reversal: hurry",
        "inquiry: hurry",
        "sharing: ask_reminder",
        "break_registry: *",
        "belonging: *",
        "copy: outbox",
    ),
}
"""Role → statements of its process: a noun of ``sql/`` and names of blocks there, or tables that are copied to."""

LOOKING = ("schema_migration", "kafka_cluster")
"""Looked at by every process when it starts."""


def statements(runs: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(name, SQL) of each."""
    for group in "; ".join(runs).split("; "):
        noun, _, names = group.partition(": ")
        match noun:
            case "copy":
                for table in names.split():
                    columns = COPIES[table]
                    into = "outbox" if table == "bundles" else table
                    yield (
                        f"copy {table}",
                        f"INSERT INTO {into} ({', '.join(columns)}) SELECT {', '.join(['NULL'] * len(columns))}",
                    )
                continue
            case "reversal" | "inquiry":
                blocks = vars(load("follow_up", queue=noun))
            case _:
                blocks = vars(load(noun))
        for name in blocks if names == "*" else names.split():
            yield f"{noun}.{name}", blocks[name]


async def allowed(connection: asyncpg.Connection, sql: str) -> bool:
    transaction = connection.transaction()
    await transaction.start()
    try:
        # With placeholders as they are: no values are needed to ask for rights.
        await connection.execute(f"EXPLAIN (GENERIC_PLAN) {sql}")
    except asyncpg.InsufficientPrivilegeError:
        return False
    finally:
        await transaction.rollback()
    return True


@pytest.fixture(scope="module")
async def db(module_database: str) -> Database:
    return await made(module_database)


@pytest.fixture(scope="module")
async def admin(db: Database) -> AsyncIterator[asyncpg.Connection]:
    async with db.as_(None) as connection:
        yield connection


@pytest.mark.parametrize("role", RUNS)
async def test_a_role_may_do_what_its_process_does(db: Database, role: Role) -> None:
    async with db.as_(role) as connection:
        assert [name for name, sql in statements(RUNS[role]) if not await allowed(connection, sql)] == []


def rights(role: Role) -> Iterator[tuple[str, str]]:
    """(what, how it is taken away), one by one: table rights as a whole, and each column that is named."""
    for table, accesses in TABLES.items():
        access = accesses.get(role, Access(select=()))
        named = {"SELECT": access.select, "INSERT": access.insert, "UPDATE": access.update}
        for right, columns in named.items():
            for column in columns:
                on = right if column == "*" else f"{right} ({column})"
                yield f"{on} ON {table}", f"REVOKE {on} ON {table} FROM {role.user}"
        if access.delete:
            yield f"DELETE ON {table}", f"REVOKE DELETE ON {table} FROM {role.user}"


@pytest.mark.parametrize("role", RUNS)
async def test_a_role_has_no_right_that_its_process_does_not_need(admin: asyncpg.Connection, role: Role) -> None:
    work = list(statements(RUNS[role]))
    idle = []
    for what, revoke in rights(role):
        if what.rpartition(" ")[2] in LOOKING:
            continue
        transaction = admin.transaction()
        await transaction.start()
        await admin.execute(revoke)
        await admin.execute(f"SET LOCAL ROLE {role.user}")
        if all([await allowed(admin, sql) for _, sql in work]):
            idle.append(what)
        await transaction.rollback()
    assert idle == []


def test_numbers_and_functions_are_for_whom_they_are_called_by() -> None:
    # These are taken by a column's default.
    numbers = {"outbox_number": "INSERT INTO outbox "}
    for name, roles in SEQUENCES.items():
        assert roles == {
            role for role in RUNS for _, sql in statements(RUNS[role]) if numbers.get(name, f"nextval('{name}')") in sql
        }
    for function, roles in FUNCTIONS.items():
        call = function.partition("(")[0] + "("
        assert roles == {r for r in RUNS for _, sql in statements(RUNS[r]) if call in sql}


def test_whoever_looks_changes_nothing() -> None:
    assert set(RUNS) == set(RUNNING) - {Role.READONLY}
    for accesses in TABLES.values():
        access = accesses[Role.READONLY]
        assert access == Access(select=access.select)
    assert "ciphertext" not in TABLES["funding_token"][Role.READONLY].select
    assert TABLES["funding_token"][Role.READONLY].select != ("*",)
