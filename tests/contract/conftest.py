"""Every test here runs against the fakes and against a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Protocol

import asyncpg
import pytest

from gateway.app.postgres import PostgresStore
from gateway.app.registries import open_registries, withdraw_token
from gateway.app.unit import GatewayUnit
from gateway.base.keys import ConsentKey
from gateway.consents.rules.consent import Consent
from gateway.consents.rules.limits import UsageKey
from gateway.database.migrate import migrate
from gateway.database.unit import Store
from gateway.directory.merchants import Merchant
from gateway.disclosure.postgres import PostgresDisclosureLog
from gateway.disclosure.rules.entry import GENESIS, Use
from gateway.disclosure.rules.verification import Finding
from gateway.disclosure.store import DisclosureLog
from gateway.marketing.rules.campaign import Campaign, CampaignRow
from gateway.outbox.postgres import PostgresOutboxReader
from gateway.outbox.store import OutboxReader
from gateway.proving.memory import Database, MemoryDisclosureLog, MemoryOutboxReader, MemoryStore
from gateway.proving.memory.disclosure import verified
from gateway.sharing.rules.records import Approval, Place
from gateway.views.disclosures import DisclosuresView
from schemas.consents import ConsentStatus
from schemas.primitives import FundingToken, NetworkId, PartnerId
from tests.support.builders import NOW
from tests.support.partitions import partition_outbox
from tests.support.roots import ROOT_VERIFIER
from tests.support.stack import fresh_database
from tests.support.tokens import put_token

TABLES = (
    "share, share_holder, affiliate_approval, affiliate_key, affiliate, outbox_parked, "
    "consent, consent_version, consent_command, consent_purpose_end, consent_usage, "
    "consent_authentication, "
    "used_assertion, payment, cancellation, cancellation_answer, refusal, reversal, inquiry, late_answer, "
    "ledger_transfer, scheduled_order, standing_order, bulk, clearing_record, clearing_superseded, outbox, merchant, "
    "network_status, funding_token, funding_token_partner, disclosure_entry, disclosure_content, disclosure_block, "
    "disclosure_root, disclosure_destruction, disclosure_notice, recipient, recipient_key, portability_request, "
    "portability_export, marketing_table_payment, marketing_table, offer_use, offer, marketing_customer, campaign, "
    "portability_access, portability_request_gone, data_destruction, archived_payment, archive_file"
)


class Backend(Protocol):
    """One implementation under test, with what its tests need from behind it."""

    store: Store

    def reader(self) -> OutboxReader:
        """A relay's reader, not yet leading."""

    def disclosure_log(self) -> DisclosureLog:
        """A sequencer's log, not yet leading."""

    async def findings(self) -> tuple[int, list[Finding]]:
        """How many entries the whole log has, verified, and what is wrong with it."""

    async def uses(self) -> list[Use]:
        """What the entries tell, in their order."""

    async def partition_outbox(self, *, ending: bool = True) -> None:
        """Give the outbox partitions of 16 transactions each, from here on; or none that ends."""

    async def outbox_events(self) -> list[str]:
        """Ids of all events that are there, in their order."""

    async def disclose_all(self) -> None:
        """Let the disclosure log's cursor stand where the relay's does."""

    async def move_cursor_as_before(self) -> None:
        """As a relay of the release before does, which knows no bundles."""

    async def move_head_as_before(self) -> None:
        """As a sequencer of the release before does."""

    async def share_all(self) -> None:
        """Let sharing stand where the relay does, if it runs."""

    async def retire_sharing(self) -> None:
        """Say that sharing runs no more."""

    async def put_consents(self, *consents: Consent) -> None: ...

    async def set_status(self, key: ConsentKey, status: ConsentStatus) -> None: ...

    async def put_merchants(self, *merchants: Merchant) -> None: ...

    async def pause_network(self, network_id: NetworkId) -> None: ...

    async def resume_network(self, network_id: NetworkId) -> None: ...

    async def put_approval(self, approval: Approval) -> None:
        """An affiliate, active, with this approval."""

    async def withdraw_approval(self, approval: Approval) -> None: ...

    async def put_campaigns(self, *campaigns: Campaign) -> None: ...

    async def put_token(self, token: str, customer_id: str, *partners: str) -> None:
        """A token of this customer that these partners may use; what is sealed behind it opens for nobody."""

    async def withdraw_token(self, token: str, partner_id: str) -> None: ...

    async def until_readable(self) -> None:
        """Return once readers of the outbox come to all that has committed."""

    async def until_blocked(self, task: "asyncio.Task[Any]") -> None:
        """Return once ``task`` waits for a lock; fail if it ends instead."""

    def usage_held(self, key: UsageKey) -> AbstractAsyncContextManager[None]:
        """Hold the row of this window, and change nothing."""

    async def usage_is_free(self, key: UsageKey) -> bool:
        """True if no transaction holds the row of this window."""

    async def ledger(self) -> list[tuple[str, str, str, int]]:
        """(kind, debit, credit, amount) of every transfer, sorted."""

    async def outcomes(self) -> dict[int, tuple[object, str | None]]:
        """Clearing record number → (payment id, kind of break)."""


