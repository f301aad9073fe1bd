"""The codec against byte strings put together by hand, field by field, and against messages that break the rules."""

import traceback
from datetime import UTC, datetime

import pytest

from gateway.network.exchange import (
    Acceptor,
    Answered,
    CardData,
    Echoed,
    FinancialRequest,
    InquiryRequest,
    Operation,
    ReversalRequest,
    TraceNumbers,
)
from gateway.network.iso8583.codec import Iso8583Error, Message, decode_arriving, decode_message, encode_message
from gateway.network.iso8583.dialect import FIELDS, RULES
from gateway.network.iso8583.messages import (
    ECHO,
    OriginalData,
    answer_of,
    financial_message,
    inquiry_message,
    network_management,
    original_data_of,
    response_to,
    reversal_message,
)
from gateway.network.iso8583.wire import dialect_of
from tests.support.iso8583_host import config_of, purchase

ASCII = dialect_of("iso87-ascii")
BCD = dialect_of("iso87-bcd")
PAN = "378282246310005"
CONFIG = config_of(acquirer_id="41000200001")
SALE = FinancialRequest(
    TraceNumbers("GW000001", 123456, "123456789012", datetime(2026, 7, 3, 20, 5, 6, tzinfo=UTC)),
    Operation.PURCHASE,
    12_500,
    "KRW",
    Acceptor("M0000001", "SHOP SEOUL KR", "5411"),
    CardData(PAN, "2912"),
)
REVERSAL_TRACE = TraceNumbers("GW000001", 123457, "123456789012", datetime(2026, 7, 3, 20, 6, 0, tzinfo=UTC))
REVERSAL = ReversalRequest(
    REVERSAL_TRACE, SALE.trace, Operation.PURCHASE, 12_500, "KRW", SALE.acceptor, CardData(PAN, None)
)

SALE_ASCII = (
    b"0200"
    b"723C448108E08000"  # 2 3 4 7 · 11 12 13 14 · 18 22 · 25 32 · 37 · 41 42 43 · 49
    b"15378282246310005"
    b"000000"
    b"000000012500"
    b"0703200506"
    b"123456"
    b"050506"  # Seoul is nine hours ahead, and so a day
    b"0704"
    b"2912"
    b"5411"
    b"012"
    b"08"
    b"1141000200001"
    b"123456789012"
    b"GW000001"
    b"M0000001       "
    b"SHOP SEOUL KR                           "
    b"410"
)
SALE_BCD = bytes.fromhex(
    "0200723C448108E0800015 378282246310005F000000000000012500070320050612345605050607042912541100120811 41000200001F"
) + (b"123456789012GW000001M0000001       SHOP SEOUL KR                           410")
REVERSAL_ASCII = (
    b"0420"
    b"F238000108C08000"  # 1 2 3 4 7 · 11 12 13 · · 32 · 37 · 41 42 · 49
    b"0000004000000000"  # 90
    b"15378282246310005"
    b"000000"
    b"000000012500"
    b"0703200600"
    b"123457"
    b"050506"
    b"0704"
    b"1141000200001"
    b"123456789012"
    b"GW000001"
    b"M0000001       "
    b"410"
    b"0200"
    b"123456"
    b"0703200506"
    b"41000200001"
    b"00000000000"
)
REVERSAL_BCD = (
    bytes.fromhex(
        "0420 F238000108C08000 0000004000000000 15378282246310005F 000000 000000012500 0703200600 123457 050506 0704"
        "1141000200001F"
    )
    + b"123456789012GW000001M0000001       410"
    + bytes.fromhex("0200 123456 0703200506 4100020000100000000000")
)
ECHO_ASCII = b"0800822000000000000004000000000000000703200506000007301"
ECHO_BCD = bytes.fromhex("0800 8220000000000000 0400000000000000 0703200506 000007 0301")
TOTALS = Message(
    "0500",
    {7: "0703200506", 11: "000009", 32: "410001", 50: "410", 66: "1"}
    | {74: "0000000001", 75: "0000000000", 76: "0000000012", 77: "0000000002"}
    | {86: "0000000000000100", 87: "0" * 16, 88: "0000000000012500", 89: "0000000000000500"}
    | {97: "D0000000000011900"},
)
_TOTALS_DIGITS = (
    "0000000001" "0000000000" "0000000012" "0000000002"
    "0000000000000100" "0000000000000000" "0000000000012500" "0000000000000500"
)  # fmt: skip
TOTALS_ASCII = (
    b"0500822000010000400040780780800000000703200506000009064100014101" + _TOTALS_DIGITS.encode() + b"D0000000000011900"
)
TOTALS_BCD = (
    bytes.fromhex("0500 8220000100004000 4078078080000000 0703200506 000009 06410001")
    + b"410"
    + bytes.fromhex("01" + _TOTALS_DIGITS)
    + b"D"
    + bytes.fromhex("0000000000011900")
)
VECTORS = [
    pytest.param(financial_message(SALE, CONFIG), ASCII, SALE_ASCII, id="0200-ascii"),
    pytest.param(financial_message(SALE, CONFIG), BCD, SALE_BCD, id="0200-bcd"),
    pytest.param(reversal_message(REVERSAL, CONFIG), ASCII, REVERSAL_ASCII, id="0420-ascii"),
    pytest.param(reversal_message(REVERSAL, CONFIG), BCD, REVERSAL_BCD, id="0420-bcd"),
    pytest.param(network_management(ECHO, stan=7, at=SALE.trace.transmitted_at), ASCII, ECHO_ASCII, id="0800-ascii"),
    pytest.param(network_management(ECHO, stan=7, at=SALE.trace.transmitted_at), BCD, ECHO_BCD, id="0800-bcd"),
    pytest.param(TOTALS, ASCII, TOTALS_ASCII, id="0500-ascii"),
    pytest.param(TOTALS, BCD, TOTALS_BCD, id="0500-bcd"),
]


