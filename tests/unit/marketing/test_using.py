"""Affiliates' records at the door: the signer's own words are answered, all others are dead letters."""

from pathlib import Path
from uuid import UUID

import pytest

from gateway.marketing.rules.campaign import Campaign
from gateway.messaging.records import Record
from gateway.proving.memory import Database, MemoryStore
from schemas.codec import decode, encode
from schemas.envelope import Envelope, write_envelope
from schemas.marketing import OFFER_USE_TYPE, USE_REFUSED_TYPE, OfferUse, OfferUseRefused
from schemas.topics import OFFER_USES, offers_topic
from tests.support.builders import NOW
from tests.support.domain_samples import krw
from tests.support.marketing import MarketingRig

OFFER = UUID(int=9)


def record(affiliate: str = "bank", signature: str | None = "bank", key: str = str(OFFER)) -> Record:
    body = OfferUse(use_id="use-1", offer_id=OFFER, affiliate_id=affiliate, amount=krw(100), used_at=NOW)
    headers = write_envelope(
        Envelope(id="1", source="/affiliates/bank", type=OFFER_USE_TYPE, time=NOW, signature=signature)
    )
    return Record(OFFER_USES, 0, 1, int(NOW.timestamp() * 1000), key.encode(), encode(body), headers)


async def test_whoever_signed_is_answered() -> None:
    database = Database()
    rig = MarketingRig(MemoryStore(database))
    await rig.uses.take([record(), record()])
    events = [row.event for row in database.outbox]
    assert {(e.topic, e.event_type) for e in events} == {(offers_topic("bank"), USE_REFUSED_TYPE)}
    assert len({e.event_id for e in events}) == 1
    assert decode(OfferUseRefused, events[0].body).reason.code == "FF01"
    assert rig.dead_letters.parked == []


@pytest.mark.parametrize(
    "bad",
    [record("mobile"), record(signature=None), record(key="other")],
    ids=["in another's name", "not signed", "another key"],
)
async def test_what_nobody_signed_for_itself_is_a_dead_letter(bad: Record) -> None:
    database = Database()
    rig = MarketingRig(MemoryStore(database))
    await rig.uses.take([bad])
    assert [p.record for p in rig.dead_letters.parked] == [bad]
    assert database.outbox == []


def test_the_guides_campaign_and_use_are_read() -> None:
    guide = (Path(__file__).parents[3] / "schemas" / "AFFILIATES.md").read_text(encoding="utf-8")
    text = guide.partition("cat > var/spring.json <<JSON\n")[2].partition("JSON\n")[0]
    campaign: Campaign = decode(Campaign, text.encode())
    assert campaign.affiliates == ("acme-bank", "acme-mobile")
    body = guide.partition(f"<!-- body: {OFFER_USE_TYPE} -->\n```json\n")[2].partition("```")[0]
    assert decode(OfferUse, body.encode()).amount == krw(4_500)
