"""What is wrong with a value, in words: what was expected, never a regular expression, and nothing of the value."""

from collections.abc import Mapping
from typing import Any, Final

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


def told(problem: Mapping[str, Any]) -> str:
    """Say one of pydantic's error details, taken with its context and without its input."""
    limits = problem.get("ctx", {})
    match problem["type"]:
        case "extra_forbidden":
            text = "unknown field"
        case "missing":
            text = "field is missing"
        case "string_type":
            # As of an amount that was given as a number.
            text = "must be a string, in double quotes"
        case "string_pattern_mismatch":
            text = f"must be {PATTERNS.get(limits['pattern'], 'of another form')}"
        case "string_too_short" if limits["min_length"] == 1:
            text = "must not be empty"
        case "string_too_short":
            text = f"must have at least {limits['min_length']} characters"
        case "string_too_long":
            text = f"must have at most {limits['max_length']} characters"
        case _:
            text = str(problem["msg"]).removeprefix("Value error, ")
    return text
