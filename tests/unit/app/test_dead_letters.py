"""Dead letters as operators send them again, over a topic in memory."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.app import dead_letters as module
from gateway.app import letter_survey, sending_again
from gateway.app.dead_letters import (
    SHOWN_CHARS_MAX,
    Wanted,
    content_of,
    read_letters,
    read_newest,
)
from gateway.app.letter_survey import open_references
from gateway.app.letter_words import WORDS
from gateway.app.operations import OPERATIONS
from gateway.app.sending_again import Asked, replay, replay_references
from gateway.base.errors import (
    NotAuthenticatedError,
    StoreIntegrityError,
    TooLargeForTopicError,
    TopicClosedError,
)
from gateway.messaging.dead_letters import LetterKeys, dead_letters
from gateway.messaging.records import Outgoing, Record, Unread, UnreadError
from gateway.payments.dispatch import UntrustedRecordError
from gateway.sealing.sealing import MasterKeys
from schemas.codec import DecodeError
from schemas.envelope import EnvelopeError
from schemas.reasons import Reason, ReasonCode
from schemas.topics import DEAD_LETTER
from tests.support.console import settings_of

RING = MasterKeys({"20260101": bytes(32)})
KEYS = LetterKeys(RING)
ERROR = DecodeError("amount.value", "must be a string")
RECORD = Record(
    topic="mypay.orders",
    partition=3,
    offset=42,
    timestamp_ms=1_767_225_600_000,
    key=b"consent-1",
    value=b'{"order_id":"o-1"}',
    headers=(("ce_id", b"e-1"),),
)
FORGED = Record(DEAD_LETTER, 0, 99, 1_767_225_600_009, b"k", b"v", (("kafka_dlt-exception-message", b"x"),))


class Topic:
    """The topic of dead letters, and all that was published."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.published: list[Outgoing] = []

    def park(self, *records: Record) -> None:
        self.publish_all(dead_letters("initiation", [(r, ERROR) for r in records], KEYS))

    def publish_all(self, outgoing: Sequence[Outgoing]) -> None:
        for o in outgoing:
            at = len(self.records)
            self.records.append(Record(o.topic, 0, at, 1_767_225_600_001 + at, o.key, o.value, tuple(o.headers)))

    async def read_all(self) -> AsyncIterator[Record]:
        for record in list(self.records):
            yield record

    async def publish(self, outgoing: Sequence[Outgoing]) -> None:
        self.published += outgoing
        self.publish_all([o for o in outgoing if o.topic == DEAD_LETTER])


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    topic = Topic()

    @asynccontextmanager
    async def opened(*_: Any) -> AsyncIterator[Topic]:
        yield topic

    monkeypatch.setattr(module, "open_reader", opened)
    monkeypatch.setattr(letter_survey, "open_reader", opened)
    monkeypatch.setattr(sending_again, "open_reader", opened)
    monkeypatch.setattr(sending_again, "_publisher", opened)
    monkeypatch.setattr(sending_again, "letter_keys", lambda _: KEYS)
    return topic


async def test_an_original_goes_where_it_came_from_once_and_its_letters_are_noted(topic: Topic, tmp_path: Path) -> None:
    settings = settings_of("postgresql://x", tmp_path)
    other = replace(RECORD, offset=43)
    topic.park(RECORD, other)
    topic.park(RECORD)  # again, by another worker
    topic.records.append(FORGED)
    replayed, refused = await replay_references(settings, Asked(["mypay.orders/3/42", "mypay.orders/0/7"]))
    assert replayed == ["mypay.orders/3/42"]
    assert refused == {"mypay.orders/0/7": "no dead letter has this original"}
    [original] = [o for o in topic.published if o.topic == "mypay.orders"]
    assert (original.key, original.value, dict(original.headers)["ce_id"]) == (RECORD.key, RECORD.value, b"e-1")
    kafka = module.operators_kafka(settings, client_id="x")
    found = await read_newest(kafka, lambda: KEYS, limit=9)
    assert [(x.reference, x.replayed, x.note) for x in found.letters] == [
        ("mypay.orders/3/42", True, "sent again"),
        ("mypay.orders/3/43", False, ""),
        ("mypay.orders/3/42", True, "sent again"),
    ]
    forged = await read_newest(kafka, lambda: KEYS, limit=9, wanted=Wanted(forged=True))
    assert [(x.reference, x.note) for x in forged.letters] == [(FORGED.reference, "not written by the gateway")]
    assert await open_references(kafka, lambda: KEYS) == ["mypay.orders/3/43"]
    assert await open_references(kafka, lambda: KEYS, "relay") == []
    # No letter is held that nobody asked for.
    some = await read_letters(kafka, lambda: KEYS, references={"mypay.orders/3/42"})
    assert [x.reference for x in some] == ["mypay.orders/3/42"] * 2


