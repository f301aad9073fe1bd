"""The low-value exemption: what it lets pass, and what a refusal says of it."""

import pytest

from gateway.domain.exemption import exemption_allows, with_exemption_told
from schemas.consents import LowValueExemption
from schemas.primitives import Money
from schemas.reasons import Reason, ReasonCode
from tests.unit.domain_samples import krw

EXEMPTION = LowValueExemption(max_amount=krw(1_000), max_count=3, max_sum=krw(2_500))
UNTIL = "left until the next payment with a proof"


@pytest.mark.parametrize(
    ("count", "used", "amount", "lacks"),
    [
        (0, 0, krw(1_000), ""),
        (0, 0, krw(1_001), "limit without-proof of 1000 KRW per payment"),
        (2, 0, krw(1), ""),
        (3, 0, krw(1), f"limit without-proof/count of 3 payments: 0 {UNTIL}"),
        (4, 0, krw(1), f"limit without-proof/count of 3 payments: 0 {UNTIL}"),
        (1, 1_500, krw(1_000), ""),
        (1, 1_501, krw(1_000), f"limit without-proof/KRW of 2500 KRW: 999 KRW {UNTIL}"),
        (1, 2_501, krw(1), f"limit without-proof/KRW of 2500 KRW: 0 KRW {UNTIL}"),
    ],
)
def test_what_does_not_fit_is_told_with_its_value_and_what_is_left(
    count: int, used: int, amount: Money, lacks: str
) -> None:
    assert exemption_allows(EXEMPTION, count, used, amount) is not bool(lacks)
    missing = Reason(code=ReasonCode.DS0A, text="obtain one")
    told = with_exemption_told(missing, EXEMPTION, count, used, amount)
    assert told == Reason(code=ReasonCode.DS0A, text=f"obtain one; {lacks}" if lacks else "obtain one")


def test_where_the_exemption_is_of_no_concern_nothing_is_said_of_it() -> None:
    missing, weak = (Reason(code=c, text="no") for c in (ReasonCode.DS0A, ReasonCode.DS19))
    assert with_exemption_told(weak, EXEMPTION, 3, 0, krw(1)) is weak
    assert with_exemption_told(missing, None, 3, 0, krw(1)) is missing
    assert with_exemption_told(missing, EXEMPTION, 3, 0, Money.of(1, "USD")) is missing
    assert not exemption_allows(EXEMPTION, 0, 0, Money.of(1, "USD"))
    assert not exemption_allows(None, 0, 0, krw(1))
