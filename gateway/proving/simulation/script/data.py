"""What becomes of customers' data in one world: transmission requests, campaigns, and what changes meanwhile."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final

from gateway.base.calendar import day_of
from gateway.marketing.rules.campaign import Budget, Campaign, Frequency, Segment
from gateway.messaging.records import Outgoing
from gateway.portability.rules.records import RequestStatus, StoredRequest
from gateway.proving.simulation.script.proofs import Prover
from gateway.proving.simulation.script.scene import (
    GATEWAY_ORG,
    OTHER_RECIPIENT,
    PARTNER,
    RECIPIENT,
    SIGNED,
    TAMPERED,
    TRAFFIC_S,
    DataRequest,
    DataScript,
    Script,
    krw,
)
from schemas.assertions import PortabilityLink
from schemas.codec import encode
from schemas.consents import Channel, ConsentTerms, Cycle, PortabilityPurpose, PortabilityScope
from schemas.envelope import Envelope, write_envelope
from schemas.portability import PORTABILITY_REQUEST_TYPE, PortabilityRequest, TargetInfo, request_digest
from schemas.primitives import ConsentId
from schemas.topics import PORTABILITY_REQUESTS

_WEEK: Final = timedelta(days=7)
_FALSE: Final = ("recipient", "scope", "purpose", "cycle", "sender", "consent", "signature", "id")
"""What is wrong with a request that nothing permits."""


def portability_of(shape: int, epoch: datetime) -> PortabilityPurpose:
    """What a consent of this shape lets its recipient have: all, or approvals alone and no merchants' names."""
    wide = shape % 2 == 0
    last = day_of(epoch) + timedelta(days=200)
    return PortabilityPurpose(
        recipients=(RECIPIENT,),
        scopes=tuple(PortabilityScope) if wide else (PortabilityScope.CARD_APPROVAL,),
        is_scheduled=True,
        add_cycle=Cycle.WEEKLY,
        end_date=last,
        purpose="household accounts",
        period=last,
        is_consent_merchant_name_regno=shape in (0, 1),
        is_consent_trans_category=shape in (0, 2),
    )


def write_data(script: Script, rng: Random, prover: Prover) -> DataScript:
    """Draw it."""
    return DataScript(
        requests=_requests(script, rng, prover),
        scheduled=[_scheduled(script, of, rng, n) for n, of in enumerate(script.consents) if rng.random() < 0.4],
        key_changes=[rng.uniform(0.0, 2 * TRAFFIC_S) for _ in range(rng.choice((0, 0, 1, 2)))],
        campaigns=_campaigns(script.epoch, rng),
    )


# --- requests ---


def _requests(script: Script, rng: Random, prover: Prover) -> list[DataRequest]:
    made: list[DataRequest] = []
    for number in range(rng.randrange(2, 7)):
        at = rng.uniform(0.0, TRAFFIC_S + 4.0)
        if made and rng.random() < 0.15:
            again = rng.choice(made)
            made.append(replace(again, at=again.at + at / 4, right=False))
            continue
        of = rng.choice(script.consents)
        wrong = rng.choice(_FALSE) if rng.random() < 0.25 else ""
        body = _body(script, of, rng, f"request-{number}")
        believed = wrong != "signature"
        if wrong == "id" and made:
            taken = rng.choice(made)
            body["request_id"], at = taken.request.request_id, taken.at + rng.uniform(0.0, 2.0)
        else:
            _spoil(body, wrong)
        request = PortabilityRequest(**body)
        link = PortabilityLink(
            partner_id=PARTNER,
            request_id=request.request_id,
            consent_id=request.consent_id,
            rcv_org_code=request.rcv_org_code,
            request_digest=request_digest(encode(request)),
        )
        token, shown = prover.prove(link, at)
        proven = request.model_copy(update={"authentication": token})
        record = _signed(script, proven, SIGNED if believed else TAMPERED)
        made.append(DataRequest(at, record, request, shown, believed, not wrong))
    return sorted(made, key=lambda r: r.at)


