"""Bulks as a whole: totals that do not fit, items that are doubled, and what becomes of the rest."""

from datetime import timedelta
from typing import Any

import pytest

from gateway.orders.bulk.rules import Bulk, doubled, refuse_totals, status_of
from schemas.bulk import Acceptance, BulkItem, BulkStatus, ControlSum, PaymentBulk, RejectedItem
from schemas.primitives import Money
from schemas.reasons import Reason, ReasonCode
from tests.support.domain_samples import NOW, krw

EURO_CENTS = Money.of(1_000, "EUR")


def item(name: str = "order-1", amount: Money | None = None) -> BulkItem:
    return BulkItem(order_id=name, consent_id="consent-1", merchant_id="merchant-1", amount=amount or krw(1_000))


def bulk(*amounts: Money, **fields: Any) -> PaymentBulk:
    """A bulk of items over these amounts, whose totals fit if nothing else is said."""
    currency = amounts[0].currency
    summed = Money.of(sum(a.minor for a in amounts), currency)
    defaults: dict[str, Any] = {
        "partner_id": "partner-1",
        "bulk_id": "bulk-1",
        "acceptance": Acceptance.PARTIAL,
        "number_of_transactions": len(amounts),
        "control_sum": ControlSum(currency=currency, value=summed.value),
        "items": tuple(item(f"order-{n}", amount) for n, amount in enumerate(amounts)),
        "issued_at": NOW,
        "expires_at": NOW + timedelta(minutes=5),
    }
    return PaymentBulk(**(defaults | fields))


@pytest.mark.parametrize("amounts", [(krw(1_000),), (krw(1_000), krw(250)), (EURO_CENTS, EURO_CENTS)])
def test_totals_that_fit_refuse_nothing(amounts: tuple[Money, ...]) -> None:
    assert refuse_totals(bulk(*amounts)) is None


@pytest.mark.parametrize("told", [1, 3])
def test_another_number_of_items_than_there_are(told: int) -> None:
    refused = refuse_totals(bulk(krw(1_000), krw(250), number_of_transactions=told))
    text = "number_of_transactions is not 2, which are there"
    assert refused == Reason(code=ReasonCode.AM18, text=text)


@pytest.mark.parametrize(
    ("amounts", "summed", "text"),
    [
        ((krw(1_000), krw(250)), "1249", "control_sum is not 1250 KRW, the sum of the items' amounts"),
        ((krw(1_000), krw(250)), "1251", "control_sum is not 1250 KRW, the sum of the items' amounts"),
        ((EURO_CENTS, EURO_CENTS), "20.01", "control_sum is not 20.00 EUR, the sum of the items' amounts"),
    ],
)
def test_another_sum_than_that_of_the_items(amounts: tuple[Money, ...], summed: str, text: str) -> None:
    control = ControlSum(currency=amounts[0].currency, value=summed)
    assert refuse_totals(bulk(*amounts, control_sum=control)) == Reason(code=ReasonCode.AM10, text=text)


def test_an_item_in_another_currency_than_the_sum() -> None:
    """Told before the sum, which could be right by chance."""
    refused = refuse_totals(bulk(krw(1_000), EURO_CENTS))
    assert refused is not None
    assert refused.code is ReasonCode.AM03


def test_of_items_with_one_order_id_the_first_counts() -> None:
    names = ["a", "b", "a", "c", "a", "b"]
    found = doubled([item(name) for name in names])
    assert {position: reason.code for position, reason in found.items()} == dict.fromkeys((2, 4, 5), ReasonCode.AM05)


@pytest.mark.parametrize(
    ("acceptance", "rejected", "expected"),
    [
        (Acceptance.PARTIAL, 0, (BulkStatus.ACCEPTED, None)),
        (Acceptance.PARTIAL, 3, (BulkStatus.ACCEPTED, None)),
        (Acceptance.ALL_OR_NOTHING, 0, (BulkStatus.ACCEPTED, None)),
        (
            Acceptance.ALL_OR_NOTHING,
            1,
            (
                BulkStatus.REFUSED,
                Reason(code=ReasonCode.NARR, text="1 of 3 items cannot be accepted, and acceptance is all_or_nothing"),
            ),
        ),
    ],
)
def test_one_rejected_item_refuses_all_where_the_partner_wants_it_so(
    acceptance: Acceptance, rejected: int, expected: tuple[BulkStatus, Reason | None]
) -> None:
    assert status_of(acceptance, 3, rejected) == expected


@pytest.mark.parametrize(("status", "accepted"), [(BulkStatus.ACCEPTED, 2), (BulkStatus.REFUSED, 0)])
def test_how_many_items_were_accepted(status: BulkStatus, accepted: int) -> None:
    rejected = (RejectedItem(item=2, order_id="order-1", reason=Reason(code=ReasonCode.AM05, text="twice")),)
    kept = Bulk("partner-1", "bulk-1", b"", status, 3, "KRW", 3_000, rejected, None, "orders/0/1", NOW)
    assert kept.accepted == accepted
