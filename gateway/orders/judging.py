"""Judging orders as they come, one by one or in a bulk: what is read for a batch, and what each may count on.

Advice only: execution decides again, under the consents' locks. A batch costs one question for each kind of fact, most
of them asked at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.base.at_once import at_once
from gateway.base.keys import ConsentKey
from gateway.consents.rules.consent import Consent, refuse_order
from gateway.consents.rules.exemption import capped, exemption_allows, with_exemption_told
from gateway.database.unit import Store
from gateway.directory.merchants import Merchant
from gateway.identity.assurance import Assertion
from gateway.identity.rules import judge_payment_assertion
from gateway.identity.store import TrustTable
from gateway.orders.scheduled.rules import AHEAD_DAYS_DEFAULT, due_later, refuse_to_wait
from gateway.orders.store import JudgingUnit
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.payments.rules.purchase import ReceivedOrder
from gateway.payments.rules.routing import NetworkProfile, route
from schemas.primitives import CustomerId, MerchantId, NetworkId
from schemas.reasons import Reason


@dataclass(frozen=True, slots=True)
class Seen:
    """What the database said of a batch, without locks.

    Attributes:
        existing: payments that stand under the orders' ids.
        links: (issuer, subject) → customer, for the proofs of the batch.
    """

    existing: Mapping[PaymentKey, Payment]
    consents: Mapping[ConsentKey, Consent]
    merchants: Mapping[MerchantId, Merchant]
    links: Mapping[tuple[str, str], CustomerId]
    networks: Sequence[NetworkProfile]


@dataclass(frozen=True, slots=True)
class Waits:
    """The order is accepted for a later day.

    Attributes:
        due_at: when that day begins.
    """

    due_at: datetime
    consent: Consent


class OrderJudge:
    """Judges orders whose partner's signature holds.

    Args:
        networks: what routing knows of the networks at this moment.
        ahead_days_max: how far ahead an order's day may be.
    """

    def __init__(
        self,
        *,
        trust: TrustTable,
        networks: Callable[[], Sequence[NetworkProfile]],
        ahead_days_max: int = AHEAD_DAYS_DEFAULT,
    ) -> None:
        self._trust = trust
        self._networks = networks
        self._ahead_days_max = ahead_days_max

    async def look(self, store: Store[JudgingUnit], orders: Sequence[ReceivedOrder]) -> Seen:
        """Read what judging these orders needs: all of it at once, for it is advice, of one moment or of several."""

        async def find() -> Mapping[PaymentKey, Payment]:
            async with store.reading() as uow:
                return await uow.payments.find([t.key for t in orders])

        async def read() -> Mapping[ConsentKey, Consent]:
            async with store.reading() as uow:
                return await uow.consents.read(sorted({t.consent_key for t in orders}))

        async def refer() -> Mapping[MerchantId, Merchant]:
            async with store.reading() as uow:
                return await uow.directory.merchants(sorted({t.order.merchant_id for t in orders}))

        async def link() -> Mapping[tuple[str, str], CustomerId]:
            identities = sorted({t.assertion.identity for t in orders if isinstance(t.assertion, Assertion)})
            if not identities:
                return {}
            async with store.reading() as uow:
                return await uow.authentication.links(identities)

        async with at_once() as tasks:
            existing, consents = tasks.create_task(find()), tasks.create_task(read())
            merchants, links = tasks.create_task(refer()), tasks.create_task(link())
        return Seen(existing.result(), consents.result(), merchants.result(), links.result(), self._networks())

    def judge(self, received: ReceivedOrder, seen: Seen, now: datetime) -> NetworkId | Waits | Reason:
        """Where the order goes: to a network, into the schedule, or nowhere."""
        order = received.order
        consent = seen.consents.get(received.consent_key)
        merchant = seen.merchants.get(order.merchant_id)
        refused = refuse_order(order, consent=consent, merchant=merchant, now=now)
        if refused is not None:
            return refused
        if merchant is None or consent is None:
            raise AssertionError("refuse_order lets no order pass without a consent and a merchant")
        refused = self._judge_proof(received, consent, seen.links, now)
        if refused is not None:
            return refused
        target = route(order.amount.minor, order.amount.currency, merchant, seen.networks)
        due_at = due_later(order, now)
        if due_at is None or isinstance(target, Reason):
            return target
        return refuse_to_wait(due_at, consent, now=now, ahead_days_max=self._ahead_days_max) or Waits(due_at, consent)

    def _judge_proof(
        self, received: ReceivedOrder, consent: Consent, links: Mapping[tuple[str, str], CustomerId], now: datetime
    ) -> Reason | None:
        """Judge the proof as far as it can be without the consent's lock: an exemption is taken to have room."""
        proof = received.assertion
        if isinstance(proof, Reason):
            return proof
        if consent.terms.payment is None:
            raise AssertionError("refuse_order lets no order pass without a payment consent")
        exemption = capped(consent.terms.payment.low_value_exemption, self._trust.policy.exemptions)
        amount = received.order.amount
        verdict = judge_payment_assertion(
            proof,
            order=received.order,
            customer_id=consent.terms.customer_id,
            linked=links.get(proof.identity) if proof else None,
            issuer=self._trust.issuer(proof.issuer) if proof else None,
            policy=self._trust.policy,
            exempt=exemption_allows(exemption, 0, 0, amount),
            now=now,
        )
        return with_exemption_told(verdict, exemption, 0, 0, amount) if isinstance(verdict, Reason) else None
