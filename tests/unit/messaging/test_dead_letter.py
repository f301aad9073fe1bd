import threading
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.base.errors import NotAuthenticatedError, PublisherUnavailableError, TooLargeForTopicError
from gateway.messaging.dead_letters import (
    DEAD_LETTER_BYTES_MAX,
    ORIGINAL_BYTES_MAX,
    SCAN_BYTES_MAX,
    DeadLetterError,
    LetterKeys,
    Note,
    Omitted,
    dead_letter,
    dead_letters,
    read_fate,
    read_note,
    replay_note,
    restore,
)
from gateway.messaging.parking import SCAN_BYTES_A_SECOND, KafkaDeadLetters
from gateway.messaging.records import Outgoing, Record
from gateway.proving.collect.topics import dead_letter_row
from gateway.sealing.redaction import SCAN_CHARS_MAX, contains_secret
from gateway.sealing.sealing import MasterKeys, NoMasterKeyError, UnsealError
from schemas.codec import DecodeError
from schemas.envelope import EnvelopeError
from schemas.reasons import Reason, ReasonCode
from schemas.topics import DEAD_LETTER

RING = MasterKeys({"20260101": bytes(32)})
KEYS = LetterKeys(RING)
PAN = b"4111111111111111"
ERROR = DecodeError("amount.value", "must be a string")
RECORD = Record(
    topic="mypay.orders",
    partition=3,
    offset=42,
    timestamp_ms=1_767_225_600_000,
    key=b"consent-1",
    value=b'{"order_id":"o-1"}',
    headers=(("ce_id", b"e-1"), ("ce_type", b"kr.mypay.payment.order.v1"), ("ce_id", b"twice")),
)


def arrived(letter: Outgoing) -> Record:
    """The letter as a consumer of the dead-letter topic gets it."""
    return Record(letter.topic, 0, 7, 1_767_225_600_001, letter.key, letter.value, tuple(letter.headers))


def whole(letter: Outgoing) -> bytes:
    parts = [letter.key or b"", letter.value, *(n.encode() + b": " + v for n, v in letter.headers)]
    return b"\n".join(parts)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotAuthenticatedError(Reason(code=ReasonCode.DS17, text="signature does not match the value")), "DS17"),
        (ERROR, None),
    ],
)
def test_the_books_name_a_dead_letters_reason_by_its_code(error: Exception, code: str | None) -> None:
    letter = dead_letter("initiation", RECORD, error, KEYS)
    consumed = SimpleNamespace(**{name: getattr(arrived(letter), name) for name in ("topic", "partition", "offset")})
    consumed.timestamp, consumed.key, consumed.value, consumed.headers = 0, letter.key, letter.value, letter.headers
    row = dead_letter_row(consumed, KEYS)
    assert row is not None
    assert (row.error, row.reason_code) == (type(error).__name__, code)


def test_a_harmless_record_is_kept_byte_for_byte() -> None:
    letter = dead_letter("initiation", RECORD, ERROR, KEYS)
    assert letter.topic == DEAD_LETTER
    assert (letter.key, letter.value) == (RECORD.key, RECORD.value)
    assert tuple(letter.headers)[:3] == RECORD.headers
    ours = dict(tuple(letter.headers)[3:])
    assert ours.pop("mypay-letter-id")
    assert ours.pop("mypay-mark").startswith(b"20260101.")
    assert ours == {
        "kafka_dlt-original-topic": b"mypay.orders",
        "kafka_dlt-original-partition": b"3",
        "kafka_dlt-original-offset": b"42",
        "kafka_dlt-original-timestamp": b"1767225600000",
        "kafka_dlt-exception-fqcn": b"schemas.codec.DecodeError",
        "kafka_dlt-exception-message": b"amount.value: must be a string",
        "mypay-stage": b"initiation",
    }


def test_its_fate_can_be_read() -> None:
    fate = read_fate(arrived(dead_letter("execution", RECORD, EnvelopeError("ce_id", "given twice"), KEYS)), KEYS)
    assert fate.reference == RECORD.reference == "mypay.orders/3/42"
    assert (fate.stage, fate.error) == ("execution", "schemas.envelope.EnvelopeError")
    assert fate.message == "header ce_id: given twice"
    assert not fate.sealed
    assert fate.omitted is None


