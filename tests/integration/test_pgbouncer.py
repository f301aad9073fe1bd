"""Behind a real PgBouncer, in both of its modes: what works, and what says that it does not."""

import asyncio
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from gateway.app.postgres import PostgresStore
from gateway.app.registries import open_registries, withdraw_token
from gateway.base.errors import StoreUnavailableError
from gateway.database.dsn import with_user
from gateway.database.fitness import examine, faults
from gateway.database.grants import apply_roles
from gateway.database.migrate import MigrationError, migrate
from gateway.database.roles import Role
from gateway.directory.partners import NewPartner
from gateway.proving.stack.ports import free_ports
from gateway.views.consents import ConsentsView
from tests.support.builders import later, outbox_event, payment
from tests.support.domain_samples import NOW, USE, consent
from tests.support.tokens import put_token

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer is not installed: apt-get install pgbouncer")

WORKERS = 8
KEY = (consent().terms.partner_id, consent().terms.consent_id)


@pytest.fixture(scope="module")
async def database(module_database: str) -> str:
    await apply_roles(module_database)
    await migrate(module_database)
    return module_database


@pytest.fixture(scope="module", params=["transaction", "session"])
def pooler(request: pytest.FixtureRequest, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """DSN of a PgBouncer as packaged: two sessions of the server for everybody, no setting that helps us."""
    assert PGBOUNCER is not None
    mode = str(request.param)
    folder = tmp_path_factory.mktemp("pgbouncer")
    (port,) = free_ports(1)
    parts = urlsplit(database)
    server, name = parse_qs(parts.query)["host"][0], parts.path[1:]
    size = 2 if mode == "transaction" else 40
    users = folder / "users.txt"
    users.write_text("".join(f'"{r.user}" ""\n' for r in Role) + '"postgres" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n{name} = host={server} port=5432 dbname={name}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {users}\npool_mode = {mode}\n"
        f"default_pool_size = {size}\nmax_client_conn = 200\nlogfile = {folder / 'log'}\npidfile = {folder / 'pid'}\n"
    )
    for path in (folder, *folder.parents):
        if path.stat().st_uid == 0 and path.is_relative_to("/tmp") and path != Path("/tmp"):
            path.chmod(0o755)
    # It refuses to run as root, as PostgreSQL does; both then run as the same account.
    folder.chmod(0o777)
    as_user = ["-u", "embedded_postgres"] if _is_root() else []
    process = subprocess.Popen([PGBOUNCER, *as_user, str(folder / "pgbouncer.ini")], stderr=subprocess.DEVNULL)
    try:
        _until_listening(port, process)
        yield f"postgresql://postgres@127.0.0.1:{port}/{name}"
    finally:
        process.terminate()
        process.wait(60)


def _is_root() -> bool:
    import os  # noqa: PLC0415

    return os.geteuid() == 0


def _until_listening(port: int, process: "subprocess.Popen[bytes]") -> None:
    while True:
        assert process.poll() is None, "PgBouncer ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            continue
        return


@asynccontextmanager
async def store_as(dsn: str, role: Role, **options: float) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(with_user(dsn, role.user), pool_size=WORKERS, name="mypay-test", **options)  # type: ignore[arg-type]
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


async def test_many_workers_share_few_sessions(pooler: str, database: str) -> None:
    """Statements, parameters, copies and locks of eight workers at once: none meets another's."""
    async with open_registries(with_user(pooler, Role.OPERATOR.user)) as registries:
        await registries.directory.add_partners([NewPartner("shop-pay", "Shop Pay", "telecom")])
        await registries.consents.add_consents([(consent().terms, consent().status)])
    async with store_as(pooler, Role.EXECUTION) as store:

        async def work(number: int) -> None:
            for turn in range(10):
                async with store.transaction() as uow:
                    await uow.consents.lock([KEY])
                    await uow.payments.insert([payment(100 * number + turn)])
                    await uow.outbox.append([outbox_event(f"{number}-{turn}")])
                async with store.reading() as uow:
                    assert payment(100 * number + turn).key in await uow.payments.find(
                        [payment(100 * number + turn).key]
                    )

        await asyncio.gather(*(work(n) for n in range(WORKERS)))
    connection = await asyncpg.connect(database)
    try:
        assert await connection.fetchval("SELECT count(*) FROM payment") == WORKERS * 10
        await connection.execute("TRUNCATE payment")
    finally:
        await connection.close()


async def test_every_transaction_has_its_settings_and_leaves_none_behind(pooler: str) -> None:
    asked = "SELECT current_setting('idle_in_transaction_session_timeout'), current_setting('search_path')"
    async with store_as(pooler, Role.EXECUTION, idle_in_transaction_s=3) as store, store.connection() as connection:
        assert tuple(await connection.fetchrow(asked)) == ("3s", "public, pg_temp")
    # What the role begins with, for whoever comes next.
    async with store_as(pooler, Role.EXECUTION) as store, store.connection() as connection:
        assert tuple(await connection.fetchrow(asked)) == ("10s", "public, pg_temp")


async def test_a_worker_that_stands_still_loses_its_locks(pooler: str, database: str) -> None:
    admin = await asyncpg.connect(database)
    idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"

    async def stand_still(store: PostgresStore) -> None:
        async with store.transaction() as uow:
            await uow.payments.insert([payment(1)])
            while await admin.fetchval(idle):
                pass
            await uow.payments.insert([payment(2)])

    async with store_as(pooler, Role.EXECUTION, idle_in_transaction_s=0.2) as store:
        with pytest.raises(StoreUnavailableError):
            await stand_still(store)
    await admin.close()


async def test_each_process_finds_it_fit_but_the_relay(pooler: str) -> None:
    for role in (Role.INITIATION, Role.CONSENTS, Role.EXECUTION, Role.RELAY, Role.SETTLEMENT, Role.SCHEDULE):
        async with store_as(pooler, role) as store, store.connection() as connection:
            found = await examine(connection, role)
        assert found.pooled
        told = faults(found, role, any_role=False)
        assert [("MYPAY_POSTGRES_DSN_RELAY" in t) for t in told] == ([True] if role is Role.RELAY else [])


async def test_migrations_say_that_they_need_a_session(pooler: str, database: str) -> None:
    with pytest.raises(MigrationError, match="MYPAY_POSTGRES_DSN_OWNER"):
        await migrate(with_user(pooler, Role.OWNER.user))
    assert await migrate(with_user(database, Role.OWNER.user)) == []


async def test_commands_that_look_cannot_write(pooler: str) -> None:
    async with ConsentsView.opened(with_user(pooler, Role.READONLY.user)) as consents:
        assert await consents.all(partner_id=None, status=None, limit=10)
        assert await consents.history("shop-pay", "C-1", limit=10) == []
    with pytest.raises(StoreUnavailableError):
        async with open_registries(with_user(pooler, Role.READONLY.user)) as registries:
            await registries.directory.add_partners([NewPartner("other", "Other", "telecom")])


async def test_a_token_is_withdrawn_before_the_locks_of_its_consents_are_waited_for(pooler: str, database: str) -> None:
    operator = with_user(pooler, Role.OPERATOR.user)
    async with open_registries(operator) as registries:
        await registries.directory.add_partners([NewPartner(USE.partner_id, "Shop Pay", "telecom")])
        await registries.consents.add_consents([(consent().terms, consent().status)])
    await put_token(database, *USE)
    async with open_registries(operator) as registries:
        await registries.tokens.allow([(USE.token, USE.partner_id)], now=NOW)
    admin = await asyncpg.connect(database)
    try:
        async with admin.transaction():
            await admin.execute("SELECT 1 FROM consent FOR UPDATE")
            withdrawing = asyncio.create_task(withdraw_token(operator, USE.token, USE.partner_id, now=NOW))
            async with store_as(database, Role.EXECUTION) as store, store.reading() as uow:
                while await uow.directory.usable_tokens([USE]):
                    assert not withdrawing.done()
            assert not withdrawing.done()
        assert await withdrawing == [consent().terms.consent_id]
        assert await withdraw_token(operator, USE.token, USE.partner_id, now=NOW) is None
    finally:
        await admin.close()


async def test_purges_run_as_their_owner(pooler: str) -> None:
    async with store_as(pooler, Role.SCHEDULE) as store, store.transaction() as uow:
        assert await uow.authentication.purge(before=later(0), limit=10) == 0