def _body(script: Script, of: ConsentTerms, rng: Random, request_id: str) -> dict[str, Any]:
    purpose = of.portability
    if purpose is None:
        raise AssertionError("a world that hands data over has consents to it")
    scheduled = rng.random() < 0.2
    asked = purpose.scopes if rng.random() < 0.7 else (rng.choice(purpose.scopes),)
    return {
        "partner_id": PARTNER,
        "consent_id": of.consent_id,
        "request_id": request_id,
        "issued_at": script.epoch - timedelta(seconds=1),
        "snd_org_code": GATEWAY_ORG,
        "rcv_org_code": RECIPIENT,
        "is_scheduled": scheduled,
        "add_cycle": purpose.add_cycle if scheduled else None,
        "end_date": purpose.end_date,
        "purpose": purpose.purpose,
        "period": purpose.period,
        "target_info": tuple(TargetInfo(scope=s) for s in asked),
    }


def _spoil(body: dict[str, Any], wrong: str) -> None:
    """Ask for what no consent permits."""
    match wrong:
        case "recipient":
            body["rcv_org_code"] = OTHER_RECIPIENT
        case "scope":
            # Beyond those of a narrow consent; a wide one has them all.
            body["target_info"] = tuple(TargetInfo(scope=s) for s in PortabilityScope)
        case "purpose":
            body["purpose"] = "advertising"
        case "cycle":
            body |= {"is_scheduled": True, "add_cycle": Cycle.MONTHLY}
        case "sender":
            body["snd_org_code"] = OTHER_RECIPIENT
        case "consent":
            body["consent_id"] = ConsentId("nobody")
        case _:
            pass


def _signed(script: Script, request: PortabilityRequest, signature: str) -> Outgoing:
    envelope = Envelope(
        f"ce-{request.request_id}", "/partner", PORTABILITY_REQUEST_TYPE, script.epoch, signature=signature
    )
    return Outgoing(PORTABILITY_REQUESTS, request.consent_id.encode(), encode(request), write_envelope(envelope))


def _scheduled(script: Script, of: ConsentTerms, rng: Random, number: int) -> StoredRequest:
    """One of the week before, of which the second export is due while the world lives."""
    body = _body(script, of, rng, f"scheduled-{number}")
    purpose = of.portability
    request = PortabilityRequest(**(body | {"is_scheduled": True, "add_cycle": purpose.add_cycle if purpose else None}))
    due = script.epoch + timedelta(seconds=rng.uniform(1.0, 12.0))
    return StoredRequest(
        request=request,
        customer_id=of.customer_id,
        digest=hashlib.sha256(encode(request)).digest(),
        status=RequestStatus.ACTIVE,
        exports=1,
        next_due_at=due,
        accessed_at=due - _WEEK,
        reference=f"{PORTABILITY_REQUESTS}/0/{10**6 + number}",
        created_at=due - _WEEK,
    )


# --- campaigns ---


def _campaigns(epoch: datetime, rng: Random) -> Sequence[Campaign]:
    """One for everybody, as long as its budget lasts; two of which a customer gets one; one that is soon over."""
    common: dict[str, Any] = {
        "financial": ("points",),
        "telecom": ("mobile",),
        "channels": (Channel.APP, Channel.SMS),
        "begins_at": epoch - timedelta(days=1),
        "ends_at": epoch + timedelta(days=60),
        "segment": Segment(days=30, amount_min=krw(1)),
        "worth": krw(500),
        "valid_days": 14,
        "budget": Budget(amount=krw(5_000), offers=8),
        "frequency": Frequency(offers=9, days=30),
    }
    season = {"exclusive_group": "season"}
    return (
        Campaign(**(common | season), campaign_id="autumn"),
        Campaign(
            **(common | {"budget": Budget(amount=krw(1_000 * rng.choice((1, 2))), offers=8)}),
            uses_max=2,
            campaign_id="spring",
        ),
        Campaign(**(common | {"frequency": Frequency(offers=2, days=30)}), campaign_id="summer"),
        Campaign(**(common | season), campaign_id="winter"),
        Campaign(
            **(common | {"ends_at": epoch + timedelta(seconds=rng.uniform(5.0, 40.0))}),
            uses_max=3,
            campaign_id="year-end",
        ),
    )
