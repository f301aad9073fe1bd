"""What each role may do in a real database, tried as that role: everything that the table grants, and nothing else."""

import itertools
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import pytest

from gateway.consents.rules.consent import CONSENT_TRANSITIONS
from gateway.database import grants
from gateway.database.dsn import with_user
from gateway.database.migrate import migrate
from gateway.database.roles import ALL, APPEND_ONLY, FUNCTIONS, RUNNING, SEQUENCES, SETTINGS, TABLES, Access, Role
from schemas.consents import ConsentStatus
from tests.support.sql import load

Connection = asyncpg.Connection
OUTSIDE = {"CREATE DATABASE mine", "ALTER SYSTEM SET fsync = off"}
"""Statements that no transaction may hold."""

NOTHING = Access(select=())
DENIED = asyncpg.InsufficientPrivilegeError


@dataclass(frozen=True)
class Database:
    """One with roles and rights; ``columns``: table or view → its columns."""

    dsn: str
    columns: Mapping[str, tuple[str, ...]]

    @asynccontextmanager
    async def as_(self, role: Role | None) -> AsyncIterator[Connection]:
        """A session of this role's; None: of the superuser's."""
        connection = await asyncpg.connect(with_user(self.dsn, role.user) if role else self.dsn)
        # A habit, not a wall: whoever is to look only can set it aside, and must be denied by his rights.
        await connection.execute("SET default_transaction_read_only = off")
        try:
            yield connection
        finally:
            await connection.close()


async def made(dsn: str) -> Database:
    connection = await asyncpg.connect(dsn)
    try:
        await grants.apply_roles(dsn)
        await migrate(dsn)
        rows = await connection.fetch(
            "SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum) AS columns FROM pg_class c "
            "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
            "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') "
            "AND NOT c.relispartition GROUP BY 1"
        )
        return Database(dsn, {r["relname"]: tuple(r["columns"]) for r in rows})
    finally:
        await connection.close()


@pytest.fixture(scope="module")
async def db(module_database: str) -> Database:
    return await made(module_database)


async def denied(connection: Connection, statement: str) -> bool:
    """True if the server refuses it for want of a right; whatever else comes of it is undone."""
    if statement in OUTSIDE:
        try:
            await connection.execute(statement)
        except DENIED:
            return True
        return False
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(statement)
    except DENIED:
        return True
    except asyncpg.PostgresError:
        return False  # it was permitted, and something else was wrong with it
    finally:
        await transaction.rollback()
    return False


def rights(table: str, columns: tuple[str, ...], access: Access) -> Iterator[tuple[str, bool]]:
    """(statement, is it permitted): each right on the whole table and on each column."""
    for column in columns:
        yield f"SELECT {column} FROM {table} LIMIT 0", access.select == ALL or column in access.select
        yield (
            f"UPDATE {table} SET {column} = DEFAULT WHERE false",
            access.update == ALL or column in access.update,
        )
        yield (
            f"INSERT INTO {table} ({column}) OVERRIDING SYSTEM VALUE SELECT NULL WHERE false",
            access.insert == ALL or column in access.insert,
        )
    yield f"DELETE FROM {table} WHERE false", access.delete
    yield f"SELECT count(*) FROM {table} WHERE false", bool(access.select)
    yield f"SELECT FROM {table} LIMIT 0 FOR NO KEY UPDATE", bool(access.select and access.update)
    yield f"TRUNCATE {table}", False
    yield f"ALTER TABLE {table} ADD COLUMN mine integer", False
    yield f"ALTER TABLE {table} DISABLE TRIGGER ALL", False
    yield f"ALTER TABLE {table} OWNER TO CURRENT_USER", False
    yield f"CREATE TRIGGER mine BEFORE INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()", False
    yield f"CREATE RULE mine AS ON INSERT TO {table} DO INSTEAD NOTHING", False
    yield f"DROP TABLE {table}", False


VIEWS = ("bundles_read", "disclosure_link", "disclosure_told", "ledger_posting", "operating_state", "outbox_reader")


@pytest.mark.parametrize("role", RUNNING)
async def test_every_right_on_every_table_is_as_the_table_says(db: Database, role: Role) -> None:
    wrong = []
    async with db.as_(role) as connection:
        for table, columns in db.columns.items():
            is_view = table in VIEWS
            for statement, permitted in rights(table, columns, TABLES[table].get(role, NOTHING)):
                if is_view and not statement.startswith("SELECT "):
                    continue  # nothing can be written through it; its tables are tried themselves
                if await denied(connection, statement) == permitted:
                    wrong.append(f"{'denied' if permitted else 'permitted'}: {statement}")
    assert wrong == []


