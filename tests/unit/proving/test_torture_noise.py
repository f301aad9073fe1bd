"""What strangers send is told from orders by its bytes alone."""

from hashlib import sha256

import pytest

from gateway.proving.books.evidence import DeadLetterRow
from gateway.proving.torture.noise import NOISE, is_from_strangers


@pytest.mark.parametrize(
    ("error", "value", "strange"),
    [
        ("NotAuthenticatedError", NOISE[0], True),
        ("UnreadError", None, True),
        ("NotAuthenticatedError", b'{"order_id":"t-1"}', False),
        ("DecodeError", None, False),
    ],
)
def test_dead_letters_of_strangers(error: str, value: bytes | None, strange: bool) -> None:
    digest = None if value is None else sha256(value).digest()
    assert is_from_strangers(DeadLetterRow("mypay.orders", 0, 1, error, digest)) is strange
