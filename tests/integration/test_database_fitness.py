"""A process looks at its database before it relies on it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, tzinfo
from typing import Self

import asyncpg
import pytest
from pydantic import SecretStr

from gateway.app import database as database_of_process
from gateway.app import process
from gateway.app.database import check_database
from gateway.app.errors import NotConfiguredError
from gateway.app.postgres import PostgresStore
from gateway.app.process import started_process
from gateway.app.settings import Settings
from gateway.base.errors import StoreForbiddenError, StoreUnavailableError
from gateway.base.process import SilentObserver
from gateway.database import fitness
from gateway.database.dsn import with_user
from gateway.database.errors import DatabaseUnfitError
from gateway.database.fitness import examine, faults
from gateway.database.grants import apply_roles
from gateway.database.migrate import migrate
from gateway.database.roles import RUNNING, Role
from gateway.observability.health import Health, run_checks
from gateway.observability.recording import RecordingObserver
from tests.support.builders import payment


@asynccontextmanager
async def session(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture(scope="module")
async def db(module_database: str) -> str:
    await apply_roles(module_database)
    await migrate(module_database)
    return module_database


@pytest.mark.parametrize("role", RUNNING)
async def test_each_role_finds_the_database_fit(db: str, role: Role) -> None:
    async with session(with_user(db, role.user)) as connection:
        found = await examine(connection, role)
    assert faults(found, role, any_role=False) == []
    assert (found.who, found.pooled, found.in_recovery, found.idle_ms) == (role.user, False, False, 10_000)


PASSED = {
    "outbox_cursor": (Role.RELAY, Role.OPERATOR, Role.READONLY),
    "disclosure_head": (Role.DISCLOSURE, Role.READONLY),
    "sharing_place": (Role.SHARING, Role.READONLY),
}
"""Who has read events how far → roles that see it."""


@pytest.mark.parametrize("table", PASSED)
async def test_a_server_whose_transaction_numbers_began_anew_is_told(database: str, table: str) -> None:
    """What is written there would stand before what the readers of the outbox have passed, and never be told."""
    await apply_roles(database)
    await migrate(database)
    async with session(database) as owner:
        await owner.execute(
            f"UPDATE {table} SET tx = (pg_snapshot_xmax(pg_current_snapshot())::text::bigint + 1000)::text::xid8"
        )
    for role in PASSED[table]:
        async with session(with_user(database, role.user)) as connection:
            (told,) = faults(await examine(connection, role), role, any_role=False)
        assert "Let the numbers go on" in told


async def test_another_processs_user_lacks_rights(db: str) -> None:
    async with session(with_user(db, Role.RELAY.user)) as connection:
        (told,) = faults(await examine(connection, Role.EXECUTION), Role.EXECUTION, any_role=False)
    assert "user mypay_relay lacks SELECT on partner" in told


@pytest.mark.parametrize("user", ["postgres", Role.OWNER.user])
async def test_a_superuser_and_the_owner_may_do_too_much(db: str, user: str) -> None:
    async with session(with_user(db, user)) as connection:
        *_, told = faults(await examine(connection, Role.EXECUTION), Role.EXECUTION, any_role=False)
    assert f"user {user} may do more than this process needs" in told


async def test_an_empty_database_is_told(database: str) -> None:
    async with session(database) as connection:
        with pytest.raises(DatabaseUnfitError, match="run `mypay migrate`"):
            await examine(connection, Role.RELAY)


def settings_of(dsn: str) -> Settings:
    return Settings(postgres_dsn_relay=SecretStr(dsn), kafka_bootstrap_servers="127.0.0.1:1", log_level="error")


async def test_a_process_does_not_start_on_a_database_that_is_not_fit(db: str, database: str) -> None:
    refusals = {
        database: "has not our tables",
        with_user(db, Role.READONLY.user): "not fit for relay: user mypay_readonly lacks",
        f"{with_user(db, Role.RELAY.user)}&synchronous_commit=off": "synchronous_commit is off",
        "postgresql://mypay_relay@db.example/mypay": "another machine",
        with_user(db, "nobody"): "does not let mypay-relay in",
        db.replace("/test_", "/none_"): "does not let mypay-relay in",
    }
    for dsn, said in refusals.items():
        with pytest.raises(NotConfiguredError, match=said):
            async with started_process(settings_of(dsn), "relay"):
                pytest.fail("it started")
    async with started_process(settings_of(with_user(db, Role.RELAY.user)), "relay") as parts:
        assert "mypay_relay" not in repr(parts)


@pytest.mark.parametrize("ahead", [timedelta(days=31), timedelta(hours=-2)])
async def test_a_process_waits_while_its_clock_is_not_the_servers(
    db: str, ahead: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock a month ahead consents ended for good, and standing orders were paid that were not due."""

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + ahead

    dsn = with_user(db, Role.RELAY.user)
    store, observer = PostgresStore(dsn), RecordingObserver()
    await store.start()
    try:
        with monkeypatch.context() as wrong:
            wrong.setattr(fitness, "datetime", Wrong)
            with pytest.raises(StoreUnavailableError, match="this machine's clock"):
                await check_database(store, settings_of(dsn), Role.RELAY, dsn, observer)
        # An alert looks at it: the process is there, and does nothing.
        assert observer.levels["clock_ahead_seconds"] == pytest.approx(ahead.total_seconds(), abs=5)
        await check_database(store, settings_of(dsn), Role.RELAY, dsn, SilentObserver())
    finally:
        await store.stop()


async def test_a_process_that_waits_for_a_fit_database_is_not_ready(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, asked = asyncio.Event(), asyncio.Event()
    kept: list[Health] = []

    async def look(*_: object) -> None:
        waiting.set()
        await asked.wait()

    def keep(health: Health, *_: object) -> None:
        kept.append(health)

    monkeypatch.setattr(database_of_process, "check_database", look)
    monkeypatch.setattr(process, "_ask_readiness", keep)

    async def start() -> None:
        async with started_process(settings_of(with_user(db, Role.RELAY.user)), "relay"):
            pass

    starting = asyncio.create_task(start())
    await waiting.wait()
    assert "not found the database fit" in (await run_checks(kept[0].readiness))["start"]
    asked.set()
    await starting
    assert "start" not in kept[0].readiness


async def test_a_missing_right_is_an_outage_and_no_orders_fault(db: str) -> None:
    """Else every order of a batch would be parked, one by one, for what an operator forgot."""
    store = PostgresStore(with_user(db, Role.RELAY.user))
    await store.start()
    try:
        with pytest.raises(StoreForbiddenError):
            async with store.transaction() as uow:
                await uow.payments.insert([payment(1)])
    finally:
        await store.stop()
