"""The short ways of an 0200 and of its answer say what the long ways say, or leave the message to them."""

import string
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct, structs

from gateway.network.exchange import Acceptor, CardData, FinancialRequest, Operation
from gateway.network.iso8583.answers import HEADS_KEPT, AnswerReader
from gateway.network.iso8583.codec import Iso8583Error, Message, decode_arriving, encode_message, encode_refusal
from gateway.network.iso8583.config import NetworkConfig
from gateway.network.iso8583.dialect import ANSWERS, RULES
from gateway.network.iso8583.financial import PIECES_KEPT, FinancialEncoder
from gateway.network.iso8583.messages import Answer, answer_of, financial_message
from tests.properties.test_iso8583_properties import PRINTABLE, values
from tests.support.iso8583_host import AT, config_of, purchase

OWN_HABITS = {
    "bitmap": "binary",
    "charset": "euc-kr",
    "fields": {
        "4": {"encoding": "bcd"},
        "24": {"constant": "841", "sent_in": ["0200"], "mandatory_in": ["0200"]},
        "55": {"class": "b", "length": 255, "length_digits": 3, "encoding": "binary"},
    },
}
SENT_BETWEEN = {
    number: {"class": "an", "length": length, "length_digits": 0, "constant": "X" * length, "sent_in": ["0200"]}
    for number, length in (("5", 12), ("8", 8), ("15", 4), ("40", 3), ("48", 20), ("102", 28))
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "ascii": {},
    "bcd, F": {"dialect": "iso87-bcd"},
    "bcd, 0": {"dialect": "iso87-bcd", "bcd_pad": "0"},
    "habits of its own": {"layout": OWN_HABITS},
    "constants between": {"layout": {"fields": SENT_BETWEEN}},
    "fields left out": {"layout": {"fields": {n: {"omit_in": ["0200"]} for n in ("12", "13", "14", "18", "32", "43")}}},
    "no card number": {"layout": {"fields": {"2": {"omit_in": ["0200"]}}}},
    "fixed card number": {"layout": {"fields": {"2": {"length_digits": 0}}}},
    "variable reference": {"layout": {"fields": {"37": {"length_digits": 2}, "39": {"length_digits": 2}}}},
    "binary lengths": {
        "dialect": "iso87-bcd",
        "layout": {"mti": "text", "fields": {n: {"length_encoding": "binary"} for n in ("2", "32", "44")}},
    },
    "packed among text": {
        "layout": {"mti": "bcd", "fields": {n: {"encoding": "bcd"} for n in ("2", "11", "32", "49")}}
    },
    "hexadecimal": {
        "dialect": "iso87-bcd",
        "layout": {
            "bitmap": "hex",
            "fields": {"4": {"encoding": "text"}, "52": {"encoding": "hex"}, "64": {"encoding": "hex"}},
        },
    },
    "more in answers": {"layout": {"fields": {"42": {"mandatory_in": ["0210"]}}}},
}
NETWORKS = {name: config_of(currencies=["KRW", "USD"], **changes) for name, changes in LAYOUTS.items()}


def by_the_long_way(request: FinancialRequest, config: NetworkConfig) -> bytes:
    return encode_message(financial_message(request, config), config.wire)


def outcome(way: Callable[[], bytes]) -> bytes | tuple[str, str]:
    try:
        return way()
    except Iso8583Error as error:
        return error.field, str(error)


def change(part: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, Any]]:
    return st.tuples(st.just(part), values)


