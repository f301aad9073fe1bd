"""Orders and refunds of a batch: wherever it is cut in two, the same is decided of each."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from gateway.consents.rules.limits import UNUSED, Usage
from gateway.identity.assurance import Assertion, AssurancePolicy, AssuranceRule, AssuredOperation, Requirement
from gateway.identity.exemption_caps import ExemptionCap
from gateway.identity.rules import link_of
from gateway.network.exchange import CardData, Operation
from gateway.payments.refunds.rules import ReceivedRefund
from gateway.payments.rules.intent import Decided, Facts, OrderOrRefund, Trust, decide
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.purchase import ReceivedOrder
from schemas.consents import LowValueExemption, Period, PeriodLimit
from schemas.primitives import CustomerId, MerchantId, NetworkId
from schemas.reasons import Reason, ReasonCode
from schemas.refunds import PaymentRefund
from tests.support.builders import payment
from tests.support.domain_samples import NOW, USE, consent, krw, merchant, order, purpose
from tests.unit.payments.test_intent import ISSUER
from tests.unit.payments.test_intent import received as with_proof

IDS = ("a", "b", "c", "d", "e", "f")
PURPOSE = purpose(
    period_limits=(PeriodLimit(period=Period.DAY, max_amount=krw(30_000)),),
    low_value_exemption=LowValueExemption(max_amount=krw(5_000), max_count=2, max_sum=krw(8_000)),
)
POLICY = AssurancePolicy(
    (AssuranceRule(AssuredOperation.PAYMENT, None, Requirement(2, timedelta(minutes=5))),),
    {"app": 2},
    {"KRW": ExemptionCap(5_000, 2, 8_000)},
)
APPROVED = payment(1, state=PaymentState.APPROVED, network_id="net-a", amount_minor=10_000)
OTHERS = payment(2, state=PaymentState.APPROVED, network_id="net-a", consent_id="consent-2")
WAITING = payment(8, order_id="d", state=PaymentState.SCHEDULED, amount_minor=4_000, order_digest=b"4000", version=3)
SETTLED = payment(9, order_id="c", state=PaymentState.SETTLED, network_id="net-a", order_digest=b"4000")

AMOUNTS = (1_000, 4_000, 9_000)


def an_order(order_id: str, minor: int, *, proven: bool) -> ReceivedOrder:
    placed = order(order_id=order_id, amount=krw(minor))
    proof = with_proof(1, proof="strong").assertion if proven else None
    assertion = structs.replace(proof, link=link_of(placed)) if isinstance(proof, Assertion) else None
    return ReceivedOrder(placed, b"%d" % minor, NOW, f"orders/{order_id}", assertion=assertion)


def a_refund(order_id: str, minor: int, original: str) -> ReceivedRefund:
    message = PaymentRefund(
        partner_id="partner-1",
        order_id=order_id,
        consent_id="consent-1",
        original_order_id=original,
        amount=krw(minor),
        issued_at=NOW,
        expires_at=NOW + timedelta(minutes=5),
    )
    return ReceivedRefund(message, b"%d" % minor, NOW, f"refunds/{order_id}")


ORDERS = [an_order(i, minor, proven=p) for i in IDS for minor in AMOUNTS for p in (False, True)]
DUE = [structs.replace(one, is_due=True) for one in ORDERS if one.order.order_id == "d"]
REFUNDS = [a_refund(i, minor, APPROVED.order_id) for i in IDS for minor in AMOUNTS]
ODD_REFUNDS = [a_refund("f", 1_000, original) for original in (OTHERS.order_id, "a", "c", "d", "nobody")]


def known() -> Facts:
    return Facts(
        consents={APPROVED.consent_key: consent(payment=PURPOSE)},
        merchants={MerchantId("merchant-1"): merchant()},
        payments={p.key: p for p in (APPROVED, OTHERS, WAITING, SETTLED)},
        usage={},
        usable=frozenset({USE}),
        cards={USE.owned: CardData("4111111111111111")},
        now=NOW,
        trust=Trust(
            policy=POLICY,
            issuers={ISSUER.issuer: ISSUER},
            links={(ISSUER.issuer, "subject-1"): CustomerId("customer-1")},
        ),
        refused=frozenset({"refunds/e"}),
    )


def after(facts: Facts, decided: Decided) -> Facts:
    """What the next batch reads, once this one is written down."""
    usage = dict(facts.usage)
    for key, (minor, n) in decided.reserved.items():
        used = usage.get(key, UNUSED)
        usage[key] = Usage(used.taken_minor + minor, used.taken_count + n)
    refunded = dict(facts.refunded)
    for sent in decided.payments:
        if sent.operation is Operation.REFUND and sent.state is PaymentState.SENT:
            original = (sent.partner_id, sent.original_payment_id)
            refunded[original] = refunded.get(original, 0) + sent.amount_minor  # type: ignore[index, arg-type]
    authenticated = {**facts.trust.authenticated_at, **dict.fromkeys(decided.authenticated, facts.now)}
    return replace(
        facts,
        payments={**facts.payments, **{p.key: p for p in decided.begun}},
        usage=usage,
        refunded=refunded,
        trust=replace(facts.trust, authenticated_at=authenticated),
    )


def decided_in(parts: Sequence[Sequence[OrderOrRefund]], facts: Facts) -> list[list[Any]]:
    numbers: Iterator[int] = count(1)
    found: list[list[Any]] = [[], [], [], [], []]
    for part in parts:
        decided = decide(part, facts, network_id=NetworkId("net-a"), terminals=("GW000001",), numbers=numbers)
        lists = (decided.payments, decided.due, decided.repeats, decided.conflicts, decided.refused)
        for all_, some in zip(found, lists, strict=True):
            all_.extend(some)
        facts = after(facts, decided)
    return found


GONE = Reason(code=ReasonCode.DS0C, text="signing key is disabled")
UNSIGNED = [structs.replace(one, problem=GONE) for one in (*ORDERS, *DUE, *REFUNDS)]

EACH: st.SearchStrategy[OrderOrRefund] = (
    st.sampled_from(ORDERS)
    | st.sampled_from(DUE)
    | st.sampled_from(REFUNDS)
    | st.sampled_from(ODD_REFUNDS)
    | st.sampled_from(UNSIGNED)
)


@settings(max_examples=300)
@given(batch=st.lists(EACH, min_size=2, max_size=12), where=st.integers(min_value=0, max_value=12))
def test_where_a_batch_ends_changes_nothing(batch: list[OrderOrRefund], where: int) -> None:
    cut = where % (len(batch) + 1)
    assert decided_in([batch[:cut], batch[cut:]], known()) == decided_in([batch], known())
