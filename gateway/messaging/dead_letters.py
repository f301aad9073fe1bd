"""Dead letters: records that no stage could read, kept whole for people, and never a secret in clear.

A dead letter is the original key, value and headers, followed by headers of ours (text, all of them):

- ``kafka_dlt-original-topic``, ``-partition``, ``-offset``, ``-timestamp`` (milliseconds): where the original stands
- ``kafka_dlt-exception-fqcn``, ``-exception-message``: why; the message holds nothing of the record, and no stack
- ``mypay-stage``: who gave up
- ``mypay-sealed: A256GCM``, ``mypay-sealed-key``: the record held a card number or another secret, or may hold one
  that cannot be seen (no text, or larger than is searched), so its value is the sealed original (nonce, then
  ciphertext); the key and each header stay in clear only where they hold none
- ``mypay-omitted``: value, key and headers are left out; only the place is told, where the original stands for as long
  as its topic keeps it. ``too-large``: above :data:`ORIGINAL_BYTES_MAX`, which takes a compressed record larger than
  its topic's limit; or larger, as a dead letter, than the dead-letter topic takes.
  ``unread``: it was not unpacked, or could not be read; the offset is the last of what was passed over
- ``mypay-letter-id``: names this dead letter for ever
- ``mypay-mark``, the last: the gateway's mark (:mod:`gateway.sealing.mac`) over all of it

A note that a dead letter was sent again stands on the same topic: no key, no value, and headers ``mypay-replayed`` (the
letter's id), ``mypay-replayed-reference`` (where its original stands), ``mypay-replayed-for`` where two people let it
happen (their proposal's id), and ``mypay-mark``. Neither is believed without its mark: a forged letter would be sent to
a topic of somebody's choice, a forged note would hide another's letter. A copied note says what the first one says,
whenever it was copied: when a note was written counts for nothing.
"""

import base64
import binascii
import json
import secrets
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Final, NamedTuple

from gateway.base.errors import NotAuthenticatedError, TooLargeForTopicError, TopicClosedError
from gateway.messaging.records import Outgoing, Record, UnreadError
from gateway.sealing.mac import HmacMarks
from gateway.sealing.redaction import SCAN_CHARS_MAX, contains_secret, redact
from gateway.sealing.sealing import MasterKeys, Purpose, Sealed, UnsealError
from schemas.codec import DecodeError
from schemas.envelope import EnvelopeError
from schemas.topics import DEAD_LETTER

ORIGINAL_BYTES_MAX: Final = 1024 * 1024
"""Key, value and headers together: the limit of the topics that are read. Sealed, it takes 4/3 of that."""

DEAD_LETTER_BYTES_MAX: Final = 2 * 1024 * 1024 - 8 * 1024
"""The dead-letter topic's limit, less the batch's own fields and the mark."""

SCAN_BYTES_MAX: Final = 128 * 1024
"""Of records that come at once: a tenth of a second of work at worst. What is beyond is sealed unsearched."""

_MARK_BYTES: Final = 200
_MESSAGE_CHARS_MAX: Final = 200
_NONCE_BYTES: Final = 12
_FIRST: Final = "kafka_dlt-original-topic"
_SEALED: Final = "mypay-sealed"
_SEALED_KEY: Final = "mypay-sealed-key"
_OMITTED: Final = "mypay-omitted"
_LETTER_ID: Final = "mypay-letter-id"
_MARK: Final = "mypay-mark"
_REPLAYED: Final = "mypay-replayed"
_REPLAYED_REFERENCE: Final = "mypay-replayed-reference"
_REPLAYED_FOR: Final = "mypay-replayed-for"
_LETTER, _NOTE = b"letter", b"note"

Headers = tuple[tuple[str, bytes], ...]


@unique
class Omitted(StrEnum):
    """Why a dead letter holds its original's place only."""

    TOO_LARGE = "too-large"
    UNREAD = "unread"


