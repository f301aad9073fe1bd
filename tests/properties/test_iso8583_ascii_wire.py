"""The short way for ASCII messages says what the general library says, or nothing."""

import iso8583
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.network.iso8583.ascii_wire import read_ascii, write_ascii
from gateway.network.iso8583.codec import Message
from gateway.network.iso8583.wire import dialect_of
from tests.properties.test_iso8583_properties import messages

DIALECT = dialect_of("iso87-ascii")
SPEC = DIALECT.specs[0]


def wire_values(message: Message) -> dict[int, str]:
    codecs = DIALECT.fields
    return {n: (to_wire(v) if (to_wire := codecs[n].to_wire) else v) for n, v in message.fields.items()}


def by_library(data: bytes) -> tuple[str, dict[int, str]] | None:
    try:
        document, _ = iso8583.decode(data, SPEC)
    except (iso8583.DecodeError, KeyError):
        return None
    mti = document.pop("t")
    return mti, {int(k): v for k, v in document.items() if k not in ("p", "1")}


@given(messages())
@settings(max_examples=200, deadline=None)
def test_it_writes_what_the_library_writes(message: Message) -> None:
    values = wire_values(message)
    expected, _ = iso8583.encode({"t": message.mti, **{str(n): v for n, v in values.items()}}, SPEC)
    assert write_ascii(message.mti, values) == bytes(expected)


@given(messages())
@settings(max_examples=200, deadline=None)
def test_it_reads_every_whole_message(message: Message) -> None:
    values = wire_values(message)
    assert read_ascii(write_ascii(message.mti, values)) == (message.mti, values)


@given(messages(), st.data())
@settings(max_examples=300, deadline=None)
def test_what_it_reads_of_damaged_bytes_the_library_reads_too(message: Message, data: st.DataObject) -> None:
    damaged = bytearray(write_ascii(message.mti, wire_values(message)))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.sampled_from(b"0123456789ABCDEFabcdef +-_\x00\xff"))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged) - 1)) :]
    read = read_ascii(bytes(damaged))
    if read is not None:
        assert read == by_library(bytes(damaged))