@pytest.mark.parametrize(
    "record",
    [
        replace(RECORD, value=b'{"card":"4111 1111 1111 1111"}'),
        replace(RECORD, value='{"card":"4111111111111111"}'.encode("utf-16")),
        replace(RECORD, value=b"\xff\xfe" + PAN),
        replace(RECORD, key=PAN),
        replace(RECORD, headers=(*RECORD.headers, ("x-card", PAN))),
        replace(RECORD, headers=((PAN.decode(), b"x"), *RECORD.headers)),
        replace(RECORD, value=b"-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE"),
        replace(RECORD, value=b'{"kty":"EC","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}'),
        replace(RECORD, key=None, value=PAN, headers=()),
        replace(RECORD, value=b'{"cvv2":"123"}'),
        replace(RECORD, value=b'{"card":"\\u0034111 1111 1111 1111"}'),
        replace(RECORD, value=b"\x02\xc1\xc2 EBCDIC, BCD or a compressed body"),
        replace(RECORD, value=b'{"order_id":"' + b"o" * SCAN_CHARS_MAX),
    ],
)
def test_a_record_with_a_secret_is_sealed_and_comes_back_whole(record: Record) -> None:
    letter = dead_letter("initiation", record, ERROR, KEYS)
    assert PAN not in whole(letter)
    assert record.value not in letter.value
    assert read_fate(arrived(letter), KEYS).sealed
    original = restore(arrived(letter), KEYS)
    assert (original.key, original.value, original.headers) == (record.key, record.value, record.headers)


def test_what_holds_no_secret_stays_readable_beside_the_seal() -> None:
    letter = dead_letter("initiation", replace(RECORD, headers=(*RECORD.headers, ("x-card", PAN))), ERROR, KEYS)
    assert letter.key == RECORD.key
    assert tuple(letter.headers)[:3] == RECORD.headers
    assert "x-card" not in dict(letter.headers)
    assert dict(letter.headers)["mypay-sealed"] == b"A256GCM"
    assert dict(letter.headers)["mypay-sealed-key"] == b"20260101"


def test_without_a_key_nothing_is_parked() -> None:
    """Processes do not start without one; and an unmarked letter would be nobody's."""
    for record in (RECORD, replace(RECORD, value=PAN)):
        with pytest.raises(NoMasterKeyError):
            dead_letter("initiation", record, ERROR, LetterKeys(MasterKeys({})))


def test_the_ring_of_dead_letters_opens_nothing_that_another_ring_sealed() -> None:
    letter = arrived(dead_letter("initiation", replace(RECORD, value=PAN), ERROR, KEYS))
    with pytest.raises(DeadLetterError, match="not written by the gateway"):
        restore(letter, LetterKeys(MasterKeys({"20260101": bytes([1] * 32)})))


