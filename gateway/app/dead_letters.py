"""Dead letters as operators meet them: all that are there, each with its fate, and sending originals again.

Nothing is taken out of the topic. What was sent again is noted there; a dead letter counts as open while no note names
it. Letters and notes count only with the gateway's mark: whoever else writes to the topic shows nothing, sends nothing
and hides nothing. What is sent again takes the way that it took first, and every check is made again.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Container, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from gateway.app.addresses import kafka_address
from gateway.app.errors import NotConfiguredError
from gateway.app.kafka import kafka_settings
from gateway.app.keys import Ring, load_ring
from gateway.app.settings import Settings
from gateway.base.process import SilentObserver
from gateway.messaging.dead_letters import (
    DeadLetterError,
    Fate,
    LetterKeys,
    looks_like_note,
    read_fate,
    read_note,
    replay_note,
    restore,
)
from gateway.messaging.producer import KafkaPublisher
from gateway.messaging.reader import open_reader
from gateway.messaging.records import Outgoing, Record
from gateway.messaging.settings import KafkaSettings
from gateway.sealing.redaction import redact
from gateway.sealing.sealing import NoMasterKeyError, UnsealError
from gateway.settlement.files import FILE_TOPIC_PREFIX
from schemas.topics import DEAD_LETTER

OPS: Final = "mypay-ops"
"""Who operators are to the brokers (:mod:`schemas.principals`)."""

KAFKA_DEADLINE_S: Final = 10.0
"""A person is told of an outage after this; a leader election takes less."""

SHOWN_CHARS_MAX: Final = 4_000

HELD_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of records that wait to be looked at. More is held for a moment only: one record is up to 1 MiB."""

_RECORD_BYTES: Final = 1024
"""What a record takes beside what is in it, roughly."""

_REPLAY_BATCH: Final = 200
"""Originals are up to 1 MiB: what is held at a time stays bounded."""


@dataclass(slots=True)
class Letter:
    """A dead letter with its fate; without one, somebody else wrote it, whatever it says of itself."""

    record: Record
    fate: Fate | None
    replayed: bool = False

    @property
    def reference(self) -> str:
        """Where the original stands: topic/partition/offset."""
        return self.fate.reference if self.fate else self.record.reference

    @property
    def parked_at(self) -> datetime | str:
        """When it was put aside."""
        return moment(self.record.timestamp_ms)

    @property
    def reason(self) -> str:
        """Why, as the stage said."""
        return f"{self.fate.error.rpartition('.')[2]}: {self.fate.message}" if self.fate else ""

    @property
    def note(self) -> str:
        """What else there is to know of it."""
        if self.fate is None:
            return "not written by the gateway"
        notes = []
        if self.fate.omitted:
            notes.append(f"left out: {self.fate.omitted}")
        if self.fate.sealed:
            notes.append("sealed")
        if self.replayed:
            notes.append("sent again")
        return ", ".join(notes)

    @property
    def is_open(self) -> bool:
        """True if the gateway wrote it, and nobody has sent its original again."""
        return self.fate is not None and not self.replayed


def letter_keys(settings: Settings) -> LetterKeys:
    """The keys that letters are known by.

    Raises:
        NotConfiguredError: there is none.
    """
    return LetterKeys(load_ring(settings, Ring.DEAD_LETTER))


def operators_kafka(settings: Settings, *, client_id: str) -> KafkaSettings:
    """The cluster as given, or else the running local stack's, as operators.

    Raises:
        NotConfiguredError: there is none, or it asks for what is nowhere.
    """
    if (at := kafka_address(settings)) is None:
        raise NotConfiguredError("MYPAY_KAFKA_BOOTSTRAP_SERVERS is not set, and no local stack runs")
    return kafka_settings(settings, at, OPS, client_id=client_id)


