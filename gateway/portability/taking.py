"""Partners' transmission requests: signature → decode → customer's proof → decided under the consents' locks.

Every record ends in one way: accepted (one export begins, one event), reported (it came again), refused (told why), or
parked as a dead letter, of which nobody is told (:mod:`gateway.identity.door`).
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, assert_never
from uuid import UUID, uuid5

from pydantic import TypeAdapter

from gateway.base.errors import NotAuthenticatedError, StoreConflictError
from gateway.base.process import Clock, Observer
from gateway.base.repetition import id_used
from gateway.base.retrying import until_done
from gateway.consents.rules.consent import Consent
from gateway.database.unit import Store
from gateway.identity.arriving import arriving
from gateway.identity.assurance import Assertion
from gateway.identity.door import Authentic, Door, Faulty, Nobodys
from gateway.identity.refusals import Refusal
from gateway.identity.rules import judge_portability_assertion, replayed
from gateway.identity.signing import KeySource, SignatureVerifier
from gateway.identity.store import AssertionUse, AssertionVerifier, TrustTable
from gateway.identity.verifying import lapsed_proof, verify_proofs
from gateway.identity.vouching import Vouching
from gateway.messaging.records import DeadLetters, Record
from gateway.outbox.store import OutboxEvent
from gateway.portability.rules.records import Export, ExportState, Recipient, RequestKey, RequestStatus, StoredRequest
from gateway.portability.rules.requests import DESTROYED, next_due, refuse_request, search_from
from gateway.portability.store import PortabilityUnit
from schemas.assertions import PortabilityLink
from schemas.codec import encode
from schemas.events import EventType
from schemas.portability import (
    PORTABILITY_REQUEST_TYPE,
    PortabilityEvent,
    PortabilityRequest,
    RequestIdField,
    request_digest,
)
from schemas.primitives import ConsentIdField
from schemas.reasons import Reason
from schemas.topics import events_topic

_NAMESPACE: Final = UUID("5f6d7970-6179-4d65-9d65-6e742d706f72")
_CONSENT_ID: Final[TypeAdapter[str]] = TypeAdapter(ConsentIdField)
_REQUEST_ID: Final[TypeAdapter[str]] = TypeAdapter(RequestIdField)


@dataclass(frozen=True, slots=True)
class _Taken:
    read: Authentic[PortabilityRequest]
    proof: Assertion | Reason | None

    @property
    def request(self) -> PortabilityRequest:
        return self.read.message

    @property
    def key(self) -> RequestKey:
        return (self.request.partner_id, self.request.request_id)


@dataclass(slots=True)
class _Ends:
    stored: list[StoredRequest] = field(default_factory=list)
    refused: list[tuple[_Taken, Reason]] = field(default_factory=list)
    repeated: list[_Taken] = field(default_factory=list)


class PortabilityRequestService:
    """Takes in transmission requests."""

    def __init__(
        self,
        *,
        store: Store[PortabilityUnit],
        keys: KeySource,
        verifier: SignatureVerifier,
        trust: TrustTable,
        assertions: AssertionVerifier,
        dead_letters: DeadLetters,
        observer: Observer,
        clock: Clock,
        org_code: str,
    ) -> None:
        self._store = store
        self._keys = keys
        self._verifier = verifier
        self._door: Door[PortabilityRequest] = Door(
            verifier=verifier, models={PORTABILITY_REQUEST_TYPE: PortabilityRequest}
        )
        self._trust = trust
        self._assertions = assertions
        self._dead_letters = dead_letters
        self._observer = observer
        self._clock = clock
        self._org_code = org_code

    async def take(self, records: Sequence[Record]) -> None:
        """Bring every record of a batch to its end. Once this returns, the offsets may be committed."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        now = self._clock.now()
        with arriving(self._observer, await self._door.read_all(records, now, self._keys)) as read:
            await self._bring_to_ends(read, now)
        self._observer.batch("portability", size=len(records), seconds=loop.time() - started)

    async def _bring_to_ends(
        self, read: Sequence[Authentic[PortabilityRequest] | Faulty | Nobodys], now: datetime
    ) -> None:
        authentic: list[Authentic[PortabilityRequest]] = []
        faults: list[Faulty] = []
        parked: list[tuple[Record, NotAuthenticatedError]] = []
        for one in read:
            match one:
                case Nobodys():
                    parked.append((one.record, one.error))
                case Faulty():
                    faults.append(one)
                case Authentic() if one.lapsed is not None:
                    parked.append((one.record, NotAuthenticatedError(one.lapsed)))
                case Authentic():
                    authentic.append(one)
                case _:
                    assert_never(one)
        proofs = await verify_proofs([a.message.authentication for a in authentic], self._assertions, self._trust, now)
        taken = [_Taken(a, proof) for a, proof in zip(authentic, proofs, strict=True)]
        if taken or faults:
            vouching = Vouching(self._verifier, self._clock)
            ends = await until_done(lambda: self._commit(taken, faults, vouching))
            parked += vouching.lapsed
            count = self._observer.count
            count("portability", "accepted", n=len(ends.stored))
            count("portability", "repeated", n=len(ends.repeated))
            for code, n in Counter(reason.code.value for _, reason in ends.refused).items():
                count("portability", "refused", reason=code, n=n)
            count("portability", "refused", reason="FF01", n=len(faults))
        if parked:
            await until_done(lambda: self._dead_letters.park("portability", parked))
            self._observer.count("portability", "dead_letter", n=len(parked))

    async def _commit(self, read: Sequence[_Taken], faults: Sequence[Faulty], vouching: Vouching) -> _Ends:
        async with self._store.transaction() as uow:
            consents = await uow.consents.lock(sorted({(t.request.partner_id, t.request.consent_id) for t in read}))
            now = self._clock.now()
            # A key may have been disabled while it waited for the locks, or for the database.
            taken = [self._proof_rechecked(t) for t in read if vouching(t.read)]
            keys = sorted({t.key for t in taken})
            known = dict(await uow.portability.requests(keys))
            # After it: what is destroyed meanwhile is in one of the two.
            gone = await uow.portability.gone(keys)
            refused_before = await uow.refusals.find([(t.request.partner_id, t.read.reference) for t in taken])
            recipients = await uow.portability.recipients(sorted({t.request.rcv_org_code for t in taken}))
            shown = [t.proof for t in taken if isinstance(t.proof, Assertion)]
            links = await uow.authentication.links(sorted({a.identity for a in shown})) if shown else {}
            ends = _Ends()
            for one in taken:
                if one.read.reference in refused_before:
                    # It was refused and told so: what has changed since does not bring it back.
                    continue
                first = known.get(one.key)
                if first is not None:
                    _repeat(one, first, ends)
                    continue
                if (destroyed := gone.get(one.key)) is not None:
                    # The very record that was taken is no repetition: nothing is told of it again.
                    if destroyed.reference != one.read.reference:
                        ends.refused.append((one, DESTROYED))
                    continue
                consent = consents.get((one.request.partner_id, one.request.consent_id))
                refused = self._refuse(one, consent, recipients, links, now) or await _use(uow, one)
                if refused is not None or consent is None:
                    ends.refused.append((one, refused)) if refused is not None else None
                    continue
                known[one.key] = _stored(one, consent, now)
                ends.stored.append(known[one.key])
            if len(await uow.portability.add(ends.stored)) != len(ends.stored):
                raise StoreConflictError("a request was taken concurrently")
            await uow.portability.access(ends.stored)
            await uow.portability.add_exports([_first_export(s, now) for s in ends.stored])
            await uow.outbox.append([_accepted(s, now) for s in ends.stored])
            await uow.outbox.append([_reported(t, now) for t in ends.repeated])
            await _tell_refused(uow, ends.refused, faults, now)
        return ends

    def _proof_rechecked(self, taken: _Taken) -> _Taken:
        problem = lapsed_proof(self._assertions, taken.proof)
        return taken if problem is None else replace(taken, proof=problem)

    def _refuse(
        self,
        taken: _Taken,
        consent: Consent | None,
        recipients: Mapping[str, Recipient],
        links: Mapping[tuple[str, str], str],
        now: datetime,
    ) -> Reason | None:
        request = taken.request
        recipient = recipients.get(request.rcv_org_code)
        refused = refuse_request(request, consent=consent, recipient=recipient, org_code=self._org_code, now=now)
        if refused is not None or consent is None:
            return refused
        if isinstance(taken.proof, Reason):
            return taken.proof
        link = PortabilityLink(
            partner_id=request.partner_id,
            request_id=request.request_id,
            consent_id=request.consent_id,
            rcv_org_code=request.rcv_org_code,
            request_digest=request_digest(taken.read.record.value),
        )
        judged = judge_portability_assertion(
            taken.proof,
            link=link,
            customer_id=consent.terms.customer_id,
            linked=links.get(taken.proof.identity) if taken.proof else None,  # type: ignore[arg-type]
            issuer=self._trust.issuer(taken.proof.issuer) if taken.proof else None,
            policy=self._trust.policy,
            now=now,
        )
        return judged if isinstance(judged, Reason) else None


