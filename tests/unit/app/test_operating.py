"""Who does something by hand and why, as the record takes it."""

import pytest

from gateway.app.operating import Actor, NotAnActorError, actor_of


def test_a_name_and_a_reason_are_kept_as_they_are() -> None:
    assert actor_of("kim.o@ops-1", "ticket 7: 회선 점검") == Actor("kim.o@ops-1", "ticket 7: 회선 점검")
    assert actor_of("k" * 64, "x" * 200).why == "x" * 200


@pytest.mark.parametrize(
    ("operator", "why", "told"),
    [
        ("", "", "1 to 64"),
        ("k" * 65, "", "1 to 64"),
        ("-kim", "", "1 to 64"),
        ("two words", "", "1 to 64"),
        ("kim\n", "", "1 to 64"),
        ("kim", "x" * 201, "200 printable"),
        ("kim", "a\nb", "200 printable"),
        ("kim", "card 4929 1234 5678 9015", "card number"),
    ],
)
def test_what_the_record_does_not_take_is_told(operator: str, why: str, told: str) -> None:
    with pytest.raises(NotAnActorError, match=told):
        actor_of(operator, why)
