"""What ids commands take: new ones by today's rules, and any that may be there already."""

from typing import Any

import pytest
import typer

from gateway.cli import arguments
from gateway.cli.common import ExitCode
from tests.support.cli import mypay

FROM_BEFORE = "shop-4111111111111111"
"""Refused as a new id since ids must hold no card number."""

NEW = ("NewPartnerArgument", "PartnersOption", "CustomerOption")
EXISTING = ("PartnerArgument", "PartnerOption", "SomePartnerOption", "ConsentArgument", "TokenArgument")


def parser(name: str) -> Any:
    return getattr(arguments, name).__metadata__[0].parser


@pytest.mark.parametrize("name", NEW)
def test_a_new_id_keeps_todays_rules(name: str) -> None:
    assert parser(name)("shop-pay") == "shop-pay"
    with pytest.raises(typer.BadParameter, match="card number"):
        parser(name)(FROM_BEFORE)


@pytest.mark.parametrize("basis", ["", "card 4111 1111 1111 1111", "x" * 301, "two\nlines"])
def test_on_what_an_approval_rests_is_what_may_be_told(basis: str) -> None:
    """Sharing stood still for everybody where it could not be told."""
    assert parser("LegalBasis")("the customer's consent, as of 2026") == "the customer's consent, as of 2026"
    told = mypay("affiliate", "approve", "points", "loyalty", "--legal-basis", basis).expect(2).err
    assert "--legal-basis" in told
    assert "4111" not in told


@pytest.mark.parametrize("name", EXISTING)
def test_a_right_can_be_taken_away_whatever_the_id(name: str) -> None:
    assert parser(name)(FROM_BEFORE) == FROM_BEFORE
    with pytest.raises(typer.BadParameter):
        parser(name)("two words")


@pytest.mark.parametrize(
    "command",
    [
        ("plan", "--tps"),
        ("plan", "--tps=1", "--vcpu-hour-price"),
        ("restore", "begin", "--to=2026-03-02T00:00:00+0000", "--margin"),
    ],
)
@pytest.mark.parametrize("number", ["inf", "nan", "1e300"])
def test_a_number_that_nothing_can_be_reckoned_with_is_refused_by_name(command: tuple[str, ...], number: str) -> None:
    assert f"'{command[-1]}'" in mypay(*command, number).expect(2).err


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("partner", "add", "shop-pay", "--name", "Shop", "--group", "telcom"), "'--group': 'telcom' is not one of"),
        (("operators", "approve", "zzz"), "'PROPOSAL': must be a valid UUID"),
        (("restore", "begin", "--to", "yesterday"), "'--to': must be like 2026-03-02T09:15:00+09:00"),
        (
            ("keys", "rotate", "shop", "--jwk", __file__, "--valid-until", "soon"),
            "'--valid-until': must be like 2026-03-02 or 2026-03-02T09:15:00Z",
        ),
        (("plan", "--tps", "0"), "'--tps': must be greater than or equal to 0.1"),
        (("customer", "disclosures", "cust-1", "--from", "yesterday"), "'--from': must be a valid datetime or date"),
    ],
)
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_wrong_value_is_told_without_the_librarys_prefixes(
    command: tuple[str, ...], told: str, more: tuple[str, ...]
) -> None:
    err = " ".join(mypay(*command, *more).expect(2).err.replace("│", " ").split())
    assert told in err
    assert "Value error" not in err


@pytest.mark.parametrize(
    "given",
    [
        ("customer", "notice", "c1", "--to", "0001-01-01"),
        ("customer", "disclosures", "c1", "--from", "0001-01-01"),
        ("payment", "list", "--older", "999999d"),
        ("restore", "begin", "--to", "0001-01-01T00:00:00+0900"),
        ("restore", "begin", "--to", "9998-12-31T23:00:00+0900"),
        ("restore", "payments", "--to", "9999-12-31T23:00:00-0900"),
    ],
)
def test_a_time_that_no_calendar_has_is_told(given: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", "postgresql://u@127.0.0.1:1/none")
    ran = mypay(*given).expect(ExitCode.USAGE)
    told = ("0001-01-01 is too early", "9999-12-31 is too late", "yet to come", "--older")
    assert any(t in ran.err for t in told)
