"""What demo and torture forge looks like the gateway's own, and is believed by nobody."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Self

import pytest

from gateway.messaging.dead_letters import DeadLetterError, LetterKeys, read_fate
from gateway.messaging.records import Record
from gateway.proving.traffic import forgeries
from gateway.proving.traffic.forgeries import Forger, NothingToForgeError, forged_records, parked
from gateway.sealing.sealing import MasterKeys
from schemas.topics import DEAD_LETTER
from tests.support.builders import NETWORK, NOW, dispatched_record, numbered_order
from tests.support.rig import Rig

TOPIC = f"mypay.dispatch.{NETWORK}"


@dataclass
class Written:
    topic: str
    value: bytes
    key: bytes | None
    headers: list[tuple[str, bytes]]
    partition: int = 0
    offset: int = 0


@dataclass
class FakeKafka:
    """The topics, as a reader and a producer of aiokafka's show them."""

    records: list[Written] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def send_and_wait(
        self, topic: str, value: bytes, key: bytes | None, headers: list[tuple[str, bytes]]
    ) -> None:
        self.records.append(Written(topic, value, key, headers, offset=len(self.records)))

    async def read(self, _: str, topics: Sequence[str]) -> AsyncIterator[Any]:
        for record in [r for r in self.records if r.topic in topics]:
            yield record


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> FakeKafka:
    kafka = FakeKafka()
    monkeypatch.setattr(forgeries, "_producer", lambda _: kafka)
    monkeypatch.setattr(forgeries, "read_topics", kafka.read)
    return kafka


@pytest.fixture
def world() -> Any:
    networks = [SimpleNamespace(network_id=NETWORK)]
    return SimpleNamespace(networks=networks, kafka_bootstrap_servers="", check=lambda: None)


def consumed(record: Written) -> Record:
    return Record(record.topic, 0, record.offset, 0, record.key, record.value, tuple(record.headers))


async def test_forged_records_are_found_again_and_believed_by_nobody(kafka: FakeKafka, world: Any) -> None:
    with pytest.raises(NothingToForgeError):
        await Forger(world).forge(NOW)
    authentic = dispatched_record(numbered_order(1))
    kafka.records.append(Written(TOPIC, authentic.value, authentic.key, list(authentic.headers)))
    forger = Forger(world)
    assert await forger.forge(NOW) == await forger.forge(NOW) == 2
    forged = await forged_records(world)
    assert len({(f.topic, f.partition, f.offset) for f in forged}) == len({f.payment_id for f in forged}) == 4
    on_topic = [consumed(r) for r in kafka.records if r.topic == TOPIC]
    rig = Rig()
    await rig.execute(on_topic)
    assert rig.states() == {"order-1": "approved"}
    assert len(rig.dead_letters.parked) == 4
    assert rig.observer.counts["execution", "untrusted", "wrong"] == 2
    assert rig.observer.counts["execution", "untrusted", "no_mark"] == 2
    letters = [consumed(r) for r in kafka.records if r.topic == DEAD_LETTER]
    assert len(letters) == 2
    for letter in letters:
        with pytest.raises(DeadLetterError, match="not written by the gateway"):
            read_fate(letter, LetterKeys(MasterKeys({"20260101": bytes(32)})))


async def test_it_is_waited_for_until_execution_has_parked_them(
    kafka: FakeKafka, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgeries, "PARKED_WITHIN_S", 0.0)
    assert not await parked(world, 1, lambda: None)
    monkeypatch.setattr(forgeries, "PARKED_WITHIN_S", 60.0)
    told = [
        ("kafka_dlt-original-topic", TOPIC.encode()),
        ("kafka_dlt-exception-fqcn", b"gateway.payments.dispatch.UntrustedRecordError"),
    ]
    kafka.records.append(Written(DEAD_LETTER, b"{}", None, told))
    assert await parked(world, 1, lambda: None)