# One thing is changed at a time, so that every check meets a request that is right otherwise.
CHANGES = st.one_of(
    change("amount_minor", st.one_of(st.integers(1, 999_999_999_999), st.sampled_from([0, -1, 10**12]))),
    change("currency", st.sampled_from(["KRW", "USD", "EUR"])),
    change("operation", st.sampled_from(Operation)),
    change("trace.stan", st.one_of(st.integers(1, 999_999), st.sampled_from([0, -1, 1_000_000]))),
    change("trace.rrn", st.text(string.ascii_uppercase + string.digits, min_size=12, max_size=12)),
    change("trace.rrn", st.text("A1 -é", max_size=13)),
    change("trace.terminal_id", st.sampled_from(["GW000000", "GW000001", "GW1", "", "GW0000000"])),
    change(
        "trace.transmitted_at",
        st.sampled_from(
            [AT, AT + timedelta(seconds=1), AT.astimezone(timezone(timedelta(hours=9))), AT.replace(tzinfo=None)]
        ),
    ),
    change("acceptor.acceptor_id", st.sampled_from(["M1", "M1 ", "M00000000000015", "M000000000000016", ""])),
    change("acceptor.name_location", st.sampled_from(["S", "S ", "김밥천국", "é", "", "x" * 40, "x" * 41])),
    change("acceptor.mcc", st.sampled_from(["5411", "541", "54119", "54x1"])),
    change("card.pan", st.text(string.digits, min_size=12, max_size=19)),
    change("card.pan", st.text("12٣x ", max_size=20)),
    change("card.expiry", st.sampled_from([None, "2912", "3001", "2913", ""])),
)


def changed(request: FinancialRequest, part: str, value: Any) -> FinancialRequest:
    outer, _, inner = part.partition(".")
    part = getattr(request, outer)
    change = structs.replace if isinstance(part, Struct) else replace
    return structs.replace(request, **{outer: change(part, **{inner: value}) if inner else value})


@pytest.mark.parametrize("name", NETWORKS)
@given(changes=st.lists(CHANGES, max_size=12))
@settings(max_examples=60, deadline=None)
def test_an_0200_is_written_as_by_the_long_way_whatever_went_before(name: str, changes: list[tuple[str, Any]]) -> None:
    config = NETWORKS[name]
    encoder = FinancialEncoder(config)
    requests = [purchase(1), *(changed(purchase(1), part, value) for part, value in changes)]
    # Twice, for the second time all pieces are known.
    for request in requests + requests:
        assert outcome(lambda r=request: encoder.encode(r)) == outcome(lambda r=request: by_the_long_way(r, config))


VALID = st.builds(
    purchase,
    stan=st.integers(1, 999_999),
    amount_minor=st.integers(1, 999_999_999_999),
    currency=st.sampled_from(["KRW", "USD"]),
    operation=st.sampled_from(Operation),
    card=st.builds(
        CardData,
        pan=st.text(string.digits, min_size=12, max_size=19),
        expiry=st.sampled_from([None, "2912", "3001"]),
    ),
)


