"""The instant of truth over a batch: what each order's payment begins as, and what came before it or waits."""

import dataclasses
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.consents.rules.consent import PAYMENT_ENDED_SINCE, STATUS_REFUSALS
from gateway.consents.rules.limits import Usage
from gateway.network.exchange import CardData, Operation
from gateway.network.trace import payment_trace
from gateway.payments.cancellations.rules import ORDER_CANCELLED
from gateway.payments.rules.intent import Decided, Facts, decide
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment
from gateway.payments.rules.purchase import ReceivedOrder, rejected, scheduled
from schemas.consents import ConsentStatus, Period, PeriodLimit
from schemas.primitives import MerchantId, Money, NetworkId, PartnerId, payment_id_of
from schemas.reasons import Reason, ReasonCode
from tests.support.domain_samples import NOW, USE, consent, krw, merchant, order, purpose

KEY = ("partner-1", "consent-1")
BEFORE = NOW - timedelta(hours=1)
S = PaymentState
DAY = purpose(period_limits=(PeriodLimit(period=Period.DAY, max_amount=krw(12_000)),))
REFUSED = Reason(code=ReasonCode.DS0C, text="signing key is disabled")


def received(number: int, **fields: Any) -> ReceivedOrder:
    placed = order(order_id=f"order-{number}", amount=krw(5_000))
    defaults: dict[str, Any] = {"traceparent": f"trace-{number}"}
    return ReceivedOrder(placed, b"digest-%d" % number, BEFORE, f"t/0/{number}", **(defaults | fields))


def facts(**fields: Any) -> Facts:
    defaults: dict[str, Any] = {
        "consents": {KEY: dataclasses.replace(consent(payment=DAY), version=7)},
        "merchants": {MerchantId("merchant-1"): merchant()},
        "payments": {},
        "usage": {},
        "usable": frozenset({USE}),
        "cards": {USE.owned: CardData("4111111111111111")},
        "now": NOW,
    }
    return Facts(**(defaults | fields))


def decided(*orders: ReceivedOrder, **fields: Any) -> Decided:
    return decide(
        orders, facts(**fields), network_id=NetworkId("net-a"), terminals=("GW000001",), numbers=count(1), worker="w-1"
    )


def begun(number: int, **fields: Any) -> Payment:
    """What a payment is that is sent, written out."""
    defaults: dict[str, Any] = {
        "partner_id": PartnerId("partner-1"),
        "payment_id": payment_id_of(PartnerId("partner-1"), f"order-{number}"),  # type: ignore[arg-type]
        "order_id": f"order-{number}",
        "consent_id": "consent-1",
        "consent_version": 7,
        "merchant_id": "merchant-1",
        "operation": Operation.PURCHASE,
        "amount_minor": 5_000,
        "currency": "KRW",
        "funding_token": USE.token,
        "order_digest": b"digest-%d" % number,
        "state": S.SENT,
        "version": 1,
        "reason": None,
        "network_id": "net-a",
        "trace": payment_trace(number, ("GW000001",), NOW),
        "approval_code": None,
        "windows": (),
        "ordered_at": BEFORE,
        "decided_at": NOW,
        "changed_at": NOW,
        "traceparent": f"trace-{number}",
        "sent_by": "w-1",
    }
    return Payment(**(defaults | fields))


UNSENT: dict[str, Any] = {"network_id": None, "trace": None, "sent_by": None, "funding_token": None}


def ends(payments: list[Payment]) -> list[tuple[str, str]]:
    return [(p.order_id, p.reason.code.value if p.reason else p.state.value) for p in payments]


# --- as payments begin ---


def test_a_payment_that_is_sent_holds_all_that_is_known_of_it() -> None:
    (found,) = decided(received(1)).payments
    assert len(found.windows) == 1
    assert replace(found, windows=()) == begun(1)


def test_a_payment_that_is_refused_holds_its_reason_and_nothing_of_a_network() -> None:
    cancelled = {received(1).key: frozenset({"consent-1"})}
    (found,) = decided(received(1), cancelled=cancelled).payments
    assert found == begun(1, state=S.REJECTED, reason=ORDER_CANCELLED, **UNSENT)


def test_an_order_under_a_key_that_counts_no_more_becomes_no_payment_and_what_stands_is_told() -> None:
    unsigned = [received(n, problem=REFUSED) for n in (1, 2, 3)]
    standing = {begun(2).key: begun(2), begun(3).key: begun(3, order_digest=b"another")}
    found = decided(*unsigned, payments=standing)
    assert found == Decided(repeats=[(unsigned[1], begun(2))], refused=[(unsigned[0], REFUSED), (unsigned[2], REFUSED)])


def test_a_payment_under_no_consent_is_of_no_version() -> None:
    (found,) = decided(received(1), consents={}).payments
    assert (found.state, found.consent_version, found.funding_token) == (S.REJECTED, 0, None)


def test_a_payment_that_is_refused_before_execution() -> None:
    expected = begun(1, state=S.REJECTED, reason=REFUSED, consent_version=0, **UNSENT)
    assert rejected(received(1), REFUSED, NOW) == expected


