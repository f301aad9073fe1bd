"""Identity links, single use and revoked keys on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest
from msgspec import structs

from gateway.app.postgres import PostgresStore
from gateway.app.registries import open_registries
from gateway.base.errors import StoreUnavailableError
from gateway.identity.postgres import PostgresAuthenticationStore
from gateway.identity.registry import PostgresIdentities, PostgresRevocations
from gateway.identity.store import AssertionUse, IdentityLink
from gateway.views.identities import IdentitiesView
from tests.support.statements import statements

NOW = datetime(2025, 3, 2, 3, 4, 5, tzinfo=UTC)
BANK, TELCO = "https://id.financial", "https://id.telecom"


@dataclass
class Database:
    dsn: str
    connection: "asyncpg.Connection[asyncpg.Record]"

    @property
    def store(self) -> PostgresAuthenticationStore:
        return PostgresAuthenticationStore(self.connection)

    @property
    def identities(self) -> PostgresIdentities:
        return PostgresIdentities(self.connection)

    @property
    def seen(self) -> IdentitiesView:
        return IdentitiesView(self.connection)

    async def reconnect(self) -> None:
        await self.connection.close()
        self.connection = await asyncpg.connect(self.dsn)


@pytest.fixture
def database(migrated_database: str) -> str:
    return migrated_database


@pytest.fixture
async def db(database: str) -> AsyncIterator[Database]:
    db = Database(database, await asyncpg.connect(database))
    yield db
    await db.connection.close()


def use(jti: str = "j-1", *, by: UUID | None = None, partner: str = "acme", issuer: str = BANK) -> AssertionUse:
    return AssertionUse(issuer, jti, partner, by or uuid4(), NOW + timedelta(days=7))  # type: ignore[arg-type]


# --- single use ---


async def test_a_jti_is_used_once_also_after_a_reconnect(db: Database) -> None:
    first = use()
    assert await db.store.use([first]) == frozenset()
    others = [use(), use(partner="beta"), structs.replace(first, partner_id="beta")]
    for _ in range(2):
        assert await db.store.use(others) == frozenset(others)
        # The same payment again is a redelivery.
        assert await db.store.use([first]) == frozenset()
        await db.reconnect()


async def test_issuers_count_apart(db: Database) -> None:
    assert await db.store.use([use(), use(issuer=TELCO)]) == frozenset()


async def test_the_first_of_a_batch_counts(db: Database) -> None:
    first, second, third = use(), use(), use("j-2")
    assert await db.store.use([first, second, third]) == {second}
    assert await db.store.use([second, first, third]) == {second}


async def test_an_empty_batch_costs_nothing(db: Database) -> None:
    assert await db.store.use([]) == frozenset()
    assert await db.store.links([]) == {}


async def test_what_was_rolled_back_was_not_used(db: Database) -> None:
    transaction = db.connection.transaction()
    await transaction.start()
    await db.store.use([use()])
    await transaction.rollback()
    assert await db.store.use([use()]) == frozenset()


@pytest.mark.parametrize("committed", [True, False])
async def test_a_use_in_a_running_transaction_is_waited_for(db: Database, committed: bool) -> None:
    other = await asyncpg.connect(db.dsn)
    mine, theirs = use(), use()
    transaction = other.transaction()
    await transaction.start()
    await PostgresAuthenticationStore(other).use([theirs])
    waiting = asyncio.create_task(db.store.use([mine]))
    blocked = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while not await other.fetchval(blocked):
        assert not waiting.done()
    await (transaction.commit() if committed else transaction.rollback())
    assert await waiting == (frozenset({mine}) if committed else frozenset())
    await other.close()


async def test_two_batches_in_opposite_order_do_not_wait_for_each_other(db: Database) -> None:
    holder, one, two = [await asyncpg.connect(db.dsn) for _ in range(3)]
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    async def work(connection: "asyncpg.Connection[asyncpg.Record]", *jtis: str) -> int:
        async with connection.transaction():
            return len(await PostgresAuthenticationStore(connection).use([use(jti) for jti in jtis]))

    transaction = holder.transaction()
    await transaction.start()
    await PostgresAuthenticationStore(holder).use([use("c")])
    # In the order given, the first would hold a and the second b when the first goes on to want b.
    first = asyncio.create_task(work(one, "a", "c", "b"))
    while await db.connection.fetchval(blocked) < 1:
        assert not first.done()
    second = asyncio.create_task(work(two, "b", "a"))
    while await db.connection.fetchval(blocked) < 2:
        assert not second.done()
    await transaction.rollback()
    assert await asyncio.gather(first, second) == [0, 2]
    for connection in (holder, one, two):
        await connection.close()


async def test_many_workers_and_one_pool_of_assertions(db: Database) -> None:
    """Every assertion ends with exactly one user, whatever the order; and nobody deadlocks."""
    jtis = [f"j-{n}" for n in range(200)]
    workers = [await asyncpg.connect(db.dsn) for _ in range(6)]

    async def work(number: int, connection: "asyncpg.Connection[asyncpg.Record]") -> list[AssertionUse]:
        mine = [use(jti, by=uuid4(), partner=f"partner-{number}") for jti in jtis]
        mine = mine if number % 2 else mine[::-1]
        kept: list[AssertionUse] = []
        for batch in (mine[:50], mine[50:150], mine[150:]):
            async with connection.transaction():
                refused = await PostgresAuthenticationStore(connection).use(batch)
            kept += [u for u in batch if u not in refused]
        return kept

    results = await asyncio.gather(*(work(n, c) for n, c in enumerate(workers)))
    kept = [u for result in results for u in result]
    assert sorted(u.jti for u in kept) == sorted(jtis)
    rows = await db.connection.fetch("SELECT jti, partner_id, used_by FROM used_assertion")
    assert {tuple(r) for r in rows} == {(u.jti, u.partner_id, u.used_by) for u in kept}
    for worker in workers:
        await worker.close()


async def test_purge_forgets_what_is_past_and_no_more(db: Database) -> None:
    ends = [NOW + timedelta(hours=n) for n in range(5)]
    await db.store.use([structs.replace(use(f"j-{n}"), keep_until=end) for n, end in enumerate(ends)])
    assert await db.store.purge(before=ends[3], limit=2) == 2
    assert await db.store.purge(before=ends[3], limit=2) == 1
    assert await db.store.purge(before=ends[3], limit=2) == 0
    left = await db.connection.fetch("SELECT jti FROM used_assertion ORDER BY jti")
    assert [r["jti"] for r in left] == ["j-3", "j-4"]


async def test_five_thousand_uses_take_as_many_statements_as_one(db: Database) -> None:
    asked = []
    for uses in ([use("first")], [use("one")], [use(f"j-{n}") for n in range(5000)]):
        for _ in range(2):
            async with statements(db.connection) as some:
                assert await db.store.use(uses) == frozenset()
            asked.append(some)
    # With the first one the driver asks for the types of columns, too.
    assert asked[4:] == asked[2:4]
    assert all(asked)


# --- identities ---


def link(issuer: str = BANK, subject: str = "s-1", customer: str = "c-1", at: datetime = NOW) -> IdentityLink:
    return IdentityLink(issuer, subject, customer, at)  # type: ignore[arg-type]


async def test_one_customer_is_known_in_both_groups(db: Database) -> None:
    assert await db.identities.link([link(), link(TELCO, "t-1")]) == {(BANK, "s-1"), (TELCO, "t-1")}
    asked = [(BANK, "s-1"), (TELCO, "t-1"), (TELCO, "s-1"), (BANK, "nobody")]
    assert await db.store.links(asked) == {(BANK, "s-1"): "c-1", (TELCO, "t-1"): "c-1"}


async def test_an_identity_belongs_to_one_customer_at_a_time(db: Database) -> None:
    await db.identities.link([link()])
    assert await db.identities.link([link(customer="c-2")]) == frozenset()
    assert await db.store.links([(BANK, "s-1")]) == {(BANK, "s-1"): "c-1"}
    later = NOW + timedelta(hours=1)
    assert await db.identities.unlink(BANK, "s-1", now=later) == "c-1"
    assert await db.identities.unlink(BANK, "s-1", now=later) is None
    assert await db.store.links([(BANK, "s-1")]) == {}
    await db.identities.link([link(customer="c-2", at=later)])
    assert await db.store.links([(BANK, "s-1")]) == {(BANK, "s-1"): "c-2"}
    # The history says who was whom, and when.
    assert await db.seen.links(ended=True) == [
        replace(link(), unlinked_at=later),
        link(customer="c-2", at=later),
    ]
    assert await db.seen.links() == [link(customer="c-2", at=later)]
    assert await db.seen.links("c-1", ended=True) == [replace(link(), unlinked_at=later)]  # type: ignore[arg-type]


async def test_two_links_at_once_end_with_one(db: Database) -> None:
    async def attempt(number: int) -> frozenset[tuple[str, str]]:
        async with open_registries(db.dsn) as registries:
            return await registries.identities.link([link(customer=f"c-{number}")])

    won = await asyncio.gather(*(attempt(n) for n in range(6)))
    assert sorted(map(len, won)) == [0, 0, 0, 0, 0, 1]
    assert await db.store.links([(BANK, "s-1")]) == {(BANK, "s-1"): f"c-{[len(w) for w in won].index(1)}"}


# --- revoked keys ---


async def test_the_trust_policy_that_was_applied_last_counts(db: Database) -> None:
    assert await db.identities.applied_policy() is None
    assert [await db.identities.apply_policy(d * 64) for d in ("a", "b", "b", "a", "b")] == [
        True,
        True,
        False,
        True,
        True,
    ]
    found = await db.identities.applied_policy()
    assert found is not None
    assert found[0] == "b" * 64
    assert not await db.identities.apply_policy("b" * 64)


async def test_a_revoked_key_is_seen_by_running_processes(db: Database) -> None:
    store = PostgresStore(db.dsn)
    await store.start()
    revocations = PostgresRevocations(store)
    assert await revocations() == frozenset()
    assert await db.identities.revoke_key(BANK, "k-1", now=NOW)
    assert not await db.identities.revoke_key(BANK, "k-1", now=NOW)
    assert await revocations() == await db.identities.revoked_keys() == {(BANK, "k-1")}
    await store.stop()
    with pytest.raises(StoreUnavailableError):
        await revocations()
