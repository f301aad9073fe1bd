"""Base64url without padding (RFC 7515 §2), read strictly: each value has one spelling only (RFC 4648 §3.5)."""

import binascii
from typing import Final

_TO_STANDARD: Final = bytes.maketrans(b"-_+/=", b"+/!!!")

_LAST_OF: Final = (b"", b"AEIMQUYcgkosw048", b"AQgw")
"""The characters whose unused bits are zero, by how many characters the last group of four lacks."""


def decode(text: str) -> bytes:
    """Read a text.

    Raises:
        ValueError: not base64url, padded, or not the one spelling of its value.
    """
    standard = text.encode().translate(_TO_STANDARD)
    lacks = -len(standard) % 4
    raw = binascii.a2b_base64(standard + b"=" * lacks, strict_mode=True)
    if lacks and standard[-1] not in _LAST_OF[lacks]:
        raise ValueError("not the canonical spelling")
    return raw
