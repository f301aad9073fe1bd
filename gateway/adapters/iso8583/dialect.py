"""ISO 8583:1987 as data: the format of every field, how two dialects put it on the wire, what each message carries.

``iso87-ascii``: everything is ASCII, bitmaps and binary fields as hexadecimal characters.
``iso87-bcd``: MTI and digits are packed (odd fixed lengths filled on the left with 0, odd variable lengths on the right
with a filler nibble that the length does not count), bitmaps and binary fields are raw, length prefixes are packed,
text and the currency codes (DE49–51) stay ASCII, and the sign of x+n amounts is an ASCII C or D before packed digits.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from functools import cache
from types import MappingProxyType
from typing import Any, Final, Literal, assert_never

DialectName = Literal["iso87-ascii", "iso87-bcd"]


@unique
class Content(StrEnum):
    """Content class of a field, as ISO 8583 names it."""

    N = "n"
    AN = "an"
    ANS = "ans"
    B = "b"
    XN = "x+n"
    Z = "z"


@dataclass(frozen=True, slots=True)
class Field:
    """One data element.

    Attributes:
        number: 2 … 128.
        content: content class.
        length: exact length, or the longest where ``length_digits`` is set; characters, for ``B`` bytes.
        length_digits: 0 for a fixed length, 2 for LLVAR, 3 for LLLVAR.
    """

    number: int
    content: Content
    length: int
    length_digits: int


# DE65 (a third bitmap) is left out: ISO 8583:1987 defines no field behind it.
_FORMATS: Final = (
    """
2 n..19    3 n6       4 n12      5 n12      6 n12      7 n10      8 n8       9 n8       10 n8      11 n6      12 n6
13 n4      14 n4      15 n4      16 n4      17 n4      18 n4      19 n3      20 n3      21 n3      22 n3      23 n3
24 n3      25 n2      26 n2      27 n1      28 x+n9    29 x+n9    30 x+n9    31 x+n9    32 n..11   33 n..11   34 ans..28
35 z..37   36 z...104 37 an12    38 an6     39 an2     40 an3     41 ans8    42 ans15   43 ans40   44 ans..25 45 ans..76
46 ans...999 47 ans...999 48 ans...999 49 n3 50 n3     51 n3      52 b8      53 n16     54 ans...120 55 ans...999
56 ans...999 57 ans...999 58 ans...999 59 ans...999 60 ans...999 61 ans...999 62 ans...999 63 ans...999 64 b8
66 n1      67 n2      68 n3      69 n3      70 n3      71 n4      72 n4      73 n6      74 n10     75 n10     76 n10
77 n10     78 n10     79 n10     80 n10     81 n10     82 n12     83 n12     84 n12     85 n12     86 n16     87 n16
88 n16     89 n16     90 n42     91 an1     92 an2     93 an5     94 an7     95 an42    96 b8      97 x+n17   98 ans25
99 n..11   100 n..11  101 ans..17 102 ans..28 103 ans..28 104 ans...100
"""
    + " ".join(f"{number} ans...999" for number in range(105, 128))
    + " 128 b8"
)
_FORMAT: Final = re.compile(r"(\d+) (n|ans?|b|x\+n|z)(\.{2,3})?(\d+)")

FIELDS: Final[Mapping[int, Field]] = MappingProxyType(
    {
        int(number): Field(int(number), Content(content), int(length), len(dots))
        for number, content, dots, length in _FORMAT.findall(_FORMATS)
    }
)
"""Every field of ISO 8583:1987 by number. The length of x+n counts its sign."""

_ASCII_ALSO_IN_BCD: Final = frozenset({49, 50, 51})

_DAY_OF_YEAR: Final = (
    r"(?:(?:0[13578]|1[02])(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)(?:0[1-9]|[12][0-9]|30)|02(?:0[1-9]|[12][0-9]))"
)
_TIME_OF_DAY: Final = r"(?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]"
_NARROWER: Final[Mapping[int, str]] = {
    2: r"[0-9]{8,19}",
    7: _DAY_OF_YEAR + _TIME_OF_DAY,
    12: _TIME_OF_DAY,
    13: _DAY_OF_YEAR,
    14: r"[0-9]{2}(?:0[1-9]|1[0-2])",
}
"""Fields whose values are fewer than their content class allows."""


def _pattern(field: Field) -> str:
    if narrower := _NARROWER.get(field.number):
        return narrower
    length = field.length
    count = f"{{1,{length}}}" if field.length_digits else f"{{{length}}}"
    # Fixed text may be shorter here, as it is filled with spaces on the wire.
    filled = not field.length_digits
    match field.content:
        case Content.N:
            pattern = f"[0-9]{count}"
        case Content.AN:
            pattern = f"[A-Za-z0-9 ]{{0,{length - 1}}}[A-Za-z0-9]" if filled else f"[A-Za-z0-9]{count}"
        case Content.ANS:
            pattern = f"[ -~]{{0,{length - 1}}}[!-~]" if filled else f"[ -~]{count}"
        case Content.B:
            pattern = f"[0-9A-F]{{{length * 2}}}"
        case Content.XN:
            pattern = f"[CD][0-9]{{{length - 1}}}"
        case Content.Z:
            pattern = f"[0-9=]{count}"
        case _:
            assert_never(field.content)
    return pattern


@dataclass(frozen=True, slots=True)
class FieldCodec:
    """What the codec needs of one field, worked out once.

    Attributes:
        key: the field's key in pyiso8583's dictionaries.
        check: returns None for a value that is not of the content class and length.
        to_wire: fills or converts a checked value for pyiso8583, or None where it goes as it is.
        from_wire: undoes ``to_wire``; may meet anything, ``check`` comes after it.
        text_length: whether the length prefix is ASCII digits.
    """

    key: str
    check: Callable[[str], Any]
    to_wire: Callable[[str], str] | None
    from_wire: Callable[[str], str] | None
    text_length: bool


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way to put the fields on the wire. Get it from :func:`dialect_of`.

    Attributes:
        name: as configured.
        specs: pyiso8583 specifications, the one to write with first; the others are accepted when reading.
        fields: per field number.
        numbers: field number of each pyiso8583 key.
    """

    name: DialectName
    specs: tuple[Mapping[str, Mapping[str, Any]], ...]
    fields: Mapping[int, FieldCodec]
    numbers: Mapping[str, int]


