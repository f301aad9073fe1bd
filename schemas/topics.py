"""One table of every Kafka topic: its key, messages, partitions, retention, and who writes and reads it.

``mypay topics apply`` creates what is missing and checks what exists; the AsyncAPI document is made from it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from pydantic import BaseModel

from schemas.bulk import BULK_TYPE, BulkEvent, PaymentBulk
from schemas.cancellation import CANCEL_TYPE, PaymentCancellation
from schemas.clearing import CLEARING_TYPE, ClearingBatch
from schemas.consent_commands import CONSENT_MESSAGES
from schemas.disclosure import DataDestroyed, DisclosureNotice, DisclosureRoot, DisclosuresDestroyed
from schemas.events import (
    CancellationAccepted,
    CancellationRefused,
    ConsentEvent,
    ConsentOffered,
    ConsentRefused,
    ConsentShared,
    CycleSettled,
    EventType,
    OrderRefused,
    PaymentEvent,
)
from schemas.marketing import (
    AGGREGATE_TYPE,
    OFFER_GRANTED_TYPE,
    OFFER_USE_TYPE,
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
from schemas.orders import OCCURRENCE_TYPE, ORDER_TYPE, OccurrenceOrder, PaymentOrder
from schemas.portability import (
    EXPORT_CHUNK_TYPE,
    EXPORT_COMPLETE_TYPE,
    EXPORT_VOID_TYPE,
    PORTABILITY_REQUEST_TYPE,
    ExportChunk,
    ExportComplete,
    ExportVoid,
    PortabilityEvent,
    PortabilityRequest,
)
from schemas.principals import NAME_PART, Role
from schemas.refunds import REFUND_TYPE, PaymentRefund
from schemas.sharing import ERASURE_TYPE, EraseNotice, ErasureConfirmed, PaymentShared
from schemas.standing import (
    STANDING_CANCEL_TYPE,
    STANDING_CREATE_TYPE,
    StandingOrderCancel,
    StandingOrderCreate,
    StandingOrderEvent,
    StandingOrderRefused,
)

TOPIC_PREFIX: Final = "mypay."
"""How every topic's name begins."""

ORDERS: Final = "mypay.orders"
WAITING_ORDERS: Final = "mypay.waiting-orders"
CONSENT_COMMANDS: Final = "mypay.consents.commands"
PORTABILITY_REQUESTS: Final = "mypay.portability.requests"
SETTLEMENTS: Final = "mypay.settlements"
OFFER_USES: Final = "mypay.marketing.uses"
AGGREGATES: Final = "mypay.marketing.aggregates"
DISCLOSURE_ROOTS: Final = "mypay.disclosure.roots"
ERASURES: Final = "mypay.sharing-confirmations"
DEAD_LETTER: Final = "mypay.dead-letter"

_DAY_MS: Final = 24 * 60 * 60 * 1000

EXPORT_LATE_MS: Final = 10_000
"""A chunk of an export comes to stand in Kafka so soon after it was decided, or never: a consent may be revoked
meanwhile. Enough for a change of a partition's leader; clocks of gateway and brokers may differ by a second or so."""

FOR_EVER: Final = -1
"""``retention.ms`` of a topic from which nothing is deleted for its age."""


