import json
from datetime import UTC, datetime

import pytest

from gateway.directory.card_files import read_card
from schemas.codec import DecodeError

PAN = "4929123456789015"  # passes the Luhn check; belongs to nobody
NOW = datetime(2026, 3, 31, 15, 0, tzinfo=UTC)  # 1 April in Seoul


@pytest.mark.parametrize("pan", [PAN, "4929 1234 5678 9015", "4929-1234-5678-9015"])
def test_a_number_may_be_written_in_groups(pan: str) -> None:
    card = read_card(json.dumps({"pan": pan, "expiry": "2604"}).encode(), now=NOW)
    assert (card.pan, card.expiry) == (PAN, "2604")


def test_an_expiry_may_be_missing() -> None:
    assert read_card(json.dumps({"pan": PAN}).encode(), now=NOW).expiry is None


@pytest.mark.parametrize(
    ("fields", "field", "told"),
    [
        ({"pan": "4929123456789016"}, "pan", "mistyped"),
        ({"pan": "4929124356789015"}, "pan", "mistyped"),
        ({"pan": "49291234567"}, "pan", "12 to 19 digits"),
        ({"pan": "4929_1234_5678_9015"}, "pan", "12 to 19 digits"),
        ({"pan": "４９２９１２３４５６７８９０１５"}, "pan", "12 to 19 digits"),
        ({"pan": PAN, "expiry": "2603"}, "expiry", "has passed"),
        ({"pan": PAN, "expiry": "0426"}, "expiry", "must be YYMM"),
        ({"pan": PAN, "expiry": "04/26"}, "expiry", "must be YYMM"),
        ({"pan": PAN, "expiry": "2613"}, "expiry", "must be YYMM"),
        ({"pan": PAN, "cvv": "123"}, "cvv", "unknown field"),
    ],
)
def test_what_can_be_known_wrong_is_told_without_the_card(fields: dict[str, str], field: str, told: str) -> None:
    with pytest.raises(DecodeError) as refused:
        read_card(json.dumps(fields).encode(), now=NOW)
    assert field in str(refused.value)
    assert told in str(refused.value)
    assert "4929" not in str(refused.value)