def _spec_ascii(field: Field) -> dict[str, Any]:
    length = field.length * 2 if field.content is Content.B else field.length
    return {"data_enc": "ascii", "len_enc": "ascii", "len_type": field.length_digits, "max_len": length}


def _is_packed(field: Field) -> bool:
    return field.content in {Content.N, Content.Z} and field.number not in _ASCII_ALSO_IN_BCD


def _spec_bcd(field: Field, pad: str) -> dict[str, Any]:
    # Two digits of length fit one packed byte, three need two.
    spec: dict[str, Any] = {"data_enc": "ascii", "len_enc": "bcd", "len_type": (field.length_digits + 1) // 2}
    spec["max_len"] = field.length
    if _is_packed(field):
        spec |= {"data_enc": "b", "len_count": "nibbles"}
        spec |= {"right_pad": pad} if field.length_digits else {"left_pad": "0"}
    elif field.content is Content.B:
        spec["data_enc"] = "b"
    elif field.content is Content.XN:
        spec |= {"data_enc": "b", "max_len": 1 + (field.length - 1) // 2}
    return spec


def _spec(name: DialectName, pad: str) -> Mapping[str, Mapping[str, Any]]:
    is_bcd = name == "iso87-bcd"
    bitmap = {"data_enc": "b", "max_len": 8} if is_bcd else {"data_enc": "ascii", "max_len": 16}
    fixed = {"len_enc": "ascii", "len_type": 0}
    return {
        "h": {"data_enc": "ascii", "max_len": 0, **fixed},
        "t": {"data_enc": "b", "max_len": 2, **fixed} if is_bcd else {"data_enc": "ascii", "max_len": 4, **fixed},
        "p": bitmap | fixed,
        "1": bitmap | fixed,
    } | {str(number): _spec_bcd(field, pad) if is_bcd else _spec_ascii(field) for number, field in FIELDS.items()}


def _sign_to_hex(value: str) -> str:
    return ("43" if value[0] == "C" else "44") + value[1:]


def _sign_from_hex(value: str) -> str:
    return {"43": "C", "44": "D"}.get(value[:2], "?") + value[2:]


def _field_codec(field: Field, *, is_bcd: bool) -> FieldCodec:
    to_wire: Callable[[str], str] | None = None
    from_wire: Callable[[str], str] | None = None
    if field.content in {Content.AN, Content.ANS} and not field.length_digits:
        to_wire, from_wire = f"{{:<{field.length}}}".format, str.rstrip
    elif field.content is Content.B:
        from_wire = str.upper
    elif is_bcd and field.content is Content.XN:
        to_wire, from_wire = _sign_to_hex, _sign_from_hex
    elif is_bcd and field.content is Content.Z:
        to_wire, from_wire = (lambda value: value.replace("=", "D")), (lambda value: value.replace("D", "="))
    return FieldCodec(
        key=str(field.number),
        check=re.compile(_pattern(field)).fullmatch,
        to_wire=to_wire,
        from_wire=from_wire,
        text_length=bool(field.length_digits) and not is_bcd,
    )


@cache
def dialect_of(name: DialectName, *, bcd_pad: str = "F") -> Dialect:
    """Return a dialect.

    Args:
        name: ``iso87-ascii`` or ``iso87-bcd``.
        bcd_pad: filler nibble written after an odd number of variable-length digits, ``F`` or ``0``; both are read.
    """
    is_bcd = name == "iso87-bcd"
    pads = (bcd_pad, "0" if bcd_pad == "F" else "F") if is_bcd else ("",)
    return Dialect(
        name=name,
        specs=tuple(_spec(name, pad) for pad in pads),
        fields=MappingProxyType({number: _field_codec(field, is_bcd=is_bcd) for number, field in FIELDS.items()}),
        numbers=MappingProxyType({str(number): number for number in FIELDS}),
    )


@dataclass(frozen=True, slots=True)
class MessageRule:
    """Which fields a message carries.

    Attributes:
        mandatory: present, sent and received.
        allowed: what may be sent: the mandatory and the conditional fields.
        forbidden: never accepted. Any other field of the standard is accepted when received and left alone.
        response: MTI of the response to this message, or None where it is one.
    """

    mandatory: frozenset[int]
    allowed: frozenset[int]
    forbidden: frozenset[int]
    response: str | None


def _numbers(text: str) -> frozenset[int]:
    numbers: set[int] = set()
    for part in text.split():
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return frozenset(numbers)


def _rule(*, m: str, c: str, forbid: str = "", response: str | None = None) -> MessageRule:
    return MessageRule(_numbers(m), _numbers(m) | _numbers(c), _numbers(forbid), response)


_FINANCIAL: Final = {
    "m": "2-4 7 11-13 18 22 25 32 37 41-43 49",
    "c": "14 48 64 128",
    "forbid": "38 39 70 90",
}
_REVERSAL: Final = {"m": "2-4 7 11-13 32 37 41 42 49 90", "c": "14 18 22 25 38 39 43 48 64 128", "forbid": "70"}
_RESPONSE: Final = {
    # A host echoes 37, 42 and 49 too, but one that leaves them out has still answered.
    "m": "3 4 7 11 39 41",
    "c": "2 12-15 18 22 25 32 37 38 42-44 48 49 54 64 90 128",
    "forbid": "70",
}
_SETTLEMENT: Final = "15 32 41 42 48 64 66 74-77 86-89 97 128"

RULES: Final[Mapping[str, MessageRule]] = MappingProxyType(
    {
        "0100": _rule(m="3 4 7 11 32 37 41 42 49 90", c="2 12 13 64 128", forbid="38 39 70", response="0110"),
        "0110": _rule(**_RESPONSE),
        "0200": _rule(**_FINANCIAL, response="0210"),
        "0210": _rule(**_RESPONSE),
        "0220": _rule(m=_FINANCIAL["m"], c="14 38 39 48 64 90 128", forbid="70", response="0230"),
        "0221": _rule(m=_FINANCIAL["m"], c="14 38 39 48 64 90 128", forbid="70", response="0230"),
        "0230": _rule(**_RESPONSE),
        "0420": _rule(**_REVERSAL, response="0430"),
        "0421": _rule(**_REVERSAL, response="0430"),
        "0430": _rule(**_RESPONSE),
        "0500": _rule(
            m="7 11 32 50 66 74-77 86-89 97", c="15 41 42 48 64 128", forbid="2 14 35 36 39 45 52 70", response="0510"
        ),
        "0510": _rule(m="7 11 39", c=_SETTLEMENT + " 50", forbid="2 14 35 36 45 52 70"),
        "0800": _rule(m="7 11 70", c="32 41 48 64 128", forbid="2 3 4 14 35 36 39 45 52 90", response="0810"),
        "0810": _rule(m="7 11 39", c="32 41 48 64 70 128", forbid="2 3 4 14 35 36 45 52 90"),
    }
)
"""The messages of ISO 8583:1987 that merchant networks use, by MTI; 0100 serves as the status inquiry (DE3=380000)."""
