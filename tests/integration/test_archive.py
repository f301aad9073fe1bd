"""`mypay archive` on a real PostgreSQL, as the users that it has there: run, show, and what traces tell afterwards."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.app.postgres import PostgresStore
from gateway.app.registries import open_registries
from gateway.app.settings import Settings
from gateway.consents.rules.consent import Consent
from gateway.database.dsn import with_user
from gateway.database.roles import Role
from gateway.disclosure.postgres import PostgresDisclosureLog
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.unknown.store import FollowUp
from schemas.consents import ConsentStatus
from schemas.primitives import NetworkId
from tests.contract.test_archive import old, put, refund_of
from tests.contract.test_disclosure_log import drain, told
from tests.integration.test_postgres_roles import made
from tests.support.builders import NETWORK, TERMINAL, payment
from tests.support.cli import mypay
from tests.support.domain_samples import terms
from tests.support.leading import led

pytestmark = pytest.mark.integration

AFTER_DAYS = Settings.model_fields["archive_after_days"].default
LONG_AGO = dict.fromkeys(
    ("ordered_at", "decided_at", "changed_at"),
    datetime.now(UTC).replace(microsecond=0) - timedelta(days=AFTER_DAYS + 1),
)
SETTLED = old(1, version=3, **LONG_AGO)
REFUND = refund_of(SETTLED, 2, **LONG_AGO)
REVERSED = old(3, state=PaymentState.REVERSED, **LONG_AGO)
YOUNG = payment(4, state=PaymentState.REVERSED, changed_at=datetime.now(UTC) - timedelta(days=AFTER_DAYS - 10))
OLD_ONES = (SETTLED, REFUND, REVERSED)


@pytest.fixture
def dsn(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    asyncio.run(_grown(database))
    for role in (Role.ARCHIVE, Role.READONLY):
        monkeypatch.setenv(f"MYPAY_POSTGRES_DSN_{role.value.upper()}", with_user(database, role.user))
    monkeypatch.setenv("MYPAY_ARCHIVE_DIR", str(tmp_path / "archive"))
    return database


async def _grown(dsn: str) -> None:
    await made(dsn)
    async with open_registries(dsn) as registries:
        held = Consent(terms(), 1, ConsentStatus.AUTH)
        await registries.consents.add_consents([(held.terms, held.status)])
    store = PostgresStore(dsn)
    await store.start()
    await put(store, *OLD_ONES, YOUNG)
    async with store.transaction() as uow:
        network = NetworkId(NETWORK)
        await uow.reversals.queue([FollowUp(REVERSED.key, network, TERMINAL, 9, REVERSED.decided_at)])
        await uow.outbox.append([told(payment(1))])
    await store.stop()
    log = await led(PostgresDisclosureLog(dsn))
    await drain(log)
    await log.release()
    connection = await asyncpg.connect(dsn)
    await connection.execute("UPDATE reversal SET closed_at = now(), last_code = '00'")
    for place in ("outbox_cursor", "sharing_place"):
        await connection.execute(f"UPDATE {place} SET (tx, id) = (SELECT tx, id FROM disclosure_head)")
    await connection.execute(
        "INSERT INTO clearing_record (network_id, cycle_id, record_no, kind, rrn, stan, terminal_id, acceptor_id, "
        "amount_minor, currency, partner_id, payment_id, imported_at) SELECT network_id, 'cycle-1', 7, 'purchase', "
        "rrn, stan, terminal_id, 'A', amount_minor, currency, partner_id, payment_id, changed_at FROM payment "
        "WHERE order_id = 'order-1'"
    )
    await connection.close()


def rows(dsn: str) -> dict[str, int]:
    async def ask() -> dict[str, int]:
        connection = await asyncpg.connect(dsn)
        tables = ("payment", "ledger_transfer", "clearing_record", "reversal", "archived_payment")
        found = {t: await connection.fetchval(f"SELECT count(*) FROM {t}") for t in tables}
        await connection.close()
        return found

    return asyncio.run(ask())


def traced(*more: str) -> Any:
    return mypay("trace", f"partner-1/{SETTLED.order_id}", *more).expect()


def test_what_is_archived_leaves_the_tables_and_is_traced_and_shown(dsn: str, tmp_path: Path) -> None:
    before = traced("--json").json
    done = mypay("archive", "run", "--json").expect().json
    assert done == {"files": 1, "payments": 3, "left": 0, "abandoned": 0}
    assert rows(dsn) == {"payment": 1, "ledger_transfer": 0, "clearing_record": 0, "reversal": 0, "archived_payment": 3}
    [file] = (tmp_path / "archive").glob("*.parquet")
    shown = mypay("archive", "show", "--verify", "--json").expect().json
    assert (shown["files"], shown["payments"]) == (1, 3)
    assert [(f["file"], f["status"], f["problem"]) for f in shown["listed"]] == [(file.name, "moved", None)]

    story = traced("--json").json
    assert story["payment"] == before["payment"]
    # Events are in the outbox, and forgotten with it; all other books are in the file.
    of_books = [s for s in before["steps"] if s["source"] in ("ledger", "clearing")]
    assert of_books
    assert [s for s in story["steps"] if s["source"] in ("ledger", "clearing")] == of_books
    assert story["archived"] == {"file": str(file), "sha256": shown["listed"][0]["sha256"], "problem": None}
    assert (
        mypay("trace", str(REVERSED.payment_id), "--partner", "partner-1", "--json").expect().json["payment"]["state"]
        == "reversed"
    )
    assert "reversal confirmed" in mypay("trace", str(REVERSED.payment_id), "--partner", "partner-1").expect().out
    [use] = mypay("consent", "uses", SETTLED.consent_id, "--partner", "partner-1", "--json").expect().json
    assert use["kind"] == "payment"
    assert mypay("archive", "run", "--json").expect().json["payments"] == 0


def test_a_trace_tells_the_file_where_it_cannot_be_read(dsn: str, tmp_path: Path) -> None:
    mypay("archive", "run").expect()
    [file] = (tmp_path / "archive").glob("*.parquet")
    sha256 = mypay("archive", "show", "--json").expect().json["listed"][0]["sha256"]
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    assert "SHA-256 is another" in mypay("archive", "show", "--verify").expect(1).err
    file.unlink()
    story = traced("--json").json
    assert story["payment"]["state"] == "settled"
    assert (story["archived"]["file"], story["archived"]["sha256"]) == (str(file), sha256)
    assert "cannot be read" in story["archived"]["problem"]
    assert file.name in traced().err
    assert mypay("trace", "partner-1/nothing").expect(3)


def test_a_shorter_age_is_asked_for(dsn: str) -> None:
    assert mypay("archive", "run", "--older-than-days", AFTER_DAYS - 20, "--json").expect().json["payments"] == 4
    assert rows(dsn)["payment"] == 0


FORGED: Sequence[tuple[str, str]] = (
    ("DELETE FROM ledger_transfer", "append-only"),
    ("DELETE FROM payment", "append-only"),
    ("TRUNCATE ledger_transfer", "append-only"),
    ("UPDATE ledger_transfer SET amount_minor = 1", "append-only"),
    ("DELETE FROM archived_payment", "append-only"),
    ("UPDATE archived_payment SET state = 'rejected'", "append-only"),
    ("UPDATE archive_file SET sha256 = 'x'", "archive_file"),
    ("DELETE FROM archive_file", "append-only"),
)


def test_not_even_the_owner_of_the_tables_deletes_what_is_not_archived(dsn: str) -> None:
    mypay("archive", "run").expect()
    asyncio.run(_put_more(dsn))

    async def refused() -> list[str]:
        connection = await asyncpg.connect(dsn)
        told = []
        for statement, _ in FORGED:
            with pytest.raises(asyncpg.PostgresError) as error:
                await connection.execute(statement)
            told.append(str(error.value))
        await connection.close()
        return told

    assert [text in told for told, (_, text) in zip(asyncio.run(refused()), FORGED, strict=True)] == [True] * len(
        FORGED
    )


async def _put_more(dsn: str) -> None:
    store = PostgresStore(dsn)
    await store.start()
    await put(store, old(20))
    await store.stop()
