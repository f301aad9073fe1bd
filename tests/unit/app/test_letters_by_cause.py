"""Dead letters by their cause, over a topic in memory: counts, a few of each, what nobody sent again first."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.app import dead_letters as letters_module
from gateway.app import letters_by_cause as module
from gateway.app.letters_by_cause import ByCause, Cause, read_by_cause
from gateway.app.sending_again import Asked, replay_references
from gateway.messaging.dead_letters import dead_letters
from schemas.codec import DecodeError
from tests.support.console import settings_of
from tests.unit.app.test_dead_letters import FORGED, KEYS, RECORD, Topic, topic

__all__ = ["topic"]

KAFKA: Any = None


@pytest.fixture(autouse=True)
def _read_here(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def opened(*_: Any) -> AsyncIterator[Topic]:
        yield topic

    monkeypatch.setattr(module, "open_reader", opened)


def park(topic: Topic, text: str, *offsets: int, of: str = "mypay.orders") -> None:
    records = [replace(RECORD, topic=of, offset=n) for n in offsets]
    topic.publish_all(dead_letters("initiation", [(r, DecodeError("", text)) for r in records], KEYS))


async def read(each: int = 2, only: str | None = None) -> ByCause:
    return await read_by_cause(KAFKA, lambda: KEYS, each=each, only=only)


def told(found: ByCause) -> list[tuple[str, str, int, int, list[int]]]:
    """Topic, reason, open ones, others, and the offsets of the letters that are shown, of each cause."""
    return [
        (
            c.cause.topic,
            c.cause.reason.partition(": ")[2],
            c.open,
            c.replayed,
            [int(x.reference.rpartition("/")[2]) for x in c.letters],
        )
        for c in found.causes
    ]


@pytest.mark.parametrize("held", [0, 16 << 20], ids=["nothing is held", "all is held"])
async def test_a_cause_is_told_once_with_counts_and_its_youngest(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    monkeypatch.setattr(letters_module, "HELD_BYTES_MAX", held)
    park(topic, "a", 1, 2, 3, 4)
    park(topic, "b", 5, 6)
    park(topic, "a", 7, 8, of="mypay.consents.commands")
    park(topic, "b", 9)
    park(topic, "c", 10, 11)
    topic.records.insert(3, topic.records[0])  # copied by somebody
    topic.records.append(FORGED)
    await replay_references(
        settings_of("postgresql://x", tmp_path),
        Asked([f"mypay.orders/3/{n}" for n in (4, 6, 10, 11)]),
    )
    orders = [
        ("mypay.orders", "b", 2, 1, [9, 5]),
        ("mypay.consents.commands", "a", 2, 0, [8, 7]),
        # One that was sent again comes behind those that were not, however young it is.
        ("mypay.orders", "a", 3, 1, [3, 2]),
        # And a cause of which none is open behind all others.
        ("mypay.orders", "c", 0, 2, [11, 10]),
    ]
    found = await read()
    assert told(found) == orders
    assert (found.open, found.others, found.strange) == (7, 0, 1)
    key = found.causes[2].cause.key
    one = await read(9, key)
    assert told(one) == [("mypay.orders", "a", 3, 1, [3, 2, 1, 4])]
    assert [x.replayed for x in one.causes[0].letters] == [False, False, False, True]
    assert (await read(9, "0" * 16)).causes == ()


def test_an_address_tells_nothing_of_a_cause_and_no_two_have_the_same() -> None:
    causes = [Cause("t", "s", "it fails: x"), Cause("t", "si", "t fails: x"), Cause("t", "s", "it fails: y")]
    keys = [c.key for c in causes]
    assert len(set(keys)) == 3
    assert all(len(k) == 16 and int(k, 16) >= 0 for k in keys)


async def test_of_many_causes_those_of_the_youngest_letters_are_told(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CAUSES_MAX", 2)
    for n, text in enumerate("abcd"):
        park(topic, text, n, 10 + n)
    found = await read()
    assert [(c.cause.reason[-1], c.open) for c in found.causes] == [("d", 2), ("c", 2)]
    assert found.others == 4


async def test_an_empty_topic_has_no_cause() -> None:
    assert await read() == ByCause((), 0, 0)