@pytest.mark.parametrize("name", [n for n in NETWORKS if n not in {"no card number", "fixed card number"}])
@given(requests=st.lists(VALID, min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_what_is_known_goes_the_short_way(name: str, requests: list[FinancialRequest]) -> None:
    config = NETWORKS[name]
    encoder = FinancialEncoder(config)
    expected = [by_the_long_way(r, config) for r in requests]
    assert [encoder.encode(r) for r in requests] == expected
    # With pieces of every kind from the long way it is not gone again: only the numbers are each message's own.
    encoder._long = None  # type: ignore[assignment,method-assign]
    for request in requests:
        other = structs.replace(
            request,
            amount_minor=request.amount_minor // 2 + 1,
            trace=structs.replace(request.trace, stan=request.trace.stan // 2 + 1, rrn="A1B2C3D4E5F6"),
            card=replace(request.card, pan=request.card.pan[::-1]),
        )
        assert encoder.encode(other) == by_the_long_way(other, config)


def test_the_pieces_of_many_shops_do_not_fill_the_memory() -> None:
    config = config_of()
    encoder = FinancialEncoder(config)
    for number in range(PIECES_KEPT + 10):
        shop = purchase(1, acceptor=Acceptor(f"M{number:07d}", "SHOP", "5812"))
        encoder.encode(shop)
    assert len(encoder._tails) == 10
    assert encoder.encode(shop) == by_the_long_way(shop, config)


# --- answers ---------------------------------------------------------------------------------------------------------

DECIDING = {3, 4, 7, 11, 37, 38, 39, 41, 49}
RESPONSES = sorted(ANSWERS.keys() - {"0810"})
# Those whose fields may have any value of the standard's own classes and lengths.
ANSWERING = NETWORKS.keys() - {"constants between", "fixed card number"}


@st.composite
def answers(draw: st.DrawFn) -> Message:
    """An answer with what decides and any of the rest, as the tables have it."""
    mti = draw(st.sampled_from(RESPONSES))
    left_out = draw(st.sets(st.sampled_from(sorted(DECIDING - ANSWERS[mti].mandatory))))
    more = draw(st.sets(st.sampled_from(sorted(RULES[mti].allowed - DECIDING - {90, 128}))))
    numbers = sorted((DECIDING | more) - left_out)
    printable = st.text(PRINTABLE, min_size=1, max_size=12).map(lambda text: text.rstrip() or "x")
    code = st.text(string.ascii_letters + string.digits, min_size=2, max_size=2)
    usual = {39: code} | dict.fromkeys((43, 44, 48, 54), printable)
    return Message(mti, {n: draw(usual[n] if n in usual else values(n)) for n in numbers})


def by_the_long_way_read(data: bytes, config: NetworkConfig, *, by_time: bool) -> Answer | str:
    try:
        message = decode_arriving(data, config.wire, by_time=by_time)
    except Iso8583Error as error:
        return str(error)
    if message.mti not in RESPONSES:
        return message.mti
    return "its end cannot be read" if 0 in message.others else answer_of(message)


@pytest.mark.parametrize("name", sorted(ANSWERING - {"variable reference", "more in answers"}))
@given(message=answers())
@settings(max_examples=50, deadline=None)
def test_an_answer_is_read_the_short_way(name: str, message: Message) -> None:
    config = NETWORKS[name]
    data = encode_refusal(message, config.wire)
    assert AnswerReader(config.wire).read(data) == answer_of(message)


def test_what_the_network_asks_for_beyond_the_standard_is_looked_for_the_long_way() -> None:
    for name in ("variable reference", "more in answers"):
        config = NETWORKS[name]
        fields = {3: "000000", 4: "000000012500", 11: "000001", 37: "123456789012", 39: "00", 42: "M1"}
        assert AnswerReader(config.wire).read(encode_refusal(Message("0210", fields), config.wire)) is None


@pytest.mark.parametrize("name", sorted(ANSWERING))
@given(message=answers(), data=st.data(), by_time=st.booleans())
@settings(max_examples=100, deadline=None)
def test_what_is_read_of_a_damaged_answer_the_long_way_reads_too(
    name: str, message: Message, data: st.DataObject, by_time: bool
) -> None:
    config = NETWORKS[name]
    wire = bytearray(encode_refusal(message, config.wire))
    reader = AnswerReader(config.wire)
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(wire) - 1))
        wire[place] = data.draw(st.one_of(st.sampled_from(b"0123456789ABCDEFabcdef +-_\x00\xff"), st.integers(0, 255)))
    if data.draw(st.booleans()):
        del wire[data.draw(st.integers(0, len(wire) - 1)) :]
    wire += data.draw(st.sampled_from([b"", b"", b"0", b"\x00\x00"]))
    read = reader.read(bytes(wire))
    if read is not None:
        assert read == by_the_long_way_read(bytes(wire), config, by_time=by_time)


@given(data=st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_left_to_the_long_way(data: bytes) -> None:
    for config in NETWORKS.values():
        reader = AnswerReader(config.wire)
        for candidate in (data, b"0210" + data, b"\x02\x10" + data):
            read = reader.read(candidate)
            assert read is None or read == by_the_long_way_read(candidate, config, by_time=False)


@pytest.mark.parametrize(("pad", "filler"), [("F", "F"), ("F", "0"), ("F", "7"), ("0", "0"), ("0", "F"), ("0", "7")])
def test_only_the_networks_own_filler_is_read_the_short_way(pad: str, filler: str) -> None:
    config = config_of(dialect="iso87-bcd", bcd_pad=pad)
    message = Message("0210", {4: "000000012500", 11: "000001", 32: "41000", 39: "00"})
    data = encode_refusal(message, config.wire).replace(
        bytes.fromhex("0541000" + pad), bytes.fromhex("0541000" + filler)
    )
    read = AnswerReader(config.wire).read(data)
    assert read == (answer_of(message) if filler == pad else None)


def test_junk_does_not_fill_the_memory() -> None:
    reader = AnswerReader(config_of().wire)
    for number in range(3 * HEADS_KEPT):
        assert reader.read(b"0210%016X" % (number << 30)) is None
    assert len(reader._plans) <= HEADS_KEPT
