"""Tables of one week that are told one after the other: together, too, they tell of nobody."""

from uuid import NAMESPACE_URL, uuid5

from gateway.marketing.rules.aggregates import Contribution, differs_too_little, gives_away, suppressed_of

K = 3


def rows(**customers: str) -> list[Contribution]:
    """Category → one payment of each of these customers, in one region."""
    return sorted(
        Contribution(uuid5(NAMESPACE_URL, f"{category}/{c}"), c, category.removeprefix("c"), "SEOUL", 1_000)
        for category, those in customers.items()
        for c in those
    )


FIRST = rows(c1="a", c2="bcd", c3="efg")
SECOND = rows(c1="ahij", c2="bcd", c3="efg")


def test_a_cell_that_is_told_later_does_not_give_away_what_was_withheld_beside_it() -> None:
    # One customer in category 1: withheld, and category 2 with it. Four by the second table, which withholds nothing.
    assert {p for p in suppressed_of(FIRST, K) if p[1]} == {("1", "SEOUL"), ("2", "SEOUL")}
    assert not suppressed_of(SECOND, K)
    # No cell differs by few, and yet: total of the first, less 2 and 3 of the second, is what a alone has paid.
    assert not differs_too_little(SECOND, FIRST, K)
    assert gives_away([FIRST, SECOND], K)
    assert gives_away([SECOND, FIRST], K)


def test_tables_with_nothing_to_join_are_told() -> None:
    assert not gives_away([FIRST], K)
    assert not gives_away([SECOND], K)
    assert not gives_away([FIRST, FIRST], K)
    assert not gives_away([SECOND, rows(c1="ahij", c2="bcdklm", c3="efg")], K)
    # Where what was withheld beside the small one has changed, too, nothing follows.
    assert not gives_away([FIRST, rows(c1="ahij", c2="bcdklm", c3="efg")], K)


def test_two_that_are_withheld_and_together_too_few_are_told_of_by_no_later_table() -> None:
    first = rows(c1="a", c2="b", c3="cde", c4="fgh")
    second = rows(c1="aijk", c2="blmn", c3="cde", c4="fgh")
    assert not suppressed_of(second, K)
    assert gives_away([first, second], K)
