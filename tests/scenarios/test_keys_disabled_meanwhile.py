"""What was read and then waited, for locks or for the database, counts only if its keys still do: at every door."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest

from gateway.app.runtime import Runtime
from gateway.app.sharing import SharingConnections, sharing
from gateway.base.errors import StoreUnavailableError
from gateway.messaging.records import Record
from gateway.observability.recording import RecordingObserver
from gateway.payments.rules.lifecycle import PaymentState
from gateway.proving.memory import (
    Database,
    MemoryClock,
    MemoryConsumer,
    MemoryDeadLetters,
    MemoryKafka,
    MemoryKeySource,
    MemoryStore,
    MemoryVerifier,
)
from gateway.sealing.sealing import MasterKeys
from gateway.sharing.pseudonyms import Pseudonyms
from gateway.sharing.rules.records import Holder, Notice
from schemas.codec import encode
from schemas.consents import ConsentStatus
from schemas.envelope import Envelope, write_envelope
from schemas.marketing import OFFER_USE_TYPE, OfferUse
from schemas.primitives import ConsentId, PartnerId
from schemas.sharing import ERASURE_TYPE, EraseCause, ErasureConfirmed
from schemas.topics import ERASURES, OFFER_USES
from tests.support.builders import NOW, numbered_order, order_record
from tests.support.consents import DISABLED, ConsentRig, put
from tests.support.domain_samples import krw
from tests.support.faults import Faults
from tests.support.instructions import cancellation, instruction_record
from tests.support.marketing import MarketingRig
from tests.support.portability import PortabilityRig
from tests.support.rig import Rig

AWAY = StoreUnavailableError("the server does not answer")

waits = pytest.mark.parametrize("is_away", [False, True], ids=["for locks", "for the database"])


async def taken_while(
    faults: Faults, place: str, taking: Awaitable[None], meanwhile: Callable[[], object], *, is_away: bool
) -> None:
    """Take records; as they wait at a place something happens. ``is_away``: what they wait for does not come at all."""
    faults.hold(place)
    task = asyncio.ensure_future(taking)
    await faults.reached(place)
    meanwhile()
    if is_away:
        faults.plan(place, AWAY)
    faults.open(place)
    await task


# --- commands on consents ---


@waits
async def test_a_stolen_key_resumes_no_consent_once_it_is_disabled(is_away: bool) -> None:
    rig = ConsentRig()
    put(rig, "SUSP")
    resume = rig.instruction("resume", signature="stolen-later")
    put(rig, "AUTH", consent_id="consent-2")
    revoke = rig.record("revoke", consent_id="consent-2")
    disable = {"stolen-later": DISABLED}
    taking = rig.take(resume, revoke)
    await taken_while(
        rig.faults, "consents.lock_records", taking, lambda: rig.verifier.refused.update(disable), is_away=is_away
    )
    assert (rig.consent().status, rig.consent("consent-2").status) == (ConsentStatus.SUSP, ConsentStatus.CANC)
    assert [(p.stage, p.record, str(p.error)[:4]) for p in rig.dead_letters.parked] == [("consents", resume, "DS0C")]
    assert [body["consent_id"] for _, body in rig.told()] == ["consent-2"]
    assert rig.database.used_assertions.rows == {}


@waits
async def test_a_providers_key_proves_no_command_once_it_is_revoked(is_away: bool) -> None:
    rig = ConsentRig()
    put(rig, "SUSP")
    taking = rig.take(rig.instruction("resume"))
    await taken_while(
        rig.faults, "consents.lock_records", taking, lambda: rig.identities.revoked.add("kid-0"), is_away=is_away
    )
    [(kind, told)] = rig.told()
    assert (kind, told["reason"]["code"], rig.consent().status) == ("refused", "DS0C", ConsentStatus.SUSP)


# --- transmission requests ---


@waits
async def test_a_stolen_key_has_nothing_exported_once_it_is_disabled(is_away: bool) -> None:
    rig = PortabilityRig()
    rig.pay(1)
    request = rig.record()
    disable = {"good": DISABLED}
    taking = rig.take(request)
    await taken_while(
        rig.faults, "consents.lock", taking, lambda: rig.verifier.refused.update(disable), is_away=is_away
    )
    assert (await rig.make_all(), rig.told(), rig.database.used_assertions.rows) == (0, [], {})
    assert [(p.stage, p.record) for p in rig.dead_letters.parked] == [("portability", request)]


@waits
async def test_a_providers_key_proves_no_request_once_it_is_revoked(is_away: bool) -> None:
    rig = PortabilityRig()
    taking = rig.take(rig.record())
    await taken_while(rig.faults, "consents.lock", taking, lambda: rig.identities.revoked.add("kid-0"), is_away=is_away)
    assert (await rig.make_all(), rig.partner_told()) == (0, ["refused"])


# --- affiliates ---


def of_affiliate(topic: str, type_: str, key: str, body: bytes, affiliate: str) -> Record:
    headers = write_envelope(Envelope(id="1", source=f"/{affiliate}", type=type_, time=NOW, signature=affiliate))
    return Record(topic, 0, 1, int(NOW.timestamp() * 1000), key.encode(), body, tuple(headers))


@waits
async def test_a_stolen_key_of_an_affiliates_confirms_no_erasure_once_it_is_disabled(is_away: bool) -> None:
    faults, clock, letters, notice = Faults(), MemoryClock(NOW), MemoryDeadLetters(), UUID(int=1)
    database, verifier = Database(), MemoryVerifier(owners={"points": "points"})
    connections = SharingConnections(
        confirmations=MemoryConsumer(MemoryKafka(clock), topics=[ERASURES], group_id="mypay-sharing"),
        keys=MemoryKeySource(),
        signatures=verifier,
        dead_letters=letters,
        pseudonyms=Pseudonyms(MasterKeys({"20260101-a": bytes(32)})),
    )
    runtime = Runtime(store=MemoryStore(database, faults), observer=RecordingObserver(), clock=clock, worker="w")
    key = (PartnerId("partner-1"), ConsentId("consent-1"))
    due = Notice(notice, EraseCause.ENDED, NOW, NOW)
    held = Holder(key, "customer-1", "points", 1, "points", ("k",), NOW, ("loyalty",), due)
    database.sharing.holders.rows[key, "points", 1] = held
    body = encode(ErasureConfirmed(notice_id=notice, affiliate_id="points", erased=3, erased_at=NOW))
    record = of_affiliate(ERASURES, ERASURE_TYPE, str(notice), body, "points")
    taking = sharing(runtime, connections).erasures.take([record])
    disable = {"points": DISABLED}
    await taken_while(faults, "sharing.lock_notices", taking, lambda: verifier.refused.update(disable), is_away=is_away)
    assert [r.confirmed_at for r in database.sharing.holders.rows.values()] == [None]
    assert [p.record for p in letters.parked] == [record]


async def test_a_stolen_key_of_an_affiliates_counts_no_use_once_it_is_disabled() -> None:
    faults, database = Faults(), Database()
    rig = MarketingRig(MemoryStore(database, faults))
    offer = UUID(int=9)
    body = encode(OfferUse(use_id="use-1", offer_id=offer, affiliate_id="bank", amount=krw(100), used_at=NOW))
    record = of_affiliate(OFFER_USES, OFFER_USE_TYPE, str(offer), body, "bank")
    disable = {"bank": DISABLED}
    taking = rig.uses.take([record])
    await taken_while(faults, "marketing.offers", taking, lambda: rig.verifier.refused.update(disable), is_away=True)
    assert ([p.record for p in rig.dead_letters.parked], database.outbox) == ([record], [])


# --- what is carried out as it is taken in ---


async def test_a_stolen_key_cancels_nothing_once_it_is_disabled() -> None:
    rig = Rig()
    await rig.initiation.take([order_record(numbered_order(1)), order_record(numbered_order(2), offset=1)])
    await rig.execute(rig.kafka.records("mypay.dispatch.net-a"))
    stolen = instruction_record(cancellation(1), 5, signature="stolen-later")
    own = instruction_record(cancellation(2), 6)
    disable = {"stolen-later": DISABLED}
    taking = rig.initiation.take([stolen, own])
    await taken_while(rig.faults, "consents.lock", taking, lambda: rig.verifier.refused.update(disable), is_away=True)
    states = {n: rig.payment(n).state for n in (1, 2)}
    assert states == {1: PaymentState.APPROVED, 2: PaymentState.REVERSING}
    assert [(p.stage, p.record) for p in rig.dead_letters.parked] == [("initiation", stolen)]
