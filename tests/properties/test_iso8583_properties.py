"""The codec and the framing for every message, both dialects, any bytes."""

import string
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.network.iso8583.codec import Iso8583Error, Message, decode_message, encode_message
from gateway.network.iso8583.dialect import FIELDS, RULES, Content
from gateway.network.iso8583.framing import FrameFormat, FrameHeader, FrameReader, FramingError
from gateway.network.iso8583.wire import dialect_of

DIALECTS = {
    "ascii": dialect_of("iso87-ascii"),
    "bcd-f": dialect_of("iso87-bcd"),
    "bcd-0": dialect_of("iso87-bcd", bcd_pad="0"),
}
ALPHANUMERIC = string.ascii_letters + string.digits
PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F))
DAYS = st.dates().map(lambda day: f"{day.month:02d}{day.day:02d}")
TIMES = st.times().map(lambda time: f"{time.hour:02d}{time.minute:02d}{time.second:02d}")


def values(number: int) -> st.SearchStrategy[str]:
    special = {
        2: st.text(string.digits, min_size=8, max_size=19),
        4: st.integers(1, 999_999_999_999).map("{:012d}".format),
        7: st.tuples(DAYS, TIMES).map("".join),
        12: TIMES,
        13: DAYS,
        14: st.dates().map(lambda day: f"{day.year % 100:02d}{day.month:02d}"),
    }
    if number in special:
        return special[number]
    field = FIELDS[number]
    longest = field.length
    exact = {"min_size": longest, "max_size": longest}
    printable = st.text(PRINTABLE, min_size=1, max_size=longest)
    by_content = {
        Content.N: st.text(string.digits, min_size=1 if field.length_digits else longest, max_size=longest),
        Content.Z: st.text(string.digits + "=", min_size=1, max_size=longest),
        Content.AN: st.text(ALPHANUMERIC, min_size=1, max_size=longest),
        # The last space of a fixed text cannot be told from its filling.
        Content.ANS: printable if field.length_digits else printable.map(lambda text: text.rstrip() or "x"),
        Content.B: st.binary(**exact).map(lambda data: data.hex().upper()),
        Content.XN: st.tuples(st.sampled_from("CD"), st.text(string.digits, **exact)).map(
            lambda parts: (parts[0] + parts[1])[:longest]
        ),
    }
    return by_content[field.content]


@st.composite
def messages(draw: st.DrawFn) -> Message:
    mti = draw(st.sampled_from(sorted(RULES)))
    rule = RULES[mti]
    optional = sorted(rule.allowed - rule.mandatory)
    chosen = draw(st.sets(st.sampled_from(optional))) if optional else set()
    return Message(mti, {number: draw(values(number)) for number in sorted(rule.mandatory | chosen)})


@pytest.mark.parametrize("name", DIALECTS)
@given(message=messages())
@settings(max_examples=60, deadline=None)
def test_every_message_comes_back(name: str, message: Message) -> None:
    dialect = DIALECTS[name]
    fields = dict(message.fields)
    data = encode_message(message, dialect)
    assert decode_message(data, dialect) == message
    assert message.fields == fields
    assert encode_message(decode_message(data, dialect), dialect) == data


@pytest.mark.parametrize("name", DIALECTS)
@given(message=messages(), data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_cut_message_is_refused(name: str, message: Message, data: st.DataObject) -> None:
    encoded = encode_message(message, DIALECTS[name])
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(Iso8583Error):
        decode_message(encoded[:cut], DIALECTS[name])


@pytest.mark.parametrize("name", DIALECTS)
@given(message=messages(), data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_message_is_read_or_refused_and_the_card_stays_hidden(
    name: str, message: Message, data: st.DataObject
) -> None:
    dialect = DIALECTS[name]
    damaged = bytearray(encode_message(message, dialect))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    refusal: Iso8583Error | None = None
    try:
        text = repr(decode_message(bytes(damaged), dialect))
    except Iso8583Error as error:
        refusal = error
    if refusal is not None:
        text = "".join(traceback.format_exception(refusal)) + repr(refusal)
        assert refusal.__context__ is None
    pan = message.get(2)
    # Digits that another field has too, twelve zeros say, tell nothing of the card.
    elsewhere = any(pan in value for number, value in message.fields.items() if number != 2) if pan else False
    if pan is not None and len(pan) >= 12 and not elsewhere:
        assert pan not in text


@pytest.mark.parametrize("name", DIALECTS)
@given(data=st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_read_or_refused(name: str, data: bytes) -> None:
    for candidate in (data, b"0210" + data, b"\x02\x10" + data):
        try:
            message = decode_message(candidate, DIALECTS[name])
        except Iso8583Error:
            continue
        assert message.mti in RULES


FORMATS = [FrameFormat(header) for header in FrameHeader]


@pytest.mark.parametrize("frame_format", FORMATS, ids=lambda f: f.header.value)
@given(bodies=st.lists(st.binary(max_size=60), max_size=8), data=st.data())
@settings(max_examples=100, deadline=None)
def test_frames_survive_any_chunking(frame_format: FrameFormat, bodies: list[bytes], data: st.DataObject) -> None:
    stream = frame_format.frames(bodies)
    reader = FrameReader(frame_format)
    found: list[bytes] = []
    position = 0
    while position < len(stream):
        size = data.draw(st.integers(1, len(stream) - position))
        found += reader.feed(stream[position : position + size])
        position += size
    assert found == [body for body in bodies if body]
    assert reader.keep_alives == bodies.count(b"")
    assert reader.buffered == 0


@pytest.mark.parametrize("frame_format", FORMATS, ids=lambda f: f.header.value)
@given(chunks=st.lists(st.binary(max_size=50), max_size=20))
@settings(max_examples=100, deadline=None)
def test_any_stream_is_cut_or_refused_and_little_is_held(frame_format: FrameFormat, chunks: list[bytes]) -> None:
    reader = FrameReader(frame_format)
    for chunk in chunks:
        try:
            reader.feed(chunk)
        except FramingError:
            return
        assert reader.buffered < 4 + frame_format.bytes_max
