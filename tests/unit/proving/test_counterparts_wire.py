"""The host's reading of ISO 8583 against the gateway's: two programs, one standard."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.network.iso8583.codec import Message, decode_message, encode_message
from gateway.network.iso8583.layout import DialectName
from gateway.network.iso8583.wire import dialect_of
from gateway.proving.counterparts.wire import MTI, Wire, WireError

DIALECTS: list[DialectName] = ["iso87-ascii", "iso87-bcd"]

_digits = st.text("0123456789")
_amount = st.integers(1, 999_999_999_999).map("{:012d}".format)
_text8 = st.text("ABCDEFGHIJ0123456789", min_size=1, max_size=8)
FINANCIAL = st.fixed_dictionaries(
    {
        2: st.text("0123456789", min_size=12, max_size=19),
        3: st.sampled_from(["000000", "200000"]),
        4: _amount,
        7: st.sampled_from(["0101000000", "1231235959"]),
        11: st.integers(1, 999_999).map("{:06d}".format),
        12: st.just("124500"),
        13: st.just("1123"),
        18: st.just("5411"),
        22: st.just("012"),
        25: st.just("08"),
        32: st.text("0123456789", min_size=1, max_size=11),
        37: st.text("ABC0123456789", min_size=12, max_size=12),
        41: _text8,
        42: _text8,
        43: _text8,
        49: st.just("410"),
    },
    optional={14: st.just("2812"), 48: st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1)},
)


def stripped(fields: Mapping[int, str]) -> dict[int, str]:
    """Leave out the padding of fixed text, which the gateway's codec does not show."""
    return {number: value.rstrip() if number in {37, 38, 41, 42, 43} else value for number, value in fields.items()}


@pytest.mark.parametrize("dialect", DIALECTS)
@given(fields=FINANCIAL)
def test_what_the_gateway_writes_the_host_reads(dialect: DialectName, fields: dict[int, str]) -> None:
    body = encode_message(Message("0200", fields), dialect_of(dialect))
    assert stripped(Wire(dialect).decode(body)) == {MTI: "0200", **fields}


@pytest.mark.parametrize("dialect", DIALECTS)
@given(fields=FINANCIAL, approval=st.booleans())
def test_what_the_host_answers_the_gateway_reads(dialect: DialectName, fields: dict[int, str], approval: bool) -> None:
    wire = Wire(dialect)
    request = wire.decode(encode_message(Message("0200", fields), dialect_of(dialect)))
    answer = {number: request[number] for number in (3, 4, 7, 11, 37, 41, 42, 49)} | {MTI: "0210", 39: "00"}
    if approval:
        answer[38] = "123456"
    message = decode_message(wire.encode(answer), dialect_of(dialect))
    assert {MTI: message.mti, **message.fields} == stripped(answer)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("mti", "fields"),
    [
        ("0800", {7: "1123034500", 11: "000001", 70: "001"}),
        (
            "0420",
            {2: "4000000000000", 3: "000000", 4: "000000001000", 7: "1123034500", 11: "000002", 12: "124500"}
            | {13: "1123", 32: "123", 37: "000000000001", 41: "TERM0001", 42: "ACC", 49: "410"}
            | {90: "0200000001112303450000000000123" + "0" * 11, 128: "00FF00FF00FF00FF"},
        ),
        (
            "0500",
            {7: "1123034500", 11: "000003", 32: "1", 50: "410", 66: "1", 97: "C0000000000012345"}
            | dict.fromkeys((74, 75, 76, 77), "0" * 10)
            | dict.fromkeys((86, 87, 88, 89), "0" * 16),
        ),
    ],
)
def test_every_shape_of_field_agrees(dialect: DialectName, mti: str, fields: dict[int, str]) -> None:
    wire = Wire(dialect)
    theirs = encode_message(Message(mti, fields), dialect_of(dialect))
    read = wire.decode(theirs)
    assert stripped(read) == {MTI: mti, **fields}
    assert wire.encode(read) == theirs


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_truncation_and_excess_is_refused(dialect: DialectName) -> None:
    wire = Wire(dialect)
    fields = {2: "40000000000000000", 3: "000000", 4: "000000001000", 7: "1123034500", 11: "000002", 49: "410"}
    body = wire.encode({MTI: "0200", **fields, 90: "0" * 42})
    for length in range(len(body)):
        with pytest.raises(WireError):
            wire.decode(body[:length])
    with pytest.raises(WireError):
        wire.decode(body + b"0")


@pytest.mark.parametrize("dialect", DIALECTS)
@given(body=st.binary(max_size=300))
def test_noise_is_refused_by_name_or_read(dialect: DialectName, body: bytes) -> None:
    try:
        fields = Wire(dialect).decode(body)
    except WireError:
        return
    assert MTI in fields


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("value", ["1", "12345678901", "12345x"])
def test_a_value_that_does_not_fit_is_not_written(dialect: DialectName, value: str) -> None:
    wire = Wire(dialect)
    with pytest.raises(WireError):
        wire.decode(wire.encode({MTI: "0800", 11: value}))