def test_a_payment_that_waits_for_its_day_reserves_nothing_and_names_no_card() -> None:
    under = dataclasses.replace(consent(payment=DAY), version=7)
    assert scheduled(received(1), under, NOW) == begun(1, state=S.SCHEDULED, **UNSENT)
    assert scheduled(received(1), None, NOW) == begun(1, state=S.SCHEDULED, consent_version=0, **UNSENT)


# --- limits within the batch ---


def test_each_order_counts_what_those_before_it_in_the_batch_have_reserved() -> None:
    found = decided(received(1), received(2), received(3))
    assert ends(found.payments) == [("order-1", "sent"), ("order-2", "sent"), ("order-3", "SL14")]
    ((_, reserved),) = found.reserved.items()
    assert reserved == (10_000, 2)


def test_what_was_reserved_before_the_batch_counts() -> None:
    (window,) = decided(received(1)).payments[0].windows
    found = decided(received(1), received(2), usage={(*KEY, window): Usage(3_000, 1)})
    assert ends(found.payments) == [("order-1", "sent"), ("order-2", "SL14")]


# --- what came before ---


def test_an_order_that_has_its_payment_is_a_repeat_or_a_conflict_and_those_behind_it_are_decided() -> None:
    first = begun(1)
    other = replace(first, order_digest=b"other")
    again = received(1)
    found = decided(again, received(2), payments={first.key: first})
    assert (found.repeats, found.conflicts, ends(found.payments)) == ([(again, first)], [], [("order-2", "sent")])
    found = decided(again, received(2), payments={other.key: other})
    assert (found.repeats, found.conflicts, ends(found.payments)) == ([], [(again, other)], [("order-2", "sent")])


def test_of_two_orders_of_one_id_in_a_batch_the_first_is_the_payment() -> None:
    first, second = received(1), replace(received(1), digest=b"other")
    found = decided(first, second)
    assert ends(found.payments) == [("order-1", "sent")]
    assert [(t, p.order_digest) for t, p in found.conflicts] == [(second, b"digest-1")]


# --- what waits ---


def waiting(number: int, at: datetime = BEFORE, **fields: Any) -> Payment:
    return begun(number, **({"state": S.SCHEDULED, "version": 4, "ordered_at": at, "decided_at": at} | UNSENT | fields))


def test_a_payment_whose_day_has_come_goes_on_as_the_one_that_it_is() -> None:
    long_ago = BEFORE - timedelta(days=3)
    stored = waiting(1, long_ago)
    found = decided(received(1, is_due=True), payments={stored.key: stored})
    assert found.payments == []
    (sent,) = found.due
    assert replace(sent, windows=()) == begun(1, version=5, ordered_at=long_ago)
    found = decided(received(1, is_due=True, problem=REFUSED), payments={stored.key: stored})
    assert found.due == [begun(1, version=5, ordered_at=long_ago, state=S.REJECTED, reason=REFUSED, **UNSENT)]


@pytest.mark.parametrize(("version", "last_end", "sent"), [(7, None, True), (7, 6, True), (7, 7, False), (6, 7, False)])
def test_what_waited_while_payments_were_not_permitted_is_not_sent_though_they_are_again(
    version: int, last_end: int | None, sent: bool
) -> None:
    stored = waiting(1, consent_version=version)
    ends = {} if last_end is None else {KEY: last_end}
    (found,) = decided(received(1, is_due=True), payments={stored.key: stored}, payment_ends=ends).due
    assert (found.state, found.reason) == ((S.SENT, None) if sent else (S.REJECTED, PAYMENT_ENDED_SINCE))


def test_why_a_consent_permits_nothing_now_is_told_before_what_was_meanwhile() -> None:
    stored, consents = waiting(1), {KEY: consent(ConsentStatus.CANC)}
    (found,) = decided(
        received(1, is_due=True), payments={stored.key: stored}, payment_ends={KEY: 9}, consents=consents
    ).due
    assert found.reason == STATUS_REFUSALS[ConsentStatus.CANC]


def test_only_a_payment_that_still_waits_with_the_same_content_is_decided_when_due() -> None:
    for stored in (
        None,
        *(waiting(1, state=state) for state in S if state is not S.SCHEDULED),
        waiting(1, order_digest=b"other"),
    ):
        existing = {stored.key: stored} if stored else {}
        found = decided(received(1, is_due=True), received(2), payments=existing)
        assert (found.due, found.repeats, found.conflicts) == ([], [], []), stored
        # Those behind it are decided all the same.
        assert ends(found.payments) == [("order-2", "sent")]


def test_a_payment_that_is_handed_on_twice_is_sent_once() -> None:
    stored = waiting(1)
    due = received(1, is_due=True)
    assert len(decided(due, due, payments={stored.key: stored}).due) == 1


# --- what was cancelled before it came ---


def test_an_order_that_was_cancelled_under_its_consent_is_rejected() -> None:
    one = received(1)
    for consents, end in (({"consent-1"}, ORDER_CANCELLED.code.value), ({"consent-2"}, "sent"), (set(), "sent")):
        found = decided(one, cancelled={one.key: frozenset(consents), ("partner-1", NOW): frozenset({"consent-1"})})
        assert ends(found.payments) == [("order-1", end)]


def test_amounts_are_judged_in_their_own_currency() -> None:
    dollars = replace(received(1), order=order(order_id="order-1", amount=Money.of(5_000, "USD")))
    assert ends(decided(dollars).payments) == [("order-1", "AM03")]
