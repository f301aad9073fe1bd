"""ISO 8583:1987 as data: the format of every field, and what each message carries.

How fields lie on the wire is told in :mod:`gateway.network.iso8583.layout`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final


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


@dataclass(frozen=True, slots=True)
class MessageRule:
    """Which fields a message carries.

    Attributes:
        mandatory: present, sent and received.
        allowed: what may be sent: the mandatory and the conditional fields.
        forbidden: never accepted. Any other field of the standard is accepted and left alone.
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


@dataclass(frozen=True, slots=True)
class ArrivalRule:
    """What is looked at in a message that a host sends: all else is kept as it came, whatever it is.

    Attributes:
        mandatory: without one of these the message means nothing.
        deciding: read strictly where present; a value that does not fit makes the message unreadable.
    """

    mandatory: frozenset[int]
    deciding: frozenset[int]


_ANSWER: Final = ArrivalRule(_numbers("4 11 39"), _numbers("3 4 11 37-39 41 49"))
# DE4 and DE49 of the answer to a reversal are compared where they can be read.
_REVERSED: Final = ArrivalRule(_numbers("11 39"), _numbers("11 37 39 41"))
_MANAGED: Final = ArrivalRule(_numbers("11 39"), _numbers("11 39 70"))

ANSWERS: Final[Mapping[str, ArrivalRule]] = MappingProxyType(
    {"0110": _ANSWER, "0210": _ANSWER, "0230": _ANSWER, "0430": _REVERSED, "0810": _MANAGED}
)
"""The answers that this side reads. DE7 decides as well where a network's answers are matched by it."""

HOST_REQUEST: Final = ArrivalRule(_numbers("11"), _numbers("11 70"))
"""Any request that a host sends: it is answered or refused by :func:`answering_mti` and its DE70."""


def answering_mti(mti: str) -> str | None:
    """Return the MTI that answers a request or advice of any class; None where the message is no such thing.

    Third digit 0 (request) or 2 (advice): one more answers it. A repeat (last digit odd) is answered as its original.
    Versions other than 1987 (first digit 0) are not known.
    """
    if _REQUEST(mti) is None:
        return None
    return f"{mti[:2]}{int(mti[2]) + 1}{int(mti[3]) // 2 * 2}"


_REQUEST: Final = re.compile(r"0[1-8][02][0-5]").fullmatch