@unique
class TimestampType(StrEnum):
    """``message.timestamp.type``."""

    CREATE = "CreateTime"
    APPEND = "LogAppendTime"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic, or one family of topics with a name part in braces.

    Attributes:
        name: ``mypay.orders`` or ``mypay.dispatch.{network}``.
        key: what the record key is: records with one key keep their order.
        messages: CloudEvents type → body model.
        partitions: default number; how far its reader scales out.
        retention_ms: how long Kafka keeps it: how far back a replay can reach.
        writers, readers: who may; the access rules (:mod:`schemas.access`) are made from these. Of a family with a name
            part for its kind (a partner of ``{partner}``, execution of ``{network}``) a principal has its own member.
        compacted: of each key the last record is kept (``cleanup.policy``); else what is old is deleted.
        late_ms: how old a record may be, by its producer's time and the broker's clock, to be taken at all
            (``message.timestamp.before.max.ms``, of Kafka 3.6 and later); None: of any age.
        timestamp_type: whose clock a record's time is: the producer's (``CreateTime``), or the broker's where strangers
            write, who could otherwise order in the past, or keep a segment from ever being deleted.
    """

    name: str
    key: str
    messages: dict[str, type[BaseModel]]
    partitions: int
    retention_ms: int
    writers: tuple[Role, ...]
    readers: tuple[Role, ...]
    description: str
    max_message_bytes: int = 1024 * 1024
    timestamp_type: TimestampType = TimestampType.CREATE
    compacted: bool = False
    late_ms: int | None = None


def _payment_types() -> dict[str, type[BaseModel]]:
    return {t.value: PaymentEvent for t in EventType if t.value.startswith("kr.mypay.payment.")}


TOPICS: Final[tuple[Topic, ...]] = (
    Topic(
        name=ORDERS,
        key="consent_id; of a bulk bulk_id",
        messages={
            ORDER_TYPE: PaymentOrder,
            CANCEL_TYPE: PaymentCancellation,
            REFUND_TYPE: PaymentRefund,
            BULK_TYPE: PaymentBulk,
            STANDING_CREATE_TYPE: StandingOrderCreate,
            STANDING_CANCEL_TYPE: StandingOrderCancel,
        },
        partitions=8,
        retention_ms=7 * _DAY_MS,
        writers=(Role.PARTNER, Role.OPS),
        readers=(Role.INITIATION,),
        description="Signed payment-initiation orders, their cancellations and refunds, bulks and standing orders.",
        timestamp_type=TimestampType.APPEND,
    ),
    Topic(
        name=WAITING_ORDERS,
        key="the sender's partner_id, empty where nobody is known to have signed",
        messages={},
        partitions=8,
        retention_ms=7 * _DAY_MS,
        writers=(Role.INITIATION,),
        readers=(Role.INITIATION,),
        description="Partners' records beyond their share of a turn, as they came, and where they stand.",
        # As much as may wait, and the header that tells its place.
        max_message_bytes=2 * 1024 * 1024,
    ),
    Topic(
        name=CONSENT_COMMANDS,
        key="consent_id",
        messages=dict(CONSENT_MESSAGES),
        partitions=8,
        retention_ms=7 * _DAY_MS,
        writers=(Role.PARTNER, Role.OPS),
        readers=(Role.CONSENTS,),
        description="Signed commands on customers' consents.",
        timestamp_type=TimestampType.APPEND,
    ),
    Topic(
        name="mypay.dispatch.{network}",
        key="consent_id",
        messages={ORDER_TYPE: PaymentOrder, REFUND_TYPE: PaymentRefund, OCCURRENCE_TYPE: OccurrenceOrder},
        partitions=8,
        retention_ms=7 * _DAY_MS,
        writers=(Role.INITIATION, Role.SCHEDULE, Role.OPS),
        readers=(Role.EXECUTION,),
        description="Accepted orders and refunds, the partner's own bytes and signature, routed to one network.",
    ),
    Topic(
        name="mypay.events.{partner}",
        key="payment_id, consent_id, standing_order_id or bulk_id",
        messages={
            **_payment_types(),
            EventType.ORDER_REFUSED: OrderRefused,
            EventType.CANCELLATION_ACCEPTED: CancellationAccepted,
            EventType.CANCELLATION_REFUSED: CancellationRefused,
            EventType.BULK_ACCEPTED: BulkEvent,
            EventType.BULK_REFUSED: BulkEvent,
            EventType.BULK_REPORTED: BulkEvent,
            EventType.STANDING_CREATED: StandingOrderEvent,
            EventType.STANDING_CANCELLED: StandingOrderEvent,
            EventType.STANDING_COMPLETED: StandingOrderEvent,
            EventType.STANDING_REPORTED: StandingOrderEvent,
            EventType.STANDING_REFUSED: StandingOrderRefused,
            EventType.CONSENT_CHANGED: ConsentEvent,
            EventType.CONSENT_REPORTED: ConsentEvent,
            EventType.CONSENT_REFUSED: ConsentRefused,
            EventType.CONSENT_SHARED: ConsentShared,
            EventType.CONSENT_OFFERED: ConsentOffered,
            EventType.DISCLOSURE_NOTICE: DisclosureNotice,
            **{t.value: PortabilityEvent for t in EventType if t.value.startswith("kr.mypay.portability.")},
        },
        partitions=4,
        retention_ms=7 * _DAY_MS,
        writers=(Role.RELAY,),
        readers=(Role.PARTNER,),
        description="What became of a partner's orders, consents and transmission requests.",
    ),
    Topic(
        name=PORTABILITY_REQUESTS,
        key="consent_id",
        messages={PORTABILITY_REQUEST_TYPE: PortabilityRequest},
        partitions=4,
        retention_ms=7 * _DAY_MS,
        writers=(Role.PARTNER, Role.OPS),
        readers=(Role.PORTABILITY,),
        description="Signed requests to hand customers' data to recipients that they name.",
        timestamp_type=TimestampType.APPEND,
    ),
    Topic(
        name="mypay.portability.exports.{recipient}",
        key="export_id",
        messages={
            EXPORT_CHUNK_TYPE: ExportChunk,
            EXPORT_COMPLETE_TYPE: ExportComplete,
            EXPORT_VOID_TYPE: ExportVoid,
        },
        partitions=4,
        retention_ms=7 * _DAY_MS,
        writers=(Role.PORTABILITY, Role.RELAY),
        readers=(Role.RECIPIENT,),
        description="Customers' data for one recipient, encrypted to its key, with receipts and void notices.",
        late_ms=EXPORT_LATE_MS,
    ),
    Topic(
        name="mypay.clearing.{network}",
        key="cycle_id",
        messages={CLEARING_TYPE: ClearingBatch},
        partitions=4,
        retention_ms=30 * _DAY_MS,
        writers=(Role.CLEARING_IMPORT, Role.SETTLEMENT, Role.OPS),
        readers=(Role.SETTLEMENT,),
        description="What a network says it cleared.",
    ),
    Topic(
        name=SETTLEMENTS,
        key="network_id",
        messages={EventType.CYCLE_SETTLED: CycleSettled},
        partitions=4,
        retention_ms=30 * _DAY_MS,
        writers=(Role.RELAY,),
        readers=(Role.FINANCE, Role.OPS),
        description="Matched clearing cycles with net positions per merchant.",
    ),
    Topic(
        name=DISCLOSURE_ROOTS,
        key="number; of what was destroyed: destroyed:first_seq, or data-destroyed:number",
        messages={
            EventType.DISCLOSURE_ROOT: DisclosureRoot,
            EventType.DISCLOSURES_DESTROYED: DisclosuresDestroyed,
            EventType.DATA_DESTROYED: DataDestroyed,
        },
        partitions=1,
        retention_ms=FOR_EVER,
        compacted=True,
        writers=(Role.RELAY,),
        readers=(Role.PARTNER, Role.FINANCE, Role.OPS),
        description="Signed Merkle roots of the disclosure log, each once; and evidence of what was destroyed.",
    ),
    Topic(
        name="mypay.sharing.{affiliate}",
        key="consent_ref",
        messages={EventType.PAYMENT_SHARED: PaymentShared, EventType.ERASE_NOTICE: EraseNotice},
        partitions=4,
        retention_ms=7 * _DAY_MS,
        writers=(Role.RELAY,),
        readers=(Role.AFFILIATE,),
        description="Settled payments that customers let an affiliate have, and what it must erase.",
    ),
    Topic(
        name=ERASURES,
        key="notice_id",
        messages={ERASURE_TYPE: ErasureConfirmed},
        partitions=4,
        retention_ms=30 * _DAY_MS,
        writers=(Role.AFFILIATE, Role.OPS),
        readers=(Role.SHARING,),
        description="Affiliates' signed confirmations that they have erased.",
        timestamp_type=TimestampType.APPEND,
    ),
    Topic(
        name="mypay.marketing.offers.{affiliate}",
        key="offer_id",
        messages={
            OFFER_GRANTED_TYPE: OfferGranted,
            OFFER_WITHDRAWN_TYPE: OfferWithdrawn,
            USE_COUNTED_TYPE: OfferUseCounted,
            USE_REFUSED_TYPE: OfferUseRefused,
        },
        partitions=4,
        retention_ms=7 * _DAY_MS,
        writers=(Role.RELAY,),
        readers=(Role.AFFILIATE,),
        description="One affiliate's offers to customers who agree to them, and what became of their uses.",
    ),
    Topic(
        name=OFFER_USES,
        key="offer_id",
        messages={OFFER_USE_TYPE: OfferUse},
        partitions=4,
        retention_ms=30 * _DAY_MS,
        writers=(Role.AFFILIATE, Role.OPS),
        readers=(Role.MARKETING,),
        description="Affiliates' signed words that offers were used.",
        timestamp_type=TimestampType.APPEND,
    ),
    Topic(
        name=AGGREGATES,
        key="week",
        messages={AGGREGATE_TYPE: AggregateTable},
        partitions=1,
        retention_ms=30 * _DAY_MS,
        writers=(Role.RELAY,),
        readers=(Role.AFFILIATE, Role.FINANCE, Role.OPS),
        description="Settled payments by category, region and week, of at least k customers each.",
    ),
    Topic(
        name=DEAD_LETTER,
        key="the original key",
        messages={},
        partitions=4,
        retention_ms=30 * _DAY_MS,
        writers=(
            Role.INITIATION,
            Role.CONSENTS,
            Role.EXECUTION,
            Role.SETTLEMENT,
            Role.PORTABILITY,
            Role.SHARING,
            Role.MARKETING,
            Role.CLEARING_IMPORT,
            Role.OPS,
        ),
        readers=(Role.OPS,),
        description="Records that no stage could read: original bytes, key and headers, with the reason in headers.",
        # Which of a letter and the note of its replay is younger is asked: by one clock.
        timestamp_type=TimestampType.APPEND,
        # The original record plus the reason headers must always fit.
        max_message_bytes=2 * 1024 * 1024,
    ),
)


def _member(family: str, part: str) -> str:
    if not NAME_PART.fullmatch(part):
        raise ValueError("a topic name part has letters, digits, dots, underscores and hyphens only")
    return f"mypay.{family}.{part}"


def dispatch_topic(network_id: str) -> str:
    """Topic of accepted orders for one network."""
    return _member("dispatch", network_id)


def events_topic(partner_id: str) -> str:
    """Topic of one partner's events."""
    return _member("events", partner_id)


