"""The disclosure log on a real PostgreSQL: two sequencers at once, lost sessions, and what people see and check."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner

from gateway.app.postgres import PostgresStore
from gateway.app.registries import open_registries
from gateway.base.errors import StoreConflictError, StoreUnavailableError
from gateway.cli import audit, consent, customer
from gateway.consents.rules.consent import Consent
from gateway.disclosure import postgres
from gateway.disclosure.postgres import PostgresDisclosureLog
from gateway.disclosure.rules.sequence import close_due
from gateway.disclosure.signing import newest_key
from gateway.disclosure.store import DisclosureLog
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.topics_admin import ensure_topics
from gateway.proving.memory import MemoryClock
from gateway.views import disclosures
from schemas.codec import encode
from schemas.consents import ConsentStatus
from schemas.disclosure import DisclosureRoot, RootStatement
from schemas.envelope import Envelope, write_envelope
from schemas.events import EventType
from schemas.topics import Topic
from tests.contract.test_disclosure_log import HOUR, drain, sequencer, shared, told
from tests.support.builders import payment
from tests.support.domain_samples import NOW, terms
from tests.support.leading import led

PAYMENTS = 300


@pytest.fixture
def dsn(migrated_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", migrated_database)
    monkeypatch.setenv("MYPAY_DISCLOSURE_KEYS_DIR", str(tmp_path / "keys"))
    asyncio.run(_paid(migrated_database))
    return migrated_database


async def _paid(dsn: str) -> None:
    async with open_registries(dsn) as registries:
        held = Consent(terms(), 1, ConsentStatus.AUTH)
        await registries.consents.add_consents([(held.terms, held.status)])
    store = PostgresStore(dsn)
    await store.start()
    for begin in range(1, PAYMENTS, 50):
        async with store.transaction() as uow:
            some = [payment(n) for n in range(begin, begin + 50)]
            await uow.payments.insert(some)
            await uow.outbox.append([told(p) for p in some])
    await store.stop()


async def _until_nothing_waits(log: DisclosureLog) -> int:
    """Write as a sequencer does that believes to lead; return how often another one had moved the head."""
    service, lost = sequencer(log, batch=7), 0
    head, full = await log.head(), True
    while full:
        try:
            head, full = await service.step(head)
        except StoreConflictError:
            lost += 1
            head = await log.head()
    return lost


def verified(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(audit.app, ["verify", "--stored", "--json", *arguments])
    result: dict[str, Any] = json.loads(done.stdout)
    assert done.exit_code == (1 if result["findings"] else 0), done.output
    return result


def test_two_that_both_believe_to_lead_make_one_chain(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def race() -> int:
        logs = [PostgresDisclosureLog(dsn) for _ in range(3)]
        for number, log in enumerate(logs):
            # Each has a lock of its own: as if the server had forgotten who holds the one.
            monkeypatch.setattr(postgres, "_LEADER_LOCK", number)
            await led(log)
        lost = await asyncio.gather(*(_until_nothing_waits(log) for log in logs))
        for log in logs:
            await log.release()
        return sum(lost)

    assert asyncio.run(race()) > 0
    # Many pieces, on both connections by turns: they are put together in their order.
    monkeypatch.setattr(disclosures, "CHUNK", 7)
    found = verified()
    assert (found["entries"], found["findings"]) == (PAYMENTS, [])


def test_a_lost_session_writes_nothing_and_another_goes_on(dsn: str) -> None:
    async def lose() -> None:
        log, other = PostgresDisclosureLog(dsn), PostgresDisclosureLog(dsn)
        await led(log)
        assert not await other.acquire()
        head, _ = await sequencer(log, batch=7).step(await log.head())
        server = await asyncpg.connect(dsn)
        await server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mypay-disclosure'"
        )
        await server.close()
        with pytest.raises(StoreUnavailableError):
            await sequencer(log, batch=7).step(head)
        await led(other)
        await drain(other, batch=100)
        await other.release()

    asyncio.run(lose())
    found = verified()
    assert (found["entries"], found["findings"]) == (PAYMENTS, [])


def test_people_see_uses_check_proofs_and_find_what_was_changed(dsn: str, tmp_path: Path) -> None:
    assert CliRunner().invoke(audit.app, ["key"]).exit_code == 0
    signer = newest_key(tmp_path / "keys")
    assert signer is not None

    async def write() -> None:
        log = await led(PostgresDisclosureLog(dsn))
        clock = MemoryClock(NOW)
        head = await drain(log, clock)
        closing = close_due(head, NOW + HOUR, HOUR)
        assert closing is not None
        assert closing.root is not None
        await log.write(closing, (), signer.sign(closing.root))
        await log.release()

    asyncio.run(write())
    assert verified()["findings"] == []

    seen = CliRunner().invoke(consent.app, ["uses", "consent-1", "--partner", "partner-1", "--json", "--limit", "2"])
    assert seen.exit_code == 0, (seen.exception, seen.output)
    assert [u["kind"] for u in json.loads(seen.stdout)] == ["payment", "payment"]
    file = tmp_path / "proofs.json"
    days = ["--from", f"{NOW:%Y-%m-%d}", "--to", f"{NOW.replace(year=NOW.year + 1):%Y-%m-%d}"]
    listed = CliRunner().invoke(customer.app, ["disclosures", "customer-1", *days, "--proofs", str(file), "--json"])
    assert len(json.loads(listed.stdout)) == PAYMENTS, listed.output

    environment = {"MYPAY_POSTGRES_DSN": "postgresql://nobody@127.0.0.1:1/nothing"}
    checked = CliRunner().invoke(audit.app, ["check-proof", str(file), "--json"], env=environment)
    assert checked.exit_code == 0, checked.output
    assert {p["problem"] for p in json.loads(checked.stdout)} == {None}
    forged = tmp_path / "forged.json"
    forged.write_text(file.read_text().replace("merchant-1", "merchant-2", 1))
    told_of_it = CliRunner().invoke(audit.app, ["check-proof", str(forged), "--json"], env=environment)
    assert told_of_it.exit_code == 1
    assert [p["problem"] for p in json.loads(told_of_it.stdout)][:2] == ["it does not lead to the signed root", None]
    # The head of the file says whose it is, and is under no root.
    anothers = tmp_path / "anothers.json"
    anothers.write_text(file.read_text().replace('"customer-1"', '"customer-2"', 1))
    told_of_them = CliRunner().invoke(audit.app, ["check-proof", str(anothers), "--json"], env=environment)
    assert told_of_them.exit_code == 1
    assert {p["problem"] for p in json.loads(told_of_them.stdout)} == {"it is another customer's"}
    other = CliRunner().invoke(audit.app, ["check-proof", str(file), "--root", "A" * 43], env=environment)
    assert other.exit_code == 1

    asyncio.run(_tamper(dsn))
    *places, unlogged = [f["place"] for f in verified()["findings"]]
    # The outbox still has the event of the entry that is gone.
    assert (places, unlogged[:6]) == (["entry 7", "entry 9", "root 1"], "event ")


def test_a_share_in_a_bundle_that_the_log_does_not_tell_of_is_found(dsn: str) -> None:
    """Its row's other events have their entries."""

    async def share() -> None:
        store = PostgresStore(dsn)
        await store.start()
        for numbers in (range(1, 4), range(4, 10)):
            async with store.transaction() as uow:
                await uow.outbox.append_bundled([shared(n) for n in numbers])
        await store.stop()
        log = await led(PostgresDisclosureLog(dsn))
        await drain(log)
        await log.release()

    async def take_away() -> None:
        owner = await asyncpg.connect(dsn)
        await owner.execute("SET session_replication_role TO replica")
        for table in ("disclosure_entry", "disclosure_content"):
            await owner.execute(f"DELETE FROM {table} WHERE seq = {PAYMENTS + 5}")
        await owner.close()

    asyncio.run(share())
    assert verified()["findings"] == []
    asyncio.run(take_away())
    unlogged = [f["place"] for f in verified()["findings"] if f["place"].startswith("event ")]
    assert unlogged == [f"event {shared(5).event_id}"]


