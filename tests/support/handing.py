"""The stages that hand customers' data to others, in a world of tests: started for a test, and stopped after it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from gateway.client import signed
from gateway.messaging.records import Outgoing
from gateway.proving.traffic.cast import Role
from gateway.proving.traffic.receivers import FAITHFUL, SENDER
from gateway.proving.world.receiving import AffiliateBook, Receiving, open_receiving
from gateway.proving.world.starting import start_gateway
from schemas.codec import encode
from schemas.marketing import OfferGranted, OfferUse
from schemas.portability import PortabilityRequest, TargetInfo
from schemas.primitives import Money
from schemas.sharing import ErasureConfirmed
from tests.support.scene import WAIT_S, Scene

STAGES = ("disclosure", "portability", "sharing", "marketing")


@asynccontextmanager
async def handing(scene: Scene) -> AsyncIterator["Handing"]:
    """Run the stages, and follow what the receivers of the scene's world are given."""
    world, plan = scene.world, scene.world.plan
    world.plan = replace(plan, with_disclosure=True, with_receivers=True)
    try:
        await start_gateway(world, lambda _: nullcontext())
        async with open_receiving(world) as receiving:
            yield Handing(scene, receiving)
    finally:
        started = [s for s in world.stages if s.name in STAGES]
        for stage in started:
            await stage.stop(WAIT_S)
        world.plan = plan
        world.stages = [s for s in world.stages if s not in started]
        for stage in started:
            world.http.pop(stage.name, None)


class Handing:
    """What the scene's one customer who has permitted everything, its partner and its affiliates do."""

    def __init__(self, scene: Scene, receiving: Receiving) -> None:
        self.scene = scene
        self.receiving = receiving
        [self.customer] = scene.world.cast.of(Role.LEAVER)

    @property
    def key(self) -> tuple[str, str]:
        return (self.customer.terms.partner_id, self.customer.terms.consent_id)

    def request(self, request_id: str) -> PortabilityRequest:
        """A transmission request for everything; this world asks for no proofs."""
        terms = self.customer.terms
        purpose = terms.portability
        assert purpose is not None
        return PortabilityRequest(
            partner_id=terms.partner_id,
            consent_id=terms.consent_id,
            request_id=request_id,
            issued_at=datetime.now(UTC),
            snd_org_code=SENDER,
            rcv_org_code=purpose.recipients[0],
            end_date=purpose.end_date,
            purpose=purpose.purpose,
            period=purpose.period,
            target_info=tuple(TargetInfo(scope=s) for s in purpose.scopes),
        )

    def as_partner(self, message: PortabilityRequest, **changed: Any) -> Outgoing:
        """The message with fields that are put in beside its own, signed as its partner does."""
        return self._signed(self.scene.world.cast.partner(message.partner_id).signer, message, changed)

    def as_affiliate(self, message: OfferUse | ErasureConfirmed, **changed: Any) -> Outgoing:
        """Likewise of an affiliate."""
        assert self.scene.world.cast.receivers is not None
        signer = self.scene.world.cast.receivers.affiliate(message.affiliate_id).signer
        return self._signed(signer, message, changed)

    def _signed(self, signer: Any, message: Any, changed: dict[str, Any]) -> Outgoing:
        body = encode(message)
        for name, value in changed.items():
            body = body[:-1] + f',"{name}":"{value}"}}'.encode()
        return signed(signer, message, body=body)

    async def send(self, *records: Outgoing) -> None:
        """Send them; those that nobody can read are no fault of the world's."""
        receipts = await self.scene.client.send(records)
        self.scene.planted |= {(r.topic, at.partition, at.offset) for r, at in zip(records, receipts, strict=True)}

    async def offer(self) -> OfferGranted:
        """The offer that the customer gets for what it has spent."""
        sql = (
            "SELECT affiliate_id, offer_id::text FROM offer WHERE (partner_id, consent_id, campaign_id) = ($1, $2, $3)"
        )

        async def granted() -> bool:
            rows = await self.scene.fetch(sql, *self.key, FAITHFUL)
            return bool(rows) and rows[0]["offer_id"] in self.books[rows[0]["affiliate_id"]].offers

        await self.scene.until(granted, "the customer has an offer")
        [row] = await self.scene.fetch(sql, *self.key, FAITHFUL)
        return self.books[row["affiliate_id"]].offers[row["offer_id"]]

    @property
    def books(self) -> dict[str, AffiliateBook]:
        return self.receiving.books

    async def references(self) -> dict[str, str]:
        """Affiliate → its own name of the customer's consent."""
        sql = "SELECT affiliate_id, reference FROM share_holder WHERE (partner_id, consent_id) = ($1, $2)"
        return {r["affiliate_id"]: r["reference"] for r in await self.scene.fetch(sql, *self.key)}


def use_of(offer: OfferGranted, use_id: str, won: int = 500) -> OfferUse:
    return OfferUse(
        use_id=use_id,
        offer_id=offer.offer_id,
        affiliate_id=offer.affiliate_id,
        amount=Money.of(won, "KRW"),
        used_at=datetime.now(UTC),
    )
