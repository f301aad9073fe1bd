"""Finding and masking what must never be shown or stored in clear: card numbers and private keys.

A card number is taken to be 13 to 19 digits (ISO/IEC 7812) that pass the Luhn check, written together or with single
spaces or hyphens between them. Every such stretch counts, also inside a longer run of digits. One stretch in ten passes
the check by chance, and a run of 16 digits has ten of them: other long numbers are often masked too, which is the safe
side. Masks show at most the first six and the last four digits (PCI DSS 4.0.1, 3.4.1), and only where the whole run is
the number.
"""

import re
from collections.abc import Iterator
from typing import Final

_DIGITS_MIN: Final = 13
_DIGITS_MAX: Final = 19

_RUN_DIGITS_MAX: Final = 64
"""A longer run holds a valid stretch almost surely (about 350 of them, one in ten valid): it is not searched."""

_RUNS_MAX: Final = 2_000
"""Data with more long runs than this is taken to hold a card number: bounds the search in what an attacker sends."""

_RUN: Final = re.compile(r"\d(?:[ -]?\d){12,}")
_PRIVATE_PEM: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL
)
# Private members of RFC 7518 keys; the quotes may be escaped where JSON stands inside JSON, or Python's.
_PRIVATE_JWK: Final = re.compile(r"""(\\{0,8}["'])(d|p|q|dp|dq|qi|k)\1(\s{0,8}:\s{0,8})\1[A-Za-z0-9_\-+/=]{16,}""")

_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def contains_secret(data: bytes) -> bool:
    """True if the bytes, read as UTF-8 or UTF-16, hold a card number or private-key material."""
    if _text_contains_secret(data.decode("utf-8", "replace")):
        return True
    # UTF-16 text of ASCII is the same bytes with NULs between them.
    return b"\x00" in data and _text_contains_secret(data.replace(b"\x00", b"").decode("utf-8", "replace"))


def redact(text: str) -> str:
    """Return the text with card numbers and private keys masked. Doing it twice changes nothing more."""
    if "PRIVATE KEY" in text:
        text = _PRIVATE_PEM.sub("[private key]", text)
    text = _PRIVATE_JWK.sub(r"\1\2\1\3\1[private key]", text)
    return _RUN.sub(_mask, text)


def _text_contains_secret(text: str) -> bool:
    if _PRIVATE_JWK.search(text) or ("PRIVATE KEY" in text and _PRIVATE_PEM.search(text)):
        return True
    for count, run in enumerate(_RUN.finditer(text)):
        digits = _digits(run.group())
        if count >= _RUNS_MAX or len(digits) > _RUN_DIGITS_MAX or any(True for _ in _card_numbers(digits)):
            return True
    return False


def _mask(run: re.Match[str]) -> str:
    characters = list(run.group())
    places = [i for i, c in enumerate(characters) if c not in " -"]
    digits = _digits(run.group())
    if len(digits) > _RUN_DIGITS_MAX:
        hidden = set(range(len(digits)))
    elif len(digits) <= _DIGITS_MAX and _passes_luhn(digits):
        hidden = set(range(6, len(digits) - 4))
    else:
        hidden = {i for begin, end in _card_numbers(digits) for i in range(begin, end)}
    for i in hidden:
        characters[places[i]] = "*"
    return "".join(characters)


def _digits(run: str) -> list[int]:
    return [int(c) for c in run if c not in " -"]


def _card_numbers(digits: list[int]) -> Iterator[tuple[int, int]]:
    """Begin and end of every stretch that could be a card number."""
    for begin in range(len(digits) - _DIGITS_MIN + 1):
        for end in range(begin + _DIGITS_MIN, min(begin + _DIGITS_MAX, len(digits)) + 1):
            if _passes_luhn(digits[begin:end]):
                yield begin, end


def _passes_luhn(digits: list[int]) -> bool:
    return (sum(digits[-1::-2]) + sum(_DOUBLED[d] for d in digits[-2::-2])) % 10 == 0
