"""Answering recipients' calls: who calls → what is asked → decided under the consent's lock → told, and then sent.

**Nothing after the end of what permits it.** Each page is decided under the consent's lock and read in the same
transaction, from one moment; a consent that was revoked meanwhile gives no further page. The use is written into the
outbox, for the disclosure log, and committed before the first byte of the answer leaves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from gateway.base.errors import StoreConflictError, StoreUnavailableError
from gateway.base.process import Clock, Observer
from gateway.consents.ended_watch import EndedConsentWatch
from gateway.consents.rules.consent import Consent
from gateway.database.unit import Store
from gateway.outbox.store import OutboxEvent
from gateway.portability.api.paging import read_next_page, write_next_page
from gateway.portability.api.rules.calls import (
    ApiType,
    Asked,
    Call,
    Position,
    Resource,
    Span,
    first_position,
    read_call,
    told_tran_id,
    tran_id_of,
)
from gateway.portability.api.rules.codes import RefusedCallError, RspCode, message
from gateway.portability.api.rules.decision import apis, listed, next_search, permitted, rows_of
from gateway.portability.api.rules.rates import Bucket, take
from gateway.portability.api.store import PullUnit
from gateway.portability.rules.records import Recipient
from gateway.portability.rules.rows import Extract, Row, card_id, card_row, consent_row
from gateway.sealing.marks import RecordMarks
from schemas.codec import encode
from schemas.consents import PortabilityPurpose, PortabilityScope
from schemas.events import EventType
from schemas.portability import PortabilityEvent
from schemas.primitives import CustomerId
from schemas.topics import events_topic

STAGE: Final = "portability_api"

CERTIFICATES_KEPT: Final = 256
"""Beyond so many it is looked which may call as they like again: as if they had never called."""


@dataclass(frozen=True, slots=True)
class PullSettings:
    """How calls are answered.

    Attributes:
        org_code: the gateway's own.
        per_second, burst: calls of one certificate, and of one recipient.
    """

    org_code: str
    per_second: int = 20
    burst: int = 60


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent. ``retry_after``: in seconds; 0: nothing is said of it."""

    code: RspCode
    body: Row
    tran_id: str | None = None
    retry_after: int = 0


def fault(code: RspCode, member: str = "", *, tran_id: str | None = None, retry_after: int = 0) -> Answer:
    """An answer that tells of a fault, and nothing else."""
    return Answer(code, {"rsp_code": code.value, "rsp_msg": message(code, member)}, tran_id, retry_after)


