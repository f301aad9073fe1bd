"""Every producer of ours is idempotent and has all replicas in sync confirm; and Faust's sends nothing.

Without either, what was confirmed can be lost with one broker, and what is sent again can be there twice.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.app.settings import Settings
from gateway.messaging.producer import KafkaPublisher
from gateway.messaging.settings import KafkaSettings
from gateway.observability.recording import RecordingObserver
from streams.app import build_app

ROOT = Path(__file__).parents[3]
NOWHERE = KafkaSettings("127.0.0.1:1")
STRANGERS = {"gateway/proving/traffic/forgeries.py", "gateway/proving/torture/noise.py"}
"""They play whoever sends what he must not: nothing of theirs has to arrive."""


def producers() -> Iterator[tuple[str, dict[str, Any]]]:
    """File and constants among the arguments of every producer that the program makes."""
    for room in ("gateway", "streams", "schemas"):
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "AIOKafkaProducer":
                    given = {k.arg: k.value.value for k in node.keywords if k.arg and isinstance(k.value, ast.Constant)}
                    yield path.relative_to(ROOT).as_posix(), given


def test_every_producer_asks_for_idempotence_and_for_all_replicas() -> None:
    asked = {
        place: (given.get("enable_idempotence"), given.get("acks"))
        for place, given in producers()
        if place not in STRANGERS
    }
    assert asked == dict.fromkeys(
        ("gateway/messaging/live_producer.py", "gateway/proving/bench/baselines.py"),
        (True, "all"),
    )


def told(producer: Any) -> tuple[bool, int]:
    """Whether aiokafka numbers its batches, and the acknowledgement (Kafka's -1: all) that its requests ask for."""
    return producer._txn_manager is not None, producer._sender._acks


async def test_the_publishers_producer_numbers_its_batches() -> None:
    publisher = KafkaPublisher(NOWHERE, RecordingObserver())
    assert told(publisher._live.make()) == (True, -1)


async def test_fausts_producer_asks_for_all_replicas_and_sends_nothing(tmp_path: Path) -> None:
    """It is not idempotent, so a stage that sent through it could write twice: it refuses to."""
    app: Any = build_app("test", Settings(home=tmp_path), NOWHERE)
    producer = app.transport.create_producer(loop=app.loop)
    assert producer.acks == -1
    with pytest.raises(AssertionError, match="publisher"):
        await producer.send("mypay.orders", b"key", b"value", None, None, None)
    with pytest.raises(AssertionError, match="publisher"):
        await producer.send_and_wait("mypay.orders", b"key", b"value", None, None, None)
