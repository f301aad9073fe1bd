"""RefusalStore: a refused record is written down once, whoever's it is."""

from gateway.database.unit import Store
from gateway.identity.refusals import Refusal
from schemas.primitives import PartnerId
from schemas.reasons import Reason, ReasonCode


def refusal(reference: str, *, partner_id: str = "partner-1", order_id: str = "order-1") -> Refusal:
    return Refusal(PartnerId(partner_id), order_id, reference, Reason(code=ReasonCode.DS17, text="why"))


async def test_a_refusal_is_recorded_once_a_reference(store: Store) -> None:
    async with store.transaction() as uow:
        assert await uow.refusals.insert([refusal("t/0/1"), refusal("t/0/2"), refusal("t/0/1")]) == {"t/0/1", "t/0/2"}
    async with store.transaction() as uow:
        assert await uow.refusals.insert([]) == frozenset()
        again = [refusal("t/0/1"), refusal("t/0/3"), refusal("t/0/2")]
        assert await uow.refusals.insert(again) == {"t/0/3"}


async def test_it_is_known_which_records_were_refused(store: Store) -> None:
    async with store.transaction() as uow:
        await uow.refusals.insert([refusal("t/0/1"), refusal("t/0/2")])
        partner_id = refusal("t/0/1").partner_id
    async with store.reading() as uow:
        asked = [(partner_id, "t/0/2"), (partner_id, "t/0/3"), (PartnerId("another"), "t/0/1")]
        assert await uow.refusals.find(asked) == {"t/0/2"}
        assert await uow.refusals.find([]) == frozenset()
