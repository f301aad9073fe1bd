"""What an event is about, by its topic and key: payments' ids alone are looked up."""

import pytest

from gateway.outbox.rules.subjects import partner_of, payment_of
from schemas.topics import events_topic

ID = "0b8c9f1e-8a7e-5b5a-9b8e-1c2d3e4f5a6b"
TOPIC = events_topic("partner-1")


def test_a_partner_s_payment_is_named_by_topic_and_key() -> None:
    assert payment_of(TOPIC, ID) == ("partner-1", ID)
    assert partner_of(TOPIC) == "partner-1"


@pytest.mark.parametrize(
    "key", ["", "no id", "-" * 36, ID.upper(), f"{ID} ", f"{ID}\n", ID.replace("-", ""), f"{ID} {ID}"]
)
def test_a_key_that_is_no_id_names_no_payment(key: str) -> None:
    assert payment_of(TOPIC, key) is None


def test_a_name_that_would_be_taken_for_two_names_no_payment() -> None:
    """Partners and ids are handed to the database as texts with spaces between them."""
    assert payment_of(f"{TOPIC} x", ID) is None
