"""After a restore: what partners had signed of payments that were told to have ended and were never sent.

A told end holds only with what its partner signed: a stranger's record under the same ids must not take its place.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from gateway.app.postgres import PostgresUnitOfWork
from gateway.base.process import SilentObserver
from gateway.consents.postgres import TermsCache
from gateway.database.errors import translated
from gateway.identity.door import Authentic, Door
from gateway.identity.jose.keys import CachedKeySource, Registry
from gateway.identity.jose.signature import JwsVerifier
from gateway.messaging.reader import read_since
from gateway.messaging.records import Record
from gateway.messaging.settings import KafkaSettings
from gateway.orders.bulk.judging import items_of
from gateway.payments.refunds.rules import ReceivedRefund
from gateway.payments.restoring.rules import Told, told_ended
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.payments.rules.purchase import ReceivedOrder
from schemas.bulk import BULK_TYPE, PaymentBulk
from schemas.orders import ORDER_TYPE, PaymentOrder
from schemas.primitives import PartnerId, payment_id_of
from schemas.refunds import REFUND_TYPE, PaymentRefund
from schemas.topics import ORDERS

_MODELS: Final[Mapping[str, type[PaymentOrder] | type[PaymentRefund] | type[PaymentBulk]]] = {
    ORDER_TYPE: PaymentOrder,
    REFUND_TYPE: PaymentRefund,
    BULK_TYPE: PaymentBulk,
}
_Door = Door[PaymentOrder | PaymentRefund | PaymentBulk]


Awaited = Callable[[PaymentKey], Told | None]
"""What was told of a payment that had ended unsent, and of which no record was found yet."""


async def ended_unsent(
    connection: Any, kafka: KafkaSettings, awaited: Awaited, since: datetime
) -> AsyncIterator[list[Payment]]:
    """The payments of these ends, record by record; whoever takes them awaits them no more."""
    door = await _door(connection)
    async for record in read_since(kafka, ORDERS, since):
        # Only of what may be wanted is the signature looked at: nothing is believed before.
        if any(awaited(key) is not None for key in keys_in(record.value)):
            yield list(ends_of(record, door, awaited, datetime.now(UTC)))


async def _door(connection: Any) -> _Door:
    async def load() -> Registry:
        async with translated():
            directory = PostgresUnitOfWork(connection, TermsCache()).directory
            return await directory.active_partners(), await directory.partner_keys()

    keys = CachedKeySource(load, SilentObserver())
    await keys.refresh()
    return Door(verifier=JwsVerifier(keys), models=_MODELS)


def ends_of(record: Record, door: _Door, awaited: Awaited, now: datetime) -> Iterator[Payment]:
    """What was told to have ended of a record that is its partner's."""
    read = door.read(record, now)
    if not isinstance(read, Authentic):
        return
    for received in _received(read):
        end = awaited(received.key)
        if end is not None and end.ended_unsent and end.fits(received, None):
            yield told_ended(end, received.digest, received.ordered_at)


def _received(read: Authentic[Any]) -> list[ReceivedOrder | ReceivedRefund]:
    match read.message:
        case PaymentBulk():
            return [item.received for item in items_of(read, [None] * len(read.message.items))]
        case PaymentRefund():
            return [ReceivedRefund(read.message, read.digest, read.ordered_at, read.reference)]
        case _:
            return [ReceivedOrder(read.message, read.digest, read.ordered_at, read.reference)]


class _Item(Struct):
    order_id: str


class _Ids(Struct):
    partner_id: str
    order_id: str | None = None
    items: list[_Item] = []


def keys_in(body: bytes) -> list[PaymentKey]:
    """Whose payments a record of the orders' topic could be: a bulk's are its items'. Nothing of it is believed."""
    try:
        ids = msgspec.json.decode(body, type=_Ids)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return []
    names = [item.order_id for item in ids.items] if ids.order_id is None else [ids.order_id]
    return [(PartnerId(ids.partner_id), payment_id_of(ids.partner_id, name)) for name in names]
