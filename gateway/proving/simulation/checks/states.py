"""States of payments as the checks name them, in words of their own."""

from collections.abc import Callable
from typing import Final

Report = Callable[[str, str], None]
"""Told of a promise that was broken: its name, and what is wrong."""

STANDING: Final = frozenset({"approved", "reversing", "settled"})
IN_FLIGHT: Final = frozenset({"sent", "unknown"})
FINAL: Final = frozenset({"rejected", "declined", "reversed", "settled"})