class DeadLetterError(ValueError):
    """The record is no dead letter that the gateway wrote, or its original cannot be had from it.

    The text shows nothing of the record.
    """


@dataclass(frozen=True, slots=True)
class Original:
    """A record as it first came."""

    key: bytes | None = field(repr=False)
    value: bytes = field(repr=False)
    headers: Headers = field(repr=False)


@dataclass(frozen=True, slots=True)
class Fate:
    """Why a record became a dead letter, as its headers tell.

    Attributes:
        letter_id: names the dead letter.
        topic, partition, offset, timestamp_ms: where the original stands.
        error: the exception's class with its module; message: its text, sanitised.
        sealed: True if the original is sealed. omitted: why it is not here at all, or None.
    """

    letter_id: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    stage: str
    error: str
    message: str
    sealed: bool
    omitted: Omitted | None

    @property
    def reference(self) -> str:
        """``topic/partition/offset`` of the original."""
        return f"{self.topic}/{self.partition}/{self.offset}"


class Note(NamedTuple):
    """That the original of a dead letter was sent again.

    Attributes:
        letter_id: which letter.
        proposal_id: of what two people let happen, it was part of that.
    """

    letter_id: str
    proposal_id: str | None = None


class LetterKeys:
    """What seals, opens and marks dead letters: one ring of keys."""

    def __init__(self, ring: MasterKeys) -> None:
        self.ring = ring
        self._marks = HmacMarks(ring, Purpose.DEAD_LETTER_MARK)

    def marked(self, kind: bytes, letter: Outgoing) -> Outgoing:
        """With the mark as the last header."""
        mark = self._marks.mark(_parts(kind, letter.key, letter.value, letter.headers))
        return Outgoing(letter.topic, letter.key, letter.value, (*letter.headers, (_MARK, mark)))

    def vouches(self, kind: bytes, record: Record) -> bool:
        """True if the gateway wrote all of it."""
        if not record.headers or record.headers[-1][0] != _MARK:
            return False
        *headers, (_, mark) = record.headers
        return self._marks.check(mark or b"", _parts(kind, record.key, record.value, headers)) is None


def size_of(record: Record) -> int:
    """Bytes of key, value and headers, with what goes around each header."""
    return _size(record.key, record.value, record.headers)


def dead_letters(
    stage: str, records: Sequence[tuple[Record, Exception]], keys: LetterKeys, searched_max: int = SCAN_BYTES_MAX
) -> list[Outgoing]:
    """Build the dead letters of records; of all together at most ``searched_max`` bytes are searched for secrets."""
    left = searched_max
    letters: list[Outgoing] = []
    for record, error in records:
        size = size_of(record)
        letters.append(dead_letter(stage, record, error, keys, search=size <= left))
        left -= min(size, SCAN_CHARS_MAX)
    return letters


def dead_letter(stage: str, record: Record, error: Exception, keys: LetterKeys, *, search: bool = True) -> Outgoing:
    """Build the dead letter of a record. Whatever the record holds, the result fits the topic and shows no secret.

    What is larger than is ever searched is sealed unsearched, and so is any record without ``search``.

    Raises:
        NoMasterKeyError: the ring is empty.
    """
    return keys.marked(_LETTER, _letter(stage, record, error, keys.ring, search=search))


def place_alone(stage: str, record: Record, error: Exception, keys: LetterKeys) -> Outgoing:
    """Build the dead letter of a record that the topic does not take: it tells where that stands, and why."""
    return keys.marked(_LETTER, _omitted(_told(stage, record, error), Omitted.TOO_LARGE))


