"""Dead letters as operators meet them: all that are there, each with its fate.

Nothing is taken out of the topic. What was sent again (:mod:`gateway.app.sending_again`) is noted there; a dead letter
counts as open while no note names it. Letters and notes count only with the gateway's mark: whoever else writes to the
topic shows nothing, sends nothing and hides nothing.
"""

import asyncio
from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from gateway.app.addresses import kafka_address
from gateway.app.errors import NotConfiguredError
from gateway.app.kafka import kafka_settings
from gateway.app.keys import Ring, load_ring
from gateway.app.letter_survey import fate_of, letters_once, survey
from gateway.app.letter_words import why
from gateway.app.settings import Settings
from gateway.messaging.dead_letters import (
    Fate,
    LetterKeys,
    looks_like_note,
    read_note,
)
from gateway.messaging.reader import open_reader
from gateway.messaging.records import Record
from gateway.messaging.settings import KafkaSettings
from gateway.sealing.redaction import redact
from schemas.topics import DEAD_LETTER

OPS: Final = "mypay-ops"
"""Who operators are to the brokers (:mod:`schemas.principals`)."""

SHOWN_CHARS_MAX: Final = 4_000

FOREIGN: Final = "not written by the gateway"
SENT_AGAIN: Final = "sent again"
NOT_THERE: Final = "no dead letter has this original"

HELD_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of records that wait to be looked at. More is held for a moment only: one record is up to 1 MiB."""

_RECORD_BYTES: Final = 1024
"""What a record takes beside what is in it, roughly."""


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
        """Why, in words, with what the stage said of it."""
        if self.fate is None:
            return ""
        what = why(self.fate.error).what
        return f"{what}: {self.fate.message}" if self.fate.message else what

    @property
    def advice(self) -> str:
        """What to do about it."""
        return why(self.fate.error).advice if self.fate else ""

    @property
    def note(self) -> str:
        """What else there is to know of it."""
        if self.fate is None:
            return FOREIGN
        notes = []
        if self.fate.omitted:
            notes.append(f"left out: {self.fate.omitted}")
        if self.fate.sealed:
            notes.append("sealed")
        if self.replayed:
            notes.append(SENT_AGAIN)
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
    kafka: KafkaSettings, load_keys: Callable[[], LetterKeys], *, references: Container[str]
) -> list[Letter]:
    """The dead letters of some originals, oldest first. They are held whole: ask for few.

    Raises:
        KafkaUnavailableError, TopicMissingError: they cannot be read.
    """
    letters: dict[str, Letter] = {}
    replayed: set[str] = set()
    async with open_reader(kafka, DEAD_LETTER) as reader:
        keys = load_keys()
        async for record in reader.read_all():
            if looks_like_note(record) and (noted := read_note(record, keys)) is not None:
                replayed.add(noted.letter_id)
                continue
            letter = Letter(record, fate_of(record, keys))
            if letter.reference in references:
                # The same letter again, copied by somebody, is the same letter.
                letters.setdefault(letter.fate.letter_id if letter.fate else record.reference, letter)
    for letter_id, letter in letters.items():
        letter.replayed = letter_id in replayed
    return sorted(letters.values(), key=lambda x: x.record.timestamp_ms)


@dataclass(frozen=True, slots=True)
class ShownLetter:
    """A dead letter as far as people see it: its record, which may be 1 MiB long, is not kept.

    Attributes:
        letter_id: names it; empty of what the gateway did not write.
        size: bytes of its value; ``value``: the beginning of it, masked.
    """

    letter_id: str
    timestamp_ms: int
    reference: str
    stage: str
    error: str
    message: str
    reason: str
    arrived_at: datetime | str | None
    parked_at: datetime | str
    value: str
    size: int
    note: str
    replayed: bool
    advice: str = ""


@dataclass(frozen=True, slots=True)
class NewestLetters:
    """The newest letters, the youngest first.

    Attributes:
        others: how many more were asked for.
        strange: how many records the gateway did not write.
    """

    letters: tuple[ShownLetter, ...]
    others: int
    strange: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters are asked for.

    Attributes:
        stage: of this one alone.
        only_open: those whose original nobody has sent again.
        forged: instead: what others than the gateway wrote.
    """

    stage: str | None = None
    only_open: bool = False
    forged: bool = False


