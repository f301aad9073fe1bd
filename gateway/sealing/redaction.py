"""Finding and masking what must never be shown or stored in clear.

Card numbers (:mod:`gateway.sealing.card_numbers`), private keys, and what stands under a name that says what it
is: check values and PINs of cards, track data, passwords, also those in URLs and connection strings.

What cannot be known is treated as a secret: bytes that are not plain text, text inside an encoding that holds a secret,
and whatever is larger than :data:`SCAN_CHARS_MAX`, which is not even looked at. So the work has a bound, whoever sends.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from gateway.sealing.card_numbers import hidden_places, spellings

SCAN_CHARS_MAX: Final = 64 * 1024
"""More than this is never searched. The largest record that a stage reads and a person would look at is far smaller."""

_SECRET_CHARS_MAX: Final = 8 * 1024
"""Longer than any secret as it is spelt: so much is searched behind what is shown, for one may stand across the end."""

SHOWN_CHARS_MAX: Final = SCAN_CHARS_MAX - _SECRET_CHARS_MAX

MASK: Final = "X"
"""In place of a digit. A letter: it ends a number, so that masking twice changes nothing more."""

_NAME_CHARS_MAX: Final = 64
_VALUE_CHARS_MAX: Final = 4096

_PRIVATE_PEM: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL
)
# Private members of RFC 7518 keys; the quotes may be escaped where JSON stands inside JSON, or Python's.
_PRIVATE_JWK: Final = re.compile(
    r"""(?:\\{0,8}["'])(?:d|p|q|dp|dq|qi|k)\\{0,8}["']\s{0,8}:\s{0,8}\\{0,8}["'](?P<value>[A-Za-z0-9_\-+/=]{16,})"""
)
# A name, and what stands between it and its value in JSON, forms, XML, DSNs and logs.
_NAME: Final = re.compile(
    rf"""(?<![A-Za-z0-9_.\-/])([A-Za-z][A-Za-z0-9_.\-]{{0,{_NAME_CHARS_MAX}}})(?:\\{{0,8}}["'])?\s{{0,8}}(?:=>|[:=>])\s{{0,8}}"""
)
_VALUE: Final = re.compile(
    rf"""(?P<quote>\\{{0,8}}["'])(?P<quoted>(?:(?!(?P=quote)).){{1,{_VALUE_CHARS_MAX}}})
      |(?P<bare>[^\s"'\\,;&<>\[\]{{}}()]{{1,{_VALUE_CHARS_MAX}}})""",
    re.VERBOSE | re.DOTALL,
)
# A list or an object: up to where its brackets close, those inside of texts apart.
_BRACKETS: Final = re.compile(r""""(?:[^"\\]|\\.)*+"?|(?P<open>[\[{(])|(?P<close>[\]})])""", re.DOTALL)
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_SECRET_WORDS: Final = frozenset(
    [
        "cvv",
        "cvc",
        "cvn",
        "cav",
        "csc",
        "pin",
        "pan",
        "track",
        "pwd",
        "password",
        "passwd",
        "passphrase",
        "passcode",
        "secret",
        "pgpassword",
    ]
)
_SECRET_NAMES: Final = (
    *("pinblock", "cardnumber", "cardno", "cardnum", "securitycode", "cardcode", "verificationvalue"),
    *("verificationcode", "trackdata", "magstripe", "privatekey", "apikey", "password"),
)
_BEARER: Final = re.compile(r"\b(?i:Bearer|Basic)\s{1,8}(?P<value>[A-Za-z0-9._~+/=\-]{8,})")
_URL_PASSWORD: Final = re.compile(r"""(?<=://)[^\s/@:"'<>]{0,256}:(?P<value>[^\s"'<>]{1,512})@""")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_\-]{16,}")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


_OPENING: Final = ("[", "{", "(")
_MASKED: Final = frozenset(("[secret]", "[private key]"))


class _Secret(NamedTuple):
    begin: int
    end: int
    shown: str


def contains_secret(data: bytes) -> bool:
    """True if the bytes hold a secret, or may hold one that cannot be seen: too much to search, or not plain text."""
    if len(data) > SCAN_CHARS_MAX:
        return True
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return _CONTROL.search(text) is not None or next(_secrets(text), None) is not None


def redact(text: str, *, name: str = "", chars_max: int = SHOWN_CHARS_MAX) -> str:
    """Return the text with secrets masked, and cut where it is longer than ``chars_max``.

    Doing it twice changes nothing more. Nothing of a secret is shown that stands across the end.

    Args:
        text: anybody's.
        name: what the text is the value of; hides it all where that says that it is a secret.
        chars_max: of the text as it came; at most :data:`SHOWN_CHARS_MAX`.
    """
    if name and text and _is_secret_name(name):
        return "[secret]"
    limit = min(len(text), chars_max, SHOWN_CHARS_MAX)
    searched = text[: limit + _SECRET_CHARS_MAX]
    parts: list[str] = []
    behind = 0
    # Of two at one place the larger wins: a password that looks like a card number is not shown by its first digits.
    for begin, end, shown in sorted(_secrets(searched), key=lambda s: (s.begin, -s.end)):
        if begin >= limit:
            break
        if end > behind:
            parts += (searched[behind : max(begin, behind)], shown)
            behind = end
    parts.append(searched[behind:limit])
    return "".join(parts)


def _secrets(text: str, *, nested: bool = False) -> Iterator[_Secret]:
    for spelling in spellings(text):
        for begin, end, shown in _named_secrets(spelling.text):
            if spelling.text[begin:end] not in _MASKED:
                place = spelling.place(begin, end)
                yield _Secret(place.begin, place.end, shown)
        for place in hidden_places(spelling):
            yield _Secret(place.begin, place.end, MASK)
    if not nested:
        yield from _encoded_secrets(text)


def _named_secrets(text: str) -> Iterator[_Secret]:
    """Secrets that are known by what stands around them."""
    if "PRIVATE KEY" in text:
        yield from (_Secret(*m.span(), "[private key]") for m in _PRIVATE_PEM.finditer(text))
    yield from (_Secret(*m.span("value"), "[private key]") for m in _PRIVATE_JWK.finditer(text))
    behind = 0
    for name in _NAME.finditer(text):
        if name.start() < behind or not _is_secret_name(name[1]):
            continue
        if text[name.end() : name.end() + 1] in _OPENING:
            behind = _closed(text, name.end())
            yield _Secret(name.end(), behind, "[secret]")
        elif (value := _VALUE.match(text, name.end())) is not None:
            yield _Secret(*value.span("bare" if value["quoted"] is None else "quoted"), "[secret]")
    for pattern in (_BEARER, _URL_PASSWORD) if "@" in text else (_BEARER,):
        yield from (_Secret(*m.span("value"), "[secret]") for m in pattern.finditer(text))


def _closed(text: str, begin: int) -> int:
    """Where the bracket at ``begin`` is closed; where that is too far away, so far."""
    end, depth = min(len(text), begin + _VALUE_CHARS_MAX), 0
    for found in _BRACKETS.finditer(text, begin, end):
        depth += (found["open"] is not None) - (found["close"] is not None)
        if depth == 0 and found["close"]:
            return found.end()
    return end


def _is_secret_name(name: str) -> bool:
    if not _SECRET_WORDS.isdisjoint(word.lower() for word in _WORD.findall(name)):
        return True
    return "".join(c for c in name.lower() if c.isalpha()).endswith(_SECRET_NAMES)


def _encoded_secrets(text: str) -> Iterator[_Secret]:
    """Stretches of Base64 that are text with a secret in it."""
    for run in _BASE64.finditer(text):
        body = run.group().replace("-", "+").replace("_", "/")
        try:
            plain = base64.b64decode(body + "=" * (-len(body) % 4)).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            continue
        if next(_secrets(plain, nested=True), None) is not None:
            yield _Secret(*run.span(), "[secret]")
