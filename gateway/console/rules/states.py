"""How states look: a shape and a word each, and a tone that repeats what these say."""

from collections.abc import Mapping
from typing import Final

LOOKS: Final[Mapping[str, tuple[str, str]]] = {
    # payments
    "scheduled": ("◷", "quiet"),
    "rejected": ("⊘", "bad"),
    "sent": ("➤", "busy"),
    "unknown": ("?", "warn"),
    "approved": ("✓", "good"),
    "declined": ("✕", "bad"),
    "reversing": ("↺", "warn"),
    "reversed": ("↩", "quiet"),
    "settled": ("■", "good"),
    # consents
    "AWAU": ("◷", "quiet"),
    "AUTH": ("✓", "good"),
    "SUSP": ("‖", "warn"),
    "CANC": ("✕", "bad"),
    "RJCT": ("⊘", "bad"),
    "EXPD": ("◌", "quiet"),
    # networks
    "open": ("✓", "good"),
    "closed": ("✕", "bad"),
    "no worker": ("○", "bad"),
    "paused": ("‖", "warn"),
}
"""State → shape and tone. No two states of one kind share a shape."""

UNFORESEEN: Final = ("•", "quiet")