async def _use(uow: PortabilityUnit, taken: _Taken) -> Reason | None:
    proof = taken.proof
    if not isinstance(proof, Assertion):
        return None
    use = AssertionUse(
        issuer=proof.issuer,
        jti=proof.jti,
        partner_id=taken.request.partner_id,
        used_by=uuid5(_NAMESPACE, "/".join(taken.key)),
        keep_until=proof.keep_until,
    )
    return replayed() if use in await uow.authentication.use([use]) else None


def _repeat(taken: _Taken, first: StoredRequest, ends: _Ends) -> None:
    if first.digest != taken.read.digest:
        reason = id_used(
            "request_id",
            {"rcv_org_code": first.request.rcv_org_code},
            {"rcv_org_code": taken.request.rcv_org_code},
            stands="other fields may differ too; the first request stands",
        )
        ends.refused.append((taken, reason))
    elif first.reference != taken.read.reference:
        ends.repeated.append(taken)


def _stored(taken: _Taken, consent: Consent, now: datetime) -> StoredRequest:
    request = taken.request
    return StoredRequest(
        request=request,
        customer_id=consent.terms.customer_id,
        digest=taken.read.digest,
        status=RequestStatus.ACTIVE,
        exports=1,
        next_due_at=next_due(request, now, 1),
        accessed_at=now,
        reference=taken.read.reference,
        created_at=now,
        traceparent=taken.read.envelope.traceparent,
    )