class PullService:
    """Answers calls. Any number of processes may do so side by side; each counts calls by itself.

    Args:
        marks: of ``next_page``; the same in all processes.
        monotonic: seconds of a clock that never goes back.
        new_id: an id that no call had before.
        watch: compares answers with the ends of consents; None: nobody looks.
    """

    def __init__(
        self,
        *,
        store: Store[PullUnit],
        marks: RecordMarks,
        observer: Observer,
        clock: Clock,
        monotonic: Callable[[], float],
        new_id: Callable[[], str],
        settings: PullSettings,
        watch: EndedConsentWatch | None = None,
    ) -> None:
        self._watch = watch
        self._store = store
        self._marks = marks
        self._observer = observer
        self._clock = clock
        self._monotonic = monotonic
        self._new_id = new_id
        self._settings = settings
        # Of recipients alone, so that it cannot grow beyond them.
        self._buckets: dict[str, Bucket] = {}
        # By certificate, anybody's that an authority of ours has signed; those that are full again are forgotten.
        self._shown: dict[str, Bucket] = {}

    async def answer(self, certificate_sha256: str, call: Call) -> Answer:
        """Answer a call of whoever has shown this certificate; every fault is an answer."""
        # Before it is looked up: whoever is no recipient, or no more, must not have the database look as often as they
        # like.
        if wait := self._taken(self._shown, certificate_sha256):
            return self._told(fault(RspCode.QUOTA, tran_id=tran_id_of(call), retry_after=wait))
        return self._told(await self._looked_up(certificate_sha256, call))

    async def _looked_up(self, certificate_sha256: str, call: Call) -> Answer:
        tran_id = tran_id_of(call)
        try:
            async with self._store.reading() as uow:
                recipient = await uow.pulls.recipient(certificate_sha256)
            if recipient is None or not recipient.active:
                return fault(RspCode.CERTIFICATE, tran_id=tran_id)
            if wait := self._taken(self._buckets, recipient.org_code):
                return fault(RspCode.QUOTA, tran_id=tran_id, retry_after=wait)
            asked = read_call(call, org_code=self._settings.org_code, now=self._clock.now())
            code, told = await self._answered(certificate_sha256, asked)
        except RefusedCallError as refused:
            return fault(refused.code, refused.member, tran_id=tran_id)
        except StoreUnavailableError:
            return fault(RspCode.FAILURE, tran_id=tran_id)
        except StoreConflictError:
            return fault(RspCode.NOT_DONE, tran_id=tran_id)
        return Answer(code, {"rsp_code": code.value, "rsp_msg": message(code)} | told, tran_id)

    def _told(self, answer: Answer) -> Answer:
        well = answer.code in (RspCode.SUCCESS, RspCode.UP_TO_DATE)
        self._observer.count(STAGE, "answered" if well else "refused", reason=answer.code.value)
        return answer

    def _taken(self, buckets: dict[str, Bucket], whose: str) -> int:
        """Take one call; 0, or in how many seconds there is one again."""
        now, per_second, burst = self._monotonic(), self._settings.per_second, self._settings.burst
        if len(buckets) >= CERTIFICATES_KEPT and whose not in buckets:
            for name in [n for n, b in buckets.items() if b.left + (now - b.at) * per_second >= burst]:
                del buckets[name]
        buckets[whose], wait = take(buckets.get(whose), now, per_second=per_second, burst=burst)
        return wait

    async def _answered(self, certificate_sha256: str, asked: Asked) -> tuple[RspCode, Row]:
        if not asked.route.of_customer:
            return apis(asked)
        key = asked.consent_key
        async with self._store.transaction() as uow:
            consent = (await uow.consents.lock([key])).get(key)
            recipient = await uow.pulls.recipient(certificate_sha256)
            accessed_at = await uow.pulls.accessed_at(key, recipient.org_code) if recipient else None
            now = self._clock.now()
            purpose = permitted(asked, consent=consent, recipient=recipient, accessed_at=accessed_at, now=now)
            if consent is None or recipient is None:
                raise AssertionError("what is permitted has a consent and a recipient")
            told, records = await self._read(uow, asked, purpose, recipient.org_code, now)
            if asked.api_type is not ApiType.SCHEDULED:
                await uow.pulls.access(key, recipient.org_code, now)
            await uow.outbox.append([self._event(asked, consent, recipient, records, now)])
        if self._watch is not None:
            self._watch.intended([key], now)
        self._observer.count(STAGE, "record", n=records)
        is_new = records or "next_page" in told or asked.search_timestamp is None
        return (RspCode.SUCCESS if is_new else RspCode.UP_TO_DATE), told

    async def _read(
        self, uow: PullUnit, asked: Asked, purpose: PortabilityPurpose, org_code: str, now: datetime
    ) -> tuple[Row, int]:
        resource = asked.route.resource
        partner_id, consent_id = asked.consent_key
        if resource is Resource.CONSENTS:
            return listed(resource, [consent_row(purpose, consent_id)]), 1
        customer_id = CustomerId(asked.customer_id)
        if resource is Resource.CARDS:
            tokens = await uow.pulls.used_tokens(partner_id, customer_id)
            return listed(resource, [card_row(t, org_code) for t in tokens]), len(tokens)
        span = asked.span
        if span is None:
            raise AssertionError("a list of payments has a span")
        token = await self._token(uow, asked, org_code)
        facts = await uow.pulls.page(
            partner_id,
            customer_id,
            span,
            after=self._after(asked, span, org_code),
            token=token,
            # One more tells whether there is a next page.
            limit=span.limit + 1,
        )
        page = facts[: span.limit]
        rows = rows_of(resource, page, Extract.of(purpose, PortabilityScope, org_code))
        told = listed(resource, rows) | {"search_timestamp": next_search(now)}
        if len(facts) > span.limit:
            last = Position(page[-1].decided_at, UUID(page[-1].payment_id))
            told["next_page"] = write_next_page(last, asked, org_code, self._marks)
        return told, len(rows)

    def _after(self, asked: Asked, span: Span, org_code: str) -> Position:
        if span.next_page is None:
            return first_position(span)
        return read_next_page(span.next_page, asked, org_code, self._marks)

    async def _token(self, uow: PullUnit, asked: Asked, org_code: str) -> str | None:
        """The token of the card that is asked for; its id is this recipient's own."""
        if asked.card_id is None:
            return None
        tokens = await uow.pulls.tokens(CustomerId(asked.customer_id))
        found = [t for t in tokens if card_id(t, org_code) == asked.card_id]
        if not found:
            raise RefusedCallError(RspCode.NO_ASSET)
        return found[0]

    def _event(self, asked: Asked, consent: Consent, recipient: Recipient, records: int, now: datetime) -> OutboxEvent:
        tran_id = told_tran_id(asked.tran_id)
        told = PortabilityEvent.of_stored(
            partner_id=consent.terms.partner_id,
            consent_id=consent.terms.consent_id,
            consent_version=consent.version,
            request_id=tran_id,
            status="pulled",
            rcv_org_code=recipient.org_code,
            records=records,
            x_api_tran_id=tran_id,
            x_api_type=asked.api_type.value,
            occurred_at=now,
        )
        return OutboxEvent(
            topic=events_topic(told.partner_id),
            key=told.consent_id,
            event_id=f"pull:{recipient.org_code}:{self._new_id()}",
            event_type=EventType.PORTABILITY_PULLED,
            occurred_at=now,
            body=encode(told),
        )