@pytest.mark.parametrize(
    ("value", "omitted", "sealed"),
    [
        (b"x" * (SCAN_CHARS_MAX - 400), None, False),
        (b"x" * (ORIGINAL_BYTES_MAX - 200), None, True),
        (PAN + b"x" * (ORIGINAL_BYTES_MAX - 200), None, True),
        (b"x" * ORIGINAL_BYTES_MAX, Omitted.TOO_LARGE, False),
        (PAN * (ORIGINAL_BYTES_MAX // 16), Omitted.TOO_LARGE, False),
    ],
    ids=["searched", "largest", "largest-sealed", "too-large", "too-large-with-secret"],
)
def test_a_large_record_fits_or_is_left_out(value: bytes, omitted: Omitted | None, *, sealed: bool) -> None:
    letter = dead_letter("initiation", replace(RECORD, value=value), ERROR, KEYS)
    assert len(whole(letter)) <= DEAD_LETTER_BYTES_MAX
    fate = read_fate(arrived(letter), KEYS)
    assert (fate.omitted, fate.sealed) == (omitted, sealed)


def test_very_many_headers_fit_or_are_left_out() -> None:
    headers = tuple(("x", b"y" * 100) for _ in range(9_000))
    record = replace(RECORD, headers=headers, value=PAN)
    letter = dead_letter("initiation", record, ERROR, KEYS)
    assert len(whole(letter)) <= DEAD_LETTER_BYTES_MAX
    assert restore(arrived(letter), KEYS).headers == headers


@given(
    st.none() | st.binary(max_size=60),
    st.binary(max_size=300) | st.just(b'{"pan":"4111111111111111"}'),
    st.lists(
        st.tuples(
            st.text(max_size=10)
            | st.sampled_from(["kafka_dlt-original-topic", "mypay-sealed", "mypay-omitted", "mypay-sealed-key"]),
            st.binary(max_size=30) | st.just(PAN),
        ),
        max_size=6,
    ),
)
def test_any_record_comes_back_as_it_was(key: bytes | None, value: bytes, headers: list[tuple[str, bytes]]) -> None:
    record = replace(RECORD, key=key, value=value, headers=tuple(headers))
    letter = dead_letter("initiation", record, ERROR, KEYS)
    original = restore(arrived(letter), KEYS)
    assert (original.key, original.value, original.headers) == (record.key, record.value, record.headers)
    assert read_fate(arrived(letter), KEYS).reference == record.reference


def test_a_dead_letter_of_a_dead_letter_gives_back_the_first() -> None:
    first = arrived(dead_letter("initiation", replace(RECORD, value=PAN), ERROR, KEYS))
    second = arrived(dead_letter("replay", first, ERROR, KEYS))
    assert restore(second, KEYS).value == first.value
    assert read_fate(second, KEYS).reference == first.reference


def sealed_letter() -> Record:
    return arrived(dead_letter("initiation", replace(RECORD, value=PAN), ERROR, KEYS))


def with_header(record: Record, name: str, value: bytes) -> Record:
    return replace(record, headers=tuple((n, value if n == name else v) for n, v in record.headers))


def test_a_changed_or_moved_letter_is_not_believed_and_its_seal_does_not_open() -> None:
    letter = sealed_letter()
    tampered = bytearray(letter.value)
    tampered[-1] ^= 1
    for changed in (
        replace(letter, value=bytes(tampered)),
        replace(letter, value=b""),
        with_header(letter, "kafka_dlt-original-offset", b"43"),
        with_header(letter, "mypay-sealed-key", b"20250101"),
    ):
        with pytest.raises(DeadLetterError, match="not written by the gateway"):
            restore(changed, KEYS)
        # Also where whoever changed it had the key of marks: the seal is bound to the record's place.
        marked = arrived(
            KEYS.marked(b"letter", Outgoing(DEAD_LETTER, changed.key, changed.value, changed.headers[:-1]))
        )
        with pytest.raises((UnsealError, NoMasterKeyError)):
            restore(marked, KEYS)


# --- what others write to the topic ---


LETTER, OTHER = (arrived(dead_letter("execution", r, ERROR, KEYS)) for r in (RECORD, replace(RECORD, offset=43)))
STRANGERS = LetterKeys(MasterKeys({"20260101": bytes([1] * 32)}))
BARE = Outgoing(DEAD_LETTER, LETTER.key, LETTER.value, LETTER.headers[:-1])
ELSEWHERE = ("kafka_dlt-original-topic", b"mypay.dispatch.bcard")
FORGED = {
    "an invented letter": replace(LETTER, headers=(ELSEWHERE, *LETTER.headers[4:-1])),
    "sent elsewhere": with_header(LETTER, *ELSEWHERE),
    "another body": replace(LETTER, value=b"{}"),
    "another key": replace(LETTER, key=b"consent-2"),
    "another letter's mark": replace(LETTER, headers=(*LETTER.headers[:-1], OTHER.headers[-1])),
    "no mark": replace(LETTER, headers=LETTER.headers[:-1]),
    "more behind the mark": replace(LETTER, headers=(*LETTER.headers, ("x", b"y"))),
    "another ring": arrived(dead_letter("execution", RECORD, ERROR, STRANGERS)),
    "a note's mark": arrived(KEYS.marked(b"note", BARE)),
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_letter_is_no_letter(kind: str) -> None:
    with pytest.raises(DeadLetterError, match="not written by the gateway"):
        read_fate(FORGED[kind], KEYS)
    with pytest.raises(DeadLetterError, match="not written by the gateway"):
        restore(FORGED[kind], KEYS)


@pytest.mark.parametrize("proposal_id", [None, "0197"])
def test_a_note_names_one_letter_and_only_the_gateway_writes_it(proposal_id: str | None) -> None:
    first, again = (read_fate(arrived(dead_letter("execution", RECORD, ERROR, KEYS)), KEYS) for _ in range(2))
    assert first.letter_id != again.letter_id
    said = Note(first.letter_id, proposal_id)
    note = arrived(replay_note(said, first.reference, KEYS))
    assert read_note(note, KEYS) == said
    forgeries = [
        with_header(note, "mypay-replayed", again.letter_id.encode()),
        replace(note, headers=note.headers[:-1]),
        replace(note, headers=(("mypay-replayed", again.letter_id.encode()),)),
        replace(note, headers=(("mypay-replayed", again.reference.encode()),)),
        *([with_header(note, "mypay-replayed-for", b"another")] if proposal_id else []),
        replace(note, headers=(*note.headers[:-1], ("mypay-replayed-for", b"another"), note.headers[-1])),
        arrived(replay_note(Note(again.letter_id, proposal_id), again.reference, STRANGERS)),
    ]
    assert [read_note(x, KEYS) for x in forgeries] == [None] * len(forgeries)


@pytest.mark.parametrize(
    "record",
    [RECORD, with_header(sealed_letter(), "kafka_dlt-original-offset", b"x"), replace(RECORD, headers=())],
)
def test_what_is_no_dead_letter_is_told(record: Record) -> None:
    with pytest.raises(DeadLetterError):
        read_fate(record, KEYS)


def test_text_of_foreign_errors_is_not_repeated() -> None:
    def fail() -> None:
        raise KeyError("customer Kim, 010-1234-5678")

    try:
        fail()
    except KeyError as error:
        letter = dead_letter("execution", RECORD, error, KEYS)
    message = dict(letter.headers)["kafka_dlt-exception-message"]
    assert b"Kim" not in whole(letter)
    assert message.startswith(b"in fail, line ")
    assert dict(letter.headers)["kafka_dlt-exception-fqcn"] == b"builtins.KeyError"


def test_message_is_one_short_line_without_secrets() -> None:
    letter = dead_letter("initiation", RECORD, DecodeError("x", "a\nb 4111111111111111 " + "y" * 999), KEYS)
    message = dict(letter.headers)["kafka_dlt-exception-message"]
    assert message.startswith(b"x: a b 411111XXXXXX1111 y")
    assert len(message) == 200


@pytest.mark.parametrize("place", range(170, 210))
def test_a_card_number_across_the_messages_end_is_masked_before_it_is_cut(place: int) -> None:
    letter = dead_letter("initiation", RECORD, DecodeError("", "y" * place + " " + PAN.decode()), KEYS)
    shown = dict(letter.headers)["kafka_dlt-exception-message"].decode()
    assert ("y" * place + " 411111XXXXXX1111")[:200] == shown


class Published:
    def __init__(self) -> None:
        self.calls: list[list[Outgoing]] = []
        self.fails = 0

    async def publish(self, records: Sequence[Outgoing]) -> None:
        self.calls.append(list(records))
        if self.fails:
            self.fails -= 1
            raise PublisherUnavailableError("away")


async def test_a_batch_that_is_parked_again_is_searched_once_and_off_the_loop_where_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searched: list[bool] = []

    def counted(data: bytes) -> bool:
        searched.append(threading.current_thread() is threading.main_thread())
        return contains_secret(data)

    monkeypatch.setattr("gateway.messaging.dead_letters.contains_secret", counted)
    published = Published()
    letters = KafkaDeadLetters(published, RING)
    for record, on_loop in ((RECORD, True), (replace(RECORD, value=b"x" * 10_000), False)):
        batch = [(record, ERROR)]
        searched.clear()
        published.calls.clear()
        published.fails = 3
        for _ in range(3):
            with pytest.raises(PublisherUnavailableError):
                await letters.park("initiation", batch)
        await letters.park("initiation", batch)
        assert searched == [on_loop] * (2 + len(RECORD.headers))
        assert len(published.calls) == 4
        assert all(call == published.calls[0] for call in published.calls)


def test_of_many_records_a_bounded_part_is_searched_and_the_rest_sealed() -> None:
    record = replace(RECORD, value=b"x" * 60_000)
    fates = [read_fate(arrived(letter), KEYS) for letter in dead_letters("initiation", [(record, ERROR)] * 40, KEYS)]
    assert [fate.sealed for fate in fates] == [False] * 2 + [True] * 38


async def test_of_a_flood_no_more_is_searched_than_those_beside_it_can_wait_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searched: list[bytes] = []

    def counted(data: bytes) -> bool:
        searched.append(data)
        return contains_secret(data)

    monkeypatch.setattr("gateway.messaging.dead_letters.contains_secret", counted)
    monkeypatch.setattr("gateway.messaging.parking.SCAN_BYTES_A_SECOND", 0)
    noise = [(replace(RECORD, offset=n, value=b"%0950d" % n), ERROR) for n in range(2_000)]
    published = Published()
    letters = KafkaDeadLetters(published, RING)
    for begin in range(0, len(noise), 50):
        await letters.park("initiation", noise[begin : begin + 50])
    assert 100 < sum(len(data) == 950 for data in searched) <= SCAN_BYTES_MAX // 950
    [*_, last] = published.calls[-1]
    assert restore(arrived(last), KEYS).value == noise[-1][0].value
    searched.clear()
    monkeypatch.setattr("gateway.messaging.parking.SCAN_BYTES_A_SECOND", SCAN_BYTES_A_SECOND)
    letters._searchable_at -= 1.0
    await letters.park("initiation", noise[:10])
    assert sum(len(data) == 950 for data in searched) == 10


async def test_a_batch_is_parked_with_one_publication() -> None:
    published = Published()
    other = replace(RECORD, offset=43, value=PAN)
    await KafkaDeadLetters(published, RING).park("initiation", [(RECORD, ERROR), (other, ERROR)])
    [[first, second]] = published.calls
    assert restore(arrived(first), KEYS).value == RECORD.value
    assert restore(arrived(second), KEYS).value == PAN


class Small:
    """Takes no letter with a value beyond a size."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.there: list[Outgoing] = []

    async def publish(self, records: Sequence[Outgoing]) -> None:
        large = [n for n, r in enumerate(records) if len(r.value) > self._bytes_max]
        if large:
            raise TooLargeForTopicError(DEAD_LETTER, frozenset(large[:1]))
        self.there += records


async def test_of_a_letter_that_its_topic_does_not_take_the_place_is_told() -> None:
    small = Small(100)
    large = [replace(RECORD, offset=n, value=b"x" * (n * 60)) for n in range(4)]
    await KafkaDeadLetters(small, RING).park("initiation", [(r, ERROR) for r in large])
    fates = [read_fate(arrived(letter), KEYS) for letter in small.there]
    assert [f.offset for f in fates] == [0, 1, 2, 3]
    assert [f.omitted for f in fates] == [None, None, Omitted.TOO_LARGE, Omitted.TOO_LARGE]
    assert {f.message for f in fates} == {str(ERROR)}


async def test_a_topic_that_takes_no_letter_at_all_is_away() -> None:
    dead_letters = KafkaDeadLetters(Small(-1), RING)
    with pytest.raises(PublisherUnavailableError) as raised:
        await dead_letters.park("initiation", [(RECORD, ERROR)])
    assert not isinstance(raised.value, TooLargeForTopicError)