def _first_export(stored: StoredRequest, now: datetime) -> Export:
    return Export(
        partner_id=stored.request.partner_id,
        request_id=stored.request.request_id,
        number=1,
        consent_id=stored.request.consent_id,
        state=ExportState.WAITING,
        attempt=0,
        search_from=search_from(stored.request),
        created_at=now,
        changed_at=now,
    )


async def _tell_refused(
    uow: PortabilityUnit, refused: Sequence[tuple[_Taken, Reason]], faults: Sequence[Faulty], now: datetime
) -> None:
    told = [
        *(
            (
                t.request.partner_id,
                t.request.consent_id,
                t.request.request_id,
                t.read.reference,
                reason,
                t.read.envelope.traceparent,
            )
            for t, reason in refused
        ),
        *(
            (
                f.partner_id,
                f.member("consent_id", _CONSENT_ID) or f.reference,
                f.member("request_id", _REQUEST_ID) or f.reference,
                f.reference,
                f.reason,
                f.traceparent,
            )
            for f in faults
        ),
    ]
    if not told:
        return
    new = await uow.refusals.insert(
        # No order's id holds a colon.
        [
            Refusal(partner, f"portability:{request_id}", place, reason)
            for partner, _, request_id, place, reason, _ in told
        ]
    )
    await uow.outbox.append(
        [
            event_of(
                PortabilityEvent.of_stored(
                    partner_id=partner,
                    consent_id=consent_id,
                    request_id=request_id,
                    status="refused",
                    reason=reason,
                    reference=place,
                    occurred_at=now,
                ),
                EventType.PORTABILITY_REFUSED,
                place,
                traceparent,
            )
            for partner, consent_id, request_id, place, reason, traceparent in told
            if place in new
        ]
    )


def _accepted(stored: StoredRequest, now: datetime) -> OutboxEvent:
    request = stored.request
    told = PortabilityEvent.of_stored(
        partner_id=request.partner_id,
        consent_id=request.consent_id,
        request_id=request.request_id,
        status="accepted",
        rcv_org_code=request.rcv_org_code,
        reference=stored.reference,
        occurred_at=now,
    )
    return event_of(told, EventType.PORTABILITY_ACCEPTED, stored.reference, stored.traceparent)


def _reported(taken: _Taken, now: datetime) -> OutboxEvent:
    request = taken.request
    told = PortabilityEvent.of_stored(
        partner_id=request.partner_id,
        consent_id=request.consent_id,
        request_id=request.request_id,
        status="reported",
        rcv_org_code=request.rcv_org_code,
        reference=taken.read.reference,
        occurred_at=now,
    )
    return event_of(told, EventType.PORTABILITY_REPORTED, taken.read.reference)


def event_of(told: PortabilityEvent, type_: EventType, event_id: str, traceparent: str | None = None) -> OutboxEvent:
    """An event for the partner that asked."""
    return OutboxEvent(
        topic=events_topic(told.partner_id),
        key=told.consent_id,
        event_id=event_id,
        event_type=type_,
        occurred_at=told.occurred_at,
        body=encode(told),
        traceparent=traceparent,
    )
