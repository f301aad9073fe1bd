"""The instant of truth: which orders and refunds of a batch become intents to send, decided under their locks.

Pure: the caller has locked consents and the payments that are refunded or waited for their day, read what is used of
limits and was refunded, and opened the funding tokens; it writes what is decided here in the same transaction. All
count in their order in the batch, each seeing what those before it reserved and gave back: where a batch ends changes
nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import assert_never

from msgspec import structs

from gateway.base.keys import ConsentKey
from gateway.consents.rules.consent import PAYMENT_ENDED_SINCE, Consent, has_ended_since, refuse_order
from gateway.consents.rules.exemption import capped, exempt_window, exemption_allows, with_exemption_told
from gateway.consents.rules.limits import (
    UNUSED,
    Reserved,
    Usage,
    UsageKey,
    WindowKey,
    reserve,
    windows_at,
    with_taken,
)
from gateway.directory.funding import CARD_NOT_OPENED, TOKEN_NOT_USABLE, OwnedToken, TokenUse, token_use
from gateway.directory.merchants import Merchant
from gateway.identity.assurance import NO_PROOF_ASKED, AssurancePolicy, AssuredOperation, Issuer
from gateway.identity.rules import judge_payment_assertion, replayed
from gateway.network.exchange import CardData, TraceNumbers
from gateway.network.trace import payment_trace
from gateway.payments.cancellations.rules import ORDER_CANCELLED
from gateway.payments.refunds.rules import (
    NO_MERCHANT,
    NO_ORIGINAL,
    ReceivedRefund,
    is_of,
    refund_payment,
    refuse_refund,
)
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment, PaymentKey, owned_token
from gateway.payments.rules.purchase import ReceivedOrder, purchase_payment
from schemas.primitives import ConsentId, CustomerId, MerchantId, Money, NetworkId
from schemas.reasons import Reason


@dataclass(frozen=True, slots=True)
class Trust:
    """What proofs are judged by.

    Attributes:
        issuers: the trusted identity providers by name.
        links: (issuer, subject) → customer, for the proofs of the batch.
        replayed: payments whose proof another payment has used.
        authenticated_at: when each consent last had an authenticated payment; exempt ones count from there.
    """

    policy: AssurancePolicy = NO_PROOF_ASKED
    issuers: Mapping[str, Issuer] = field(default_factory=dict)
    links: Mapping[tuple[str, str], CustomerId] = field(default_factory=dict)
    replayed: frozenset[PaymentKey] = frozenset()
    authenticated_at: Mapping[ConsentKey, datetime] = field(default_factory=dict)


OrderOrRefund = ReceivedOrder | ReceivedRefund
"""What execution decides: each becomes one payment at most."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the database said, under the locks of this transaction.

    Attributes:
        payments: those under the batch's own ids, and those that its refunds refund.
        usable: the uses of funding tokens that their customers permit.
        cards: the cards behind those that could be opened, of payments that are refunded as well.
        now: read after the locks were granted.
        cancelled: orders that were cancelled before they came, with the consents that these cancellations name.
        refunded: minor units of each original's refunds that may stand.
        payment_ends: of orders that waited for their day the last version of their consents' terms under which the
            payment purpose was over, where it ever was.
        refused: places of refunds that were refused when another delivery of the record came: so these have ended.
    """

    consents: Mapping[ConsentKey, Consent]
    merchants: Mapping[MerchantId, Merchant]
    payments: Mapping[PaymentKey, Payment]
    usage: Mapping[UsageKey, Usage]
    usable: frozenset[TokenUse]
    cards: Mapping[OwnedToken, CardData]
    now: datetime
    trust: Trust = field(default_factory=Trust)
    cancelled: Mapping[PaymentKey, frozenset[ConsentId]] = field(default_factory=dict)
    refunded: Mapping[PaymentKey, int] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    payment_ends: Mapping[ConsentKey, int] = field(default_factory=dict)


@dataclass(slots=True)
class Decided:
    """What becomes of a batch of orders and refunds.

    Attributes:
        payments: new payments, SENT or REJECTED.
        due: SCHEDULED payments whose day has come, now SENT or REJECTED.
        reserved: what the SENT ones add to each window: (minor units, count).
        repeats: those whose payment exists with the same content; it stands and its state is told again.
        conflicts: those under an id that another has used; refused, the first payment stands.
        refused: those that become no payment: a refund of none, and what is signed with a key that counts no more.
        authenticated: consents under which a SENT payment carried a proof: exempt payments count anew from here.
    """

    payments: list[Payment] = field(default_factory=list)
    due: list[Payment] = field(default_factory=list)
    reserved: dict[UsageKey, tuple[int, int]] = field(default_factory=dict)
    repeats: list[tuple[OrderOrRefund, Payment]] = field(default_factory=list)
    conflicts: list[tuple[OrderOrRefund, Payment]] = field(default_factory=list)
    refused: list[tuple[OrderOrRefund, Reason]] = field(default_factory=list)
    authenticated: set[ConsentKey] = field(default_factory=set)

    @property
    def begun(self) -> list[Payment]:
        """All payments that are SENT or REJECTED now."""
        return [*self.payments, *self.due]


def usage_keys(
    consents: Mapping[ConsentKey, Consent],
    now: datetime,
    authenticated_at: Mapping[ConsentKey, datetime] = MappingProxyType({}),
) -> list[UsageKey]:
    """Keys of every limit window that is running at ``now`` under these consents."""
    keys = [
        (*key, window.key)
        for key, consent in consents.items()
        if consent.terms.payment
        for window in windows_at(consent.terms, now)
    ]
    keys.extend(
        (*key, exempt)
        for key, consent in consents.items()
        if (exempt := exempt_window(consent.terms, authenticated_at.get(key)))
    )
    return keys


@dataclass(slots=True)
class _Deciding:
    """A batch while it is decided; ``payments``, ``refunded`` and ``usage`` hold what it has done itself, too."""

    facts: Facts
    network_id: NetworkId
    terminals: Sequence[str]
    numbers: Iterator[int]
    worker: str | None
    payments: dict[PaymentKey, Payment]
    refunded: dict[PaymentKey, int]
    usage: dict[ConsentKey, dict[WindowKey, Usage]]
    decided: Decided = field(default_factory=Decided)

    def next_trace(self) -> TraceNumbers:
        """Fresh numbers to send a payment under."""
        return payment_trace(next(self.numbers), self.terminals, self.facts.now)


def decide(
    batch: Sequence[OrderOrRefund],
    facts: Facts,
    *,
    network_id: NetworkId,
    terminals: Sequence[str],
    numbers: Iterator[int],
    worker: str | None = None,
) -> Decided:
    """Decide a batch.

    Args:
        batch: in the order in which they count.
        facts: read under the locks.
        network_id: where the SENT ones go; of refunds the originals' network.
        terminals: the network's terminal ids.
        numbers: yields at least one fresh payment number for each of the batch.
        worker: who sends them.
    """
    usage: dict[ConsentKey, dict[WindowKey, Usage]] = {key: {} for key in facts.consents}
    for (partner_id, consent_id, window), used in facts.usage.items():
        usage[partner_id, consent_id][window] = used
    deciding = _Deciding(
        facts, network_id, terminals, numbers, worker, dict(facts.payments), dict(facts.refunded), usage
    )
    for one in batch:
        match one:
            case ReceivedOrder(is_due=False, problem=Reason()) | ReceivedRefund(problem=Reason()):
                _refuse_signer(one, deciding)
            case ReceivedOrder():
                _decide_order(one, deciding)
            case ReceivedRefund():
                _decide_refund(one, deciding)
            case _:
                assert_never(one)
    return deciding.decided


def _decide_order(received: ReceivedOrder, deciding: _Deciding) -> None:
    facts, decided = deciding.facts, deciding.decided
    key, consent_key = received.key, received.consent_key
    first = deciding.payments.get(key)
    if received.is_due:
        # Handed on more than once, or cancelled since: only a payment that still waits is decided.
        if first is None or first.state is not PaymentState.SCHEDULED or not first.digest_is(received.digest):
            return
    elif first is not None:
        _repeat(received, first, decided)
        return
    consent = facts.consents.get(consent_key)
    windows = deciding.usage.setdefault(consent_key, {})
    is_cancelled = received.order.consent_id in facts.cancelled.get(key, ())
    outcome = ORDER_CANCELLED if is_cancelled else _outcome(received, consent, facts, windows, decided)
    if first is not None and isinstance(outcome, Reserved):
        ended_since = has_ended_since(first.consent_version, facts.payment_ends.get(consent_key))
        outcome = PAYMENT_ENDED_SINCE if ended_since else outcome
    if isinstance(outcome, Reason):
        payment = purchase_payment(received, consent, outcome, facts.now)
    else:
        trace = deciding.next_trace()
        payment = purchase_payment(received, consent, outcome, facts.now, deciding.network_id, trace, deciding.worker)
        _count(consent_key, received.order.amount.minor, outcome, windows, decided)
        if received.assertion is not None:
            decided.authenticated.add(consent_key)
    if first is not None:
        payment = structs.replace(payment, version=first.version + 1, ordered_at=first.ordered_at)
    deciding.payments[key] = payment
    (decided.payments if first is None else decided.due).append(payment)


def _refuse_signer(received: OrderOrRefund, deciding: _Deciding) -> None:
    """It may be anybody's, and becomes no payment; what was paid before, and only comes again, is told as it stands."""
    first = deciding.payments.get(received.key)
    if first is not None and first.digest_is(received.digest):
        deciding.decided.repeats.append((received, first))
    elif received.problem is not None:
        deciding.decided.refused.append((received, received.problem))


