"""Looking for planted secrets wherever the gateway and the networks leave anything."""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.identity.jose.jwk import PrivateKey
from gateway.outbox.bundles import members_of
from gateway.outbox.store import OutboxEvent
from gateway.proving.collect.topics import read_topics
from schemas.topics import ERASURES, OFFER_USES, ORDERS, PORTABILITY_REQUESTS
from tests.support.scene import Scene

WRITTEN_BY_OTHERS = frozenset((ORDERS, PORTABILITY_REQUESTS, OFFER_USES, ERASURES))


@dataclass(frozen=True)
class Place:
    """Something that was looked through. ``kind``: topics, tables, logs, pages or files."""

    kind: str
    name: str
    data: bytes


def spellings(text: str) -> set[bytes]:
    """A text as it may stand in bytes: as it is, as hex (how PostgreSQL shows bytea), and in UTF-16."""
    return {text.encode(), text.encode().hex().encode(), text.encode("utf-16-le")}


def card_spellings(pan: str) -> set[bytes]:
    """A card number in one piece or in groups of four."""
    groups = [pan[i : i + 4] for i in range(0, len(pan), 4)]
    return set().union(*(spellings(text) for text in (pan, "-".join(groups), " ".join(groups))))


def bytes_spellings(raw: bytes) -> set[bytes]:
    """Key bytes raw, as hex, and in both alphabets of base64, with and without padding."""
    texts = {raw.hex(), raw.hex().upper()}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        texts.add(encode(raw).rstrip(b"=").decode())
    return {raw}.union(*(spellings(text) for text in texts))


def pem(key: PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def private_bytes(key: PrivateKey) -> bytes:
    """The secret number of a signing key."""
    if isinstance(key, EllipticCurvePrivateKey):
        return key.private_numbers().private_value.to_bytes(32, "big")
    return key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


def private_key_spellings(key: PrivateKey) -> set[bytes]:
    """The secret number, and each line of the PEM file."""
    lines = [line for line in pem(key).splitlines() if not line.startswith("-----")]
    return bytes_spellings(private_bytes(key)).union(*(spellings(line) for line in lines))


def found_in(place: Place, needles: Mapping[str, Iterable[bytes]]) -> set[str]:
    """Names of the needles that stand there."""
    return {name for name, ways in needles.items() if any(way in place.data for way in ways)}


async def places(scene: Scene, *, not_ours: Iterable[Path] = ()) -> AsyncIterator[Place]:
    """Everything that the gateway, the simulated networks and the servers have left, but what others wrote themselves.

    Left out: the topics where partners' and affiliates' own bytes stand; the master keys' own files; ``not_ours``.
    """
    async for place in _topics(scene):
        yield place
    for (table,) in await scene.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        rows = await scene.fetch(f'SELECT t::text AS row FROM "{table}" t')
        yield Place("tables", table, "\n".join(r["row"] for r in rows).encode())
    yield await _bundles(scene)
    for name, url in scene.world.http.items():
        for page in ("metrics", "healthz", "readyz"):
            async with scene.session.get(f"{url}/{page}") as answer:
                yield Place("pages", f"{name}/{page}", await answer.read())
    servers = scene.stack.home / scene.stack.name / "logs"
    for kind, folder in (("logs", scene.world.logs), ("logs", servers), ("files", scene.world.directory)):
        for path in await asyncio.to_thread(_files, folder):
            if path.is_relative_to(scene.world.keys) or path in not_ours:
                continue
            if kind == "logs" or not path.is_relative_to(scene.world.logs):
                yield Place(kind, str(path), await asyncio.to_thread(path.read_bytes))


async def _bundles(scene: Scene) -> Place:
    """What stands packed in the outbox: in its rows nothing of it would be found."""
    rows = await scene.fetch("SELECT id, topic, event_id, event_type, occurred_at, body FROM outbox")
    told = [
        f"{event.key} {event.event_id} {event.body.hex()}"
        for r in rows
        for _, event in members_of(
            r["id"], OutboxEvent(r["topic"], "", r["event_id"], r["event_type"], r["occurred_at"], r["body"])
        )
        if r["event_type"] != event.event_type
    ]
    return Place("tables", "outbox", "\n".join(told).encode())


async def _topics(scene: Scene) -> AsyncIterator[Place]:
    admin = AIOKafkaAdminClient(bootstrap_servers=scene.world.kafka_bootstrap_servers)
    await admin.start()
    try:
        topics = sorted(t for t in await admin.list_topics() if t.startswith("mypay.") and t not in WRITTEN_BY_OTHERS)
    finally:
        await admin.close()
    for topic in topics:
        parts: list[bytes] = []
        async for record in read_topics(scene.world.kafka_bootstrap_servers, [topic]):
            parts += [record.key or b"", record.value or b""]
            parts += [part for name, value in record.headers for part in (name.encode(), value or b"")]
        yield Place("topics", topic, b"\n".join(parts))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
