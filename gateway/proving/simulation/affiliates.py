"""The affiliates of a world: they read what they are sent, use offers, and confirm that they have erased, or do not.

What they write is drawn as they read. Some of it is no affiliate's word: confirmations and uses of what is another's,
with signatures that do not hold, twice, late, or never.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import Any, Final
from uuid import UUID

from gateway.base.process import Clock
from gateway.messaging.records import Outgoing, Record
from gateway.proving.memory.kafka import MemoryKafka
from gateway.proving.simulation.faults import Fault
from gateway.proving.simulation.script.scene import SHARED_WITH, TAMPERED, krw
from schemas.codec import encode
from schemas.envelope import Envelope, write_envelope
from schemas.marketing import OFFER_GRANTED_TYPE, OFFER_USE_TYPE, OfferUse
from schemas.sharing import ERASURE_TYPE, ErasureConfirmed
from schemas.topics import ERASURES, OFFER_USES, offers_topic, sharing_topic

ERASE_WITHIN: Final = timedelta(seconds=10)
"""How long affiliates have to confirm."""

_NOBODYS_OFFER: Final = UUID(int=7)


@dataclass(frozen=True, slots=True)
class Told:
    """A use as an affiliate told of it first under its id."""

    affiliate_id: str
    use_id: str
    offer_id: UUID
    amount_minor: int


class Affiliates:
    """All of one world's.

    Args:
        rng: their own: what they do changes nothing of what else is drawn.
        caused: told of what is a fault.

    Attributes:
        confirmed: notices that their own affiliate has confirmed.
        lost: those that it never will.
        uses: (affiliate, use) → what was told first under it, by its own affiliate.
        pending: what they are about to write.
        forged: references of what no affiliate wrote for itself.
    """

    def __init__(
        self,
        kafka: MemoryKafka,
        clock: Clock,
        *,
        loop: asyncio.AbstractEventLoop,
        rng: Random,
        caused: Callable[[Fault, str], None],
    ) -> None:
        self.confirmed: set[UUID] = set()
        self.lost: set[UUID] = set()
        self.uses: dict[tuple[str, str], Told] = {}
        self.pending = 0
        self.forged: set[str] = set()
        self._kafka = kafka
        self._clock = clock
        self._loop = loop
        self._rng = rng
        self._caused = caused
        self._seen: set[str] = set()
        self._of_topic = {sharing_topic(a): a for a in SHARED_WITH} | {offers_topic(a): a for a in SHARED_WITH}
        self._numbers = 0

    def read(self, record: Record) -> None:
        """Look at a record of any topic as it comes to stand there; an event that comes again is known."""
        affiliate = self._of_topic.get(record.topic)
        if affiliate is None:
            return
        headers = dict(record.headers)
        name = f"{record.topic} {headers['ce_id'].decode()}"
        if name in self._seen:
            return
        self._seen.add(name)
        body = json.loads(record.value)
        if "notice_id" in body:
            self._erase(affiliate, UUID(body["notice_id"]))
        elif headers["ce_type"].decode() == OFFER_GRANTED_TYPE:
            self._use(affiliate, body)

    # --- erasing ---

    def _erase(self, affiliate: str, notice: UUID) -> None:
        rng, draw = self._rng, self._rng.random()
        if draw < 0.12:
            self.lost.add(notice)
            self._caused(Fault.CONFIRMATION_LOST, affiliate)
        else:
            late = draw < 0.24
            after = rng.uniform(12.0, 25.0) if late else rng.expovariate(0.7)
            if late:
                self._caused(Fault.CONFIRMATION_LATE, affiliate)
            self.confirmed.add(notice)
            self._confirm(after, affiliate, notice, affiliate)
            if draw > 0.85:
                self._caused(Fault.CONFIRMATION_AGAIN, affiliate)
                self._confirm(after + rng.expovariate(0.7), affiliate, notice, affiliate)
        if rng.random() < 0.25:
            self._caused(Fault.CONFIRMATION_FORGED, affiliate)
            other = next(a for a in SHARED_WITH if a != affiliate)
            # In its own name, in the other's with a key of its own, or with one that does not hold.
            named, signature = rng.choice(((other, other), (affiliate, other), (affiliate, TAMPERED)))
            self._confirm(rng.expovariate(0.5), named, notice, signature, forged=True)

    def _confirm(self, after: float, affiliate: str, notice: UUID, signature: str, *, forged: bool = False) -> None:
        body = ErasureConfirmed(
            notice_id=notice, affiliate_id=affiliate, erased=self._rng.randrange(4), erased_at=self._clock.now()
        )
        self._write(
            after, Outgoing(ERASURES, str(notice).encode(), encode(body), self._sign(ERASURE_TYPE, signature)), forged
        )

    # --- offers ---

    def _use(self, affiliate: str, offer: dict[str, Any]) -> None:
        rng = self._rng
        worth = int(offer["worth"]["value"])
        after = rng.expovariate(0.5)
        for _ in range(rng.randrange(offer["uses_max"] + 2)):
            self._numbers += 1
            wrong = rng.choice(("much", "another's", "nobody's", "signature")) if rng.random() < 0.25 else ""
            if wrong:
                self._caused(Fault.FALSE_USE, f"{affiliate} {wrong}")
            told = self._word(affiliate, offer, worth, wrong)
            who = told.affiliate_id
            self._tell(after, told, TAMPERED if wrong == "signature" else who)
            if not wrong and rng.random() < 0.3:
                # The same word again; or its id for another use.
                other = told if rng.random() < 0.5 else replace(told, amount_minor=worth + 2)
                self._tell(after + rng.expovariate(1.0), other, who)
            after += rng.expovariate(0.5)

    def _word(self, affiliate: str, offer: dict[str, Any], worth: int, wrong: str) -> Told:
        """What is told of one use; what is ``wrong`` with it, if anything, is in it, but for its signature."""
        offer_id, amount = UUID(offer["offer_id"]), worth
        if wrong == "much":
            amount = worth + 1
        elif wrong == "another's":
            affiliate = next(a for a in SHARED_WITH if a != affiliate)
        elif wrong == "nobody's":
            offer_id = _NOBODYS_OFFER
        elif not wrong:
            amount = self._rng.randrange(1, worth + 1)
        return Told(affiliate, f"use-{self._numbers}", offer_id, amount)

    def _tell(self, after: float, told: Told, signature: str) -> None:
        if signature == told.affiliate_id:
            self.uses.setdefault((told.affiliate_id, told.use_id), told)
        body = OfferUse(
            use_id=told.use_id,
            offer_id=told.offer_id,
            affiliate_id=told.affiliate_id,
            amount=krw(told.amount_minor),
            used_at=self._clock.now(),
        )
        headers = self._sign(OFFER_USE_TYPE, signature)
        record = Outgoing(OFFER_USES, str(told.offer_id).encode(), encode(body), headers)
        self._write(after, record, signature != told.affiliate_id)

    # --- writing ---

    def _sign(self, type_: str, signature: str) -> tuple[tuple[str, bytes], ...]:
        self._numbers += 1
        envelope = Envelope(f"ce-{self._numbers}", "/affiliate", type_, self._clock.now(), signature=signature)
        return tuple(write_envelope(envelope))

    def _write(self, after: float, record: Outgoing, forged: bool) -> None:  # noqa: FBT001
        self.pending += 1
        self._loop.call_later(after, self._written, record, forged)

    def _written(self, record: Outgoing, forged: bool) -> None:  # noqa: FBT001
        self.pending -= 1
        reference = self._kafka.write(record).reference
        if forged:
            self.forged.add(reference)