@pytest.mark.parametrize(("message", "dialect", "data"), VECTORS)
def test_messages_are_these_bytes(message, dialect, data) -> None:
    assert encode_message(message, dialect) == data
    assert decode_message(data, dialect) == message


@pytest.mark.parametrize(("message", "dialect", "data"), VECTORS)
def test_cut_anywhere_or_too_long_is_refused_without_showing_the_card(message, dialect, data) -> None:
    for broken in [data[:length] for length in range(len(data))] + [data + b"0", data + b"\x00"]:
        with pytest.raises(Iso8583Error) as caught:
            decode_message(broken, dialect)
        assert PAN not in "".join(traceback.format_exception(caught.value))
        assert caught.value.__context__ is None


def test_a_repeat_differs_in_the_mti_alone() -> None:
    repeat = reversal_message(
        ReversalRequest(
            REVERSAL_TRACE,
            SALE.trace,
            Operation.PURCHASE,
            12_500,
            "KRW",
            SALE.acceptor,
            CardData(PAN, None),
            repeat=True,
        ),
        CONFIG,
    )
    assert encode_message(repeat, ASCII) == b"0421" + REVERSAL_ASCII[4:]


def test_an_approval_is_read_as_it_is() -> None:
    data = (
        b"0210" b"323000010EC08000"  # 3 4 7 · 11 12 · · 32 · 37 38 39 · 41 42 · 49
        b"000000" b"000000012500" b"0703200506" b"123456" b"050506" b"1141000200001"
        b"123456789012" b"A1    " b"00" b"GW000001" b"M0000001       " b"410"
    )  # fmt: skip
    message = decode_message(data, ASCII)
    assert decode_arriving(data, ASCII) == message
    assert answer_of(message).echoed == Echoed(123456, "GW000001", "123456789012", "0703200506")
    assert answer_of(message).answered() == Answered("00", "A1", 12_500, "410", "123456789012")


def test_a_blank_field_is_no_field() -> None:
    data = b"0210302000000E8000000000000000000125000703200506"
    # 3 4 · 11 · 37 38 39 41, without DE7: bit 7 is missing
    with pytest.raises(Iso8583Error, match="cut short"):
        decode_message(data, ASCII)
    data = (
        b"0210" b"322000000E800000" b"000000" b"000000012500" b"0703200506" b"123456"
        b"            " b"      " b"51" b"GW000001"
    )  # fmt: skip
    assert answer_of(decode_message(data, ASCII)).answered() == Answered("51", None, 12_500, None, None)


def test_fields_a_host_adds_are_let_be() -> None:
    response = response_to(financial_message(SALE, CONFIG), "00")
    data = encode_message(response, ASCII)
    # 63 private data added at the end: the last byte of the bitmap is 00 → 02.
    extended = data[:18] + b"02" + data[20:] + b"003ABC"
    assert data[4:20] == b"322000010AC08000"
    assert decode_message(extended, ASCII)[63] == "ABC"