async def test_every_table_is_in_the_table(db: Database) -> None:
    assert db.columns.keys() == TABLES.keys()
    for table, accesses in TABLES.items():
        for role, access in accesses.items():
            for columns in (access.select, access.insert, access.update):
                assert columns == ALL or set(columns) <= set(db.columns[table]), (table, role)
    async with db.as_(None) as connection:
        sequences = await connection.fetch(
            "SELECT relname FROM pg_class c WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace "
            "AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'i')"
        )
        functions = await connection.fetch(
            "SELECT proname || '(' || pg_get_function_identity_arguments(oid) || ')' AS name, prosecdef, proconfig "
            "FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prorettype <> 'trigger'::regtype"
        )
        triggers = await connection.fetch(
            "SELECT proname, proconfig FROM pg_proc "
            "WHERE pronamespace = 'public'::regnamespace AND prorettype = 'trigger'::regtype"
        )
    assert {r["relname"] for r in sequences} == SEQUENCES.keys()
    assert {r["name"].partition("(")[0] for r in functions} == {f.partition("(")[0] for f in FUNCTIONS}
    # Whatever the caller's search path is, a function means the tables that it was written for.
    for row in (*functions, *triggers):
        assert any(s.startswith("search_path=") for s in row["proconfig"] or ()), dict(row)


async def test_partitions_are_reached_through_their_table_alone(db: Database) -> None:
    async with db.as_(None) as admin:
        held = await admin.fetch(
            "SELECT relname, a.grantee FROM pg_class, aclexplode(relacl) AS a "
            "WHERE relispartition AND relkind = 'r' AND a.grantee <> relowner"
        )
        owners = await admin.fetch("SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relispartition")
    assert held == []
    assert [r[0] for r in owners] == [Role.OWNER.user]


async def test_nobody_can_give_a_right_away(db: Database) -> None:
    async with db.as_(None) as admin:
        givers = await admin.fetch(
            "SELECT relname, a.grantee::regrole::text FROM pg_class, aclexplode(relacl) AS a "
            "WHERE relnamespace = 'public'::regnamespace AND a.is_grantable AND a.grantee <> relowner"
        )
    assert givers == []


ESCAPES = [
    "SET ROLE mypay_owner",
    "SET SESSION AUTHORIZATION mypay_owner",
    "SET session_replication_role = replica",
    "CREATE TABLE public.mine (a integer)",
    "CREATE FUNCTION public.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA mine",
    "CREATE TEMPORARY TABLE outbox_cursor (tx xid8, id bigint)",
    "CREATE ROLE mine",
    "CREATE DATABASE mine",
    "CREATE EXTENSION pg_trgm",
    "ALTER ROLE mypay_relay SUPERUSER",
    "ALTER ROLE mypay_owner PASSWORD 'mine'",
    "ALTER FUNCTION refuse_change() RESET ALL",
    "DROP FUNCTION refuse_change() CASCADE",
    "ALTER SEQUENCE payment_number RESTART",
    "SELECT setval('payment_number', 1)",
    "DROP SCHEMA public CASCADE",
    "ALTER DATABASE postgres SET search_path = mine",
    "ALTER SYSTEM SET fsync = off",
    "SELECT pg_read_file('/etc/passwd')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "GRANT mypay_owner TO CURRENT_USER",
    "LOCK TABLE ledger_transfer IN ACCESS EXCLUSIVE MODE",
]


@pytest.mark.parametrize("role", RUNNING)
async def test_no_running_role_gets_out_of_its_rights(db: Database, role: Role) -> None:
    async with db.as_(role) as connection:
        assert [s for s in ESCAPES if not await denied(connection, s)] == []


@pytest.mark.parametrize("role", RUNNING)
async def test_sequences_and_functions(db: Database, role: Role) -> None:
    calls = {f"SELECT nextval('{name}')": role in roles for name, roles in SEQUENCES.items()}
    values = {"timestamptz": "now() - interval '9 years'", "integer": "0", "bigint": "1000000", "text": "'outbox'"}
    values |= dict.fromkeys(("text[]", "uuid[]", "bytea[]"), "'{}'")
    for function, roles in FUNCTIONS.items():
        name, _, types = function.removesuffix(")").partition("(")
        calls[f"SELECT {name}({', '.join(values[t] for t in types.split(', '))})"] = role in roles
    async with db.as_(role) as connection:
        assert {call: not await denied(connection, call) for call in calls} == calls