def sharing_topic(affiliate_id: str) -> str:
    """Topic of what one affiliate is given."""
    return _member("sharing", affiliate_id)


def clearing_topic(network_id: str) -> str:
    """Topic of one network's clearing batches."""
    return _member("clearing", network_id)


def exports_topic(org_code: str) -> str:
    """Topic of what one recipient is handed."""
    return _member("portability.exports", org_code)


def offers_topic(affiliate_id: str) -> str:
    """Topic of one affiliate's offers."""
    return _member("marketing.offers", affiliate_id)


def late_of(name: str) -> int | None:
    """How old a record may be for the topic of this name to take it, in milliseconds; None: of any age."""
    bounds = ((t.name.partition("{")[0], t.late_ms) for t in TOPICS)
    return next((ms for family, ms in bounds if ms is not None and name.startswith(family)), None)


def concrete_topics(
    *,
    partners: Iterable[str],
    networks: Iterable[str],
    recipients: Iterable[str] = (),
    affiliates: Iterable[str] = (),
) -> list[Topic]:
    """Expand the table's families for the partners, networks, recipients and affiliates that exist."""
    members = {
        "{partner}": sorted(partners),
        "{network}": sorted(networks),
        "{recipient}": sorted(recipients),
        "{affiliate}": sorted(affiliates),
    }
    result: list[Topic] = []
    for topic in TOPICS:
        placeholder = next((p for p in members if p in topic.name), None)
        if placeholder is None:
            result.append(topic)
            continue
        for member in members[placeholder]:
            _member("x", member)
            fields = {name: getattr(topic, name) for name in Topic.__slots__}
            result.append(Topic(**{**fields, "name": topic.name.replace(placeholder, member)}))
    return result