def _repeat(received: OrderOrRefund, first: Payment, decided: Decided) -> None:
    (decided.repeats if first.digest_is(received.digest) else decided.conflicts).append((received, first))


def _decide_refund(received: ReceivedRefund, deciding: _Deciding) -> None:
    facts, decided = deciding.facts, deciding.decided
    if received.reference in facts.refused:
        return
    first = deciding.payments.get(received.key)
    if first is not None:
        _repeat(received, first, decided)
        return
    original = deciding.payments.get(received.original_key)
    if original is None or not is_of(received.refund, original):
        decided.refused.append((received, NO_ORIGINAL))
        return
    refused = _refuse_refund(received, original, deciding)
    trace = None if refused else deciding.next_trace()
    payment = refund_payment(received, original, refused, facts.now, trace, deciding.worker)
    if refused is None:
        deciding.refunded[original.key] = deciding.refunded.get(original.key, 0) + payment.amount_minor
    deciding.payments[received.key] = payment
    decided.payments.append(payment)


def _refuse_refund(received: ReceivedRefund, original: Payment, deciding: _Deciding) -> Reason | None:
    facts = deciding.facts
    if received.refund.consent_id in facts.cancelled.get(received.key, ()):
        return ORDER_CANCELLED
    refused = refuse_refund(received.refund, original, deciding.refunded.get(original.key, 0), facts.now)
    if refused is not None:
        return refused
    if original.network_id != deciding.network_id:
        raise AssertionError("a refund goes to its original's network")
    if original.merchant_id not in facts.merchants:
        return NO_MERCHANT
    # The owner alone: money goes back to its customer's card, whoever may pay with it by now.
    return None if owned_token(original, facts.consents) in facts.cards else CARD_NOT_OPENED


