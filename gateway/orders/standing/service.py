"""Standing orders, a kind of message on ``mypay.orders``: as partners give and end them.

Payments are made of them by :mod:`gateway.orders.standing.occurrences`. What would refuse an order to pay the same now
refuses a standing order, and uses its id up. Its end makes no further occurrence; one that is made already is a
payment, and is cancelled as such.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from pydantic import TypeAdapter

from gateway.base.calendar import BusinessDays
from gateway.base.errors import StoreConflictError
from gateway.base.keys import ConsentKey
from gateway.base.process import Observer
from gateway.base.repetition import id_used
from gateway.consents.rules.consent import Consent, refuse_order
from gateway.consents.rules.exemption import capped, exemption_allows
from gateway.database.unit import Store
from gateway.directory.merchants import Merchant
from gateway.identity.assurance import Assertion
from gateway.identity.door import Authentic, Faulty
from gateway.identity.rules import judge_standing_assertion, replayed
from gateway.identity.store import AssertionUse, AssertionVerifier, TrustTable
from gateway.identity.verifying import lapsed_proof, verify_proofs
from gateway.orders.kinds import FaultAnswer, Kind
from gateway.orders.scheduled.rules import AHEAD_DAYS_DEFAULT
from gateway.orders.standing.notices import standing_event, tell_standing_refusals
from gateway.orders.standing.rules import Occurrence, StandingKey, StandingOrder, proof_used_by, refuse_schedule
from gateway.orders.store import StandingIntakeUnit
from gateway.outbox.store import OutboxEvent
from gateway.payments.rules.routing import NetworkProfile, route
from schemas.assertions import StandingOrderLink
from schemas.events import EventType
from schemas.orders import PaymentOrder
from schemas.primitives import ConsentIdField, CustomerId, MerchantId, OrderId, StandingOrderIdField
from schemas.reasons import Reason, ReasonCode
from schemas.standing import (
    STANDING_CANCEL_TYPE,
    STANDING_CREATE_TYPE,
    StandingOrderCancel,
    StandingOrderCreate,
    StandingOrderRefused,
    StandingStatus,
    schedule_digest,
)

StandingMessage = StandingOrderCreate | StandingOrderCancel
Message = Authentic[StandingMessage]

_STANDING_ORDER_ID: Final[TypeAdapter[str]] = TypeAdapter(StandingOrderIdField)
_CONSENT_ID: Final[TypeAdapter[str]] = TypeAdapter(ConsentIdField)

_UNKNOWN: Final = Reason(code=ReasonCode.NOOR, text="there is no such standing order under this consent")


@dataclass(slots=True)
class _Ends:
    """What becomes of a batch: rows and events to write."""

    rows: dict[StandingKey, StandingOrder] = field(default_factory=dict)
    created: set[StandingKey] = field(default_factory=set)
    changed: set[StandingKey] = field(default_factory=set)
    events: list[OutboxEvent] = field(default_factory=list)
    refused: list[tuple[Message, Reason]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Seen:
    consents: Mapping[ConsentKey, Consent]
    merchants: Mapping[MerchantId, Merchant]
    links: Mapping[tuple[str, str], CustomerId]
    replayed: frozenset[StandingKey]


@dataclass(frozen=True, slots=True)
class StandingOrders:
    """A batch, the proofs of its messages by their references, and what became of it."""

    messages: Sequence[Message]
    proofs: Mapping[str, Assertion | Reason]
    outcome: _Ends = field(default_factory=_Ends)


class StandingOrderKind(Kind[StandingMessage, StandingOrders]):
    """Takes in standing orders and their ends.

    Args:
        networks: what routing knows of the networks at this moment.
        days: business days.
        ahead_days_max: how far ahead the first occurrence may be.
    """

    models: Mapping[str, type[StandingMessage]] = {
        STANDING_CREATE_TYPE: StandingOrderCreate,
        STANDING_CANCEL_TYPE: StandingOrderCancel,
    }
    is_carried_out_here = True

    def __init__(
        self,
        *,
        store: Store[StandingIntakeUnit],
        networks: Callable[[], Sequence[NetworkProfile]],
        observer: Observer,
        trust: TrustTable,
        assertions: AssertionVerifier,
        days: BusinessDays,
        ahead_days_max: int = AHEAD_DAYS_DEFAULT,
    ) -> None:
        self._store = store
        self._networks = networks
        self._observer = observer
        self._trust = trust
        self._assertions = assertions
        self._days = days
        self._ahead_days_max = ahead_days_max

    async def prepare(self, messages: Sequence[Message], now: datetime) -> StandingOrders:
        """Verify the customers' proofs."""
        proofs = [m.message.authentication if isinstance(m.message, StandingOrderCreate) else None for m in messages]
        verified = await verify_proofs(proofs, self._assertions, self._trust, now)
        return StandingOrders(
            messages, {m.reference: p for m, p in zip(messages, verified, strict=True) if p is not None}
        )

    async def write(self, work: StandingOrders, now: datetime) -> StandingOrders:
        """Create and cancel, in one transaction for a batch."""
        instructions, proofs = work.messages, self._rechecked(work.proofs)
        async with self._store.transaction() as uow:
            outcome = _Ends(dict(await uow.standing.lock(sorted({_key(i) for i in instructions}))))
            records = [(i.message.partner_id, i.reference) for i in instructions]
            refused_before = await uow.refusals.find(records)
            judged = [i for i in instructions if i.reference not in refused_before]
            seen = await self._use(uow, judged, proofs, await self._look(uow, judged, proofs), now, outcome)
            # One that was refused and told so: what has changed since does not bring it back.
            for instruction in judged:
                if isinstance(instruction.message, StandingOrderCreate):
                    self._create(
                        instruction, instruction.message, proofs.get(instruction.reference), seen, now, outcome
                    )
                else:
                    _cancel(instruction, now, outcome)
            created = [outcome.rows[k] for k in sorted(outcome.created)]
            if len(await uow.standing.insert(created)) != len(created):
                raise StoreConflictError("standing order inserted concurrently")
            await uow.standing.update([outcome.rows[k] for k in sorted(outcome.changed - outcome.created)])
            await uow.outbox.append(outcome.events)
            await tell_standing_refusals(uow, outcome.refused, now)
        return replace(work, outcome=outcome)

    def _rechecked(self, proofs: Mapping[str, Assertion | Reason]) -> Mapping[str, Assertion | Reason]:
        """With each attempt: a provider's key may have been revoked while they waited."""
        return {reference: lapsed_proof(self._assertions, proof) or proof for reference, proof in proofs.items()}

    async def hand_on(self, work: StandingOrders) -> None:
        """Count what became of the batch."""
        count, outcome = self._observer.count, work.outcome
        count("initiation", "standing_order", n=len(outcome.created | outcome.changed))
        count("initiation", "standing_order_refused", n=len(outcome.refused))

    def answer_fault(self, fault: Faulty, now: datetime) -> FaultAnswer:
        """Refused as a standing order, where its consent can be named."""
        own, consent = fault.member("standing_order_id", _STANDING_ORDER_ID), fault.member("consent_id", _CONSENT_ID)
        if own is None or consent is None:
            return FaultAnswer(own)
        body = StandingOrderRefused.of_stored(
            partner_id=fault.partner_id,
            standing_order_id=own,
            consent_id=consent,
            reason=fault.reason,
            reference=fault.reference,
            occurred_at=now,
        )
        return FaultAnswer(own, (EventType.STANDING_REFUSED, own, body))

    async def _look(
        self, uow: StandingIntakeUnit, instructions: Sequence[Message], proofs: Mapping[str, Assertion | Reason]
    ) -> _Seen:
        creates = [i.message for i in instructions if isinstance(i.message, StandingOrderCreate)]
        verified = [p for i in instructions if isinstance(p := proofs.get(i.reference), Assertion)]
        return _Seen(
            consents=await uow.consents.read(sorted({(m.partner_id, m.consent_id) for m in creates})),
            merchants=await uow.directory.merchants(sorted({m.merchant_id for m in creates})),
            links=await uow.authentication.links(sorted({p.identity for p in verified})),
            replayed=frozenset(),
        )

    async def _use(
        self,
        uow: StandingIntakeUnit,
        instructions: Sequence[Message],
        proofs: Mapping[str, Assertion | Reason],
        seen: _Seen,
        now: datetime,
        outcome: _Ends,
    ) -> _Seen:
        """Use up the proofs of what nothing else refuses: one that was made for something else stays good for that."""
        uses: dict[StandingKey, AssertionUse] = {}
        # One that stands is not judged again; of several under one id the first stands.
        ids = set(outcome.rows)
        for one in instructions:
            key, proof, message = _key(one), proofs.get(one.reference), one.message
            if not isinstance(message, StandingOrderCreate) or key in ids:
                continue
            ids.add(key)
            if isinstance(proof, Assertion) and not isinstance(self._refuse(one, message, proof, seen, now), Reason):
                uses[key] = AssertionUse(
                    issuer=proof.issuer,
                    jti=proof.jti,
                    partner_id=message.partner_id,
                    used_by=proof_used_by(*key),
                    keep_until=proof.keep_until,
                )
        refused = await uow.authentication.use(list(uses.values())) if uses else frozenset()
        return replace(seen, replayed=frozenset(key for key, use in uses.items() if use in refused))

    def _create(
        self,
        instruction: Message,
        message: StandingOrderCreate,
        proof: Assertion | Reason | None,
        seen: _Seen,
        now: datetime,
        outcome: _Ends,
    ) -> None:
        key = _key(instruction)
        if (first := outcome.rows.get(key)) is not None:
            if first.digest != instruction.digest:
                outcome.refused.append((instruction, _id_used(first, message)))
            elif first.status is StandingStatus.REFUSED and first.reason is not None:
                outcome.refused.append((instruction, first.reason))
            else:
                outcome.events.append(standing_event(first, self._days, now, repeated=instruction.reference))
            return
        begins = self._refuse(instruction, message, proof, seen, now)
        consent = seen.consents.get((message.partner_id, message.consent_id))
        row = _row(instruction, message, begins, consent, now, proven=proof is not None)
        outcome.rows[key] = row
        outcome.created.add(key)
        if isinstance(begins, Reason):
            outcome.refused.append((instruction, begins))
        else:
            outcome.events.append(standing_event(row, self._days, now))

    def _refuse(
        self,
        instruction: Message,
        message: StandingOrderCreate,
        proof: Assertion | Reason | None,
        seen: _Seen,
        now: datetime,
    ) -> Occurrence | Reason:
        """The first occurrence, or why there is none: what refuses an order to pay now, and then the schedule."""
        consent = seen.consents.get((message.partner_id, message.consent_id))
        merchant = seen.merchants.get(message.merchant_id)
        refused = refuse_order(_as_order(message), consent=consent, merchant=merchant, now=now)
        if refused is not None:
            return refused
        if consent is None or merchant is None:
            raise AssertionError("refuse_order lets no order pass without a consent and a merchant")
        refused = self._judge(instruction, message, proof, consent, seen, now)
        if refused is not None:
            return refused
        target = route(message.amount.minor, message.amount.currency, merchant, self._networks())
        if isinstance(target, Reason):
            return target
        return refuse_schedule(
            message.schedule,
            consent,
            self._days,
            issued_at=message.issued_at,
            now=now,
            ahead_days_max=self._ahead_days_max,
        )

    def _judge(
        self,
        instruction: Message,
        message: StandingOrderCreate,
        proof: Assertion | Reason | None,
        consent: Consent,
        seen: _Seen,
        now: datetime,
    ) -> Reason | None:
        if isinstance(proof, Reason):
            return proof
        if _key(instruction) in seen.replayed:
            return replayed()
        purpose = consent.terms.payment
        link = StandingOrderLink(
            partner_id=message.partner_id,
            standing_order_id=message.standing_order_id,
            consent_id=message.consent_id,
            merchant_id=message.merchant_id,
            amount=message.amount,
            schedule_digest=schedule_digest(instruction.record.value),
        )
        exemption = capped(purpose.low_value_exemption if purpose else None, self._trust.policy.exemptions)
        verdict = judge_standing_assertion(
            proof,
            link=link,
            customer_id=consent.terms.customer_id,
            linked=seen.links.get(proof.identity) if proof else None,
            issuer=self._trust.issuer(proof.issuer) if proof else None,
            policy=self._trust.policy,
            # Each occurrence finds out whether the exemption still has room.
            exempt=exemption_allows(exemption, 0, 0, message.amount),
            now=now,
        )
        return verdict if isinstance(verdict, Reason) else None