@pytest.mark.parametrize("table", sorted(APPEND_ONLY))
def test_what_is_append_only_is_so_for_whoever_runs(table: str) -> None:
    filled_in_once = {"consent_version": {"issuer", "subject", "jti", "level", "authenticated_at"}}
    for role, access in TABLES[table].items():
        assert set(access.update) <= filled_in_once.get(table, set()), role
        assert not access.delete, role


async def test_nobody_changes_what_was_ordered() -> None:
    ordered = {"partner_id", "payment_id", "order_id", "consent_id", "merchant_id", "operation", "amount_minor"}
    ordered |= {"currency", "order_digest", "ordered_at", "original_payment_id"}
    for role, access in TABLES["payment"].items():
        assert access.update != ALL, role
        assert not ordered & set(access.update), role


@pytest.mark.parametrize("role", RUNNING)
async def test_sessions_begin_with_the_roles_settings(db: Database, role: Role) -> None:
    async with db.as_(role) as connection:
        settings = {name.lower(): await connection.fetchval(f"SHOW {name}") for name in SETTINGS}
        read_only = await connection.fetchval(
            "SELECT reset_val FROM pg_settings WHERE name = 'default_transaction_read_only'"
        )
    assert settings | {"tcp_keepalives_idle": "10"} == {**SETTINGS, "timezone": "UTC"} | socket_keepalives(settings)
    assert read_only == ("on" if role is Role.READONLY else "off")


def socket_keepalives(settings: Mapping[str, str]) -> dict[str, str]:
    """A Unix socket has no keep-alive: the server shows 0 there, whatever is set."""
    return {n: settings[n] for n in settings if n.startswith("tcp_") and n != "tcp_keepalives_idle"}


async def test_a_row_can_be_locked_by_whom_may_not_change_it(db: Database) -> None:
    async with db.as_(Role.INITIATION) as connection:
        assert not await denied(connection, load("consent").lock.replace("$1", "'{}'").replace("$2", "'{}'"))
        assert await denied(connection, "UPDATE consent SET status = 'AUTH'")
        assert await denied(connection, "UPDATE consent SET terms = '{}'")


ENDED = """
    INSERT INTO consent (partner_id, consent_id, customer_id, version, status, terms, valid_until)
    SELECT 'p', status, 'u', 1, status, '{}', now() FROM unnest($1::text[]) AS status;
"""
DISABLED = """
    INSERT INTO partner (partner_id, name, home_group) VALUES ('p', 'P', 'telecom');
    INSERT INTO affiliate (affiliate_id, name, home_group) VALUES ('a', 'A', 'telecom');
    INSERT INTO recipient (org_code, name, partner_id) VALUES ('R1RRRR0000', 'R', 'p');
    INSERT INTO partner_key (kid, partner_id, algorithm, jwk, disabled_at) VALUES ('k', 'p', 'ES256', '{}', now());
    INSERT INTO affiliate_key (kid, affiliate_id, algorithm, jwk, valid_from, disabled_at)
    VALUES ('k', 'a', 'ES256', '{}', now(), now());
    INSERT INTO recipient_key (kid, org_code, jwk, disabled_at) VALUES ('k', 'R1RRRR0000', '{}', now());
"""


async def test_no_operator_revives_a_consent_that_has_ended(db: Database) -> None:
    """By SQL of their own: their commands know the table of changes."""
    goes_on = {status for status, _ in CONSENT_TRANSITIONS}
    async with db.as_(Role.OPERATOR) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(ENDED.rstrip(" ;\n"), [s.value for s in ConsentStatus])
        for status, to in itertools.permutations(ConsentStatus, 2):
            changed = await changes(connection, "UPDATE consent SET status = $2 WHERE consent_id = $1", status, to)
            assert changed == (status in goes_on), (status, to)
        await transaction.rollback()


@pytest.mark.parametrize("table", ["partner_key", "affiliate_key", "recipient_key"])
@pytest.mark.parametrize("moment", ["NULL", "disabled_at + interval '1 day'"])
async def test_no_operator_enables_a_key_that_was_disabled_or_disables_it_later(
    db: Database, table: str, moment: str
) -> None:
    async with db.as_(Role.OPERATOR) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(DISABLED)
        assert not await changes(connection, f"UPDATE {table} SET disabled_at = {moment}")
        assert await changes(connection, f"UPDATE {table} SET disabled_at = disabled_at")
        await transaction.rollback()