def test_both_fillers_are_read_and_the_configured_one_is_written() -> None:
    zero = dialect_of("iso87-bcd", bcd_pad="0")
    message = financial_message(SALE, CONFIG)
    filled = SALE_BCD.replace(bytes.fromhex("10005F"), bytes.fromhex("100050")).replace(
        bytes.fromhex("00001F"), bytes.fromhex("000010")
    )
    assert encode_message(message, zero) == filled
    assert decode_message(filled, BCD) == decode_message(SALE_BCD, zero) == message


@pytest.mark.parametrize("prefix", [b"+9", b" 9", b"9 ", b"-9", b"1_", b"\xff9"])
def test_a_length_is_digits(prefix: bytes) -> None:
    data = SALE_ASCII.replace(b"15378282246310005", prefix + b"378282246")
    with pytest.raises(Iso8583Error, match="field 2"):
        decode_message(data, ASCII)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        (b"0703200506", b"1303200506", "7"),
        (b"0703200506", b"0230200506", "7"),
        (b"0703200506", b"0703240506", "7"),
        (b"000000012500", b"000000000000", "4"),
        (b"000000012500", b"00000001250A", "4"),
        (b"0200723C", b"0299723C", "mti"),
        (b"723C448108E08000", b"723C448108E0800G", "bitmap"),
        (b"723C448108E08000", b"72 3C 4 81 E0 80", "bitmap"),
        (b"GW000001", b"GW\x00\x00\x00\x00\x00\x01", "41"),
        (b"123456789012GW", b"1234567890-2GW", "37"),
        (b"2912", b"2913", "14"),
    ],
)
def test_content_is_checked(old: bytes, new: bytes, field: str) -> None:
    with pytest.raises(Iso8583Error) as caught:
        decode_message(SALE_ASCII.replace(old, new, 1), ASCII)
    assert caught.value.field == field


def test_a_request_has_no_response_code() -> None:
    data = SALE_ASCII.replace(b"723C448108E08000", b"723C44810AE08000").replace(b"123456789012", b"12345678901200")
    with pytest.raises(Iso8583Error, match="field 39: does not belong in 0200"):
        decode_message(data, ASCII)


def test_a_third_bitmap_is_refused() -> None:
    data = b"08008220000000000000840000000000000000000000000000010703200506000007301"
    with pytest.raises(Iso8583Error, match="bitmap"):
        decode_message(data, ASCII)


def test_an_undecodable_answer_still_says_whose_it_is() -> None:
    good = encode_message(response_to(financial_message(SALE, CONFIG), "00"), ASCII)
    with pytest.raises(Iso8583Error) as caught:
        decode_message(good.replace(b"000000012500", b"0000000I2500"), ASCII)
    assert caught.value.mti == "0210"
    assert caught.value.echoed == Echoed(123456, "GW000001", "123456789012", "0703200506")
    with pytest.raises(Iso8583Error) as caught:
        decode_message(good[:40], ASCII)
    assert caught.value.echoed is None


@pytest.mark.parametrize("mti", sorted(RULES))
def test_what_must_and_must_not_be_sent(mti: str) -> None:
    rule = RULES[mti]
    full = {number: _sample(number) for number in rule.mandatory}
    encode_message(Message(mti, full), ASCII)
    for number in rule.mandatory:
        with pytest.raises(Iso8583Error) as caught:
            encode_message(Message(mti, {k: v for k, v in full.items() if k != number}), ASCII)
        assert (caught.value.field, caught.value.reason) == (str(number), f"is missing in {mti}")
    for number in {35, 45, 52, 55, 65, 129} | rule.forbidden:
        with pytest.raises(Iso8583Error) as caught:
            encode_message(Message(mti, full | {number: "0"}), ASCII)
        assert (caught.value.field, caught.value.reason) == (str(number), f"is not sent in {mti}")


def _sample(number: int) -> str:
    known = {2: PAN, 4: "000000000001", 7: "0703200506", 12: "200506", 13: "0703", 97: "C" + "0" * 16}
    return known.get(number) or "1" * FIELDS[number].length


def test_an_unknown_mti_is_not_sent() -> None:
    with pytest.raises(Iso8583Error, match="mti"):
        encode_message(Message("0299", {}), ASCII)


