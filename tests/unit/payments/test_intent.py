"""The instant of truth with customers' proofs: which orders of a batch may be sent without one, and which not."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest

from gateway.consents.rules.limits import Usage, WindowKey
from gateway.identity.assurance import Assertion, AssurancePolicy, AssuranceRule, AssuredOperation, Issuer, Requirement
from gateway.identity.exemption_caps import ExemptionCap
from gateway.identity.rules import link_of
from gateway.network.exchange import CardData
from gateway.payments.rules.intent import Decided, Facts, Trust, decide, usage_keys
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.purchase import ReceivedOrder
from schemas.consents import LowValueExemption
from schemas.primitives import CustomerId, MerchantId, NetworkId
from schemas.reasons import Reason, ReasonCode
from tests.support.domain_samples import NOW, USE, consent, krw, merchant, order, purpose

KEY = ("partner-1", "consent-1")
ISSUER = Issuer("https://id.example", "telecom", "gateway", {"strong": 2})
CAPS = {"KRW": ExemptionCap(10_000, 2, 15_000)}
ALWAYS = AssurancePolicy(
    (AssuranceRule(AssuredOperation.PAYMENT, None, Requirement(2, timedelta(minutes=5))),), {"app": 2}, CAPS
)
EXEMPT = purpose(
    low_value_exemption=LowValueExemption(max_amount=krw(10_000), max_count=2, max_sum=krw(15_000)),
)
SINCE_START = consent().terms.valid_from


def received(number: int, *, minor: int = 5_000, proof: str = "", **fields: Any) -> ReceivedOrder:
    placed = order(order_id=f"order-{number}", amount=krw(minor), **fields)
    assertion: Assertion | Reason | None = None
    if proof:
        assertion = Assertion(
            issuer=ISSUER.issuer,
            subject="subject-1",
            audience=("gateway",),
            issued_at=NOW,
            not_before=None,
            expires_at=NOW + timedelta(minutes=5),
            authenticated_at=NOW,
            jti=f"jti-{number}",
            level_name=proof,
            methods=("app",),
            link=link_of(placed),
        )
    return ReceivedOrder(placed, b"digest-%d" % number, NOW, f"t/0/{number}", assertion=assertion)


def decided(
    *orders: ReceivedOrder,
    usage: dict[WindowKey, Usage] | None = None,
    authenticated_at: datetime | None = None,
    replayed: frozenset[Any] = frozenset(),
    policy: AssurancePolicy = ALWAYS,
    payment: Any = EXEMPT,
) -> Decided:
    under = consent(payment=payment)
    facts = Facts(
        consents={KEY: under},  # type: ignore[dict-item]
        merchants={MerchantId("merchant-1"): merchant()},
        payments={},
        usage={(*KEY, window): used for window, used in (usage or {}).items()},  # type: ignore[misc]
        usable=frozenset({USE}),
        cards={USE.owned: CardData("4111111111111111")},
        now=NOW,
        trust=Trust(
            policy=policy,
            issuers={ISSUER.issuer: ISSUER},
            links={(ISSUER.issuer, "subject-1"): CustomerId("customer-1")},
            replayed=replayed,
            authenticated_at={KEY: authenticated_at} if authenticated_at else {},  # type: ignore[dict-item]
        ),
    )
    numbers: Iterator[int] = count(1)
    return decide(orders, facts, network_id=NetworkId("net-a"), terminals=("GW000001",), numbers=numbers)


def ends(result: Decided) -> list[str]:
    return [p.reason.code.value if p.reason else p.state.value for p in result.payments]


@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        # amounts and proofs in their order                         what becomes of each
        ([(5_000, ""), (5_000, "")], ["sent", "sent"]),  # the exemption's count holds two
        ([(5_000, ""), (5_000, ""), (5_000, "")], ["sent", "sent", "DS0A"]),  # the third is over the count
        ([(10_000, ""), (6_000, "")], ["sent", "DS0A"]),  # over the sum of 15,000
        ([(10_001, "")], ["DS0A"]),  # over the amount that may go without proof
        ([(10_001, "strong")], ["sent"]),
        ([(5_000, ""), (5_000, ""), (9_000, "strong"), (5_000, "")], ["sent"] * 4),  # a proof begins the count anew
        ([(5_000, "weak")], ["DS19"]),  # a proof that is there must hold, exempt or not
        ([(60_000, ""), (5_000, "")], ["TKVE", "sent"]),  # a refused order uses nothing of the exemption
    ],
)
def test_what_may_go_without_a_proof(orders: list[tuple[int, str]], expected: list[str]) -> None:
    batch = [received(n, minor=minor, proof=proof) for n, (minor, proof) in enumerate(orders)]
    assert ends(decided(*batch)) == expected


def test_a_missing_proof_is_told_with_what_to_obtain_and_what_is_left_of_the_exemption() -> None:
    reasons = [p.reason for p in decided(received(1, minor=10_000), received(2, minor=6_000)).payments]
    assert reasons[1] is not None
    assert "obtain an assertion of level" in reasons[1].text
    assert reasons[1].text.endswith(
        "; limit without-proof/KRW of 15000 KRW: 5000 KRW left until the next payment with a proof"
    )


def test_an_exempt_payment_counts_from_the_last_authentication() -> None:
    last = NOW - timedelta(days=3)
    full = Usage(8_000, 2)
    old, new = WindowKey("exempt/KRW", SINCE_START), WindowKey("exempt/KRW", last)
    assert ends(decided(received(1), usage={new: full}, authenticated_at=last)) == ["DS0A"]
    result = decided(received(1), usage={old: full}, authenticated_at=last)
    assert ends(result) == ["sent"]
    assert result.payments[0].windows == (new,)
    assert result.reserved == {(*KEY, new): (5_000, 1)}


def test_a_proof_counts_in_no_exempt_window_and_marks_the_consent() -> None:
    result = decided(received(1, proof="strong"))
    assert (result.payments[0].state, result.payments[0].windows) == (PaymentState.SENT, ())
    assert result.authenticated == {KEY}


def test_nothing_is_exempt_where_no_proof_is_asked_for() -> None:
    none_asked = AssurancePolicy((AssuranceRule(AssuredOperation.PAYMENT, None, Requirement(0, timedelta(0))),))
    result = decided(*(received(n) for n in range(3)), policy=none_asked)
    assert ends(result) == ["sent"] * 3
    assert result.reserved == {}


def test_an_exemption_is_used_up_only_where_the_amount_asks_for_a_proof_of_any_level() -> None:
    """What the policy frees by its amount takes nothing of the exemption; the lowest level is a proof, too."""
    by_amount = AssurancePolicy(
        (
            AssuranceRule(AssuredOperation.PAYMENT, {"KRW": 1_000}, Requirement(0, timedelta(0))),
            AssuranceRule(AssuredOperation.PAYMENT, None, Requirement(1, timedelta(minutes=5))),
        ),
        exemptions=ALWAYS.exemptions,
    )
    free = decided(*(received(n, minor=1_000) for n in range(3)), policy=by_amount)
    assert (ends(free), free.reserved) == (["sent"] * 3, {})
    asked = decided(*(received(n, minor=1_001) for n in range(3)), policy=by_amount)
    assert (ends(asked), len(asked.reserved)) == (["sent", "sent", "DS0A"], 1)


def test_a_consent_without_exemption_needs_a_proof_for_the_smallest_payment() -> None:
    assert ends(decided(received(1, minor=1), payment=purpose())) == ["DS0A"]


def test_a_replayed_proof_is_refused() -> None:
    order_ = received(1, proof="strong")
    assert ends(decided(order_, replayed=frozenset([order_.key]))) == [ReasonCode.DS15.value]
    # Another's replay is not ours.
    assert ends(decided(order_, received(2, proof="strong"), replayed=frozenset([order_.key]))) == ["DS15", "sent"]


def test_an_exemption_is_used_up_by_what_was_taken_of_it() -> None:
    window = WindowKey("exempt/KRW", SINCE_START)
    assert ends(decided(received(1, minor=4_000), usage={window: Usage(12_000, 1)})) == ["DS0A"]


def test_a_proof_that_does_not_verify_is_the_reason() -> None:
    broken = Reason(code=ReasonCode.DS17, text="assertion signature does not match")
    plain = received(1)
    failed = ReceivedOrder(plain.order, plain.digest, NOW, plain.reference, assertion=broken)
    assert ends(decided(failed)) == ["DS17"]


def test_the_exempt_window_is_among_those_that_are_read() -> None:
    under = consent(payment=EXEMPT)
    keys = usage_keys({KEY: under}, NOW, {KEY: NOW})  # type: ignore[dict-item]
    assert (*KEY, WindowKey("exempt/KRW", NOW)) in keys


def test_terms_that_allow_more_without_proof_than_the_policy_count_as_the_policy_says() -> None:
    """As somebody got a dear order through without a proof: consents that were made before the policy had caps."""
    generous = purpose(
        low_value_exemption=LowValueExemption(max_amount=krw(900_000), max_count=99, max_sum=krw(9_000_000))
    )
    found = decided(received(1, minor=48_000), received(2, minor=8_000), received(3, minor=8_000), payment=generous)
    assert [p.state.value for p in found.payments] == ["rejected", "sent", "rejected"]
    first, _, third = found.payments
    assert first.reason is not None
    assert first.reason.code is ReasonCode.DS0A
    assert "limit without-proof of 10000 KRW per payment" in first.reason.text
    assert third.reason is not None
    assert "limit without-proof/KRW of 15000 KRW: 7000 KRW left" in third.reason.text
