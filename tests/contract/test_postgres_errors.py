"""What only a real server does: it dies, it refuses, it quotes rows in its errors."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import quote

import asyncpg
import pytest
from msgspec.structs import replace

from gateway.app.postgres import PostgresStore
from gateway.app.unit import GatewayUnit
from gateway.base.errors import StoreConflictError, StoreIntegrityError, StoreUnavailableError
from gateway.consents.store import UsageChange
from gateway.database.errors import translated
from schemas.reasons import Reason, ReasonCode
from tests.contract.conftest import PostgresBackend, postgres_backend
from tests.contract.test_payment_store import transfer
from tests.contract.test_refusal_store import refusal
from tests.support.builders import NOW, outbox_event, payment, trace, window
from tests.support.domain_samples import consent
from tests.support.leading import led

pytestmark = pytest.mark.integration

SECRET = "4111111111111111"


@pytest.fixture
async def backend(contract_dsn: str) -> AsyncIterator[PostgresBackend]:
    async with postgres_backend(contract_dsn) as backend:
        yield backend


async def kill_others(backend: PostgresBackend) -> None:
    """End every session but our own, as a crash of the server's processes would."""
    killed = await backend.connection.fetchval(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert killed


async def run(store: PostgresStore, act: Callable[[GatewayUnit], Awaitable[object]]) -> None:
    async with store.transaction() as uow:
        await act(uow)


async def test_a_session_that_dies_in_a_transaction_is_an_outage_and_nothing_stays(backend: PostgresBackend) -> None:
    async def act(uow: GatewayUnit) -> None:
        await uow.payments.insert([payment(1)])
        await kill_others(backend)
        await uow.payments.insert([payment(2)])

    with pytest.raises(StoreUnavailableError):
        await run(backend.store, act)
    # The pool opens another session by itself.
    async with backend.store.reading() as uow:
        assert await uow.payments.find([payment(1).key, payment(2).key]) == {}


async def test_a_session_that_dies_before_the_commit_is_an_outage_and_nothing_stays(backend: PostgresBackend) -> None:
    async def act(uow: GatewayUnit) -> None:
        await uow.payments.insert([payment(1)])
        await kill_others(backend)

    with pytest.raises(StoreUnavailableError):
        await run(backend.store, act)
    async with backend.store.reading() as uow:
        assert await uow.payments.find([payment(1).key]) == {}


async def test_who_stands_still_in_a_transaction_loses_it_and_its_locks_to_the_others(backend: PostgresBackend) -> None:
    await run(backend.store, lambda uow: uow.payments.insert([payment(1)]))
    # Long enough for a busy machine to go from one statement to the next.
    stopped = PostgresStore(backend.dsn, idle_in_transaction_s=2.0)
    await stopped.start()
    locked_by_others = False

    async def lock(uow: GatewayUnit) -> None:
        await uow.payments.lock([payment(1).key])

    async def stand_still(uow: GatewayUnit) -> None:
        nonlocal locked_by_others
        await lock(uow)
        # Ends because the server has ended the first session: nobody else gives the lock up.
        await run(backend.store, lock)
        locked_by_others = True
        await lock(uow)

    with pytest.raises(StoreUnavailableError):
        await run(stopped, stand_still)
    assert locked_by_others
    await run(stopped, lock)
    await stopped.stop()


async def test_who_waits_for_a_lock_when_its_session_dies_meets_an_outage(backend: PostgresBackend) -> None:
    await run(backend.store, lambda uow: uow.payments.insert([payment(1)]))

    async def lock(uow: GatewayUnit) -> None:
        await uow.payments.lock([payment(1).key])

    holder = await asyncpg.connect(backend.dsn)
    async with holder.transaction():
        await holder.execute("SELECT 1 FROM payment FOR UPDATE")
        waiter = asyncio.create_task(run(backend.store, lock))
        await backend.until_blocked(waiter)
        await backend.connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        )
        with pytest.raises(StoreUnavailableError):
            await waiter
    await holder.close()


