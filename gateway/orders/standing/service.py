"""Standing orders as partners give and end them; :mod:`gateway.orders.standing.occurrences` makes payments of them.

What would refuse an order to pay the same now refuses a standing order, and uses its id up. Its end makes no further
occurrence; one that is made already is a payment, and is cancelled as such.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from gateway.base.calendar import BusinessDays
from gateway.base.errors import StoreConflictError
from gateway.base.keys import ConsentKey
from gateway.base.process import Observer
from gateway.base.repetition import id_taken
from gateway.base.retrying import until_done
from gateway.consents.rules.consent import Consent, refuse_order
from gateway.consents.rules.exemption import capped, exemption_allows
from gateway.database.unit import Store
from gateway.directory.merchants import Merchant
from gateway.identity.no_providers import NoIdentityProviders
from gateway.identity.rules import Assertion, judge_standing_assertion, replayed
from gateway.identity.store import AssertionUse, AssertionVerifier, TrustTable
from gateway.orders.kinds import Instruction, SignedInstruction
from gateway.orders.scheduled.rules import AHEAD_DAYS_DEFAULT
from gateway.orders.standing.notices import standing_event, tell_standing_refusals
from gateway.orders.standing.rules import Occurrence, StandingKey, StandingOrder, proof_used_by, refuse_schedule
from gateway.orders.store import StandingIntakeUnit
from gateway.outbox.store import OutboxEvent
from gateway.payments.rules.routing import NetworkProfile, route
from schemas.assertions import StandingOrderLink
from schemas.orders import PaymentOrder
from schemas.primitives import CustomerId, MerchantId, OrderId
from schemas.reasons import Reason, ReasonCode
from schemas.standing import (
    STANDING_CANCEL_TYPE,
    STANDING_CREATE_TYPE,
    StandingOrderCancel,
    StandingOrderCreate,
    StandingStatus,
    schedule_digest,
)

_UNKNOWN: Final = Reason(code=ReasonCode.NOOR, text="there is no such standing order under this consent")


@dataclass(slots=True)
class _Ends:
    """What becomes of a batch: rows and events to write."""

    rows: dict[StandingKey, StandingOrder] = field(default_factory=dict)
    created: set[StandingKey] = field(default_factory=set)
    changed: set[StandingKey] = field(default_factory=set)
    events: list[OutboxEvent] = field(default_factory=list)
    refused: list[tuple[Instruction, Reason]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Seen:
    consents: Mapping[ConsentKey, Consent]
    merchants: Mapping[MerchantId, Merchant]
    links: Mapping[tuple[str, str], CustomerId]
    replayed: frozenset[StandingKey]


class StandingOrderService:
    """Implements :class:`gateway.orders.kinds.InstructionHandler` for standing orders and their ends.

    Args:
        networks: what routing knows of the networks at this moment.
        days: business days.
        ahead_days_max: how far ahead the first occurrence may be.
    """

    models: Mapping[str, type[SignedInstruction]] = {
        STANDING_CREATE_TYPE: StandingOrderCreate,
        STANDING_CANCEL_TYPE: StandingOrderCancel,
    }

    def __init__(
        self,
        *,
        store: Store[StandingIntakeUnit],
        networks: Callable[[], Sequence[NetworkProfile]],
        observer: Observer,
        trust: TrustTable | None = None,
        assertions: AssertionVerifier | None = None,
        days: BusinessDays | None = None,
        ahead_days_max: int = AHEAD_DAYS_DEFAULT,
    ) -> None:
        self._store = store
        self._networks = networks
        self._observer = observer
        self._trust: TrustTable = trust or NoIdentityProviders()
        self._assertions: AssertionVerifier = assertions or NoIdentityProviders()
        self._days = days or BusinessDays()
        self._ahead_days_max = ahead_days_max

    async def take(self, instructions: Sequence[Instruction], now: datetime) -> None:
        """Create and cancel, in one transaction for a batch."""
        proofs = self._verify(instructions, now)
        if await self._trust.refresh_unknown():
            # A provider's key may be newer than what this process knows: look once more.
            proofs = self._verify(instructions, now)
        ends = await until_done(lambda: self._write(instructions, proofs, now))
        count = self._observer.count
        count("initiation", "standing_order", n=len(ends.created | ends.changed))
        count("initiation", "standing_order_refused", n=len(ends.refused))

    def _verify(self, instructions: Sequence[Instruction], now: datetime) -> dict[str, Assertion | Reason]:
        return {
            i.reference: self._assertions.verify(i.message.authentication, now)
            for i in instructions
            if isinstance(i.message, StandingOrderCreate) and i.message.authentication
        }

    async def _write(
        self, instructions: Sequence[Instruction], proofs: Mapping[str, Assertion | Reason], now: datetime
    ) -> _Ends:
        async with self._store.transaction() as uow:
            ends = _Ends(dict(await uow.standing.lock(sorted({_key(i) for i in instructions}))))
            records = [(i.message.partner_id, i.reference) for i in instructions]
            over = await uow.refusals.find(records)
            seen = await self._look(uow, instructions, proofs, ends)
            for instruction in instructions:
                if instruction.reference in over:
                    # It was refused and told so: what has changed since does not bring it back.
                    continue
                if isinstance(instruction.message, StandingOrderCreate):
                    self._create(instruction, instruction.message, proofs.get(instruction.reference), seen, now, ends)
                else:
                    _cancel(instruction, now, ends)
            created = [ends.rows[k] for k in sorted(ends.created)]
            if len(await uow.standing.insert(created)) != len(created):
                raise StoreConflictError("standing order inserted concurrently")
            await uow.standing.update([ends.rows[k] for k in sorted(ends.changed - ends.created)])
            await uow.outbox.append(ends.events)
            await tell_standing_refusals(uow, ends.refused, now)
        return ends

    async def _look(
        self,
        uow: StandingIntakeUnit,
        instructions: Sequence[Instruction],
        proofs: Mapping[str, Assertion | Reason],
        ends: _Ends,
    ) -> _Seen:
        creates = [i.message for i in instructions if isinstance(i.message, StandingOrderCreate)]
        verified = {r: p for r, p in proofs.items() if isinstance(p, Assertion)}
        uses = {
            i.reference: AssertionUse(
                issuer=proof.issuer,
                jti=proof.jti,
                partner_id=i.message.partner_id,
                used_by=proof_used_by(*_key(i)),
                keep_until=proof.keep_until,
            )
            for i in instructions
            # One that stands is not judged again.
            if (proof := verified.get(i.reference)) is not None and _key(i) not in ends.rows
        }
        refused = await uow.authentication.use(list(uses.values())) if uses else frozenset()
        return _Seen(
            consents=await uow.consents.read(sorted({(m.partner_id, m.consent_id) for m in creates})),
            merchants=await uow.directory.merchants(sorted({m.merchant_id for m in creates})),
            links=await uow.authentication.links(sorted({p.identity for p in verified.values()})),
            replayed=frozenset(_key(i) for i in instructions if uses.get(i.reference) in refused),
        )

    def _create(
        self,
        instruction: Instruction,
        message: StandingOrderCreate,
        proof: Assertion | Reason | None,
        seen: _Seen,
        now: datetime,
        ends: _Ends,
    ) -> None:
        key = _key(instruction)
        if (first := ends.rows.get(key)) is not None:
            if first.digest != instruction.digest:
                ends.refused.append((instruction, _id_taken(first, message)))
            elif first.status is StandingStatus.REFUSED and first.reason is not None:
                ends.refused.append((instruction, first.reason))
            else:
                ends.events.append(standing_event(first, self._days, now, repeated=instruction.reference))
            return
        begins = self._refuse(instruction, message, proof, seen, now)
        row = _row(instruction, message, begins, now, proven=proof is not None)
        ends.rows[key] = row
        ends.created.add(key)
        if isinstance(begins, Reason):
            ends.refused.append((instruction, begins))
        else:
            ends.events.append(standing_event(row, self._days, now))

    def _refuse(
        self,
        instruction: Instruction,
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
        instruction: Instruction,
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


def _key(instruction: Instruction) -> StandingKey:
    message = instruction.message
    if not isinstance(message, StandingOrderCreate | StandingOrderCancel):
        raise TypeError("initiation hands over what models names")
    return (message.partner_id, message.standing_order_id)


def _id_taken(first: StandingOrder, later: StandingOrderCreate) -> Reason:
    fields = ("consent_id", "merchant_id", "amount", "schedule")
    return id_taken("standing_order_id", {f: getattr(first, f) for f in fields}, {f: getattr(later, f) for f in fields})


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
    instruction: Instruction, message: StandingOrderCreate, begins: Occurrence | Reason, now: datetime, *, proven: bool
) -> StandingOrder:
    refused = isinstance(begins, Reason)
    return StandingOrder(
        partner_id=message.partner_id,
        standing_order_id=message.standing_order_id,
        consent_id=message.consent_id,
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


def _cancel(instruction: Instruction, now: datetime, ends: _Ends) -> None:
    message, key = instruction.message, _key(instruction)
    row = ends.rows.get(key)
    if row is None or row.status is StandingStatus.REFUSED or row.consent_id != message.record_key:
        ends.refused.append((instruction, _UNKNOWN))
        return
    if row.status is not StandingStatus.ACTIVE:
        ends.events.append(standing_event(row, BusinessDays(), now, repeated=instruction.reference))
        return
    ended = replace(row, status=StandingStatus.CANCELLED, version=row.version + 1, next_due_at=None, changed_at=now)
    ends.rows[key] = ended
    ends.changed.add(key)
    ends.events.append(standing_event(ended, BusinessDays(), now))