async def test_what_somebody_else_wrote_is_sent_nowhere(topic: Topic, tmp_path: Path) -> None:
    topic.records.append(FORGED)
    replayed, refused = await replay_references(settings_of("postgresql://x", tmp_path), Asked([FORGED.reference]))
    assert (replayed, list(refused)) == ([], [FORGED.reference])
    assert topic.published == []


async def test_people_see_no_secret_of_a_letter(topic: Topic, tmp_path: Path) -> None:
    topic.park(replace(RECORD, value=b'{"pan":"4111111111111111"}'), replace(RECORD, offset=43, value=b"a\x1b[31m"))
    kafka = module.operators_kafka(settings_of("postgresql://x", tmp_path), client_id="x")
    sealed, plain = await read_letters(kafka, lambda: KEYS, references={RECORD.reference, "mypay.orders/3/43"})
    assert "4111" not in str(content_of(sealed))
    assert "sealed" in sealed.note
    assert "\x1b" not in str(content_of(plain))


def _raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as raised:
        return raised


ERRORS: dict[str, tuple[Exception, str]] = {
    "of nobody": (
        NotAuthenticatedError(Reason(code=ReasonCode.DS0E, text="unknown key")),
        "Nobody is known to have signed it: DS0E: unknown key",
    ),
    "forged": (UntrustedRecordError(None), "It is not the gateway's own: header mypay-mark: is missing"),
    "of another release": (
        EnvelopeError("mypay-judged", "is missing"),
        "Its headers cannot be read: header mypay-judged: is missing",
    ),
    "faulty": (ERROR, "It cannot be read: amount.value: must be a string"),
    "unread": (
        UnreadError(Unread(7, 9, "unpacks to too much")),
        "It was passed over unread: offsets 7 to 9: what stands there unpacks to too much",
    ),
    "a closed topic": (
        TopicClosedError("mypay.events.p"),
        "What follows from it could not be published: topic mypay.events.p does not exist, or is closed to us",
    ),
    "a small topic": (
        TooLargeForTopicError("mypay.events.p"),
        "What follows from it could not be published: larger than topic mypay.events.p takes, as it is packed here",
    ),
    "refused by the database": (StoreIntegrityError("4111111111111111"), "The database refused to write it"),
    "a fault of ours": (KeyError("4111111111111111"), "The gateway failed on it (KeyError): in _raised, line "),
}
"""What is parked for what → the reason that people read."""


async def test_people_read_in_words_why_a_record_was_parked_and_what_to_do(topic: Topic, tmp_path: Path) -> None:
    assert set(WORDS) == {type(e).__name__ for e, _ in ERRORS.values()} - {"KeyError"}
    errors = [error if name != "a fault of ours" else _raised(error) for name, (error, _) in ERRORS.items()]
    parked = [(replace(RECORD, offset=n), error) for n, error in enumerate(errors)]
    topic.publish_all(dead_letters("execution", parked, KEYS))
    topic.records.append(FORGED)
    kafka = module.operators_kafka(settings_of("postgresql://x", tmp_path), client_id="x")
    letters = (await read_newest(kafka, lambda: KEYS, limit=99)).letters
    for letter, (_, reason) in zip(reversed(letters), ERRORS.values(), strict=True):
        assert letter.reason.startswith(reason)
        assert "4111" not in letter.reason
        assert letter.advice.endswith(".")
    [forged] = (await read_newest(kafka, lambda: KEYS, limit=9, wanted=Wanted(forged=True))).letters
    assert (forged.reason, forged.advice) == ("", "")


# Bytes that may be held → how many letters are looked at: each that might be among the newest, or the newest alone.
@pytest.mark.parametrize(("held", "looked_at"), [(0, 40), (10_000, None), (16 << 20, 7)])
async def test_the_newest_letters_are_the_same_however_little_is_held(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int, looked_at: int | None
) -> None:
    kafka = module.operators_kafka(settings_of("postgresql://x", tmp_path), client_id="x")
    topic.park(*(replace(RECORD, offset=n, value=b"x" * 5000) for n in range(40)))
    topic.records.insert(5, topic.records[30])  # copied by somebody
    topic.records.append(FORGED)
    await replay_references(settings_of("postgresql://x", tmp_path), Asked(["mypay.orders/3/37", "mypay.orders/3/2"]))
    # As partitions come: not in the order of time.
    topic.records = topic.records[20:] + topic.records[:20]
    everything = await read_letters(kafka, lambda: KEYS, references={f"mypay.orders/3/{n}" for n in range(40)})
    counted = 0

    def counting(letter: module.Letter) -> dict[str, Any]:
        nonlocal counted
        counted += 1
        return content_of(letter)

    monkeypatch.setattr(module, "content_of", counting)
    monkeypatch.setattr(module, "HELD_BYTES_MAX", held)
    found = await read_newest(kafka, lambda: KEYS, limit=7)
    assert [(x.reference, x.replayed) for x in found.letters] == [
        (x.reference, x.replayed) for x in reversed(everything[-7:])
    ]
    assert sum(x.replayed for x in found.letters) == 1
    assert found.strange == 1
    assert all(len(x.value) < SHOWN_CHARS_MAX + 30 for x in found.letters)
    assert found.others == 33
    assert looked_at is None or counted == looked_at
    is_open = await read_newest(kafka, lambda: KEYS, limit=7, wanted=Wanted(only_open=True))
    expected = [x.reference for x in reversed(everything) if not x.replayed]
    assert [x.reference for x in is_open.letters] == expected[:7]
    assert is_open.others == 38 - 7
    of_another = await read_newest(kafka, lambda: KEYS, limit=7, wanted=Wanted(stage="relay"))
    assert (of_another.letters, of_another.others) == ((), 0)