async def test_a_relay_whose_session_dies_loses_the_lead_and_can_get_it_back(backend: PostgresBackend) -> None:
    await run(backend.store, lambda uow: uow.outbox.append([outbox_event("a"), outbox_event("b")]))
    reader = await led(backend.reader())
    rows = await reader.read(10)
    # Noted, and written with the next look: that one meets the outage.
    await reader.advance(rows[0])
    await kill_others(backend)
    with pytest.raises(StoreUnavailableError):
        await reader.read(10)
    other = await led(backend.reader())
    assert not await reader.acquire()
    await other.release()
    await led(reader)
    assert await reader.read(10) == rows


async def test_a_relay_that_gets_the_lead_and_not_its_place_gives_the_lead_back(
    backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long enough for a busy machine to connect.
    monkeypatch.setattr("gateway.database.leading.COMMAND_TIMEOUT_S", 4.0)
    holder = await asyncpg.connect(backend.dsn)
    async with holder.transaction():
        await holder.execute("LOCK TABLE outbox_cursor IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreUnavailableError) as told:
            await backend.reader().acquire()
    await holder.close()
    await led(backend.reader())
    # Whoever is told of it keeps what was under way, as a log or a debugger does.
    assert told.value.__context__ is not None


async def test_a_server_that_is_not_there_is_an_outage(tmp_path: object) -> None:
    store = PostgresStore("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(StoreUnavailableError):
        await store.start()
    with pytest.raises(StoreUnavailableError):
        await run(store, lambda uow: uow.payments.find([]))


async def test_a_statement_that_takes_too_long_is_an_outage(backend: PostgresBackend) -> None:
    await run(backend.store, lambda uow: uow.payments.insert([payment(1)]))
    # Long enough for a busy machine to do what nobody holds up, and to start.
    hasty = PostgresStore(backend.dsn, command_timeout_s=4.0)
    await hasty.start()
    async with backend.store.transaction() as uow:
        await uow.payments.lock([payment(1).key])
        with pytest.raises(StoreUnavailableError):
            await run(hasty, lambda uow: uow.payments.lock([payment(1).key]))
    await run(hasty, lambda uow: uow.payments.lock([payment(1).key]))
    await hasty.stop()


TRANSLATIONS = {
    asyncpg.DeadlockDetectedError: StoreConflictError,
    asyncpg.SerializationError: StoreConflictError,
    asyncpg.UniqueViolationError: StoreConflictError,
    asyncpg.CheckViolationError: StoreIntegrityError,
    asyncpg.RaiseError: StoreIntegrityError,
    asyncpg.DataError: StoreIntegrityError,
    asyncpg.AdminShutdownError: StoreUnavailableError,
    asyncpg.CannotConnectNowError: StoreUnavailableError,
    asyncpg.ConnectionDoesNotExistError: StoreUnavailableError,
    asyncpg.DiskFullError: StoreUnavailableError,
    asyncpg.TooManyConnectionsError: StoreUnavailableError,
    asyncpg.QueryCanceledError: StoreUnavailableError,
    asyncpg.ReadOnlySQLTransactionError: StoreUnavailableError,
    asyncpg.InterfaceError: StoreUnavailableError,
    # Now and then the driver's word for a session that the server ended while it was idle.
    asyncpg.InternalClientError: StoreUnavailableError,
    ConnectionResetError: StoreUnavailableError,
    TimeoutError: StoreUnavailableError,
    ZeroDivisionError: ZeroDivisionError,
    asyncpg.UndefinedColumnError: asyncpg.UndefinedColumnError,
}


@pytest.mark.parametrize("driver", TRANSLATIONS, ids=lambda kind: kind.__name__)
async def test_every_kind_of_error_is_an_outage_a_race_or_a_bug(driver: type[Exception]) -> None:
    with pytest.raises(TRANSLATIONS[driver]):
        async with translated():
            raise driver(SECRET)


async def test_locks_are_taken_in_key_order_whatever_the_plan(backend: PostgresBackend) -> None:
    """With this plan rows come in the order in which their keys are given."""
    plan = "-c enable_hashjoin=off -c enable_mergejoin=off -c enable_seqscan=off"
    store = PostgresStore(f"{backend.dsn}{'&' if '?' in backend.dsn else '?'}options={quote(plan)}", pool_size=8)
    await store.start()
    consents = [consent(consent_id=f"{n:03}") for n in range(300)]
    await backend.put_consents(*consents)
    async with store.transaction() as uow:
        await uow.payments.insert([payment(n) for n in range(1, 301)])
    keys = [(c.terms.partner_id, c.terms.consent_id) for c in consents]
    payments = sorted(payment(n).key for n in range(1, 301))

    async def lock(turn: int) -> None:
        step = 1 if turn % 2 else -1
        async with store.transaction() as uow:
            await uow.consents.lock(keys[::step])
        async with store.transaction() as uow:
            await uow.payments.lock(payments[::step], known={payments[0]: payment(1)} if turn % 3 else None)

    await asyncio.gather(*(lock(turn) for turn in range(24)))
    await store.stop()


NAMED = payment(1, merchant_id=SECRET, funding_token=SECRET, order_id=SECRET)
WHY = Reason(code=ReasonCode.NARR, text="x")
REFUSED_WRITES = {
    "another payment's rrn": (
        StoreConflictError,
        lambda uow: uow.payments.insert([NAMED, replace(payment(2), trace=replace(trace(1), rrn=trace(1).rrn))]),
    ),
    "no trace numbers": (StoreIntegrityError, lambda uow: uow.payments.insert([replace(NAMED, trace=None)])),
    "no amount": (StoreIntegrityError, lambda uow: uow.payments.insert([replace(NAMED, amount_minor=0)])),
    "a NUL character": (StoreIntegrityError, lambda uow: uow.refusals.insert([refusal(SECRET, order_id="\0")])),
    "a missing value": (StoreIntegrityError, lambda uow: uow.payments.insert([replace(NAMED, consent_id=None)])),
    "a number too large": (StoreIntegrityError, lambda uow: uow.payments.insert([replace(NAMED, amount_minor=2**63)])),
    "a value of another type": (
        StoreIntegrityError,
        lambda uow: uow.payments.insert([replace(NAMED, consent_version=SECRET)]),
    ),
    "a second transfer of a kind": (
        StoreIntegrityError,
        lambda uow: uow.payments.insert_transfers([(NAMED.key, replace(transfer(), debit=SECRET), NOW)] * 2),
    ),
    "usage below zero": (
        StoreIntegrityError,
        lambda uow: uow.consents.add_usage([UsageChange((SECRET, SECRET, window()), -1, 1)]),
    ),
    "usage that is not there": (
        StoreIntegrityError,
        lambda uow: uow.consents.add_usage([UsageChange((SECRET, SECRET, window()), -1, -1)]),
    ),
}


@pytest.mark.parametrize("case", REFUSED_WRITES)
async def test_a_refused_write_is_named_by_kind_and_says_nothing_of_the_row(
    backend: PostgresBackend, case: str
) -> None:
    kind, act = REFUSED_WRITES[case]
    with pytest.raises(kind) as caught:
        await run(backend.store, act)
    # Not in its text, and not in what a log would print of the errors behind it.
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("statement", ["UPDATE ledger_transfer SET amount_minor = 1", "DELETE FROM ledger_transfer"])
async def test_the_ledger_is_append_only(backend: PostgresBackend, statement: str) -> None:
    await run(backend.store, lambda uow: uow.payments.insert_transfers([(payment(1).key, transfer(), NOW)]))
    with pytest.raises(asyncpg.RaiseError):
        await backend.connection.execute(statement)
    assert len(await backend.ledger()) == 1