def _outcome(
    received: ReceivedOrder, consent: Consent | None, facts: Facts, usage: Mapping[WindowKey, Usage], decided: Decided
) -> Reserved | Reason:
    order, now = received.order, facts.now
    if received.problem is not None:
        return received.problem
    refused = refuse_order(
        order, consent=consent, merchant=facts.merchants.get(order.merchant_id), now=now
    ) or _refuse_token(consent, facts)
    if refused is not None:
        return refused
    if consent is None:
        raise AssertionError("refuse_order lets no order pass without a consent")
    proof = _judge_proof(received, consent, facts, usage, decided)
    if isinstance(proof, Reason):
        return proof
    reserved = reserve(consent.terms, order.amount.minor, order.amount.currency, now, usage)
    if proof is None or isinstance(reserved, Reason):
        return reserved
    return Reserved((*reserved.windows, proof))


def _refuse_token(consent: Consent | None, facts: Facts) -> Reason | None:
    use = token_use(consent.terms) if consent is not None else None
    if use is None:
        raise AssertionError("refuse_order lets no order pass without a payment consent")
    if use not in facts.usable:
        return TOKEN_NOT_USABLE
    return None if use.owned in facts.cards else CARD_NOT_OPENED


def _judge_proof(
    received: ReceivedOrder, consent: Consent, facts: Facts, usage: Mapping[WindowKey, Usage], decided: Decided
) -> WindowKey | Reason | None:
    """Judge the order's proof; the exempt window where it has none and the exemption is what lets it pass."""
    trust, assertion = facts.trust, received.assertion
    if received.proven:
        return None
    if isinstance(assertion, Reason):
        return assertion
    if trust.replayed and received.key in trust.replayed:
        return replayed()
    terms = consent.terms.payment
    exemption = capped(terms.low_value_exemption, trust.policy.exemptions) if terms and assertion is None else None
    window, used = None, UNUSED
    if exemption is not None:
        key = received.consent_key
        since = facts.now if key in decided.authenticated else trust.authenticated_at.get(key)
        window = exempt_window(consent.terms, since)
        used = usage.get(window, UNUSED) if window else UNUSED
    spent = (used.taken_count, used.taken_minor)
    exempt = exemption_allows(exemption, *spent, received.order.amount)
    verdict = judge_payment_assertion(
        assertion,
        order=received.order,
        customer_id=consent.terms.customer_id,
        linked=trust.links.get(assertion.identity) if assertion else None,
        issuer=trust.issuers.get(assertion.issuer) if assertion else None,
        policy=trust.policy,
        exempt=exempt,
        now=facts.now,
    )
    if isinstance(verdict, Reason):
        return with_exemption_told(verdict, exemption, *spent, received.order.amount)
    # Where no proof is asked for at all there is nothing to be exempt from.
    return window if exempt and _proof_is_asked(trust.policy, received.order.amount) else None


def _proof_is_asked(policy: AssurancePolicy, amount: Money) -> bool:
    asked = policy.requirement(AssuredOperation.PAYMENT, amount)
    return asked is not None and asked.level > 0


def _count(
    consent_key: ConsentKey, minor: int, reserved: Reserved, windows: dict[WindowKey, Usage], decided: Decided
) -> None:
    for window in reserved.windows:
        windows[window] = with_taken(windows.get(window, UNUSED), minor)
        key = (*consent_key, window)
        before_minor, before_count = decided.reserved.get(key, (0, 0))
        decided.reserved[key] = (before_minor + minor, before_count + 1)