async def changes(connection: Connection, statement: str, *arguments: str) -> bool:
    """True if the server does it; it is undone."""
    savepoint = connection.transaction()
    await savepoint.start()
    try:
        await connection.execute(statement, *arguments)
    except asyncpg.RaiseError:
        return False
    finally:
        await savepoint.rollback()
    return True


HURRIED = """
    SET session_replication_role = replica;
    INSERT INTO reversal (partner_id, payment_id, network_id, terminal_id, stan, transmitted_at, queued_at,
        next_attempt_at)
    VALUES ('p', '00000000-0000-0000-0000-000000000001', 'n', 't', 1, now(), now(), '2099-01-01');
    INSERT INTO inquiry (partner_id, payment_id, network_id, terminal_id, stan, transmitted_at, queued_at,
        next_attempt_at)
    VALUES ('p', '00000000-0000-0000-0000-000000000001', 'n', 't', 1, now(), now(), '2099-01-01');
    INSERT INTO share_holder (partner_id, consent_id, customer_id, affiliate_id, round, reference, key_ids, since,
        notice_id, cause, noticed_at, erase_by)
    VALUES ('p', 'c', 'u', 'a', 1, 'r', '{}', now(), '00000000-0000-0000-0000-000000000001', 'ended', now(), now())
"""


async def test_operators_hurry_what_waits_and_delay_nothing(db: Database) -> None:
    """Their rights on the columns would let one login put off every reversal, and take reminders back."""
    async with db.as_(None) as admin:
        await admin.execute(HURRIED)
    later = "next_attempt_at + interval '1 second'"
    queues = [f"UPDATE {q} SET next_attempt_at = " for q in ("reversal", "inquiry")]
    remind = "UPDATE share_holder SET remind_at = "
    async with db.as_(Role.OPERATOR) as operator:
        for queue in queues:
            for at in (later, "'infinity'", "'-infinity'"):
                assert await denied(operator, queue + at)
            assert await operator.execute(queue + "now()") == "UPDATE 1"
        assert await denied(operator, remind + "'infinity'")
        assert await operator.execute(remind + "now()") == "UPDATE 1"
        for at in ("NULL", "'-infinity'", "remind_at + interval '1 second'"):
            assert await denied(operator, remind + at)
        assert await operator.execute("UPDATE share_holder SET remind_at = coalesce(remind_at, now())") == "UPDATE 1"
    # Those whose work it is may.
    async with db.as_(Role.EXECUTION) as execution:
        for queue in queues:
            assert await execution.execute(queue + later) == "UPDATE 1"
    async with db.as_(Role.SHARING) as sharing:
        assert await sharing.execute("UPDATE share_holder SET remind_at = NULL, reminders = 1") == "UPDATE 1"


async def test_rights_are_given_back_to_what_the_table_says(db: Database) -> None:
    """A right that somebody added, a role that somebody raised, a table that somebody else made: all put right."""
    async with db.as_(None) as admin:
        await admin.execute("GRANT ALL ON ledger_transfer TO mypay_relay; GRANT UPDATE (terms) ON consent TO PUBLIC")
        await admin.execute("GRANT mypay_owner TO mypay_relay; ALTER ROLE mypay_relay CREATEROLE")
        await admin.execute("ALTER TABLE refusal OWNER TO postgres")
        await grants.apply_roles(db.dsn)
    await migrate(db.dsn)
    async with db.as_(Role.RELAY) as connection:
        assert await denied(connection, "DELETE FROM ledger_transfer")
        assert await denied(connection, "UPDATE consent SET terms = terms")
        assert await denied(connection, "SET ROLE mypay_owner")
        assert await denied(connection, "CREATE ROLE mine")
    async with db.as_(None) as admin:
        owners = await admin.fetch(
            "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relname = ANY ($1)", list(TABLES)
        )
    assert [r[0] for r in owners] == [Role.OWNER.user]


async def test_migrations_are_the_owners(database: str) -> None:
    """Also where the tables were made before there were roles."""
    await migrate(database)
    db = await made(database)
    async with db.as_(Role.OWNER) as connection:
        assert (
            await connection.fetchval(
                "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tableowner <> 'mypay_owner'"
            )
            == 0
        )
    assert await migrate(with_user(database, Role.OWNER.user)) == []
