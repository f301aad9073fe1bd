"""After a restore: which payments that were told as ended stand, and what is read of data, on real servers."""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from pydantic import BaseModel

from gateway.app import restored_exports, restored_offers, restored_shares, restoring
from gateway.app.postgres import PostgresStore
from gateway.app.registries import open_registries
from gateway.app.restored_kept import open_kept
from gateway.app.settings import Settings
from gateway.base.digest_words import word_of
from gateway.database.migrate import migrate
from gateway.marketing.rules.offers import StoredUse
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.topics_admin import ensure_topics
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import event_fields
from gateway.sealing.sealing import MasterKeys
from gateway.sharing.pseudonyms import Named, Pseudonyms
from gateway.sharing.restoring import SharedSince
from schemas.codec import encode, encode_json
from schemas.consents import Channel, ConsentStatus
from schemas.envelope import Envelope, write_envelope
from schemas.events import EventType, PaymentEvent
from schemas.marketing import (
    AGGREGATE_TYPE,
    OFFER_GRANTED_TYPE,
    OFFER_USE_TYPE,
    OFFER_WITHDRAWN_TYPE,
    USE_COUNTED_TYPE,
    AggregateTable,
    OfferEnd,
    OfferGranted,
    OfferUse,
    OfferUseCounted,
    OfferWithdrawn,
)
from schemas.portability import EXPORT_CHUNK_TYPE
from schemas.primitives import NetworkId
from schemas.topics import Topic
from tests.contract.test_portability_store import ORG, export, request
from tests.contract.test_sharing import permits
from tests.support.builders import DISPATCH, NETWORK, NOW, dispatched_record, numbered_order, payment
from tests.support.domain_samples import krw


async def test_of_what_was_told_as_ended_that_which_stands_nowhere_is_named(database: str) -> None:
    await migrate(database)
    here, archived, gone = (payment(n, state=PaymentState.REJECTED) for n in (1, 2, 3))
    waits = payment(4, state=PaymentState.SCHEDULED)
    store = PostgresStore(database, pool_size=1)
    await store.start()
    async with store.transaction() as uow:
        await uow.payments.insert([here, waits])
    await store.stop()
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(
            "WITH f AS (INSERT INTO archive_file (status, payments, sha256, written_at)"
            " VALUES ('written', 1, sha256(''), now()) RETURNING file_id)"
            " INSERT INTO archived_payment (partner_id, payment_id, order_id, consent_id, consent_version, merchant_id,"
            " operation, amount_minor, currency, order_digest, state, version, ordered_at, decided_at, changed_at,"
            " file_id) SELECT $1::text, $2::uuid, $3::text, 'c', 1, 'm', 'purchase', 5000, 'KRW', sha256(''),"
            " 'rejected', 1, now(), now(), now(), file_id FROM f",
            *(archived.partner_id, archived.payment_id, archived.order_id),
        )
        with open_kept(lambda *_: None) as kept:
            for one in (here, archived, gone):
                event = PaymentEvent.model_validate(event_fields(one))
                kept.tell(event, encode(event))
            kept.sort()
            kept.await_end([one.key for one in (here, archived, gone)])
            assert await restoring._not_ended(connection, kept) == [(gone.partner_id, gone.order_id)]
        # Here, in the archive, nowhere, and still waiting for its day.
        for number, is_taken in ((1, True), (2, True), (3, False), (4, False)):
            found = restoring.handed_on_of(dispatched_record(numbered_order(number)), DISPATCH, NetworkId(NETWORK))
            assert found is not None
            with nullcontext() if is_taken else pytest.raises(restoring.NotYetError, match="greater --margin"):
                await restoring._check_taken(connection, [found])
    finally:
        await connection.close()


