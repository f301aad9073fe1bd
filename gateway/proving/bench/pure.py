"""The gateway's decisions alone: no Kafka, no database, no network, one thread.

Every order is read, its partner's signature and its customer's proof are verified, and then batches are decided as
execution decides them under the consents' locks: consent, proof, limits, reservation.
"""

import hashlib
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.base.garbage_collection import collecting_rarely
from gateway.consents.rules.consent import Consent
from gateway.consents.rules.limits import Usage, UsageKey
from gateway.directory.funding import token_use, token_uses
from gateway.directory.partners import PartnerKey
from gateway.identity.jose.assertion import JwsAssertionVerifier
from gateway.identity.jose.issuers import CachedTrustTable
from gateway.identity.jose.signature import JwsVerifier
from gateway.messaging.records import Outgoing
from gateway.payments.rules.intent import Decided, Facts, Trust, decide, usage_keys
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.purchase import ReceivedOrder
from gateway.proving.memory.keys import MemoryKeySource
from gateway.proving.traffic.cast import Cast
from gateway.proving.traffic.shops import merchants
from schemas.codec import decode
from schemas.consents import ConsentStatus
from schemas.envelope import read_envelope
from schemas.orders import ORDER_TYPE, PaymentOrder
from schemas.primitives import NetworkId
from schemas.reasons import Reason

BATCH: Final = 500
"""As the stages take them."""

NETWORK: Final = NetworkId("bcard")
_TERMINALS: Final = tuple(f"GW{n:06d}" for n in range(64))


class NotDecidedError(Exception):
    """An order that must pass did not: the figure would mean nothing. Tells the first reason."""


@dataclass(frozen=True, slots=True)
class Pure:
    """What was measured. ``seconds``: of processor time, so that other programs of the machine count little."""

    orders: int
    with_proof: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Orders a second and core."""
        return self.orders / self.seconds if self.seconds else 0.0


class PurePath:
    """Everything that a decision looks at, in memory.

    Args:
        cast: partners with their keys, customers with their consents.
        trust: identity providers and policy, loaded.
        now: when all of it happens.
    """

    def __init__(self, cast: Cast, trust: CachedTrustTable, now: datetime) -> None:
        since = now - timedelta(hours=1)
        keys = MemoryKeySource(
            [p.partner_id for p in cast.partners],
            [PartnerKey(p.kid, p.partner_id, p.algorithm, p.jwk, since, None, None) for p in cast.partners],
        )
        self._signatures = JwsVerifier(keys)
        self._assertions = JwsAssertionVerifier(trust)
        self._consents = {
            (c.terms.partner_id, c.terms.consent_id): Consent(c.terms, 1, ConsentStatus.AUTH) for c in cast.customers
        }
        self._merchants = {m.merchant_id: m for m in merchants(frozenset((NETWORK,)))}
        self._cards = {use.owned: c.card for c in cast.customers if (use := token_use(c.terms))}
        self._uses = frozenset(token_uses(c.terms for c in cast.customers))
        links = cast.identities.links([c.terms.customer_id for c in cast.customers], since)
        self._trust = Trust(
            policy=trust.policy,
            issuers={i.issuer: i for i in trust.issuers()},
            links={(i.issuer, i.subject): i.customer_id for i in links},
        )
        self._usage: dict[UsageKey, Usage] = {}
        self._numbers = itertools.count(1)
        self._now = now

    def take(self, record: Outgoing) -> ReceivedOrder:
        """Read and verify one order.

        Raises:
            NotDecidedError: the partner's signature does not hold.
        """
        envelope = read_envelope(record.headers)
        signed = self._signatures.authenticate(
            body=record.value, signature=envelope.signature, type_=ORDER_TYPE, now=self._now
        )
        if isinstance(signed, Reason):
            raise NotDecidedError(signed.text)
        order = decode(PaymentOrder, record.value)
        proof = self._assertions.verify(order.authentication, self._now) if order.authentication else None
        return ReceivedOrder(order, hashlib.sha256(record.value).digest(), self._now, "", assertion=proof)

    def facts(self, orders: Sequence[ReceivedOrder]) -> Facts:
        """What the database would say of a batch: not a part of the path that is measured."""
        consents = {o.consent_key: self._consents[o.consent_key] for o in orders}
        return Facts(
            consents=consents,
            merchants=self._merchants,
            payments={},
            usage={key: self._usage.get(key, _UNUSED) for key in usage_keys(consents, self._now)},
            usable=self._uses,
            cards=self._cards,
            now=self._now,
            trust=self._trust,
        )

    def decide(self, orders: Sequence[ReceivedOrder], facts: Facts) -> Decided:
        """Decide a batch."""
        return decide(orders, facts, network_id=NETWORK, terminals=_TERMINALS, numbers=self._numbers)

    def count(self, decided: Decided) -> None:
        """Let what a batch reserved count for the next one, as the database would."""
        for key, (minor, count) in decided.reserved.items():
            used = self._usage.get(key, _UNUSED)
            self._usage[key] = Usage(used.taken_minor + minor, used.taken_count + count)


_UNUSED: Final = Usage()


def measure(path: PurePath, records: Sequence[Outgoing]) -> Pure:
    """Take and decide all records, whole batches; the first third fills caches and is not counted.

    Raises:
        NotDecidedError: an order would not be sent.
        ValueError: fewer than three batches.
    """
    batches = [records[n : n + BATCH] for n in range(0, len(records) - BATCH + 1, BATCH)]
    cold = len(batches) // 3
    if not cold:
        raise ValueError(f"the pure path needs at least {3 * BATCH} orders")
    for batch in batches[:cold]:
        _run(path, batch)
    counted = [_run(path, batch) for batch in batches[cold:]]
    return Pure(BATCH * len(counted), sum(c.with_proof for c in counted), sum(c.seconds for c in counted))


def _run(path: PurePath, records: Sequence[Outgoing]) -> Pure:
    began = time.thread_time()
    received = [path.take(r) for r in records]
    seconds = time.thread_time() - began
    facts = path.facts(received)
    began = time.thread_time()
    decided = path.decide(received, facts)
    seconds += time.thread_time() - began
    path.count(decided)
    for payment in decided.payments:
        if payment.state is not PaymentState.SENT:
            raise NotDecidedError(payment.reason.text if payment.reason else payment.state)
    return Pure(len(records), sum(t.assertion is not None for t in received), seconds)


async def measure_pure(cast: Cast, trust: CachedTrustTable, records: Sequence[Outgoing]) -> Pure:
    """Load the trust table and measure; raises as :func:`measure`."""
    await trust.load()
    try:
        path = PurePath(cast, trust, datetime.now(UTC))
        with collecting_rarely():
            return measure(path, records)
    finally:
        await trust.stop()