class MemoryBackend:
    def __init__(self) -> None:
        self.database = Database()
        self.store = MemoryStore(self.database)

    def reader(self) -> OutboxReader:
        return MemoryOutboxReader(self.database)

    def disclosure_log(self) -> DisclosureLog:
        return MemoryDisclosureLog(self.database)

    async def findings(self) -> tuple[int, list[Finding]]:
        return verified(self.database, ROOT_VERIFIER)

    async def uses(self) -> list[Use]:
        return [e.use for e in self.database.disclosure_entries]

    async def partition_outbox(self, *, ending: bool = True) -> None:
        """They are there."""

    async def outbox_events(self) -> list[str]:
        return [row.event.event_id for row in self.database.outbox]

    async def disclose_all(self) -> None:
        tx, number = self.database.outbox_cursor
        self.database.disclosure_head = replace(self.database.disclosure_head, tx=tx, id=number)

    async def move_cursor_as_before(self) -> None:
        self.database.relay_reads_bundles = False

    async def move_head_as_before(self) -> None:
        self.database.log_reads_bundles = False

    async def share_all(self) -> None:
        tx, number = self.database.outbox_cursor
        for key in self.database.sharing.place.rows:
            self.database.sharing.place.rows[key] = Place(tx, number)

    async def retire_sharing(self) -> None:
        for key in self.database.sharing.place.rows:
            self.database.sharing.retired.rows[key] = True

    async def put_consents(self, *consents: Consent) -> None:
        for consent in consents:
            self.database.put_consent(consent)

    async def set_status(self, key: ConsentKey, status: ConsentStatus) -> None:
        old = self.database.consents.rows[key]
        self.database.put_consent(Consent(old.terms, old.version + 1, status))

    async def put_merchants(self, *merchants: Merchant) -> None:
        for merchant in merchants:
            self.database.put_merchant(merchant)

    async def pause_network(self, network_id: NetworkId) -> None:
        self.database.network_pauses.rows[network_id] = True

    async def resume_network(self, network_id: NetworkId) -> None:
        del self.database.network_pauses.rows[network_id]

    async def put_approval(self, approval: Approval) -> None:
        self.database.sharing.approvals.rows[approval.affiliate_id, approval.use.value] = approval

    async def withdraw_approval(self, approval: Approval) -> None:
        del self.database.sharing.approvals.rows[approval.affiliate_id, approval.use.value]

    async def put_campaigns(self, *campaigns: Campaign) -> None:
        self.database.marketing.campaigns.rows.update({c.campaign_id: CampaignRow(c) for c in campaigns})

    async def put_token(self, token: str, customer_id: str, *partners: str) -> None:
        self.database.put_token(token, customer_id, *partners)

    async def withdraw_token(self, token: str, partner_id: str) -> None:
        row = self.database.tokens.rows[token]  # type: ignore[index]
        self.database.put_token(token, row.customer_id, *(row.partners - {partner_id}))

    async def until_readable(self) -> None:
        """What has committed can be read at once."""

    async def until_blocked(self, task: "asyncio.Task[Any]") -> None:
        while not self.database.locks.waiting:
            assert not task.done()
            await asyncio.sleep(0)

    @asynccontextmanager
    async def usage_held(self, key: UsageKey) -> AsyncIterator[None]:
        assert self.database.locks.try_acquire(-2, (self.database.usage.name, key))
        try:
            yield
        finally:
            self.database.locks.release_all(-2)

    async def usage_is_free(self, key: UsageKey) -> bool:
        free = self.database.locks.try_acquire(-1, (self.database.usage.name, key))
        self.database.locks.release_all(-1)
        return free

    async def ledger(self) -> list[tuple[str, str, str, int]]:
        rows = [p.transfer for p in self.database.transfers.rows.values()]
        return sorted((t.kind.value, t.debit, t.credit, t.amount_minor) for t in rows)

    async def outcomes(self) -> dict[int, tuple[object, str | None]]:
        return {
            number: (row.payment and row.payment[1], row.found and row.found.kind.value)
            for (_, _, number), row in self.database.clearing.rows.items()
        }