def test_roots_on_kafka_convict_who_rewrote_the_log_and_its_roots(
    dsn: str, kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever owns the tables and the signing key can make them fit each other, but not what others have read."""
    monkeypatch.setenv("MYPAY_KAFKA_BOOTSTRAP_SERVERS", kafka)
    monkeypatch.setattr(audit, "DISCLOSURE_ROOTS", topic := f"roots.{uuid4().hex}")
    assert CliRunner().invoke(audit.app, ["key"]).exit_code == 0
    signer = newest_key(tmp_path / "keys")
    assert signer is not None

    async def close() -> str:
        log = await led(PostgresDisclosureLog(dsn))
        clock = MemoryClock(NOW)
        head = await drain(log, clock)
        closing = close_due(head, NOW + HOUR, HOUR)
        assert closing is not None
        assert closing.root is not None
        statement = signer.sign(closing.root)
        after = replace(closing.after, root_hash=sha256(statement.encode()).digest())
        await log.write(replace(closing, after=after), (), statement)
        await log.release()
        await publish(kafka, topic, [statement])
        return statement

    asyncio.run(close())
    done = CliRunner().invoke(audit.app, ["verify", "--published", "--json"])
    assert (done.exit_code, json.loads(done.stdout)["findings"]) == (0, []), done.output

    async def forge() -> None:
        """The same root with another time: signed as it should be, and stored."""
        owner = await asyncpg.connect(dsn)
        stored = signer_reads(await owner.fetchval("SELECT statement FROM disclosure_root"))
        other = signer.sign(stored.model_copy(update={"closed_at": NOW + 2 * HOUR}))
        await owner.execute("SET session_replication_role TO replica")
        await owner.execute("UPDATE disclosure_root SET statement = $1", other)
        await owner.execute("UPDATE disclosure_head SET root_hash = $1", sha256(other.encode()).digest())
        await owner.close()

    def signer_reads(statement: str) -> RootStatement:
        read = audit.root_verifier(tmp_path / "keys").read(statement)
        assert read is not None
        return read

    asyncio.run(forge())
    assert verified()["findings"] == []
    done = CliRunner().invoke(audit.app, ["verify", "--published", "--json"])
    assert done.exit_code == 1
    assert [f["place"] for f in json.loads(done.stdout)["findings"]] == ["root 1"]


async def publish(kafka: str, topic: str, statements: list[str]) -> None:
    made = Topic(topic, "", {}, partitions=1, retention_ms=3_600_000, writers="", readers="", description="")
    await ensure_topics(KafkaSettings(kafka), [made], replication_factor=1, apply=True)
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    for number, statement in enumerate(statements, 1):
        body = encode(DisclosureRoot.of_stored(number=number, statement=statement))
        envelope = Envelope(f"root:{number}", "/mypay", EventType.DISCLOSURE_ROOT, NOW)
        await producer.send_and_wait(topic, body, key=b"%d" % number, headers=list(write_envelope(envelope)))
    await producer.stop()


def test_a_customer_s_notice_counts_a_year_of_uses_and_destructions_are_listed(dsn: str) -> None:
    async def write() -> None:
        log = await led(PostgresDisclosureLog(dsn))
        await drain(log, MemoryClock(NOW))
        await log.release()
        owner = await asyncpg.connect(dsn)
        await owner.execute(
            "INSERT INTO data_destruction (kind, rows, rule, before) VALUES ('exports', 3, 'a rule', $1)", NOW
        )
        await owner.close()

    asyncio.run(write())
    day = f"{NOW + timedelta(days=1):%Y-%m-%d}"
    told = CliRunner().invoke(customer.app, ["notice", "customer-1", "--to", day, "--json"])
    assert told.exit_code == 0, told.output
    [notice] = json.loads(told.stdout)
    assert (notice["partner_id"], notice["customer_id"], notice["next_at"]) == ("partner-1", "customer-1", None)
    assert [(d["recipient"], d["kind"], d["count"]) for d in notice["disclosed"]] == [
        ("merchant-1", "payment", PAYMENTS)
    ]
    nobody = CliRunner().invoke(customer.app, ["notice", "customer-1", "--to", day, "--partner", "partner-2", "--json"])
    assert json.loads(nobody.stdout) == []
    listed = CliRunner().invoke(audit.app, ["destructions", "--json"])
    assert [(d["kind"], d["rows"], d["rule"]) for d in json.loads(listed.stdout)] == [("exports", 3, "a rule")]


async def _tamper(dsn: str) -> None:
    owner = await asyncpg.connect(dsn)
    with pytest.raises(asyncpg.RaiseError):
        await owner.execute("UPDATE disclosure_content SET recipient = 'nobody' WHERE seq = 7")
    await owner.execute("SET session_replication_role TO replica")
    await owner.execute("UPDATE disclosure_content SET recipient = 'nobody' WHERE seq = 7")
    await owner.execute("DELETE FROM disclosure_entry WHERE seq = 9")
    await owner.execute("DELETE FROM disclosure_content WHERE seq = 9")
    await owner.close()
