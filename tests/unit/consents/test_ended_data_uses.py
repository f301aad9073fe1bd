"""How late data is handed over under a purpose that has ended: measured of exports, answers and uses of offers too."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from gateway.app.portability_api import pull_service, pull_watch
from gateway.app.runtime import Runtime
from gateway.consents.ended_watch import KEPT_S, EndedConsentWatch
from gateway.consents.rules.purposes import PurposeEnd
from gateway.consents.store import PurposeEndRow
from gateway.marketing.rules.campaign import CampaignRow
from gateway.marketing.rules.offers import Offer
from gateway.portability.api.answering import PullSettings
from gateway.proving.memory import Database, MemoryStore
from gateway.sealing.mac import HmacMarks
from gateway.sealing.sealing import MasterKeys
from gateway.sealing.sealing import Purpose as KeyPurpose
from schemas.consents import Purpose
from schemas.marketing import OfferUse
from schemas.primitives import ConsentId, PartnerId
from schemas.topics import EXPORT_LATE_MS
from tests.support.builders import NOW
from tests.support.domain_samples import krw
from tests.support.marketing import MarketingRig, agrees, campaign
from tests.support.portability import GATEWAY, PortabilityRig
from tests.unit.portability.test_exports import cut_at, end_purpose
from tests.unit.portability.test_pull_service import PAID, SHOWN, Rig

KEY = (PartnerId("partner-1"), ConsentId("consent-1"))
OFFER = UUID(int=9)
SETTLE_S = KEPT_S + EXPORT_LATE_MS / 1000 + 1


def note_end(database: Database, purpose: Purpose, at: datetime) -> None:
    database.purpose_ends.rows[KEY, 1, purpose] = PurposeEndRow(KEY, 1, purpose, PurposeEnd.REVOKED, 1, at)


async def settle(watch: EndedConsentWatch, advance: Callable[[float], object]) -> None:
    await watch.look()
    advance(SETTLE_S)
    await watch.look()


async def test_the_receipt_of_an_export_stands_before_the_revocation() -> None:
    rig = PortabilityRig()
    rig.pay(1, 2)
    await rig.take(rig.record())
    await rig.make_all()
    rig.clock.advance(2)
    note_end(rig.database, Purpose.PORTABILITY, rig.clock.now())
    end_purpose(rig, Purpose.PORTABILITY)
    await settle(rig.stage.watch, rig.clock.advance)
    assert rig.observer.levels["revoke_to_last_use_seconds{use=export}"] == -2.0
    assert rig.observer.notes == []


async def test_a_chunk_that_is_on_its_way_while_its_purpose_ends_is_measured() -> None:
    rig = PortabilityRig()
    rig.pay(1, 2, 3, 4)
    await rig.take(rig.record())

    def end() -> None:
        note_end(rig.database, Purpose.PORTABILITY, rig.clock.now())
        end_purpose(rig, Purpose.PORTABILITY)
        rig.clock.advance(0.25)

    await cut_at(rig, 2, end)
    await settle(rig.stage.watch, rig.clock.advance)
    [late] = [seconds for span, seconds in rig.observer.delays if span == "revoke_to_last_export"]
    assert late == pytest.approx(0.25, abs=0.2)
    # It came to nothing, so no use was decided.
    assert "revoke_to_last_use_seconds{use=export}" not in rig.observer.levels


async def test_an_answer_through_the_api_stands_before_the_revocation() -> None:
    rig = Rig()
    rig.pay(1)
    runtime = Runtime(store=rig.store, observer=rig.observer, clock=rig.clock, worker="api")
    watch = pull_watch(runtime)
    marks = HmacMarks(MasterKeys({"page": bytes(32)}), KeyPurpose.NEXT_PAGE)
    rig.api = pull_service(runtime, marks, PullSettings(GATEWAY), watch)
    assert (await rig.ask(PAID, shown=SHOWN)).code.value == "00000"
    rig.clock.advance(1.5)
    note_end(rig.database, Purpose.PORTABILITY, rig.clock.now())
    end_purpose(rig, Purpose.PORTABILITY)
    assert (await rig.ask(PAID, shown=SHOWN)).code.value == "40106"
    await settle(watch, rig.clock.advance)
    assert rig.observer.levels["revoke_to_last_use_seconds{use=pull}"] == -1.5


async def test_a_use_of_an_offer_that_counts_stands_before_the_revocation() -> None:
    database = Database()
    rig = MarketingRig(MemoryStore(database))
    database.put_consent(agrees())
    database.marketing.campaigns.rows["spring"] = CampaignRow(campaign(), offers=1, held_minor=1_500)
    offer = Offer(OFFER, "spring", "customer-1", KEY, 1, "bank", ("app",), "KRW", 500, 3, NOW, NOW + timedelta(days=9))
    database.marketing.offers.rows["spring", "customer-1"] = offer
    use = OfferUse(use_id="use-1", offer_id=OFFER, affiliate_id="bank", amount=krw(100), used_at=NOW)
    await rig.uses.count([(use, b"1")])
    rig.clock.advance(3)
    note_end(database, Purpose.MARKETING, rig.clock.now())
    database.put_consent(replace(agrees(), ended=frozenset({Purpose.MARKETING})))
    # Refused, and so no use.
    await rig.uses.count([(use.model_copy(update={"use_id": "use-2"}), b"2")])
    await settle(rig.watch, rig.clock.advance)
    assert rig.observer.levels["revoke_to_last_use_seconds{use=offer}"] == -3.0
