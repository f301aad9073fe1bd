"""BulkStore."""

from dataclasses import replace
from typing import Any

from gateway.database.unit import Store
from gateway.orders.bulk.rules import Bulk, BulkKey
from schemas.bulk import BulkStatus, RejectedItem
from schemas.primitives import PartnerId
from schemas.reasons import Reason, ReasonCode
from tests.support.builders import later
from tests.support.domain_samples import NOW


def decided(name: str, **fields: Any) -> Bulk:
    defaults: dict[str, Any] = {
        "partner_id": PartnerId("partner-1"),
        "bulk_id": name,
        "digest": b"d" * 32,
        "status": BulkStatus.ACCEPTED,
        "items": 3,
        "currency": "KRW",
        "control_minor": 2_000 * 999_999_999_999,
        "rejected": (RejectedItem(item=2, order_id="order-2", reason=Reason(code=ReasonCode.AC03, text="nobody")),),
        "reason": None,
        "reference": "mypay.orders/0/1",
        "decided_at": NOW,
    }
    return Bulk(**(defaults | fields))


def key(name: str) -> BulkKey:
    return (PartnerId("partner-1"), name)


async def test_bulks_come_back_as_they_were_and_the_first_of_an_id_stands(store: Store) -> None:
    bulks = [
        decided("a"),
        decided("b", status=BulkStatus.REFUSED, rejected=(), reason=Reason(code=ReasonCode.AM10, text="sum")),
    ]
    async with store.transaction() as uow:
        assert await uow.bulks.insert(bulks) == {key("a"), key("b")}
    async with store.transaction() as uow:
        assert await uow.bulks.insert([replace(bulks[0], items=9), decided("c")]) == {key("c")}
        assert await uow.bulks.insert([]) == frozenset()
    async with store.reading() as uow:
        assert await uow.bulks.find([key("b"), key("a"), key("d")]) == {b.key: b for b in bulks}
    assert [b.accepted for b in bulks] == [2, 0]


async def test_that_it_was_handed_on_is_noted_once(store: Store) -> None:
    async with store.transaction() as uow:
        await uow.bulks.insert([decided("a"), decided("b")])
    for seconds in (1, 2):
        async with store.transaction() as uow:
            await uow.bulks.dispatched([key("a"), key("z")], now=later(seconds))
            await uow.bulks.dispatched([], now=later(seconds))
    async with store.reading() as uow:
        found = await uow.bulks.find([key("a"), key("b")])
    assert found[key("a")].dispatched_at == later(1)
    assert found[key("b")].dispatched_at is None