def _letter(stage: str, record: Record, error: Exception, ring: MasterKeys, *, search: bool) -> Outgoing:
    told = _told(stage, record, error)
    if record.unread is not None:
        return _omitted(told, Omitted.UNREAD)
    size = size_of(record)
    if size > ORIGINAL_BYTES_MAX:
        return _omitted(told, Omitted.TOO_LARGE)
    if not search or size > SCAN_CHARS_MAX:
        return _sealed(told, record, None, (), ring)
    key = None if record.key is not None and contains_secret(record.key) else record.key
    headers = tuple((n, v) for n, v in record.headers if not contains_secret(b"%s: %s" % (_name(n), v)))
    if key == record.key and headers == record.headers and not contains_secret(record.value):
        return _fitting(told, key, record.value, headers, ())
    return _sealed(told, record, key, headers, ring)


def _sealed(told: Headers, record: Record, key: bytes | None, headers: Headers, ring: MasterKeys) -> Outgoing:
    """The record sealed, beside what of it may be shown."""
    sealed = ring.seal(Purpose.DEAD_LETTER, _pack(record), record.reference)
    seal = ((_SEALED, b"A256GCM"), (_SEALED_KEY, sealed.key_id.encode()))
    return _fitting(told, key, sealed.nonce + sealed.ciphertext, headers, seal)


def read_fate(record: Record, keys: LetterKeys) -> Fate:
    """Read why a dead letter is one.

    Raises:
        DeadLetterError: not a dead letter that the gateway wrote.
    """
    return _read(record, keys)[0]


def replay_note(note: Note, reference: str, keys: LetterKeys) -> Outgoing:
    """The note that a dead letter was sent again; ``reference``: where its original stands."""
    headers: Headers = ((_REPLAYED, note.letter_id.encode()), (_REPLAYED_REFERENCE, reference.encode()))
    if note.proposal_id is not None:
        headers = (*headers, (_REPLAYED_FOR, note.proposal_id.encode()))
    return keys.marked(_NOTE, Outgoing(DEAD_LETTER, None, b"", headers))


def looks_like_note(record: Record) -> bool:
    """True for what is, or claims to be, a note."""
    return not record.value and any(name == _REPLAYED for name, _ in record.headers)


def read_note(record: Record, keys: LetterKeys) -> Note | None:
    """What a note says; None where the gateway did not write it."""
    if not looks_like_note(record) or not keys.vouches(_NOTE, record):
        return None
    told = dict(record.headers)
    proposal = told.get(_REPLAYED_FOR)
    return Note(told[_REPLAYED].decode(), None if proposal is None else proposal.decode())


def restore(record: Record, keys: LetterKeys) -> Original:
    """Return the original of a dead letter, byte for byte. It may hold a card number: never print or log it.

    Raises:
        DeadLetterError: not a dead letter that the gateway wrote, or its original was left out (the text tells where
            it stands).
        NoMasterKeyError: the key that sealed it is not configured.
        UnsealError: it was changed since.
    """
    fate, headers, ours = _read(record, keys)
    if fate.omitted is not None:
        raise DeadLetterError(f"the original was left out ({fate.omitted}); it stands at {fate.reference}")
    if not fate.sealed:
        return Original(record.key, record.value, headers)
    nonce, ciphertext = record.value[:_NONCE_BYTES], record.value[_NONCE_BYTES:]
    sealed = Sealed(ours.get(_SEALED_KEY, ""), nonce, ciphertext)
    return _unpack(keys.ring.open(Purpose.DEAD_LETTER, sealed, fate.reference))


def _told(stage: str, record: Record, error: Exception) -> Headers:
    texts = (
        (_FIRST, record.topic),
        ("kafka_dlt-original-partition", str(record.partition)),
        ("kafka_dlt-original-offset", str(record.offset)),
        ("kafka_dlt-original-timestamp", str(record.timestamp_ms)),
        ("kafka_dlt-exception-fqcn", f"{type(error).__module__}.{type(error).__qualname__}"),
        ("kafka_dlt-exception-message", _message(error)),
        ("mypay-stage", stage),
        (_LETTER_ID, secrets.token_urlsafe(12)),
    )
    return tuple((name, text.encode()) for name, text in texts)


