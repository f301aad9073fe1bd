"""The console's words in its two languages. English is the key; what has no Korean is not shown: a test sees to it."""

import json
from collections.abc import Mapping
from importlib import resources
from typing import Final

LANGUAGES: Final[Mapping[str, str]] = {"en": "English", "ko": "한국어"}

KOREAN: Final[Mapping[str, str]] = json.loads(
    resources.files("gateway.console").joinpath("ko.json").read_text(encoding="utf-8")
)
"""English → Korean."""


def translated(text: str, language: str) -> str:
    """The text in a language; as it is where it has none, for ids and what the books say are nobody's language."""
    return KOREAN.get(text, text) if language == "ko" else text


def language_of(cookie: str | None, accepted: str) -> str:
    """The language that somebody chose, or else the first one that their browser names and we speak."""
    if cookie in LANGUAGES:
        return str(cookie)
    for part in accepted.split(","):
        tag = part.split(";")[0].strip().lower()[:2]
        if tag in LANGUAGES:
            return tag
    return "en"
