"""What the mutation tester does not show: words for people, and what is argued. All else that survives is shown."""

import tomllib

import pytest

from tests.support.mutation import SURVIVORS, Survivor, argued, changed, only_words

TABLE = {
    "never_reached": ["assert_never("],
    "never_tried": ["limits._made_at_import"],
    "argued": [{"function": "limits.reserve", "to": "left = 1", "why": "it is"}],
}


@pytest.mark.parametrize(
    ("gone", "came", "only"),
    [
        ('raise E("no such payment")', 'raise E("XXno such paymentXX")', True),
        ('raise E("no such payment")', 'raise E("NO SUCH PAYMENT")', True),
        ('raise E("no such payment")', "raise E(None)", False),
        ("text = f\"{a or 'all of it'} is left\"", "text = f\"{a or 'XXall of itXX'} is left\"", True),
        # A name is no sentence, whatever else the line holds.
        ('return of(key, "amount_minor")', 'return of(key, "XXamount_minorXX")', False),
        ('f("no such payment", a and b)', 'f("no such payment", a or b)', False),
        ('if left == "" or right:', 'if left == "XXXX" or right:', False),
    ],
)
def test_only_the_letters_of_sentences_are_words(gone: str, came: str, *, only: bool) -> None:
    assert only_words(gone, came) is only


def test_what_is_argued_is_this_change_of_this_function() -> None:
    def found(function: str, to: str) -> bool:
        return argued(Survivor(function, to, "survived"), TABLE)

    assert found("limits.reserve", "left = 1")
    assert not found("limits.reserve", "left = 2")
    assert not found("refund.reserve", "left = 1")
    assert found("refund.decide", "assert_never(None)")
    assert found("limits._made_at_import", "anything")


def test_a_change_is_told_by_its_lines() -> None:
    assert changed("--- a\n+++ b\n@@\n x\n-  left  = 1\n+  left = 2\n") == ("left = 1", "left = 2")


def test_every_argument_of_the_table_is_one() -> None:
    table = tomllib.loads(SURVIVORS.read_text())
    assert all(one["why"].strip() for one in table["argued"])
    assert len({(one["function"], one["to"]) for one in table["argued"]}) == len(table["argued"])
