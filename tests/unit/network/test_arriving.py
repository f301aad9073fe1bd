"""What hosts send beside what decides: an answer is not lost over a text that nobody judges."""

import pytest

from gateway.network.exchange import Answered, Echoed
from gateway.network.iso8583.codec import Iso8583Error, decode_arriving, decode_message
from gateway.network.iso8583.layout import Layout
from gateway.network.iso8583.messages import answer_of
from gateway.network.iso8583.wire import Dialect, dialect_of, wire_of

ASCII, BCD = dialect_of("iso87-ascii"), dialect_of("iso87-bcd")
KOREAN = "승인완료".encode("euc-kr")


def bitmap(*numbers: int) -> bytes:
    """The bitmap of these fields, both halves where one needs them."""
    width = 128 if max(numbers) > 64 else 64
    bits = sum(1 << (width - n) for n in numbers) | (1 << 127 if width == 128 else 0)
    return b"%0*X" % (width // 4, bits)


def ascii_answer(mti: bytes = b"0210", **more: bytes) -> bytes:
    """An answer put together by hand: 3 4 7 11 37 38 39 41 49, and what is named (``de44=…``) as it is sent."""
    fields = {3: b"000000", 4: b"000000012500", 7: b"0703200506", 11: b"123456", 37: b"123456789012", 38: b"A1B2C3"}
    fields |= {39: b"00", 41: b"GW000001", 49: b"410"}
    fields |= {int(name[2:]): value for name, value in more.items()}
    fields = {number: value for number, value in fields.items() if value}
    return mti + bitmap(*fields) + b"".join(fields[number] for number in sorted(fields))


APPROVAL = Answered("00", "A1B2C3", 12_500, "410", "123456789012")

# Field → what lies on the wire: none of it decides.
UNREADABLE = {
    "EUC-KR in DE44": ("de44", b"08" + KOREAN),
    "a tab in DE48": ("de48", b"005a\tb\r\n"),
    "DE60 of NULs": ("de60", b"003\x00\x00\x00"),
    "DE63 with separators": ("de63", b"007A\x1cB\x1cC\x1c1"),
    "TLV in DE55": ("de55", b"010\x9f\x26\x03\x12\x34\x56\x82\x02\x00\x00"),
    "midnight as 24 o'clock in DE12": ("de12", b"240000"),
    "the thirtieth of February in DE13": ("de13", b"0230"),
    "another year's DE14": ("de14", b"0000"),
    "letters in DE15": ("de15", b"ABCD"),
    "a shop's name in EUC-KR": ("de43", "김밥천국".encode("euc-kr").ljust(40)),
    "DE102 in EUC-KR": ("de102", b"08" + KOREAN),
    "DE7 of the host's own kind": ("de7", b"0000000000"),
    "a DE70": ("de70", b"301"),
    "DE63 whose length is none": ("de63", b"A12abc"),
    "DE63 cut short": ("de63", b"020abc"),
    "DE48 longer than said": ("de62", b"003abcdefg"),
}


@pytest.mark.parametrize("case", UNREADABLE)
@pytest.mark.parametrize("code", [b"00", b"51"])
def test_an_answer_is_read_whatever_stands_beside_it(case: str, code: bytes) -> None:
    name, wire = UNREADABLE[case]
    message = decode_arriving(ascii_answer(de39=code, **{name: wire}), ASCII)
    expected = Answered(code.decode(), "A1B2C3", 12_500, "410", "123456789012")
    assert answer_of(message).answered() == expected
    assert {number: message.get(number) for number in (3, 11, 41)} == {3: "000000", 11: "123456", 41: "GW000001"}
    assert KOREAN.decode("latin-1") not in repr(message)


@pytest.mark.parametrize("case", [case for case, (name, _) in UNREADABLE.items() if name not in {"de7", "de70"}])
def test_a_confirmed_reversal_is_read_whatever_stands_beside_it(case: str) -> None:
    name, wire = UNREADABLE[case]
    assert decode_arriving(ascii_answer(b"0430", **{name: wire}), ASCII)[39] == "00"


@pytest.mark.parametrize(
    "more",
    [
        {"de4": b""},
        {"de4": b"00000001250A"},
        {"de3": b"XXXXXX"},
        {"de38": b"\x00" * 6},
        {"de49": b"K\xff0"},
        {"de41": b""},
    ],
    ids=str,
)
def test_of_an_answer_to_a_reversal_its_code_alone_is_judged(more: dict[str, bytes]) -> None:
    message = decode_arriving(ascii_answer(b"0430", **more), ASCII)
    assert (message[39], answer_of(message).response_code) == ("00", "00")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"de4": b""}, "4"),
        ({"de4": b"00000001250A"}, "4"),
        ({"de3": b"XX0000"}, "3"),
        ({"de11": b"12345x"}, "11"),
        ({"de37": b"1234567890\t2"}, "37"),
        ({"de38": b"A1\x1cB2C"}, "38"),
        ({"de39": b"0\t"}, "39"),
        ({"de39": b""}, "39"),
        ({"de41": b"GW\x00\x00\x00\x00\x00\x01"}, "41"),
        ({"de49": b"41\xb9"}, "49"),
        ({"de44": b"x8" + KOREAN}, "44"),
    ],
)
def test_what_decides_is_read_strictly(more: dict[str, bytes], field: str) -> None:
    with pytest.raises(Iso8583Error) as caught:
        decode_arriving(ascii_answer(**more), ASCII)
    assert caught.value.field == field


