"""The quick way of a clearing file's line and the long one are one: what either takes, the other does, as the same."""

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.settlement.format import LINE_BYTES_MAX, read_any, read_plain
from schemas.clearing import RECORD_NO_MAX, ClearingRecord
from schemas.codec import DecodeError
from schemas.primitives import AMOUNT_MINOR_MAX

GOOD = ("D", "7", "purchase", "R00000000001", "5", "TERM0001", "MERCHANT 1", "45000", "KRW", "A1b2C3", "1127060000")
WHOLE = st.sampled_from(
    [
        *("0", "1", "007", "-1", "+1", "1_0", " 1", "1.0", "1e3", "", "9" * 18, "1" * 19, "0" * 19, "٣"),
        *(str(n + more) for n in (RECORD_NO_MAX, 999_999, AMOUNT_MINOR_MAX) for more in (0, 1)),
    ]
) | st.integers(-10, 10**13).map(str)
TEXT = st.sampled_from(
    [
        *("", " ", "x", "KRW", "krw", "KR", "KRWS", "purchase", "refund", "Purchase", "A1b2C3", "A1b2C", "A1b2C34"),
        *(
            "R00000000001",
            "R0000000000",
            "R000000000011",
            "TERM0001",
            "TERM-001",
            "M" * 15,
            "M" * 16,
            "é",
            "\x00",
            "\t",
        ),
        *("4111111111111111", "a,b", "a\nb", '"', "\\", "\x7f", "x" * LINE_BYTES_MAX, "한글"),
    ]
) | st.text(max_size=20)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A line in which up to three fields are others; rarely one is missing or too many, or a byte is another."""
    parts = list(GOOD)
    for at in draw(st.lists(st.integers(0, len(parts) - 1), max_size=3, unique=True)):
        parts[at] = draw(WHOLE | TEXT if at in {1, 4, 7} else TEXT)
    match draw(st.integers(0, 9)):
        case 0:
            parts.pop(draw(st.integers(0, len(parts) - 1)))
        case 1:
            parts.insert(draw(st.integers(0, len(parts))), draw(TEXT))
    line = ",".join(parts).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(line)))
        line = line[:at] + draw(st.binary(min_size=1, max_size=2)) + line[at:]
    return line


def the_long_way(line: bytes) -> ClearingRecord | None:
    try:
        return read_any(line)
    except DecodeError:
        return None


@given(lines())
@example(",".join(GOOD).encode())
@example(",".join((*GOOD[:9], "", "")).encode())
def test_both_ways_take_the_same(line: bytes) -> None:
    quick, long = read_plain(line), the_long_way(line)
    assert repr(quick) == repr(long)
    if quick is not None and long is not None:
        assert quick == long
        assert vars(quick) == vars(long)
        assert list(map(type, vars(quick).values())) == list(map(type, vars(long).values()))
        assert (quick.model_fields_set, hash(quick)) == (long.model_fields_set, hash(long))


def test_the_quick_way_is_taken() -> None:
    assert read_plain(",".join(GOOD).encode()) is not None