async def read_letters(
    kafka: KafkaSettings,
    load_keys: Callable[[], LetterKeys],
    stage: str | None = None,
    *,
    references: Container[str] | None = None,
) -> list[Letter]:
    """Every dead letter, or one stage's, or those of some originals, oldest first.

    Keys are asked for when there is something to read.

    Raises:
        KafkaUnavailableError, TopicMissingError: they cannot be read.
    """
    letters: dict[str, Letter] = {}
    replayed: set[str] = set()
    async with open_reader(kafka, DEAD_LETTER) as reader:
        keys = load_keys()
        async for record in reader.read_all():
            if looks_like_note(record) and (noted := read_note(record, keys)) is not None:
                replayed.add(noted)
                continue
            letter = Letter(record, _fate(record, keys))
            if references is not None and letter.reference not in references:
                continue
            if stage is None or (letter.fate is not None and letter.fate.stage == stage):
                # The same letter again, copied by somebody, is the same letter.
                letters.setdefault(letter.fate.letter_id if letter.fate else record.reference, letter)
    for letter_id, letter in letters.items():
        letter.replayed = letter_id in replayed
    return sorted(letters.values(), key=lambda x: x.record.timestamp_ms)


@dataclass(frozen=True, slots=True)
class ShownLetter:
    """A dead letter as far as people see it: its record, which may be 1 MiB long, is not kept."""

    letter_id: str
    timestamp_ms: int
    reference: str
    stage: str
    reason: str
    parked_at: datetime | str
    value: str
    replayed: bool


@dataclass(frozen=True, slots=True)
class NewestLetters:
    """The newest letters, the youngest first, and how many records the gateway did not write."""

    letters: tuple[ShownLetter, ...]
    strange: int


async def read_newest(kafka: KafkaSettings, load_keys: Callable[[], LetterKeys], *, limit: int) -> NewestLetters:
    """The newest dead letters as they are shown, however long the topic is. Of all others their ids alone are kept.

    Raises:
        KafkaUnavailableError, TopicMissingError: they cannot be read.
    """
    newest, waiting = list[ShownLetter](), list[Letter]()
    met, replayed = set[str](), set[str]()
    strange = held = 0

    def settle() -> None:
        """Keep what is among the newest so far, without its record."""
        nonlocal newest, held
        waiting.sort(key=lambda x: x.record.timestamp_ms)
        newest = sorted([*newest, *map(_shown, waiting[-limit:])], key=lambda x: x.timestamp_ms)[-limit:]
        waiting.clear()
        held = 0

    async with open_reader(kafka, DEAD_LETTER) as reader:
        keys = load_keys()
        async for record in reader.read_all():
            if looks_like_note(record) and (noted := read_note(record, keys)) is not None:
                replayed.add(noted)
            elif (fate := _fate(record, keys)) is None:
                strange += 1
            elif fate.letter_id not in met:
                met.add(fate.letter_id)
                waiting.append(Letter(record, fate))
                held += _bytes_of(record)
                if held > HELD_BYTES_MAX:
                    await asyncio.to_thread(settle)
    await asyncio.to_thread(settle)
    return NewestLetters(tuple(replace(x, replayed=x.letter_id in replayed) for x in reversed(newest)), strange)


async def replay(
    kafka: KafkaSettings, letters: Sequence[Letter], everything: Sequence[Letter], keys: LetterKeys
) -> tuple[list[str], dict[str, str]]:
    """Send originals again to where they came from: same bytes, key and headers.

    Args:
        kafka: the cluster, as operators.
        letters: whose originals; one a reference.
        everything: all letters. A record that was parked twice is sent again once, and all its letters are noted.
        keys: what letters are known by.

    Returns:
        References of what was sent, and of what was not with the reason.

    Raises:
        PublisherUnavailableError: some may have been sent; again does no harm.
    """
    replayed: list[str] = []
    refused: dict[str, str] = {}
    async with _publisher(kafka) as publisher:
        for begin in range(0, len(letters), _REPLAY_BATCH):
            batch: dict[str, Outgoing] = {}
            notes: list[Outgoing] = []
            for letter in letters[begin : begin + _REPLAY_BATCH]:
                original = _original(letter, keys)
                if isinstance(original, str):
                    refused[letter.reference] = original
                    continue
                batch[letter.reference] = original
                alike = [x for x in everything if x.fate and x.reference == letter.reference]
                notes += [replay_note(x.fate.letter_id, x.reference, keys) for x in alike if x.fate]
            await publisher.publish(list(batch.values()))
            await publisher.publish(notes)
            replayed += batch
    return replayed, refused


