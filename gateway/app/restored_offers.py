"""After a restore: what affiliates' topics tell of offers, their uses and aggregates since, as these stand again."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from gateway.app.postgres import PostgresUnitOfWork
from gateway.base.digest_words import word_of
from gateway.consents.postgres import TermsCache
from gateway.database.errors import translated
from gateway.marketing.restoring import OffersFound, ToldOffer, in_order, offers_again, tables_again
from gateway.marketing.rules.offers import USE_ID_TAKEN, StoredUse, UseKey
from gateway.messaging.reader import read_since
from gateway.messaging.records import Record
from gateway.messaging.rewinding import read_each_since, topics_like
from gateway.messaging.settings import KafkaSettings
from schemas.codec import DecodeError, decode
from schemas.envelope import read_envelope
from schemas.events import ConsentOffered
from schemas.marketing import (
    OFFER_GRANTED_TYPE,
    OFFER_WITHDRAWN_TYPE,
    USE_COUNTED_TYPE,
    USE_REFUSED_TYPE,
    AggregateTable,
    OfferGranted,
    OfferUse,
    OfferUseCounted,
    OfferUseRefused,
    OfferWithdrawn,
)
from schemas.reasons import Reason
from schemas.topics import AGGREGATES, OFFER_USES, offers_topic

_OFFERS: Final = offers_topic("x")[:-1]
_BATCH: Final = 500
_TABLE_BYTES_MAX: Final = 16 * 1024 * 1024
_NO_DIGEST: Final = bytes(32)
"""Of a use whose record is older than what is read: should it come again, it is refused, and not counted again."""


class ToldOffers:
    """What was told of offers, by their ids.

    Args:
        offered: what partners were told.
    """

    def __init__(self, offered: Mapping[UUID, ConsentOffered]) -> None:
        self._told = {i: ToldOffer(i, offered=o) for i, o in offered.items()}
        self._sent: dict[tuple[UseKey, str], tuple[bytes, int]] = {}
        self._answered: set[UseKey] = set()
        self.tables: list[AggregateTable] = []

    def send(self, record: Record) -> None:
        """Take a record of affiliates': whoever has written it, it counts only if it was answered."""
        with suppress(DecodeError):
            use = decode(OfferUse, record.value)
            digest = sha256(record.value).digest()
            self._sent[(use.affiliate_id, use.use_id), word_of(digest)] = (digest, use.amount.minor)

    def tell(self, affiliate_id: str, record: Record) -> None:
        """Take an event of an affiliate's; all that was sent is taken before."""
        envelope, body = read_envelope(record.headers), record.value
        if envelope.type == OFFER_GRANTED_TYPE:
            granted = decode(OfferGranted, body, trusted=True)
            self._of(granted.offer_id).granted = granted
        elif envelope.type == OFFER_WITHDRAWN_TYPE:
            withdrawn = decode(OfferWithdrawn, body, trusted=True)
            self._of(withdrawn.offer_id).withdrawn = withdrawn
        elif envelope.type == USE_COUNTED_TYPE:
            self._answer(affiliate_id, envelope.id, decode(OfferUseCounted, body, trusted=True), None)
        elif envelope.type == USE_REFUSED_TYPE:
            refused = decode(OfferUseRefused, body, trusted=True)
            if refused.reason != USE_ID_TAKEN:
                self._answer(affiliate_id, envelope.id, refused, refused.reason)

    def _answer(
        self, affiliate_id: str, event_id: str, told: OfferUseCounted | OfferUseRefused, reason: Reason | None
    ) -> None:
        key = (affiliate_id, told.use_id)
        if key in self._answered:
            return
        sent = self._sent.get((key, event_id.rpartition(":")[2]))
        if sent is not None:
            digest, minor = sent
        elif isinstance(told, OfferUseCounted):
            digest, minor = _NO_DIGEST, told.amount.minor
        else:
            return
        self._answered.add(key)
        use = StoredUse(affiliate_id, told.use_id, told.offer_id, digest, minor, reason, told.occurred_at)
        self._of(told.offer_id).uses.append(use)

    def _of(self, offer_id: UUID) -> ToldOffer:
        return self._told.setdefault(offer_id, ToldOffer(offer_id))

    @property
    def all(self) -> list[ToldOffer]:
        """In the order in which they are written down."""
        return in_order(list(self._told.values()))


async def read_offers(kafka: KafkaSettings, since: datetime, offered: Mapping[UUID, ConsentOffered]) -> ToldOffers:
    """Read all of it; raises as :func:`gateway.messaging.reader.open_reader`."""
    told = ToldOffers(offered)
    if not await topics_like(kafka, _OFFERS):
        return told
    async for record in read_since(kafka, OFFER_USES, since):
        told.send(record)
    async for affiliate_id, record in read_each_since(kafka, _OFFERS, since):
        told.tell(affiliate_id, record)
    async for record in read_since(kafka, AGGREGATES, since):
        told.tables.append(decode(AggregateTable, record.value, bytes_max=_TABLE_BYTES_MAX, trusted=True))
    return told


async def stand_again(connection: Any, told: ToldOffers) -> OffersFound:
    """Write it down, as the tables' owner, while no stage of marketing runs. It may be cut, and run again."""
    done, every = OffersFound(), told.all
    for first in range(0, len(every), _BATCH):
        async with translated(), connection.transaction():
            uow = PostgresUnitOfWork(connection, TermsCache())
            found = await offers_again(uow, every[first : first + _BATCH])
        done.again += found.again
        done.uses += found.uses
        done.unplaced |= found.unplaced
    async with translated(), connection.transaction():
        done.tables = await tables_again(PostgresUnitOfWork(connection, TermsCache()), told.tables)
    return done
