"""`mypay token add`: what is wrong with a card file is told whole, and nothing of the card."""

import json
from pathlib import Path

import pytest

from tests.support.cli import mypay

PAN = "9490000000000008"


@pytest.mark.parametrize(
    ("card", "told"),
    [
        (
            {"pan": PAN[:-1] + "9"},
            "pan (of the card): is mistyped: its last digit does not fit the others (Luhn check).",
        ),
        ({"pan": int(PAN)}, "pan (of the card): must be a string, in double quotes."),
        ({"expiry": "2912"}, "pan (of the card): field is missing."),
        ({"pan": PAN, "expiry": "1012"}, "expiry (of the card): has passed (it is YYMM: year first)."),
        ({"pan": PAN, "cvc": "123"}, "cvc (of the card): unknown field."),
    ],
)
def test_what_is_wrong_with_a_card_file_is_told_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, card: dict[str, object], told: str
) -> None:
    monkeypatch.setattr("gateway.cli.operating._recorded", lambda *given: given[-1]())
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", "postgresql://127.0.0.1:1/nothing")
    file = tmp_path / "card.json"
    file.write_text(json.dumps(card))
    ended = mypay("token", "add", "--customer", "cust-1", "--partner", "shop-pay", "--card-file", file).expect(1)
    assert ended.err.strip() == told
    assert PAN[:-1] not in ended.err
