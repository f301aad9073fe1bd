"""The low-value exemption: what it lets pass, and what a refusal says of it."""

import pytest

from gateway.consents.rules.exemption import capped, exemption_allows, refuse_beyond, with_exemption_told
from gateway.identity.exemption_caps import ExemptionCap
from schemas.consents import LowValueExemption
from schemas.primitives import Money
from schemas.reasons import Reason, ReasonCode
from tests.support.domain_samples import krw

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


# --- what the trust policy lets exemptions allow ---

CAPS = {"KRW": ExemptionCap(1_000, 3, 2_500), "USD": ExemptionCap(3_000, 5, 10_000)}


def exemption(amount: int, count: int, most: int, currency: str = "KRW") -> LowValueExemption:
    return LowValueExemption(max_amount=Money.of(amount, currency), max_count=count, max_sum=Money.of(most, currency))


@pytest.mark.parametrize(
    ("wanted", "counts", "beyond"),
    [
        (exemption(1_000, 3, 2_500), (1_000, 3, 2_500), ""),
        (exemption(10, 1, 10), (10, 1, 10), ""),
        (exemption(1_001, 3, 2_500), (1_000, 3, 2_500), "max_amount is beyond the trust policy, which allows 1000 KRW"),
        (exemption(10, 4, 10), (10, 3, 10), "max_count is beyond the trust policy, which allows 3 payments"),
        (exemption(10, 1, 2_501), (10, 1, 2_500), "max_sum is beyond the trust policy, which allows 2500 KRW"),
        (exemption(900_000, 999, 9_000_000), (1_000, 3, 2_500), "max_amount is beyond"),
        (exemption(3_001, 5, 10_000, "USD"), (3_000, 5, 10_000), "which allows 30.00 USD at most"),
        (exemption(1, 1, 1, "EUR"), None, "which allows no payment in EUR without proof"),
    ],
)
def test_the_policy_caps_what_terms_allow(
    wanted: LowValueExemption, counts: tuple[int, int, int] | None, beyond: str
) -> None:
    found = capped(wanted, CAPS)
    assert (found and (found.max_amount.minor, found.max_count, found.max_sum.minor)) == counts
    refused = refuse_beyond(wanted, CAPS)
    assert (refused is not None) is bool(beyond)
    if refused is not None:
        assert refused.code is ReasonCode.AG01
        assert beyond in refused.text
        assert refused.text.startswith("terms.payment.low_value_exemption.")


def test_a_policy_that_names_no_cap_exempts_nothing_and_one_that_asks_for_no_proof_caps_nothing() -> None:
    huge = exemption(900_000, 999, 9_000_000)
    assert capped(huge, {}) is None
    none_named = refuse_beyond(huge, {})
    assert none_named is not None
    assert "low_value_exemption.max_amount is beyond" in none_named.text
    assert capped(huge, None) is huge
    assert refuse_beyond(huge, None) is None
    assert capped(None, CAPS) is refuse_beyond(None, CAPS) is None
