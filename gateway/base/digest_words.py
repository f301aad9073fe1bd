"""Digests as parts of ids that people and logs see."""

from typing import Final

_BYTES: Final = 8
_LETTERS: Final = str.maketrans("0123456789abcdef", "abcdefghijklmnop")


def word_of(digest: bytes) -> str:
    """Sixteen small letters that name a digest.

    No digits: of hexadecimal words one in a thousand looks like a card number, and more do beside an id that ends in
    digits. What masks card numbers would mask those.
    """
    return digest[:_BYTES].hex().translate(_LETTERS)
