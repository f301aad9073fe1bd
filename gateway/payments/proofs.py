"""What judging the proofs of a batch of orders needs, read once for the batch."""

from collections.abc import Mapping, Sequence

from gateway.base.keys import ConsentKey
from gateway.consents.rules.consent import Consent
from gateway.identity.assurance import Assertion
from gateway.identity.store import AssertionUse, AuthenticationUnit, TrustTable
from gateway.payments.rules.intent import Trust
from gateway.payments.rules.payment import PaymentKey
from gateway.payments.rules.purchase import ReceivedOrder


async def use_proofs(
    uow: AuthenticationUnit, orders: Sequence[ReceivedOrder], consents: Mapping[ConsentKey, Consent], table: TrustTable
) -> Trust:
    """Read what judging a batch's proofs needs, and use the proofs up: three statements at most, none without proofs.

    An order that is refused in the end has used its proof all the same: it was made for that order alone.
    """
    proofs = [(o.key, o.assertion) for o in orders if isinstance(o.assertion, Assertion)]
    exempting = [k for k, c in consents.items() if c.terms.payment and c.terms.payment.low_value_exemption]
    uses = uses_of(orders)
    refused = await uow.authentication.use(list(uses.values())) if uses else frozenset()
    issuers = {a.issuer: table.issuer(a.issuer) for _, a in proofs}
    replayed: frozenset[PaymentKey] = frozenset(key for key, use in uses.items() if use in refused)
    return Trust(
        policy=table.policy,
        issuers={name: issuer for name, issuer in issuers.items() if issuer is not None},
        links=await uow.authentication.links(sorted({a.identity for _, a in proofs})) if proofs else {},
        replayed=replayed,
        authenticated_at=await uow.authentication.authenticated_at(exempting) if exempting else {},
    )


def uses_of(orders: Sequence[ReceivedOrder]) -> dict[PaymentKey, AssertionUse]:
    """The use that each order makes of its proof."""
    uses: dict[PaymentKey, AssertionUse] = {}
    for order in orders:
        if isinstance(order.assertion, Assertion):
            # In the orders' order: the first of the batch that carries a proof has it, and of two orders under one id
            # the first may stand.
            use = AssertionUse(
                issuer=order.assertion.issuer,
                jti=order.assertion.jti,
                partner_id=order.key[0],
                used_by=order.key[1],
                keep_until=order.assertion.keep_until,
            )
            uses.setdefault(order.key, use)
    return uses