async def replay_references(settings: Settings, references: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Send again the originals of these references; as :func:`replay`."""
    kafka, keys = operators_kafka(settings, client_id="mypay-replay"), letter_keys(settings)
    everything = await read_letters(kafka, lambda: keys, references=frozenset(references))
    newest = {x.reference: x for x in everything}
    letters = [newest[r] for r in references if r in newest]
    replayed, refused = await replay(kafka, letters, everything, keys)
    missing = {r: "no dead letter has this original" for r in references if r not in newest}
    return replayed, refused | missing


def content_of(letter: Letter) -> dict[str, Any]:
    """Key, headers and value as far as people may see them.

    What the gateway parked in clear holds no secret that it knows; it is masked all the same, for others may have
    written here.
    """
    fate, record = letter.fate, letter.record
    sealed = fate is not None and fate.sealed
    headers = [(n, v) for n, v in record.headers if not n.startswith(("kafka_dlt-", "mypay-"))]
    return {
        "key": None if record.key is None else _visible(record.key),
        "headers": {_visible(n.encode()): _visible(v) for n, v in headers},
        "value": "(sealed: it holds a secret, or digits that may be a card number; replay opens it)"
        if sealed
        else _visible(record.value),
    }


def _bytes_of(record: Record) -> int:
    headers = sum(len(name) + len(value) for name, value in record.headers)
    return _RECORD_BYTES + len(record.value) + len(record.key or b"") + headers


def _shown(letter: Letter) -> ShownLetter:
    fate = letter.fate
    assert fate is not None  # noqa: S101 - of a letter of the gateway's own
    return ShownLetter(
        letter_id=fate.letter_id,
        timestamp_ms=letter.record.timestamp_ms,
        reference=letter.reference,
        stage=fate.stage,
        reason=letter.reason,
        parked_at=letter.parked_at,
        value=content_of(letter)["value"],
        replayed=False,
    )


def moment(timestamp_ms: int) -> datetime | str:
    """A Kafka timestamp as a time; whoever produced the record may have chosen a number that is none."""
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{timestamp_ms} ms"


@asynccontextmanager
async def _publisher(kafka: KafkaSettings) -> AsyncIterator[KafkaPublisher]:
    publisher = KafkaPublisher(kafka, SilentObserver(), deadline_seconds=KAFKA_DEADLINE_S)
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.stop()


def _fate(record: Record, keys: LetterKeys) -> Fate | None:
    try:
        return read_fate(record, keys)
    except DeadLetterError:
        return None


def _original(letter: Letter, keys: LetterKeys) -> Outgoing | str:
    """The original as it came, or why it cannot be sent again."""
    fate = letter.fate
    if fate is None:
        return f"it was {letter.note}, and is not sent anywhere"
    if fate.topic.startswith(FILE_TOPIC_PREFIX):
        return "it is a line of a file: correct the file and import it again"
    try:
        original = restore(letter.record, keys)
    except (DeadLetterError, NoMasterKeyError, UnsealError) as error:
        return str(error)
    return Outgoing(topic=fate.topic, key=original.key, value=original.value, headers=original.headers)


def _visible(data: bytes) -> str:
    """Text with secrets masked, and nothing in it that a terminal would obey."""
    text = redact(data.decode("utf-8", "backslashreplace"))
    if len(text) > SHOWN_CHARS_MAX:
        text = f"{text[:SHOWN_CHARS_MAX]}… ({len(data)} bytes)"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