def test_the_original_is_named_in_de90() -> None:
    message = reversal_message(REVERSAL, CONFIG)
    assert original_data_of(message) == OriginalData("0200", "123456", "0703200506", "41000200001", "00000000000")
    short = OriginalData("0200", "000001", "0703200506", "410001")
    assert str(short) == "0200000001070320050600000410001" + "0" * 11
    assert original_data_of(financial_message(SALE, CONFIG)) is None


def test_an_inquiry_carries_no_card() -> None:
    request = InquiryRequest(REVERSAL_TRACE, SALE.trace, 12_500, "KRW", SALE.acceptor)
    message = inquiry_message(request, CONFIG)
    assert (message.mti, message[3], message[37]) == ("0100", "380000", SALE.trace.rrn)
    assert message.get(2) is None
    assert decode_message(encode_message(message, BCD), BCD) == message


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"trace": TraceNumbers("GW000001", 0, "1" * 12, SALE.trace.transmitted_at)}, "11"),
        ({"trace": TraceNumbers("GW000001", 1_000_000, "1" * 12, SALE.trace.transmitted_at)}, "11"),
        ({"trace": TraceNumbers("GW000001", 1, "1" * 12, datetime(2026, 7, 3))}, "7"),  # noqa: DTZ001
        ({"amount_minor": 0}, "4"),
        ({"amount_minor": 10**12}, "4"),
        ({"currency": "USD"}, "49"),
    ],
)
def test_requests_out_of_range_are_refused(changes, field: str) -> None:
    with pytest.raises(Iso8583Error) as caught:
        financial_message(purchase(1, **changes), CONFIG)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"card": CardData("4000-1234-1234-1238")}, "2"),
        ({"card": CardData("4" * 20)}, "2"),
        ({"card": CardData(PAN, "2913")}, "14"),
        ({"acceptor": Acceptor("M0000001", "김밥천국", "5812")}, "43"),
        ({"acceptor": Acceptor("M" * 16, "SHOP", "5812")}, "42"),
        ({"acceptor": Acceptor("M0000001", "SHOP", "58")}, "18"),
        ({"trace": TraceNumbers("GW0000001", 1, "1" * 12, SALE.trace.transmitted_at)}, "41"),
        ({"trace": TraceNumbers("GW000001", 1, "1" * 13, SALE.trace.transmitted_at)}, "37"),
    ],
)
@pytest.mark.parametrize("dialect", [ASCII, BCD], ids=["ascii", "bcd"])
def test_what_does_not_fit_is_not_sent_and_not_shown(changes, field: str, dialect) -> None:
    message = financial_message(purchase(1, **changes), CONFIG)
    with pytest.raises(Iso8583Error) as caught:
        encode_message(message, dialect)
    assert caught.value.field == field
    text = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(message)
    assert not any(secret in text for secret in ("4000-1234", "44444444", PAN, "김밥", "2913"))


def test_repr_shows_harmless_fields_alone() -> None:
    secret = {2: PAN, 14: "2912", 35: f"{PAN}=2912", 45: "TRACK", 48: "PRIVATE", 52: "F" * 16, 55: "ICC", 120: "MORE"}
    text = repr(Message("0200", secret | {39: "00", 11: "000001"}))
    assert text == (
        "Message(0200, 2=***, 11='000001', 14=***, 35=***, 39='00', 45=***, 48=***, 52=***, 55=***, 120=***)"
    )
    assert f"{Message('0200', secret)!s}".count("***") == 8


def test_every_field_of_the_standard_has_a_format() -> None:
    assert set(FIELDS) == set(range(2, 129)) - {65}


@pytest.mark.parametrize(
    ("number", "example", "too_much"),
    [
        (3, "000000", "0000000"),
        (32, "1" * 11, "1" * 12),
        (37, "A" * 12, "A" * 13),
        (39, "00", "000"),
        (42, "M" * 15, "M" * 16),
        (43, "S" * 40, "S" * 41),
        (48, "x" * 999, "x" * 1000),
        (52, "0123456789ABCDEF", "0123456789ABCDEF00"),
        (70, "301", "0301"),
        (90, "1" * 42, "1" * 43),
        (97, "C" + "1" * 16, "C" + "1" * 17),
        (97, "D" + "1" * 16, "X" + "1" * 16),
    ],
)
@pytest.mark.parametrize("dialect", [ASCII, BCD], ids=["ascii", "bcd"])
def test_formats(dialect, number: int, example: str, too_much: str) -> None:
    check = dialect.fields[number].check
    assert check(example)
    assert not check(too_much)
    assert not check("")
    assert not check(example + "\n")