async def test_offers_and_uses_are_read_off_the_topics_of_affiliates(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, offer_id = uuid4().hex, UUID(int=7)
    monkeypatch.setattr(restored_offers, "_OFFERS", f"offers.{name}.")
    monkeypatch.setattr(restored_offers, "OFFER_USES", f"uses.{name}")
    monkeypatch.setattr(restored_offers, "AGGREGATES", f"aggregates.{name}")
    table = AggregateTable(week="2026-W48", currency="KRW", revision=1, k=3, cells=(), published_at=NOW)
    granted = OfferGranted(
        offer_id=offer_id,
        campaign_id="spring",
        affiliate_id="bank",
        customer="c" * 27,
        key_id="20260101-a",
        channels=(Channel.APP,),
        worth=krw(500),
        uses_max=2,
        granted_at=NOW,
        expires_at=NOW + timedelta(days=1),
    )
    use = OfferUse(use_id="use-1", offer_id=offer_id, affiliate_id="bank", amount=krw(300), used_at=NOW)
    counted = OfferUseCounted(use_id="use-1", offer_id=offer_id, affiliate_id="bank", amount=krw(300), occurred_at=NOW)
    over = OfferWithdrawn(
        offer_id=offer_id, campaign_id="spring", affiliate_id="bank", cause=OfferEnd.REVOKED, withdrawn_at=NOW
    )
    digest = sha256(encode(use)).digest()
    sent: list[tuple[str, str, str, BaseModel]] = [
        (f"uses.{name}", OFFER_USE_TYPE, "1", use),
        (f"offers.{name}.bank", OFFER_GRANTED_TYPE, f"{offer_id}:granted", granted),
        (f"offers.{name}.bank", USE_COUNTED_TYPE, f"bank:use-1:{word_of(digest)}", counted),
        (f"offers.{name}.bank", OFFER_WITHDRAWN_TYPE, f"{offer_id}:withdrawn", over),
        (f"aggregates.{name}", AGGREGATE_TYPE, "2026-W48:KRW:1", table),
    ]
    made = [
        Topic(t, "", {}, partitions=2, retention_ms=3_600_000, writers=(), readers=(), description="")
        for t in sorted({topic for topic, *_ in sent})
    ]
    settings = KafkaSettings(kafka)
    await ensure_topics(settings, made, replication_factor=1, apply=True)
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    for topic, type_, event_id, body in sent:
        headers = list(write_envelope(Envelope(event_id, "/mypay", type_, NOW)))
        await producer.send_and_wait(topic, encode(body), key=str(offer_id).encode(), headers=headers)
    await producer.stop()
    read = await restored_offers.read_offers(settings, datetime.now(UTC) - timedelta(hours=1), {})
    [told] = read.all
    assert read.tables == [table]
    stored = StoredUse("bank", "use-1", offer_id, digest, 300, None, NOW)
    assert (told.granted, told.uses, told.withdrawn) == (granted, [stored], over)
    # What came before the moment is not read.
    assert (await restored_offers.read_offers(settings, datetime.now(UTC) + timedelta(hours=1), {})).all == []


async def test_attempts_at_exports_are_read_off_the_topics_of_recipients_and_passed(
    kafka: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(database)
    monkeypatch.setattr(restored_exports, "_EXPORTS", prefix := f"exports.{uuid4().hex}.")
    store = PostgresStore(database, pool_size=1)
    await store.start()
    connection = await asyncpg.connect(database)
    try:
        await connection.execute("INSERT INTO recipient (org_code, name) VALUES ($1, 'A bank')", ORG)
        async with store.transaction() as uow:
            await uow.portability.add([request()])
            await uow.portability.add_exports([export()])
        settings, topic = KafkaSettings(kafka), f"{prefix}{ORG}"
        made = Topic(topic, "", {}, partitions=2, retention_ms=3_600_000, writers=(), readers=(), description="")
        await ensure_topics(settings, [made], replication_factor=1, apply=True)
        producer = AIOKafkaProducer(bootstrap_servers=kafka)
        await producer.start()
        for attempt, chunk in ((2, 1), (3, 1), (3, 2), (1, 5)):
            envelope = Envelope(f"{export().export_id}:{attempt}:{chunk}", "/mypay", EXPORT_CHUNK_TYPE, NOW)
            # What is in it is nobody's but its recipient's.
            await producer.send_and_wait(topic, b"sealed", key=b"x", headers=list(write_envelope(envelope)))
        await producer.stop()
        told = await restored_exports.read_exports(settings, datetime.now(UTC) - timedelta(hours=1), {})
        assert (await restored_exports.stand_again(connection, told)).attempts == 1
        assert (await restored_exports.stand_again(connection, told)).attempts == 0
        async with store.transaction() as uow:
            standing = await uow.portability.lock_export(export())
        assert standing is not None
        assert (standing.attempt, standing.sent_chunks, standing.leased_until) == (3, 2, None)
    finally:
        await connection.close()
        await store.stop()


async def test_who_holds_what_was_shared_is_read_off_the_topics_of_affiliates(
    kafka: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(database)
    monkeypatch.setattr(restored_shares, "_SHARING", prefix := f"sharing.{uuid4().hex}.")
    MasterKeys.create(tmp_path / "sharing")
    ring = MasterKeys.load(tmp_path / "sharing")
    names, key = Pseudonyms(ring), ("partner-1", "consent-1")
    async with open_registries(database) as registries:
        await registries.consents.add_consents([(permits().terms, ConsentStatus.AUTH)])
        await registries.affiliates.add("points", "Points", "telecom")
    reference = names.name("points", Named.CONSENT, "partner-1/consent-1/1")
    body = encode_json({"consent_ref": reference, "key_id": names.key_id, "customer": "x", "uses": []})
    settings, topic = KafkaSettings(kafka), f"{prefix}points"
    made = Topic(topic, "", {}, partitions=2, retention_ms=3_600_000, writers=(), readers=(), description="")
    await ensure_topics(settings, [made], replication_factor=1, apply=True)
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    headers = list(write_envelope(Envelope("share-1", "/mypay", EventType.PAYMENT_SHARED, NOW)))
    await producer.send_and_wait(topic, body, key=reference.encode(), headers=headers)
    await producer.stop()
    connection = await asyncpg.connect(database)
    try:
        place, since = (key, "points"), datetime.now(UTC) - timedelta(hours=1)
        shared = {place: SharedSince(NOW, {"loyalty"}, {"month"})}
        for folder, known in (("none", set()), ("sharing", {place})):
            of = Settings(sharing_keys_dir=tmp_path / folder)
            assert await restored_shares.stand_again(connection, settings, of, since, shared) == known
        [row] = await connection.fetch("SELECT round, reference, key_ids, uses, fields, notice_id FROM share_holder")
        assert tuple(row) == (1, reference, [names.key_id], ["loyalty"], ["month"], None)
    finally:
        await connection.close()
