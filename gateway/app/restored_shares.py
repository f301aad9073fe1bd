"""After a restore: what partners' and affiliates' topics tell of shares since, and who holds them again."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from gateway.app.errors import NotConfiguredError
from gateway.app.keys import Ring, load_ring
from gateway.app.postgres import PostgresUnitOfWork
from gateway.app.settings import Settings
from gateway.base.keys import ConsentKey
from gateway.consents.postgres import TermsCache
from gateway.database.errors import translated
from gateway.messaging.records import Record
from gateway.messaging.rewinding import read_each_since
from gateway.messaging.settings import KafkaSettings
from gateway.sharing.pseudonyms import Pseudonyms
from gateway.sharing.restoring import SharedSince, ToldReferences, holders_again
from gateway.sharing.rules.records import Notice
from schemas.codec import decode
from schemas.envelope import read_envelope
from schemas.events import EventType
from schemas.sharing import EraseNotice
from schemas.topics import sharing_topic

_SHARING: Final = sharing_topic("x")[:-1]
_BATCH: Final = 500

Shared = Mapping[tuple[ConsentKey, str], SharedSince]


class _Named(Struct):
    """What is read of a share: its names, and nothing of what was paid."""

    consent_ref: str
    key_id: str


_read_names: Final = msgspec.json.Decoder(_Named).decode


def take(references: ToldReferences, affiliate_id: str, record: Record) -> None:
    """Take an event of an affiliate's."""
    type_ = read_envelope(record.headers).type
    if type_ == EventType.PAYMENT_SHARED:
        named = _read_names(record.value)
        references.keys.setdefault((affiliate_id, named.consent_ref), set()).add(named.key_id)
    elif type_ == EventType.ERASE_NOTICE:
        told = decode(EraseNotice, record.value, trusted=True)
        notice = Notice(told.notice_id, told.cause, told.noticed_at, told.erase_by)
        references.notices[affiliate_id, told.consent_ref] = notice


async def stand_again(
    connection: Any, kafka: KafkaSettings, settings: Settings, since: datetime, shared: Shared
) -> set[tuple[ConsentKey, str]]:
    """Write down who holds what was shared since, while no stage shares; return of whom it is known.

    Of nobody where no key is here that named consents: none can say then by which names affiliates know them.
    """
    try:
        ring = load_ring(settings, Ring.SHARING)
    except NotConfiguredError:
        return set()
    references = ToldReferences()
    if shared:
        async for affiliate_id, record in read_each_since(kafka, _SHARING, since):
            take(references, affiliate_id, record)
    known, every, pseudonyms = set[tuple[ConsentKey, str]](), sorted(shared), Pseudonyms(ring)
    for first in range(0, len(every), _BATCH):
        part = {place: shared[place] for place in every[first : first + _BATCH]}
        async with translated(), connection.transaction():
            uow = PostgresUnitOfWork(connection, TermsCache())
            known |= set(await holders_again(uow, part, references, pseudonyms, ring.ids))
    return known
