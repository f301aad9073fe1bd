"""How wide the columns of tables are."""

import pytest

from gateway.cli.fitting import fitted

AT = "2026-03-02 09:45:02.412+09:00"
ROWS = [("partner", "since"), ("shop-pay", AT)]


@pytest.mark.parametrize(
    ("width", "whole", "widths"),
    [
        (200, False, [8, 29]),
        (44, False, [8, 29]),
        (43, False, [8, 28]),
        (27, False, [8, 12]),
        (26, False, None),
        (44, True, [8, 29]),
        (43, True, None),
    ],
)
def test_columns_are_as_wide_as_they_are_or_as_the_terminal_lets_them_be(
    width: int, whole: bool, widths: list[int] | None
) -> None:
    assert fitted(ROWS, [False, whole], width) == widths


def test_what_is_left_goes_to_those_that_can_use_it() -> None:
    rows = [("a", "b", "c"), ("x", "one two three four", "one two three four five")]
    assert fitted(rows, [False] * 3, 1 + 3 * 3 + 1 + 18 + 20) == [1, 18, 20]


@pytest.mark.parametrize(("word", "least"), [("/var/lib/mypay/networks/of/here", 20), ("shop-pay/2026-000211-b", 22)])
def test_a_path_may_be_broken_and_an_order_may_not(word: str, least: int) -> None:
    assert fitted([("of",), (word,)], [False], least + 4) == [least]
    assert fitted([("of",), (word,)], [False], least + 3) is None