_SPEAKING: Final = (
    DecodeError,
    EnvelopeError,
    UnreadError,
    NotAuthenticatedError,
    TopicClosedError,
    TooLargeForTopicError,
)
"""Errors whose text holds nothing of the record."""


def _message(error: Exception) -> str:
    """Text that shows nothing of the record: some errors' own; of others, where they arose."""
    if isinstance(error, _SPEAKING):
        line = " ".join(str(error).split())
        return redact(line, chars_max=10 * _MESSAGE_CHARS_MAX)[:_MESSAGE_CHARS_MAX]
    frames = traceback.extract_tb(error.__traceback__)
    return f"in {frames[-1].name}, line {frames[-1].lineno}" if frames else ""


def _fitting(told: Headers, key: bytes | None, value: bytes, headers: Headers, seal: Headers) -> Outgoing:
    ours = (*told, *seal)
    if _size(key, value, (*headers, *ours)) > DEAD_LETTER_BYTES_MAX - _MARK_BYTES:
        return _omitted(told, Omitted.TOO_LARGE)
    return Outgoing(DEAD_LETTER, key, value, (*headers, *ours))


def _omitted(told: Headers, why: Omitted) -> Outgoing:
    return Outgoing(DEAD_LETTER, None, b"", (*told, (_OMITTED, why.encode())))


def _read(record: Record, keys: LetterKeys) -> tuple[Fate, Headers, dict[str, str]]:
    """Fate, the original's headers that are in clear, and ours. Ours are the last; the original may have the same."""
    if not keys.vouches(_LETTER, record):
        raise DeadLetterError(f"{record.reference} was not written by the gateway: its mark is missing or wrong")
    places = [i for i, (name, _) in enumerate(record.headers) if name == _FIRST]
    if not places:
        raise DeadLetterError(f"{record.reference} has no header {_FIRST}: not a dead letter")
    try:
        ours = {name: value.decode() for name, value in record.headers[places[-1] :]}
        fate = Fate(
            letter_id=ours[_LETTER_ID],
            topic=ours[_FIRST],
            partition=int(ours["kafka_dlt-original-partition"]),
            offset=int(ours["kafka_dlt-original-offset"]),
            timestamp_ms=int(ours["kafka_dlt-original-timestamp"]),
            stage=ours["mypay-stage"],
            error=ours["kafka_dlt-exception-fqcn"],
            message=ours["kafka_dlt-exception-message"],
            sealed=_SEALED in ours,
            omitted=Omitted(ours[_OMITTED]) if _OMITTED in ours else None,
        )
    except (KeyError, ValueError) as error:
        raise DeadLetterError(f"{record.reference} is not a dead letter of ours ({type(error).__name__})") from None
    return fate, record.headers[: places[-1]], ours


def _pack(record: Record) -> bytes:
    packed = {
        "key": None if record.key is None else _text(record.key),
        "value": _text(record.value),
        "headers": [[name, _text(value)] for name, value in record.headers],
    }
    return json.dumps(packed, separators=(",", ":")).encode()


def _unpack(packed: bytes) -> Original:
    try:
        found = json.loads(packed)
        key = None if found["key"] is None else base64.b64decode(found["key"])
        headers = tuple((name, base64.b64decode(value)) for name, value in found["headers"])
        return Original(key, base64.b64decode(found["value"]), headers)
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise UnsealError("the sealed original is not in a form that is known here") from None


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _parts(kind: bytes, key: bytes | None, value: bytes, headers: Iterable[tuple[str, bytes]]) -> list[bytes | None]:
    return [kind, key, value, *(part for name, content in headers for part in (_name(name), content))]


def _name(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _size(key: bytes | None, value: bytes, headers: Headers) -> int:
    return len(key or b"") + len(value) + sum(len(_name(n)) + len(v) + 8 for n, v in headers)
