"""Proofs of one batch on both stores: of several orders with one proof the first has it, whatever its key."""

from datetime import timedelta

import pytest

from gateway.database.unit import Store
from gateway.identity.assurance import Assertion
from gateway.identity.no_providers import NoIdentityProviders
from gateway.payments.proofs import use_proofs
from gateway.payments.rules.purchase import ReceivedOrder
from schemas.orders import PaymentOrder
from tests.support.assertion_samples import PAYMENT_LINK
from tests.support.builders import NOW, numbered_order


def received(order: PaymentOrder, jti: str) -> ReceivedOrder:
    proof = Assertion(
        issuer="https://id",
        subject="subject",
        audience=("mypay",),
        issued_at=NOW,
        not_before=None,
        expires_at=NOW + timedelta(minutes=5),
        authenticated_at=NOW,
        jti=jti,
        level_name="2",
        methods=("pin",),
        link=PAYMENT_LINK,
    )
    return ReceivedOrder(order, jti.encode(), NOW, "r", assertion=proof)


@pytest.mark.parametrize("numbers", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
async def test_the_first_of_a_batch_has_the_proof_that_several_carry(store: Store, numbers: tuple[int, ...]) -> None:
    orders = [received(numbered_order(n), "one") for n in numbers]
    for _ in range(2):  # delivered again, nothing is different
        async with store.transaction() as uow:
            trust = await use_proofs(uow, orders, {}, NoIdentityProviders())
        assert trust.replayed == {orders[1].key, orders[2].key}


async def test_of_two_orders_under_one_id_the_first_ones_proof_counts(store: Store) -> None:
    first, second = received(numbered_order(1), "one"), received(numbered_order(1), "two")
    async with store.transaction() as uow:
        assert not (await use_proofs(uow, [first, second], {}, NoIdentityProviders())).replayed
    async with store.transaction() as uow:
        # The second's was not used up.
        other = received(numbered_order(2), "two")
        assert not (await use_proofs(uow, [other], {}, NoIdentityProviders())).replayed
