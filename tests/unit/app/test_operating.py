"""Who does something by hand and why, as the record takes it."""

import pytest

from gateway.app.operating import Action, Actor, NotAnActorError, actor_of


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


@pytest.mark.parametrize("subject", ["4929123456789015", "token 4929-1234-5678-9015", "partner-1 4929123456789015"])
def test_a_card_number_that_was_typed_as_an_id_is_not_recorded(subject: str) -> None:
    with pytest.raises(NotAnActorError, match="card number"):
        Action(Actor("kim", "ticket 7"), "token allow", subject)


@pytest.mark.parametrize("subject", ["partner-1 consent-1", "918d8871-0310-4287-9708-13a310f3cb5f", "mypay.orders/0/7"])
def test_ids_are_recorded(subject: str) -> None:
    assert Action(Actor("kim", ""), "consent revoke", subject).subject == subject