ALL: Final = Wanted()


async def read_newest(
    kafka: KafkaSettings, load_keys: Callable[[], LetterKeys], *, limit: int, wanted: Wanted = ALL
) -> NewestLetters:
    """The newest dead letters as they are shown, however long the topic is. Of all others their ids alone are kept.

    Raises:
        KafkaUnavailableError, TopicMissingError: they cannot be read.
    """
    # What was sent again is told behind the letter: of open ones it must be known before.
    replayed = (await survey(kafka, load_keys, frozenset())).replayed if wanted.only_open else set[str]()
    newest, waiting = list[ShownLetter](), list[Letter]()
    found = strange = held = 0

    def settle() -> None:
        """Keep what is among the newest so far, without its record."""
        nonlocal newest, held
        waiting.sort(key=lambda x: x.record.timestamp_ms)
        newest = sorted([*newest, *map(shown_letter, waiting[-limit:])], key=lambda x: x.timestamp_ms)[-limit:]
        waiting.clear()
        held = 0

    async with open_reader(kafka, DEAD_LETTER) as reader:
        async for record, fate in letters_once(reader, load_keys(), replayed):
            strange += fate is None
            if wanted.forged != (fate is None) or (fate is not None and not _is_wanted(fate, wanted, replayed)):
                continue
            found += 1
            waiting.append(Letter(record, fate))
            held += bytes_of(record)
            if held > HELD_BYTES_MAX:
                await asyncio.to_thread(settle)
    await asyncio.to_thread(settle)
    shown = tuple(replace(x, **_replayed(x)) if x.letter_id in replayed else x for x in reversed(newest))
    return NewestLetters(shown, found - len(shown), strange)


def _is_wanted(fate: Fate, wanted: Wanted, replayed: Container[str]) -> bool:
    if wanted.only_open and fate.letter_id in replayed:
        return False
    return wanted.stage in {None, fate.stage}


def _replayed(shown: ShownLetter) -> dict[str, Any]:
    return {"replayed": True, "note": f"{shown.note}, {SENT_AGAIN}" if shown.note else SENT_AGAIN}


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


def bytes_of(record: Record) -> int:
    """What a record takes in memory, roughly."""
    headers = sum(len(name) + len(value) for name, value in record.headers)
    return _RECORD_BYTES + len(record.value) + len(record.key or b"") + headers


def shown_letter(letter: Letter) -> ShownLetter:
    """What of a letter is kept to be shown."""
    fate = letter.fate
    return ShownLetter(
        letter_id=fate.letter_id if fate else "",
        timestamp_ms=letter.record.timestamp_ms,
        reference=letter.reference,
        stage=fate.stage if fate else "",
        error=fate.error if fate else "",
        message=fate.message if fate else "",
        reason=letter.reason,
        arrived_at=moment(fate.timestamp_ms) if fate else None,
        parked_at=letter.parked_at,
        value=content_of(letter)["value"],
        size=len(letter.record.value),
        note=letter.note,
        replayed=False,
        advice=letter.advice,
    )


def moment(timestamp_ms: int) -> datetime | str:
    """A Kafka timestamp as a time; whoever produced the record may have chosen a number that is none."""
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{timestamp_ms} ms"


def _visible(data: bytes) -> str:
    """Text with secrets masked, and nothing in it that a terminal would obey."""
    text = redact(data.decode("utf-8", "backslashreplace"))
    if len(text) > SHOWN_CHARS_MAX:
        text = f"{text[:SHOWN_CHARS_MAX]}… ({len(data)} bytes)"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
