"""Finding card numbers in text, however they are spelt: in one pass over the text, whatever it holds.

A card number is taken to be 12 to 19 digits (ISO/IEC 7812; Maestro has twelve) that pass the Luhn check, with anything
between them that is neither letter nor digit: blanks of every width, hyphens, dots, quotes. Digits are those of every
script, and those written as an escape of JSON, Python, URLs or HTML (also escaped several times). Every such stretch
counts, also inside a longer run of digits. One stretch in ten passes the check by chance: other long numbers are often
masked too, which is the safe side.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Final

DIGITS_MIN: Final = 12
DIGITS_MAX: Final = 19

GAP_CHARS_MAX: Final = 64
"""What stands between two digits of one number. Digits that are further apart are two numbers."""

RUN_DIGITS_MAX: Final = 64
"""A longer run holds a valid stretch almost surely (about 400 of them, one in ten valid): it is not searched."""

_FOLDS_MAX: Final = 3
"""Escapes inside escapes that are undone one by one, besides the doubled marks that one pass undoes."""

_RUN: Final = re.compile(rf"\d(?:[\W_]{{0,{GAP_CHARS_MAX}}}\d){{{DIGITS_MIN - 1},}}")

# The marks themselves may be doubled, by escaping what is escaped.
_OCTET: Final = r"(?:%(?:25){0,8}|\\{1,16}x)([0-9a-fA-F]{2})"
_ESCAPE: Final = re.compile(
    rf"""(?P<octet>{_OCTET})
    | (?:%(?:25){{0,8}}u|\\{{1,16}}u)(?P<four>[0-9a-fA-F]{{4}})
    | \\{{1,16}}(?:U00|u\{{)(?P<long>[0-9a-fA-F]{{1,6}})\}}?
    | \\{{1,16}}(?P<octal>0?(?:6[0-7]|7[01]))
    | &(?:amp;){{0,8}}\#(?:0{{0,8}}(?P<decimal>[0-9]{{1,6}})|[xX]0{{0,8}}(?P<html>[0-9a-fA-F]{{1,5}}));?
    | (?P<gap>\\{{1,16}}[abfnrtv] | &(?:amp;){{0,8}}[A-Za-z]{{2,8}};)""",
    re.VERBOSE,
)
# What is not ASCII is kept as Python keeps bytes in text, until its neighbours are known.
_HIGH_OCTETS: Final = re.compile("[\udc80-\udcff]+")

_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the text a digit stands that must not be shown."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Spelling:
    """A text as it stands, or with its escapes undone; ``places``: where its characters stand in the text that came."""

    text: str
    places: list[Place] | None = None

    def place(self, begin: int, end: int) -> Place:
        """Where a part of it stands in the text that came."""
        if self.places is None:
            return Place(begin, end)
        return Place(self.places[begin].begin, self.places[end - 1].end)


def spellings(text: str) -> Iterator[Spelling]:
    """Yield the text as it stands, and as it reads when its escapes are undone once, twice and so on."""
    spelling = Spelling(_flat(text))
    yield spelling
    for _ in range(_FOLDS_MAX):
        if not _may_be_escaped(spelling.text):
            return
        folded, places = _fold(spelling.text, spelling.places)
        if folded == spelling.text:
            return
        spelling = Spelling(_flat(folded), places)
        yield spelling


def hidden_places(spelling: Spelling) -> Iterator[Place]:
    """Yield the places of all digits that must not be shown, some of them more than once.

    At most the first six and the last four digits of a number are not among them (PCI DSS 4.0.1, 3.4.1), and only where
    the whole run is the number.
    """
    for run in _RUN.finditer(spelling.text):
        begin, found = run.start(), run.group()
        at = [begin + i for i, c in enumerate(found) if c.isdecimal()]
        for i in _hidden([int(spelling.text[i]) for i in at]):
            yield spelling.place(at[i], at[i] + 1)


def _may_be_escaped(text: str) -> bool:
    return "\\" in text or "%" in text or "&" in text


def _fold(text: str, places: list[Place] | None) -> tuple[str, list[Place]]:
    """Undo escapes once; return the text and where each of its characters stands in the first one."""
    at = [Place(i, i + 1) for i in range(len(text))] if places is None else places
    parts: list[str] = []
    origins: list[Place] = []
    behind = 0
    for found in _ESCAPE.finditer(text):
        parts += (text[behind : found.start()], _plain(found))
        origins += at[behind : found.start()]
        origins.append(Place(at[found.start()].begin, at[found.end() - 1].end))
        behind = found.end()
    parts.append(text[behind:])
    origins += at[behind:]
    return _join_octets("".join(parts), origins)


def _join_octets(text: str, origins: list[Place]) -> tuple[str, list[Place]]:
    """Make characters of neighbouring bytes that are the UTF-8 of one."""
    parts: list[str] = []
    places: list[Place] = []
    behind = 0
    for found in _HIGH_OCTETS.finditer(text):
        begin, end = found.span()
        plain = found.group().encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        width = (end - begin) / len(plain)
        parts += (text[behind:begin], plain)
        places += origins[behind:begin]
        for i in range(len(plain)):
            first, last = begin + int(i * width), begin + int((i + 1) * width) - 1
            places.append(Place(origins[first].begin, origins[max(first, last)].end))
        behind = end
    return "".join((*parts, text[behind:])), places + origins[behind:]


def _plain(escape: re.Match[str]) -> str:
    if escape["gap"]:
        return " "
    if escape["decimal"]:
        code = int(escape["decimal"])
    elif escape["octal"]:
        code = int(escape["octal"], 8)
    else:
        code = int(escape[2] or escape["four"] or escape["long"] or escape["html"], 16)
    if escape["octet"] and code >= 0x80:
        return chr(0xDC00 + code)
    return chr(code) if code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF else " "


def _flat(text: str) -> str:
    """Digits of every script, also raised or circled ones, as those of ASCII; the length stays."""
    return text if text.isascii() else text.translate(_ascii_digits())


@cache
def _ascii_digits() -> dict[int, str]:
    found = ((code, unicodedata.digit(chr(code), None)) for code in range(0x80, 0x20000))
    return {code: str(digit) for code, digit in found if digit is not None}


def _hidden(digits: list[int]) -> set[int] | range:
    """Which digits of a run must not be shown: none where no stretch of it could be a card number."""
    if len(digits) > RUN_DIGITS_MAX:
        return range(len(digits))
    # Sums from the left with every second digit doubled, the even ones and the odd ones: a stretch in one subtraction.
    doubled = [_DOUBLED[d] for d in digits]
    sums = [[0, *accumulate(d if i % 2 == parity else doubled[i] for i, d in enumerate(digits))] for parity in (0, 1)]
    hidden: set[int] = set()
    for end in range(DIGITS_MIN, len(digits) + 1):
        total = sums[(end - 1) % 2]
        for begin in range(max(end - DIGITS_MAX, 0), end - DIGITS_MIN + 1):
            if (total[end] - total[begin]) % 10 == 0:
                if (begin, end) == (0, len(digits)):
                    return range(6, end - 4)
                hidden.update(range(begin, end))
    return hidden