def _key(instruction: Message) -> StandingKey:
    return (instruction.message.partner_id, instruction.message.standing_order_id)


def _id_used(first: StandingOrder, later: StandingOrderCreate) -> Reason:
    fields = ("consent_id", "merchant_id", "amount", "schedule")
    return id_used("standing_order_id", {f: getattr(first, f) for f in fields}, {f: getattr(later, f) for f in fields})


def _as_order(message: StandingOrderCreate) -> PaymentOrder:
    """What an order to pay the same now would be: it is judged alike."""
    return PaymentOrder.model_construct(
        partner_id=message.partner_id,
        order_id=OrderId(message.standing_order_id),
        consent_id=message.consent_id,
        merchant_id=message.merchant_id,
        amount=message.amount,
        issued_at=message.issued_at,
        expires_at=message.expires_at,
    )


def _row(
    instruction: Message,
    message: StandingOrderCreate,
    begins: Occurrence | Reason,
    consent: Consent | None,
    now: datetime,
    *,
    proven: bool,
) -> StandingOrder:
    refused = isinstance(begins, Reason)
    return StandingOrder(
        partner_id=message.partner_id,
        standing_order_id=message.standing_order_id,
        consent_id=message.consent_id,
        consent_version=consent.version if consent else 0,
        merchant_id=message.merchant_id,
        amount=message.amount,
        schedule=message.schedule,
        status=StandingStatus.REFUSED if refused else StandingStatus.ACTIVE,
        version=1,
        occurrences=0,
        next_due_at=None if isinstance(begins, Reason) else begins.due_at,
        proven=proven,
        digest=instruction.digest,
        signature=instruction.envelope.signature,
        reference=instruction.reference,
        ordered_at=instruction.ordered_at,
        changed_at=now,
        reason=begins if isinstance(begins, Reason) else None,
        traceparent=instruction.envelope.traceparent,
    )


def _cancel(instruction: Message, now: datetime, outcome: _Ends) -> None:
    message, key = instruction.message, _key(instruction)
    row = outcome.rows.get(key)
    if row is None or row.status is StandingStatus.REFUSED or row.consent_id != message.record_key:
        outcome.refused.append((instruction, _UNKNOWN))
        return
    if row.status is not StandingStatus.ACTIVE:
        outcome.events.append(standing_event(row, BusinessDays(), now, repeated=instruction.reference))
        return
    ended = replace(row, status=StandingStatus.CANCELLED, version=row.version + 1, next_due_at=None, changed_at=now)
    outcome.rows[key] = ended
    outcome.changed.add(key)
    outcome.events.append(standing_event(ended, BusinessDays(), now))
