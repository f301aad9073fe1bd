"""Which refunds are sent: what may be refunded, how much, and what each of a batch sees of the others."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.directory.funding import OwnedToken
from gateway.network.exchange import CardData, Operation
from gateway.payments.cancellations.rules import ORDER_CANCELLED
from gateway.payments.refunds.rules import NO_ORIGINAL, NOT_REFUNDED, ReceivedRefund, refuse_refund
from gateway.payments.rules import intent
from gateway.payments.rules.intent import Decided, Facts
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment
from schemas.primitives import CustomerId, FundingToken, Money, NetworkId
from schemas.reasons import ReasonCode
from tests.support.builders import NETWORK, NOW, TERMINAL, payment
from tests.support.domain_samples import consent, merchant
from tests.support.instructions import refund

S, R = PaymentState, ReasonCode
ORIGINAL = payment(1, state=S.APPROVED, consent_version=3)


def received(number: int = 1, minor: int = 1_000, *, digest: bytes | None = None, **fields: Any) -> ReceivedRefund:
    message = refund(number, minor, **fields)
    return ReceivedRefund(message, digest or f"digest-{number}".encode(), NOW, f"mypay.orders/0/{number}")


def facts(*originals: Payment, beside: Payment | None = None, **fields: Any) -> Facts:
    """What is known of these originals; ``beside``: another payment that exists."""
    payments = [*(originals or (ORIGINAL,)), *([beside] if beside else ())]
    defaults: dict[str, Any] = {
        "consents": {("partner-1", "consent-1"): consent()},
        "payments": {p.key: p for p in payments},
        "merchants": {"merchant-1": merchant()},
        "usage": {},
        "usable": frozenset(),
        "cards": {OwnedToken(FundingToken("token-1"), CustomerId("customer-1")): CardData("4111111111111111", "2912")},
        "now": NOW,
    }
    return Facts(**(defaults | fields))


def decide(*refunds: ReceivedRefund, known: Facts | None = None) -> Decided:
    return intent.decide(
        refunds,
        known or facts(),
        network_id=NetworkId(NETWORK),
        terminals=[TERMINAL],
        numbers=iter(range(1, len(refunds) + 1)),
        worker="worker-1",
    )


def ends(decided: Decided) -> list[tuple[S, R | None]]:
    return [(p.state, p.reason and p.reason.code) for p in decided.payments]


def test_a_refund_is_a_payment_of_its_own_that_points_to_the_original() -> None:
    (sent,) = decide(received(minor=2_500)).payments
    assert (sent.state, sent.version, sent.operation) == (S.SENT, 1, Operation.REFUND)
    assert (sent.payment_id, sent.original_payment_id) == (refund().payment_id, ORIGINAL.payment_id)
    assert (sent.amount_minor, sent.currency, sent.windows) == (2_500, "KRW", ())
    assert (sent.merchant_id, sent.network_id) == (ORIGINAL.merchant_id, ORIGINAL.network_id)
    assert (sent.funding_token, sent.consent_version, sent.sent_by) == (ORIGINAL.funding_token, 3, "worker-1")
    assert sent.trace is not None
    told = refund()
    assert (sent.partner_id, sent.order_id, sent.consent_id) == (told.partner_id, told.order_id, told.consent_id)


def test_a_refund_keeps_the_moments_and_the_trace_that_it_came_with() -> None:
    came = replace(received(), ordered_at=NOW - timedelta(hours=1), traceparent="trace-1")
    for known in (facts(), facts(payment(1, state=S.DECLINED))):
        (found,) = decide(came, known=known).payments
        moments = (found.ordered_at, found.decided_at, found.changed_at)
        assert (moments, found.traceparent) == ((NOW - timedelta(hours=1), NOW, NOW), "trace-1")


def test_all_of_a_payment_of_which_nothing_was_refunded_is_refunded() -> None:
    assert ends(decide(received(minor=ORIGINAL.amount_minor))) == [(S.SENT, None)]
    (over,) = decide(received(minor=ORIGINAL.amount_minor + 1)).payments
    assert over.state is S.REJECTED


def test_a_refund_that_came_too_late_says_what_it_is() -> None:
    (late,) = decide(received(issued_at=NOW - timedelta(minutes=9), expires_at=NOW)).payments
    assert late.reason is not None
    assert late.reason.text == "the refund is past its expires_at"


def test_whatever_became_of_a_refund_those_behind_it_are_decided() -> None:
    first = decide(received(1)).payments[0]
    known = facts(beside=first)
    found = decide(received(1), received(2, original_order_id="nobody"), received(3), known=known)
    assert (len(found.repeats), len(found.refused), ends(found)) == (1, 1, [(S.SENT, None)])


# state of the original → reason, or None where it is refunded
BY_STATE = {
    S.APPROVED: None,
    S.SETTLED: None,
    S.SENT: R.AG01,
    S.UNKNOWN: R.AG01,
    S.DECLINED: R.AG01,
    S.REJECTED: R.AG01,
    S.SCHEDULED: R.AG01,
    S.REVERSING: R.ARDT,
    S.REVERSED: R.ARDT,
}


@pytest.mark.parametrize("state", S)
def test_only_what_stands_is_refunded(state: S) -> None:
    decided = decide(received(), known=facts(payment(1, state=state)))
    reason = BY_STATE[state]
    assert ends(decided) == [(S.REJECTED if reason else S.SENT, reason)]


@pytest.mark.parametrize(
    ("fields", "known", "reason"),
    [
        ({"issued_at": NOW + timedelta(seconds=61)}, {}, R.DT04),
        ({"expires_at": NOW}, {}, R.TM01),
        ({"expires_at": NOW + timedelta(hours=24)}, {}, R.DT01),
        ({"amount": Money.of(1_000, "USD")}, {}, R.AM03),
        ({}, {"merchants": {}}, R.AC03),
        ({}, {"cards": {}}, R.MS03),
    ],
)
def test_what_cannot_be_sent_is_rejected_with_its_reason(
    fields: dict[str, Any], known: dict[str, Any], reason: R
) -> None:
    (rejected,) = decide(received(**fields), known=facts(**known)).payments
    assert (rejected.state, rejected.reason and rejected.reason.code) == (S.REJECTED, reason)
    assert (rejected.trace, rejected.network_id, rejected.funding_token) == (None, None, None)
    assert rejected.original_payment_id == ORIGINAL.payment_id


def test_a_refund_of_a_refund_is_rejected() -> None:
    other = payment(1, state=S.APPROVED, operation=Operation.REFUND, original_payment_id=payment(9).payment_id)
    assert ends(decide(received(), known=facts(other))) == [(S.REJECTED, R.AG13)]


def test_a_merchant_that_left_still_gives_money_back() -> None:
    assert ends(decide(received(), known=facts(merchants={"merchant-1": merchant(active=False)}))) == [(S.SENT, None)]


@pytest.mark.parametrize(
    ("refunded", "minor", "left"), [(0, 10_000, None), (0, 10_001, "10000"), (9_999, 1, None), (10_000, 1, "0")]
)
def test_no_more_than_what_remains_is_refunded(refunded: int, minor: int, left: str | None) -> None:
    known = facts(refunded={ORIGINAL.key: refunded})
    (decided,) = decide(received(minor=minor), known=known).payments
    if left is None:
        assert decided.state is S.SENT
    else:
        assert decided.reason is not None
        assert (decided.reason.code, decided.reason.text) == (
            R.AM02,
            f"{left} KRW of the original remain to be refunded",
        )


def test_refunds_of_one_batch_see_each_other() -> None:
    decided = decide(received(1, 6_000), received(2, 4_001), received(3, 4_000), received(4, 1))
    assert ends(decided) == [(S.SENT, None), (S.REJECTED, R.AM02), (S.SENT, None), (S.REJECTED, R.AM02)]
    assert len({p.trace.rrn for p in decided.payments if p.trace}) == 2


def test_a_refund_again_is_told_where_the_first_stands() -> None:
    decided = decide(received(1), received(1), received(1, digest=b"other"))
    assert ends(decided) == [(S.SENT, None)]
    assert [p for _, p in decided.repeats] == decided.payments
    assert [p for _, p in decided.conflicts] == decided.payments


def test_an_order_id_that_is_used_is_not_used_again() -> None:
    bought = payment(2, order_id="refund-1")
    decided = decide(received(1), known=facts(beside=bought))
    assert [p for _, p in decided.conflicts] == [bought]
    assert not decided.payments


@pytest.mark.parametrize(
    "known", [facts(payment(2, state=S.APPROVED)), facts(payment(1, state=S.APPROVED, consent_id="consent-2"))]
)
def test_without_an_original_under_its_consent_there_is_no_payment(known: Facts) -> None:
    decided = decide(received(), known=known)
    assert [(t.reference, reason) for t, reason in decided.refused] == [("mypay.orders/0/1", NO_ORIGINAL)]
    assert not decided.payments


@pytest.mark.parametrize(("consent_id", "is_cancelled"), [("consent-1", True), ("consent-2", False)])
def test_a_refund_that_was_cancelled_before_it_came_is_rejected(consent_id: str, *, is_cancelled: bool) -> None:
    (decided,) = decide(received(), known=facts(cancelled={received().key: frozenset({consent_id})})).payments
    assert decided.reason == (ORDER_CANCELLED if is_cancelled else None)


def test_a_refund_for_another_network_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        decide(received(), known=facts(payment(1, state=S.APPROVED, network_id="net-b")))


def test_what_may_still_stand_counts_as_refunded() -> None:
    assert set(S) - NOT_REFUNDED == {S.SCHEDULED, S.SENT, S.APPROVED, S.UNKNOWN, S.REVERSING, S.SETTLED}


@given(
    amounts=st.lists(st.integers(min_value=1, max_value=12_000), max_size=8),
    before=st.integers(min_value=0, max_value=10_000),
)
def test_never_more_than_the_original_and_never_refused_without_need(amounts: list[int], before: int) -> None:
    known = facts(refunded={ORIGINAL.key: before})
    decided = decide(*(received(n, minor) for n, minor in enumerate(amounts, 1)), known=known)
    given_back = before
    for payment_ in decided.payments:
        if payment_.state is S.SENT:
            given_back += payment_.amount_minor
            assert given_back <= ORIGINAL.amount_minor
        else:
            assert given_back + payment_.amount_minor > ORIGINAL.amount_minor


def test_the_first_reason_that_applies_is_told() -> None:
    late = refund(expires_at=NOW)
    reason = refuse_refund(late, payment(1, state=S.DECLINED), 10_000, NOW)
    assert reason is not None
    assert reason.code is R.TM01