def test_cut_anywhere_before_its_last_deciding_byte_an_answer_is_refused() -> None:
    data = ascii_answer()
    for length in range(len(data)):
        with pytest.raises(Iso8583Error):
            decode_arriving(data[:length], ASCII)
    for extra in (b"0", b"\x00"):
        with pytest.raises(Iso8583Error):
            decode_arriving(data + extra, ASCII)


def test_only_blanks_are_taken_from_the_end_of_a_fixed_text() -> None:
    padded = decode_arriving(ascii_answer(de38=b"A1    ", de42=b"M1             "), ASCII)
    assert (padded[38], padded[42]) == ("A1", "M1")
    for byte in b"\t\r\n\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0":
        ended = decode_arriving(ascii_answer(de42=b"M1            " + bytes([byte])), ASCII)
        assert 42 in ended.others
        with pytest.raises(Iso8583Error, match="field 38"):
            decode_arriving(ascii_answer(de38=b"A1   " + bytes([byte])), ASCII)


def test_where_answers_are_known_by_their_time_de7_decides_too() -> None:
    data = ascii_answer(de7=b"0000000000")
    assert 7 in decode_arriving(data, ASCII).others
    with pytest.raises(Iso8583Error, match="field 7"):
        decode_arriving(data, ASCII, by_time=True)


def packed_answer(tail: bytes) -> bytes:
    head = bytes.fromhex("0210 3220000108C0") + b"\x80" + b"\x02"
    fields = bytes.fromhex("000000 000000012500 0703200506 123456") + bytes.fromhex("06410001")
    return head + fields + b"123456789012" + b"GW000001" + b"M1             " + b"410" + tail


def test_packed_answers_are_read_the_same_way() -> None:
    data = packed_answer(b"\x00\x08" + KOREAN)
    # 3 4 7 11 · 32 · 37 · 41 42 · 49 · 63: no DE39.
    with pytest.raises(Iso8583Error, match="field 39"):
        decode_arriving(data, BCD)
    with_code = data.replace(bytes.fromhex("3220000108C0"), bytes.fromhex("322000010AC0")).replace(
        b"123456789012", b"12345678901200"
    )
    message = decode_arriving(with_code, BCD)
    assert answer_of(message).answered() == Answered("00", None, 12_500, "410", "123456789012")
    assert message.others[63] == KOREAN
    # A filler nibble in DE32 that is neither F nor 0: the field cannot be cut, and 37 – 49 come after it.
    odd = with_code.replace(bytes.fromhex("06410001"), bytes.fromhex("05410001"))
    with pytest.raises(Iso8583Error):
        decode_arriving(odd, BCD)


def korean(charset: str) -> Dialect:
    return wire_of(Layout("iso87-ascii", charset=charset))


def test_text_is_read_and_written_in_the_networks_character_set() -> None:
    data = ascii_answer(de44=b"08" + KOREAN)
    assert decode_arriving(data, korean("euc-kr"))[44] == "승인완료"
    assert decode_arriving(data, korean("utf-8")).others[44] == KOREAN
    with pytest.raises(Iso8583Error, match="field 44"):
        decode_message(data, ASCII)


def test_an_unreadable_answer_says_whose_it_is_as_far_as_it_can_be_read() -> None:
    with pytest.raises(Iso8583Error) as caught:
        decode_arriving(ascii_answer(de4=b"00000001250A"), ASCII)
    assert (caught.value.mti, caught.value.echoed) == (
        "0210",
        Echoed(123456, "GW000001", "123456789012", "0703200506"),
    )
    with pytest.raises(Iso8583Error) as caught:
        decode_arriving(ascii_answer(de11=b"12345x"), ASCII)
    assert caught.value.echoed is None


@pytest.mark.parametrize("data", [b"", b"0210", b"1210" + ascii_answer()[4:], b"9999", b"GET / HTTP/1.1\r\n\r\n"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(Iso8583Error) as caught:
        decode_arriving(data, ASCII)
    assert caught.value.field in {"mti", "bitmap", "message"}
