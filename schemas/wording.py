"""What is wrong with a value, in words: what was expected, never a regular expression, and nothing of the value."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    # Commands say things before they load it.
    from pydantic import ValidationError

PATTERNS: Final[Mapping[str, str]] = {
    r"^https?://[^/]+$": "an http:// or https:// address without a path",
    r"^https?://\S+$": "an http:// or https:// address",
    r"^https?://[^/@\s]+(/[^@\s]*)?$": "an http:// or https:// address without a name or password",
    r"^[A-Z0-9]{25}$": "25 capital letters and digits",
    r"^2[0-9]{3}(0[1-9]|1[0-2])[0-3][0-9][0-2][0-9][0-5][0-9][0-5][0-9]$": "a time as YYYYMMDDhhmmss",
    r"^2[0-9]{3}-W(0[1-9]|[1-4][0-9]|5[0-3])$": "an ISO 8601 week: 2026-W48",
    r"^[^\x00-\x1f\x7f]{1,13}$": "1 to 13 characters, none of them a control character",
    r"^[A-Za-z0-9_-]{27}$": "20 bytes in base64url without padding",
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$": "a key id: up to 64 letters, digits, '.', '_' and '-'",
    r"^2[0-9]{3}-(0[1-9]|1[0-2])$": "a month: 2026-11",
    r"^[A-Z]{3} ([0-9]+-[0-9]+|[0-9]+\+)$": "a currency and a band of whole units: KRW 10000-50000 or KRW 1000000+",
    r"^[A-Z0-9]{10}$": "an org code: 10 capital letters and digits",
    r"^[^\x00-\x1f\x7f]{1,300}$": "1 to 300 characters, none of them a control character",
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": ("letters, digits, dots, underscores and hyphens, with a letter or digit first"),
    r"^[A-Za-z0-9][A-Za-z0-9._-]*(\+[0-9]{8})?$": (
        "an order id, or that of a standing order's occurrence: its id, a plus sign and the day, YYYYMMDD"
    ),
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,34}$": (
        "1 to 35 letters, digits, dots, underscores and hyphens, with a letter or digit first"
    ),
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$": (
        "1 to 40 letters, digits, dots, underscores and hyphens, with a letter or digit first"
    ),
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$": (
        "1 to 100 letters, digits, dots, underscores and hyphens, with a letter or digit first"
    ),
    r"^[A-Za-z0-9][A-Za-z0-9_-]{0,40}$": (
        "1 to 41 letters, digits, underscores and hyphens, with a letter or digit first"
    ),
    r"^[a-z0-9][a-z0-9._-]{0,63}$": (
        "1 to 64 small letters, digits, dots, underscores and hyphens, with a letter or digit first"
    ),
    r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$": "a compact JWS: three parts in base64url, with dots between",
    r"^[A-Za-z0-9_-]{43}$": "32 bytes in base64url without padding",
    r"^[A-Za-z0-9_-]{22}$": "16 bytes in base64url without padding",
    r"^[A-Za-z0-9]{12}$": "12 letters and digits",
    r"^[A-Za-z0-9]{8}$": "8 letters and digits",
    r"^[A-Za-z0-9]{6}$": "6 letters and digits",
    r"^[A-Za-z0-9 ]{1,15}$": "1 to 15 letters, digits and blanks",
    r"^[A-Z]{3}$": "three capital letters, as ISO 4217 has them",
    r"^[A-Z0-9]{2}$": "two capital letters or digits",
    r"^[0-9A-Za-z]{2}$": "two letters or digits",
    r"^[A-Z0-9]{0,7}$": "at most 7 capital letters and digits",
    r"^[0-9]{2}$": "two digits",
    r"^[0-9]{3}$": "three digits",
    r"^[0-9]{4}$": "four digits",
    r"^\d{4}$": "four digits",
    r"^[0-9]{6}$": "six digits",
    r"^[0-9]{1,11}$": "1 to 11 digits",
    r"^\d{1,12}$": "1 to 12 digits",
    r"^[1-9][0-9]{0,2}$": "a number from 1 to 999",
    r"^0[1-8][0-9]{2}$": "a message type: four digits, the first 0, the second from 1 to 8",
    r"^[0-9A-F]{10}$": "10 hexadecimal digits, in capitals",
    r"^[0-9a-f]{32}$": "32 hexadecimal digits, in small letters",
    r"^[0-9a-f]{64}$": "a SHA-256 as 64 hexadecimal digits, in small letters",
    r"^[\x21-\x7e]{1,255}$": "1 to 255 printable ASCII characters without blanks",
    r"^[\x21-\x7e]{1,128}$": "1 to 128 printable ASCII characters without blanks",
}
"""Every pattern of our models → what it asks for."""


_WHOLE, _NUMBER, _SWITCH = "must be a whole number", "must be a number", "must be true or false"
_TEXTS: Final[Mapping[str, str]] = {
    "extra_forbidden": "unknown field",
    "missing": "field is missing",
    # As of an amount that was given as a number.
    "string_type": "must be a string, in double quotes",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), _WHOLE),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), _NUMBER),
    **dict.fromkeys(("bool_type", "bool_parsing"), _SWITCH),
}
"""Kinds of pydantic's errors → our words, with what its context has."""

_SHOULD: Final = "Input should "


def faults_of(error: "ValidationError") -> str:
    """All that is wrong, each with its place: ``tls.ca: must not be empty; window: must be a whole number``."""
    problems = error.errors(include_input=False, include_url=False)
    places = (".".join(map(str, p["loc"])) for p in problems)
    return "; ".join(f"{place}: {told(p)}" if place else told(p) for place, p in zip(places, problems, strict=True))


def told(problem: Mapping[str, Any]) -> str:
    """Say one of pydantic's error details, taken with its context and without its input."""
    kind, limits = problem["type"], problem.get("ctx", {})
    if kind == "string_pattern_mismatch":
        return f"must be {PATTERNS.get(limits['pattern'], 'of another form')}"
    if kind == "string_too_short" and limits["min_length"] == 1:
        return "must not be empty"
    if kind in _TEXTS:
        return _TEXTS[kind].format(**limits)
    return plain(str(problem["msg"]))


def plain(message: str) -> str:
    """One of pydantic's messages without its manner: "Input should be a valid date, input is too short"."""
    message = message.removeprefix("Value error, ")
    if not message.startswith(_SHOULD):
        return message
    # Behind a comma stands how far it was read, or another value that it may have.
    return "must " + re.split(r", (?!')", message.removeprefix(_SHOULD))[0]
