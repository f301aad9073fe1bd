"""Partners that use none of our code: orders written, signed and produced by other libraries go through."""

import asyncio
import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4, uuid5

import jwt
from aiokafka import AIOKafkaProducer
from confluent_kafka import Consumer, Message, Producer
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.app.registries import open_registries
from gateway.directory.partners import PartnerKey
from gateway.proving.books import OrderFacts, Produced
from gateway.proving.traffic.cast import Role
from schemas.primitives import PartnerId
from tests.support.entries import SETTLED, SHOP_OF, Entry
from tests.support.scene import WAIT_S, Scene

KOREA = timezone(timedelta(hours=9))
ORDER_TYPE = "kr.mypay.payment.order.v1"
PAYMENTS = UUID("5f6d7970-6179-4d65-9d65-6e742d696431")
"""The namespace of payment ids, as the contract tells it."""

PARTNER = "hanbit-bank"


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def register_key(scene: Scene, algorithm: str, jwk: dict[str, str]) -> str:
    kid = f"foreign-{uuid4()}"
    valid_from = datetime.now(UTC) - timedelta(hours=1)
    async with open_registries(scene.world.postgres_dsn) as registries:
        await registries.directory.add_keys(
            [PartnerKey(kid, PartnerId(PARTNER), algorithm, jwk, valid_from, None, None)]
        )
    known = await refreshes(scene)

    async def noticed() -> bool:
        # The next one may have begun before the key was there; the one after it cannot.
        return await refreshes(scene) >= known + 2

    await scene.until(noticed, "the intake knows the key")
    return kid


async def refreshes(scene: Scene) -> int:
    """How often the intake has read the registry."""
    return (await scene.outcomes("initiation"))["key_registry", "refreshed", ""]


def write_order(scene: Scene, amount_krw: int) -> tuple[str, bytes]:
    """An order as a person would write it: indented, in local time; and the consent's id."""
    consent = next(c.terms.consent_id for c in scene.world.cast.of(Role.PLAIN) if c.terms.partner_id == PARTNER)
    now = datetime.now(KOREA)
    order = {
        "order_id": f"foreign-{uuid4().hex[:10]}",
        "amount": {"value": str(amount_krw), "currency": "KRW"},
        "merchant_id": SHOP_OF["bcard"],
        "partner_id": PARTNER,
        "consent_id": consent,
        "issued_at": now.isoformat(timespec="seconds"),
        "expires_at": (now + timedelta(minutes=10)).isoformat(),
    }
    return consent, json.dumps(order, indent=2).encode()


def headers_of(signature: str) -> list[tuple[str, Any]]:
    headers = {
        "ce_specversion": "1.0",
        "ce_id": str(uuid4()),
        "ce_source": "https://hanbit.example/pay",
        "ce_type": ORDER_TYPE,
        "ce_time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "content-type": "application/json; charset=utf-8",
        "signature": signature,
    }
    return [(name, value.encode()) for name, value in headers.items()]


def produced(body: bytes, *, partition: int, offset: int, timestamp_ms: int) -> Produced:
    order: dict[str, Any] = json.loads(body)
    facts = OrderFacts(
        PARTNER,
        order["order_id"],
        uuid5(PAYMENTS, f"{PARTNER}/{order['order_id']}"),
        order["consent_id"],
        order["merchant_id"],
        int(order["amount"]["value"]),
        "KRW",
    )
    return Produced(partition, offset, timestamp_ms, hashlib.sha256(body).digest(), facts, SETTLED, "foreign")


async def goes_through(scene: Scene, sent: Produced, body: bytes) -> UUID:
    scene.produced.append(sent)
    assert sent.order is not None
    record: Any = None
    entry = Entry(record, sent.order)
    await scene.until_states([entry], "approved")
    await scene.settle()
    (row,) = (await scene.rows_of([entry])).values()
    assert (row["state"], row["order_digest"]) == ("settled", hashlib.sha256(body).digest())
    await scene.check_books()
    return sent.order.payment_id


async def test_an_order_signed_by_pyjwt_and_produced_by_librdkafka_goes_through(scene: Scene) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    numbers = key.public_key().public_numbers()
    jwk = {"kty": "EC", "crv": "P-256", **{n: base64url(getattr(numbers, n).to_bytes(32, "big")) for n in ("x", "y")}}
    kid = await register_key(scene, "ES256", jwk)
    consent, body = write_order(scene, 12_500)
    signature = jwt.api_jws.encode(
        body, key, algorithm="ES256", headers={"kid": kid, "typ": ORDER_TYPE, "b64": False, "crit": ["b64"]}
    )

    delivered: list[tuple[Any, Message]] = []
    producer = Producer({"bootstrap.servers": scene.world.kafka_bootstrap_servers, "enable.idempotence": True})
    producer.produce(
        "mypay.orders", body, consent, headers=headers_of(signature), on_delivery=lambda *told: delivered.append(told)
    )
    await asyncio.to_thread(producer.flush, WAIT_S)
    ((error, message),) = delivered
    assert error is None
    partition, offset, (_, timestamp_ms) = message.partition(), message.offset(), message.timestamp()
    assert partition is not None
    assert offset is not None
    sent = produced(body, partition=partition, offset=offset, timestamp_ms=timestamp_ms)
    payment_id = await goes_through(scene, sent, body)
    events = await asyncio.to_thread(events_by_librdkafka, scene.world.kafka_bootstrap_servers, payment_id)
    assert [(e["status"], e["version"]) for e in events] == [("ACTC", 1), ("ACSP", 2), ("ACSC", 3)]


def events_by_librdkafka(bootstrap_servers: str, payment_id: UUID) -> list[dict[str, Any]]:
    """A payment's events as its partner reads them, with a consumer group of its own."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": f"{PARTNER}-{uuid4()}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([f"mypay.events.{PARTNER}"])
    found: list[dict[str, Any]] = []
    seen: set[Any] = set()
    try:
        while not found or found[-1]["status"] != "ACSC":
            message = consumer.poll(WAIT_S)
            assert message is not None, f"the topic has no end of {payment_id}"
            assert message.error() is None
            event_id = dict(message.headers() or ())["ce_id"]
            if message.key() == str(payment_id).encode() and event_id not in seen:
                seen.add(event_id)
                found.append(json.loads(message.value() or b""))
    finally:
        consumer.close()
    return found


async def test_an_order_signed_by_hand_and_produced_by_a_bare_aiokafka_goes_through(scene: Scene) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    kid = await register_key(scene, "Ed25519", {"kty": "OKP", "crv": "Ed25519", "x": base64url(public)})
    consent, body = write_order(scene, 8_900)
    # RFC 8037's older name of the algorithm, as most libraries still write it.
    header = {"crit": ["b64"], "b64": False, "alg": "EdDSA", "typ": ORDER_TYPE, "kid": kid}
    protected = base64url(json.dumps(header).encode())
    signature = f"{protected}..{base64url(key.sign(protected.encode() + b'.' + body))}"

    producer = AIOKafkaProducer(bootstrap_servers=scene.world.kafka_bootstrap_servers, acks="all")
    await producer.start()
    try:
        at = await producer.send_and_wait("mypay.orders", body, consent.encode(), headers=headers_of(signature))
    finally:
        await producer.stop()
    await goes_through(scene, produced(body, partition=at.partition, offset=at.offset, timestamp_ms=at.timestamp), body)