class PostgresBackend:
    def __init__(self, dsn: str, store: PostgresStore, connection: "asyncpg.Connection[Any]") -> None:
        self.dsn = dsn
        self.store = store
        self.connection = connection
        self.readers: list[Any] = []

    def reader(self) -> OutboxReader:
        reader = PostgresOutboxReader(self.dsn)
        self.readers.append(reader)
        return reader

    def disclosure_log(self) -> DisclosureLog:
        log = PostgresDisclosureLog(self.dsn)
        self.readers.append(log)
        return log

    async def findings(self) -> tuple[int, list[Finding]]:
        async with DisclosuresView.opened(self.dsn) as view:
            verification = await view.verify(ROOT_VERIFIER)
        return verification.entries, verification.findings

    async def uses(self) -> list[Use]:
        async with DisclosuresView.opened(self.dsn) as view:
            return [d.use for d in await view.all(after=0, limit=1000)]

    async def partition_outbox(self, *, ending: bool = True) -> None:
        await partition_outbox(self.connection, width=16 if ending else None)

    async def outbox_events(self) -> list[str]:
        return [r[0] for r in await self.connection.fetch("SELECT event_id FROM outbox ORDER BY tx, id")]

    async def disclose_all(self) -> None:
        await self.connection.execute("UPDATE disclosure_head SET (tx, id) = (SELECT tx, id FROM outbox_cursor)")

    async def move_cursor_as_before(self) -> None:
        await self.connection.execute("UPDATE outbox_cursor SET tx = tx, id = id")

    async def move_head_as_before(self) -> None:
        await self.connection.execute("UPDATE disclosure_head SET tx = tx, id = id")

    async def share_all(self) -> None:
        await self.connection.execute("UPDATE sharing_place SET (tx, id) = (SELECT tx, id FROM outbox_cursor)")

    async def retire_sharing(self) -> None:
        async with open_registries(self.dsn) as registries:
            assert await registries.affiliates.retire()

    async def put_consents(self, *consents: Consent) -> None:
        async with open_registries(self.dsn) as registries:
            await registries.consents.add_consents([(c.terms, c.status) for c in consents])

    async def set_status(self, key: ConsentKey, status: ConsentStatus) -> None:
        await self.connection.execute(
            "UPDATE consent SET status = $3, version = version + 1 WHERE (partner_id, consent_id) = ($1, $2)",
            *key,
            status.value,
        )

    async def put_merchants(self, *merchants: Merchant) -> None:
        async with open_registries(self.dsn) as registries:
            await registries.directory.upsert_merchants(merchants)

    async def pause_network(self, network_id: NetworkId) -> None:
        async with open_registries(self.dsn) as registries:
            assert await registries.directory.pause_network(network_id, operator="kim", why="maintenance")
            assert not await registries.directory.pause_network(network_id, operator="lee", why="also")

    async def resume_network(self, network_id: NetworkId) -> None:
        async with open_registries(self.dsn) as registries:
            assert await registries.directory.resume_network(network_id)
            assert not await registries.directory.resume_network(network_id)

    async def put_approval(self, approval: Approval) -> None:
        async with open_registries(self.dsn) as registries:
            await registries.affiliates.add(approval.affiliate_id, approval.affiliate_id, "telecom")
            await registries.affiliates.approve(
                approval.affiliate_id, approval.use, approval.legal_basis, approved_by=approval.approved_by, now=NOW
            )

    async def withdraw_approval(self, approval: Approval) -> None:
        async with open_registries(self.dsn) as registries:
            await registries.affiliates.withdraw(approval.affiliate_id, approval.use, now=NOW)

    async def put_campaigns(self, *campaigns: Campaign) -> None:
        async with open_registries(self.dsn) as registries:
            for campaign in campaigns:
                assert await registries.campaigns.apply(campaign, now=NOW)

    async def put_token(self, token: str, customer_id: str, *partners: str) -> None:
        await put_token(self.dsn, token, customer_id, *partners)

    async def withdraw_token(self, token: str, partner_id: str) -> None:
        await withdraw_token(self.dsn, FundingToken(token), PartnerId(partner_id), now=NOW)

    async def until_readable(self) -> None:
        # Whatever runs on the server holds readers of the outbox back, also in another database.
        held = "SELECT EXISTS (SELECT FROM outbox WHERE tx >= pg_snapshot_xmin(pg_current_snapshot()))"
        while await self.connection.fetchval(held):
            pass

    async def until_blocked(self, task: "asyncio.Task[Any]") -> None:
        waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        while not await self.connection.fetchval(waiting):
            assert not task.done()

    @asynccontextmanager
    async def usage_held(self, key: UsageKey) -> AsyncIterator[None]:
        other = await asyncpg.connect(self.dsn)
        try:
            async with other.transaction():
                assert await other.fetchval(_LOCK_USAGE + "FOR UPDATE", *_usage_row(key))
                yield
        finally:
            await other.close()

    async def usage_is_free(self, key: UsageKey) -> bool:
        found = await self.connection.fetchval(_LOCK_USAGE + "FOR UPDATE SKIP LOCKED", *_usage_row(key))
        return found is not None

    async def ledger(self) -> list[tuple[str, str, str, int]]:
        rows = await self.connection.fetch("SELECT kind, debit, credit, amount_minor FROM ledger_transfer")
        return sorted(tuple(row) for row in rows)

    async def outcomes(self) -> dict[int, tuple[object, str | None]]:
        rows = await self.connection.fetch("SELECT record_no, payment_id, break_kind FROM clearing_record")
        return {row[0]: (row[1], row[2]) for row in rows}


