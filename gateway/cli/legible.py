"""What is shown to people on a terminal: partners, customers and networks have written some of it."""

import re
from typing import Final

_OBEYED: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]"
)
"""Controls, also those beyond ASCII; what turns a line's direction, or is not seen; and halves of characters, which
cannot be written at all."""


def legible(text: str) -> str:
    """The text with nothing in it that a terminal would obey or hide, each spelt as in JSON: which stays the same."""
    return text if text.isprintable() else _OBEYED.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
