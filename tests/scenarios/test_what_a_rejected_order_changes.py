"""A rejected order is told and remembered, and changes nothing else: no limit, no ledger, no consent, no proof."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import pytest

from gateway.consents.rules.limits import Usage
from gateway.proving.memory.tables import Table
from schemas.consents import ConsentStatus, Period, PeriodLimit
from schemas.orders import PaymentOrder
from schemas.primitives import MerchantId
from tests.support.builders import dispatched_record, numbered_order
from tests.support.domain_samples import NOW, consent, krw, merchant, purpose
from tests.support.rig import Rig

DAY_KRW: Final = 30_000
CONSENT: Final[dict[str, Any]] = {
    "payment": purpose(
        period_limits=(
            PeriodLimit(period=Period.DAY, max_amount=krw(DAY_KRW)),
            PeriodLimit(period=Period.MONTH, max_count=5),
        ),
        lifetime_amounts=(krw(1_000_000),),
    )
}


def suspend(rig: Rig) -> None:
    rig.database.put_consent(consent(ConsentStatus.SUSP, **CONSENT))


def end(rig: Rig) -> None:
    rig.database.put_consent(consent(ConsentStatus.CANC, **CONSENT))


def close_shop(rig: Rig) -> None:
    rig.database.put_merchant(merchant(active=False))


def nothing(_: Rig) -> None:
    pass


def placed(**fields: Any) -> PaymentOrder:
    return numbered_order(9, **fields)


# Why → (what happens before, the order, code). Each order fits every limit but the one that is named.
REJECTED: Final[dict[str, tuple[Callable[[Rig], None], PaymentOrder, str]]] = {
    "too late": (nothing, placed(expires_at=NOW, issued_at=NOW - timedelta(minutes=5)), "TM01"),
    "no such consent": (nothing, placed(consent_id="nobody"), "MD01"),
    "suspended": (suspend, placed(), "TKSP"),
    "revoked": (end, placed(), "MD01"),
    "too much at once": (nothing, placed(amount=krw(50_001)), "TKVE"),
    "too much a day": (nothing, placed(amount=krw(DAY_KRW - 10_000 + 1)), "SL14"),
    "no such shop": (nothing, placed(merchant_id="nobody"), "AC03"),
    "shop is closed": (close_shop, placed(), "AC07"),
}


def everything(rig: Rig) -> dict[str, dict[object, object]]:
    """Every table but payments, refusals and what was told."""
    tables = {t.name: dict(t.rows) for t in vars(rig.database).values() if isinstance(t, Table)}
    return {name: rows for name, rows in tables.items() if name not in {"payment", "refusal"}}


@pytest.fixture
async def rig() -> Rig:
    """One payment of 10,000 KRW is approved: there are usage rows, a transfer and an event that could be touched."""
    rig = Rig()
    rig.database.put_consent(consent(**CONSENT))
    await rig.execute([dispatched_record(numbered_order(1, amount=krw(10_000)))])
    assert rig.states() == {"order-1": "approved"}
    return rig


@pytest.mark.parametrize("why", REJECTED)
async def test_a_rejected_order_changes_nothing_but_its_own_payment(rig: Rig, why: str) -> None:
    prepare, order, code = REJECTED[why]
    prepare(rig)
    before, asked, stood = everything(rig), len(rig.host.received), rig.payment(1)
    await rig.execute([dispatched_record(order, offset=9)])
    payment = rig.payment(9)
    assert (payment.state.value, payment.reason and payment.reason.code.value) == ("rejected", code)
    assert everything(rig) == before
    assert rig.payment(1) == stood
    assert len(rig.host.received) == asked
    # It has no numbers at the network and counts in no window: nothing can be given back or reversed for it later.
    assert (payment.trace, payment.network_id is None or payment.trace is None, payment.windows) == (None, True, ())
    assert rig.told(str(payment.payment_id)) == ["payment.rejected"]


@pytest.mark.parametrize("why", [why for why, (prepare, _, _) in REJECTED.items() if prepare is nothing])
async def test_beside_a_rejected_order_others_of_its_batch_count_as_if_it_were_not_there(rig: Rig, why: str) -> None:
    _, order, _ = REJECTED[why]
    fits = numbered_order(2, amount=krw(DAY_KRW - 10_000))
    await rig.execute([dispatched_record(order, offset=9), dispatched_record(fits, offset=10)])
    assert rig.states() == {"order-1": "approved", "order-2": "approved", "order-9": "rejected"}
    assert rig.used() == {Usage(DAY_KRW, 2)}


async def test_a_rejected_order_that_comes_again_is_told_again_and_stays_rejected(rig: Rig) -> None:
    rejected = dispatched_record(placed(amount=krw(50_001)), offset=9)
    await rig.execute([rejected])
    before = everything(rig)
    await rig.execute([rejected, rejected])
    assert rig.states()["order-9"] == "rejected"
    assert everything(rig) == before
    assert MerchantId("merchant-1") in rig.database.merchants.rows