_LOCK_USAGE = "SELECT 1 FROM consent_usage WHERE (partner_id, consent_id, limit_key, starts_at) = ($1, $2, $3, $4) "


def _usage_row(key: UsageKey) -> tuple[object, ...]:
    partner_id, consent_id, window = key
    return partner_id, consent_id, window.limit_key, window.starts_at


@pytest.fixture(scope="session")
def contract_dsn(postgres_server: str) -> Iterator[str]:
    with fresh_database(postgres_server) as dsn:
        yield dsn


_migrated: set[str] = set()


@asynccontextmanager
async def postgres_backend(dsn: str) -> AsyncIterator[PostgresBackend]:
    if dsn not in _migrated:
        await migrate(dsn)
        _migrated.add(dsn)
    connection = await asyncpg.connect(dsn)
    # All workers of a test share it: more than they need at a time, or some would hold them all and wait for more.
    store = PostgresStore(dsn, pool_size=32)
    # Append-only tables refuse it to everybody else: only a superuser can put their triggers aside. Not truncated: that
    # makes two hundred files anew, for a few rows.
    emptied = "; ".join(f"DELETE FROM {table}" for table in TABLES.split(", "))
    await connection.execute(f"SET session_replication_role = replica; {emptied}; RESET session_replication_role")
    await connection.execute("UPDATE disclosure_notice_cursor SET seq = 0")
    await connection.execute("UPDATE outbox_cursor SET tx = '0', id = 0")
    await connection.execute("UPDATE sharing_place SET tx = '0', id = 0, followed = false")
    await connection.execute(
        "UPDATE disclosure_head SET tx = '0', id = 0, seq = 0, entry_hash = $1, root_number = 0, root_hash = $1, "
        "root_seq = 0, period_start = NULL, frontier = ''",
        GENESIS,
    )
    await store.start()
    backend = PostgresBackend(dsn, store, connection)
    try:
        yield backend
    finally:
        for reader in backend.readers:
            await reader.release()
        await store.stop()
        await connection.close()


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.integration)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def dsn(kind: str, request: pytest.FixtureRequest) -> str | None:
    return str(request.getfixturevalue("contract_dsn")) if kind == "postgres" else None


@pytest.fixture
async def backend(dsn: str | None) -> AsyncIterator[Backend]:
    """A backend whose customer ``customer-1`` lets both partners use ``token-1``."""
    if dsn is None:
        memory = MemoryBackend()
        await memory.put_token("token-1", "customer-1", "partner-1", "partner-2")
        yield memory
        return
    async with postgres_backend(dsn) as backend:
        await backend.put_token("token-1", "customer-1", "partner-1", "partner-2")
        yield backend


@pytest.fixture
def store(backend: Backend) -> Store:
    return backend.store


class _RolledBackError(Exception):
    pass


@asynccontextmanager
async def rolled_back(store: Store) -> AsyncIterator[GatewayUnit]:
    """A transaction whose block raises at its end."""
    with suppress(_RolledBackError):
        async with store.transaction() as uow:
            yield uow
            raise _RolledBackError


async def ended(tasks: Sequence["asyncio.Task[Any]"]) -> None:
    """Cancel what still runs and wait for it."""
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task
