"""A recipient's and affiliates' own books of a run: what they read on their topics, opened and written down by them.

They hold what they were sent, as they would: the recipient opens exports with its key and believes the gateway's
receipts alone; an affiliate keeps shares by the names that it knows, and erases what a notice names.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from joserfc.jwk import ECKey

from gateway.identity.jose.jwk import public_jwk, read_private_key
from gateway.portability.verifying import ExportReader, ExportRefusedError
from gateway.proving.books.handed import AffiliatesBook, Handed, ReceivedShare
from gateway.proving.collect.topics import open_reader
from gateway.proving.traffic.receivers import Receivers
from gateway.proving.world.world import World
from gateway.sharing.verifying import Verified, verify_shares
from schemas.codec import decode
from schemas.envelope import read_envelope
from schemas.events import EventType
from schemas.marketing import (
    AGGREGATE_TYPE,
    OFFER_GRANTED_TYPE,
    OFFER_WITHDRAWN_TYPE,
    USE_COUNTED_TYPE,
    USE_REFUSED_TYPE,
    AggregateTable,
    OfferGranted,
    OfferUseCounted,
    OfferUseRefused,
    OfferWithdrawn,
)
from schemas.portability import EXPORT_CHUNK_TYPE
from schemas.sharing import EraseNotice, PaymentShared
from schemas.topics import AGGREGATES, exports_topic, offers_topic, sharing_topic

_POLL_MS: Final = 100


@dataclass(slots=True)
class AffiliateBook:
    """What an affiliate holds.

    Attributes:
        shares: by ``share_id``; what was erased is in it no more.
        received: how many payments came under each ``consent_ref``, erased or not.
        notices: by ``consent_ref``; erased: of those, how many payments were erased.
        offers, withdrawn: by offer id.
        answers: use id → why it was refused, None where it was counted; the last answer.
        last_ms: ``consent_ref`` of a share, or offer id → Kafka's time of the last record about it that gave something.
    """

    affiliate_id: str
    shares: dict[str, PaymentShared] = field(default_factory=dict)
    received: Counter[str] = field(default_factory=Counter)
    notices: dict[str, EraseNotice] = field(default_factory=dict)
    erased: dict[str, int] = field(default_factory=dict)
    offers: dict[str, OfferGranted] = field(default_factory=dict)
    withdrawn: dict[str, OfferWithdrawn] = field(default_factory=dict)
    answers: dict[str, str | None] = field(default_factory=dict)
    counted: dict[str, OfferUseCounted] = field(default_factory=dict)
    last_ms: dict[str, int] = field(default_factory=dict)
    _told: list[tuple[str, str, bytes]] = field(default_factory=list)

    def share(self, place: str, type_: str, record: Any) -> None:
        """Write down a record of its topic of shares."""
        self._told.append((place, type_, record.value))
        match type_:
            case EventType.PAYMENT_SHARED:
                share = decode(PaymentShared, record.value)
                if share.share_id not in self.shares and share.consent_ref not in self.erased:
                    self.shares[share.share_id] = share
                    self.received[share.consent_ref] += 1
                    self.last_ms[share.consent_ref] = record.timestamp
            case EventType.ERASE_NOTICE:
                notice = decode(EraseNotice, record.value)
                self.notices[notice.consent_ref] = notice

    def offer(self, type_: str, record: Any) -> None:
        """Write down a record of its topic of offers."""
        match type_:
            case t if t == OFFER_GRANTED_TYPE:
                granted = decode(OfferGranted, record.value)
                self.offers[str(granted.offer_id)] = granted
                self.last_ms.setdefault(str(granted.offer_id), record.timestamp)
            case t if t == OFFER_WITHDRAWN_TYPE:
                withdrawn = decode(OfferWithdrawn, record.value)
                self.withdrawn[str(withdrawn.offer_id)] = withdrawn
            case t if t == USE_COUNTED_TYPE:
                counted = decode(OfferUseCounted, record.value)
                self.answers[counted.use_id] = None
                if counted.use_id not in self.counted:
                    self.counted[counted.use_id] = counted
                    self.last_ms[str(counted.offer_id)] = record.timestamp
            case t if t == USE_REFUSED_TYPE:
                refused = decode(OfferUseRefused, record.value)
                self.answers[refused.use_id] = refused.reason.code.value

    def erase(self, consent_ref: str) -> int:
        """Erase everything that was shared under a reference; return how many payments that was."""
        gone = [name for name, share in self.shares.items() if share.consent_ref == consent_ref]
        for name in gone:
            del self.shares[name]
        self.erased[consent_ref] = self.erased.get(consent_ref, 0) + len(gone)
        return len(gone)

    def verify(self, now: datetime) -> Verified:
        """What ``mypay sharing verify`` says of everything that came."""
        return verify_shares(self.affiliate_id, self._told, now=now)

    def facts(self, now: datetime) -> AffiliatesBook:
        """The book as the check of the books wants it."""
        return AffiliatesBook(
            shares=[
                ReceivedShare(
                    share.share_id,
                    share.consent_ref,
                    share.customer,
                    {u.purpose.value: frozenset(u.data.model_dump(exclude_none=True)) for u in share.uses},
                    frozenset(u.data.token for u in share.uses if u.data.token is not None),
                )
                for share in self.shares.values()
            ],
            received=dict(self.received),
            notices=frozenset(self.notices),
            erased=dict(self.erased),
            offers=frozenset(self.offers),
            answers=dict(self.answers),
            problems=tuple(self.verify(now).problems),
        )


@dataclass(slots=True)
class Receiving:
    """Everybody's books.

    Attributes:
        exports: the recipient's; sent_ms: export id → Kafka's time of its last chunk.
        refused: exports that did not hold, in words.
        tables: aggregates, as both affiliates read them.
        consumer: of all these topics.
    """

    receivers: Receivers
    exports: ExportReader
    books: dict[str, AffiliateBook]
    refused: list[str] = field(default_factory=list)
    sent_ms: dict[str, int] = field(default_factory=dict)
    tables: list[AggregateTable] = field(default_factory=list)
    consumer: Any = None
    following: "asyncio.Task[None] | None" = None

    def check(self) -> None:
        """Raise what ended the following, if anything did."""
        if self.following is not None and self.following.done():
            self.following.result()

    async def catch_up(self) -> None:
        """Wait until everything that is on the topics now is written down."""
        ends = await self.consumer.end_offsets(self.consumer.assignment())
        for partition, end in ends.items():
            while await self.consumer.position(partition) < end:
                self.check()
                await asyncio.sleep(_POLL_MS / 1000)

    @property
    def news(self) -> tuple[int, ...]:
        """Changes whenever something came."""
        books = self.books.values()
        told = [n for b in books for n in (sum(b.received.values()), len(b.notices), len(b.offers), len(b.answers))]
        return (len(self.exports.whole), len(self.exports.void), len(self.tables), *told)

    def take(self, record: Any) -> None:
        """Write down a record of any of the topics."""
        type_ = read_envelope(tuple(record.headers)).type
        kind, _, owner = record.topic.removeprefix("mypay.").rpartition(".")
        match kind:
            case "portability.exports":
                self._export(type_, record)
            case "sharing":
                self.books[owner].share(f"{record.topic}/{record.partition}/{record.offset}", type_, record)
            case "marketing.offers":
                self.books[owner].offer(type_, record)
            case _:
                if type_ == AGGREGATE_TYPE:
                    self.tables.append(decode(AggregateTable, record.value, bytes_max=len(record.value)))

    def enter(self, handed: Handed, now: datetime) -> None:
        """Lay these books beside what the gateway says."""
        handed.books = {name: book.facts(now) for name, book in self.books.items()}
        handed.opened = {e: sum(map(len, opened.lists.values())) for e, opened in self.exports.whole.items()}
        handed.refused = tuple(self.refused)
        handed.half_open = tuple(f"{export_id}, attempt {attempt}" for export_id, attempt in self.exports.open_attempts)

    def _export(self, type_: str, record: Any) -> None:
        if type_ == EXPORT_CHUNK_TYPE:
            self.sent_ms[record.key.decode()] = record.timestamp
        try:
            self.exports.take(type_, record.value)
        except ExportRefusedError as error:
            self.refused.append(str(error))


def receiving_of(world: World) -> Receiving:
    """Empty books of a world's receivers.

    Raises:
        ValueError: the world has none.
    """
    receivers = world.cast.receivers
    if receivers is None:
        raise ValueError("nobody is given anything in this world")
    recipient = receivers.recipient
    receipt_key = ECKey.import_key(dict(public_jwk(read_private_key(world.receipt_key))))
    reader = ExportReader(
        private_keys={recipient.kid: recipient.private_key}, receipt_key=receipt_key, org_code=recipient.org_code
    )
    return Receiving(receivers, reader, {a.affiliate_id: AffiliateBook(a.affiliate_id) for a in receivers.affiliates})


@asynccontextmanager
async def open_receiving(world: World) -> AsyncIterator[Receiving]:
    """Follow the receivers' topics in the background.

    Raises:
        ValueError: the world has no receivers.
    """
    receiving = receiving_of(world)
    topics = [exports_topic(receiving.receivers.recipient.org_code), AGGREGATES]
    topics += [topic(a) for a in receiving.books for topic in (sharing_topic, offers_topic)]
    async with open_reader(world.kafka_bootstrap_servers, topics) as consumer:
        receiving.consumer = consumer
        receiving.following = following = asyncio.create_task(_follow(consumer, receiving), name="receiving")
        try:
            yield receiving
        finally:
            following.cancel()
            await asyncio.wait([following])


async def _follow(consumer: Any, receiving: Receiving) -> None:
    while True:
        for records in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
            for record in records:
                receiving.take(record)