# Bytes that may be held → the largest part that is published at once; more would be all of them.
@pytest.mark.parametrize(("held", "at_once"), [(1, 1), (13_000, 3), (16 << 20, 12)])
async def test_however_many_are_sent_again_a_part_of_them_is_held(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int, at_once: int
) -> None:
    kafka = module.operators_kafka(settings_of("postgresql://x", tmp_path), client_id="x")
    topic.park(*(replace(RECORD, offset=n, value=b"x" * 4000) for n in range(12)))
    topic.park(replace(RECORD, offset=4, value=b"x" * 4000))  # again, by another worker
    topic.records.insert(3, topic.records[11])  # copied by somebody
    monkeypatch.setattr(sending_again, "HELD_BYTES_MAX", held)
    parts: list[int] = []
    publish = topic.publish

    async def noting(outgoing: Sequence[Outgoing]) -> None:
        if outgoing and outgoing[0].topic != DEAD_LETTER:
            parts.append(len(outgoing))
        await publish(outgoing)

    monkeypatch.setattr(topic, "publish", noting)
    references = await open_references(kafka, lambda: KEYS)
    replayed, refused = await replay(kafka, KEYS, Asked(references))
    assert (len(replayed), refused, max(parts)) == (12, {}, at_once)
    assert set(replayed) == {f"mypay.orders/3/{n}" for n in range(12)}
    assert await open_references(kafka, lambda: KEYS) == []


async def test_what_an_attempt_that_was_cut_off_has_sent_is_passed_over(topic: Topic, tmp_path: Path) -> None:
    """Two people's decision waits for it: an attempt that began anew each time would never come to its end."""
    settings = settings_of("postgresql://x", tmp_path)
    topic.park(*(replace(RECORD, offset=n) for n in range(3)))
    references = [f"mypay.orders/3/{n}" for n in range(3)]
    doing: Any = SimpleNamespace(settings=settings, proposal_id=None, still=None)
    await replay_references(settings, Asked(references[:2]))
    topic.published.clear()
    assert await OPERATIONS["dead-letter.replay"].do(doing, {"references": references}) == (
        "1 sent again, 2 were before."
    )
    assert [o.topic for o in topic.published].count("mypay.orders") == 1
    assert await OPERATIONS["dead-letter.replay"].do(doing, {"references": references}) == (
        "0 sent again, 3 were before."
    )
    # One that somebody named is sent whatever became of it.
    assert await OPERATIONS["dead-letter.replay"].do(doing, {"references": references[:1]}) == "1 sent again."


async def test_a_topic_that_is_closed_holds_up_its_own_originals_alone(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic.park(RECORD, replace(RECORD, topic="mypay.gone"), replace(RECORD, offset=43))
    publish = topic.publish

    async def closed(outgoing: Sequence[Outgoing]) -> None:
        if any(o.topic == "mypay.gone" for o in outgoing):
            raise TopicClosedError("mypay.gone")
        await publish(outgoing)

    monkeypatch.setattr(topic, "publish", closed)
    kafka = module.operators_kafka(settings_of("postgresql://x", tmp_path), client_id="x")
    replayed, refused = await replay(kafka, KEYS, Asked(await open_references(kafka, lambda: KEYS)))
    assert replayed == ["mypay.orders/3/42", "mypay.orders/3/43"]
    assert refused == {"mypay.gone/3/42": "topic mypay.gone does not exist, or is closed to us"}
    assert await open_references(kafka, lambda: KEYS) == ["mypay.gone/3/42"]


async def test_to_list_letters_nobody_holds_the_place_of_each(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic.park(RECORD, replace(RECORD, offset=43))
    survey, surveyed = module.survey, []

    async def noting(*given: Any) -> Any:
        surveyed.append(await survey(*given))
        return surveyed[-1]

    monkeypatch.setattr(module, "survey", noting)
    kafka = module.operators_kafka(settings_of("postgresql://x", tmp_path), client_id="x")
    found = await read_newest(kafka, lambda: KEYS, limit=1, wanted=Wanted(only_open=True))
    assert (len(found.letters), found.others) == (1, 1)
    assert [(s.letters, s.stages) for s in surveyed] == [({}, {})]
