"""What the check of the books looks at, from three sides, as plain rows.

The sender's side (what was produced), the gateway's side (PostgreSQL and what it emitted) and the network's own ledger.
Nothing here comes from the gateway's domain or services: the check shares no rule with what it checks. Amounts are
minor units; times are seconds or milliseconds since 1970 UTC, as their names say.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import NamedTuple
from uuid import UUID

PaymentKey = tuple[str, UUID]
"""(partner_id, payment_id)"""


@unique
class Ending(StrEnum):
    """How a produced record ended: exactly one of these.

    ``rejected`` covers every order that had no financial effect by the gateway's own decision: a payment in state
    REJECTED, an order refused without becoming a payment (a fault, a taken order id), and a repeated order, whose
    first record stands and whose state was told again.
    """

    SETTLED = "settled"
    DECLINED = "declined"
    REJECTED = "rejected"
    REVERSED = "reversed"
    DEAD_LETTER = "dead_letter"
    UNKNOWN = "unknown"  # not ended, or no trace of it found


class OrderFacts(NamedTuple):
    """What the sender put into a readable order or refund; payment ids as the contract derives them.

    Attributes:
        merchant_id: of a refund the original's.
        original_payment_id: what a refund refunds; None for an order.
    """

    partner_id: str
    order_id: str
    payment_id: UUID
    consent_id: str
    merchant_id: str
    amount_minor: int
    currency: str
    original_payment_id: UUID | None = None


class Produced(NamedTuple):
    """One record on the orders topic.

    Attributes:
        timestamp_ms: Kafka's.
        digest: SHA-256 of the value.
        order: None where the bytes are no order.
        expected: endings that the sender's plan allows; empty: any.
        label: the plan's name for what it is.
    """

    partition: int
    offset: int
    timestamp_ms: int
    digest: bytes
    order: OrderFacts | None
    expected: frozenset[Ending] = frozenset()
    label: str = "order"

    @property
    def place(self) -> str:
        """Names the record in a violation."""
        return f"record {self.partition}/{self.offset}"


class ProducedCancellation(NamedTuple):
    """One cancellation on the orders topic.

    Attributes:
        answers: effects and reason codes that the sender's plan allows; empty: any.
    """

    partition: int
    offset: int
    partner_id: str
    payment_id: UUID
    answers: frozenset[str] = frozenset()


class PaymentRow(NamedTuple):
    """A row of ``payment``. ``windows``: as stored, ``limit_key@epoch-second`` separated by blanks."""

    partner_id: str
    payment_id: UUID
    order_id: str
    consent_id: str
    consent_version: int
    merchant_id: str
    operation: str
    amount_minor: int
    currency: str
    digest: bytes
    state: str
    version: int
    reason_code: str | None
    network_id: str | None
    rrn: str | None
    windows: str
    ordered_at_ms: int
    decided_at_s: float
    changed_at_s: float
    original_payment_id: UUID | None = None
    funding_token: str | None = None

    @property
    def key(self) -> PaymentKey:
        """Primary key."""
        return self.partner_id, self.payment_id


class TransferRow(NamedTuple):
    """A row of ``ledger_transfer``."""

    partner_id: str
    payment_id: UUID
    kind: str
    debit: str
    credit: str
    amount_minor: int
    currency: str


class RefusalRow(NamedTuple):
    """A row of ``refusal``. ``reference``: ``topic/partition/offset``."""

    partner_id: str
    reference: str
    order_id: str
    reason_code: str


class ReversalRow(NamedTuple):
    """A row of ``reversal``."""

    partner_id: str
    payment_id: UUID
    confirmed: bool


class InquiryRow(NamedTuple):
    """A row of ``inquiry``. ``closed``: answered, or given up in favour of a reversal."""

    partner_id: str
    payment_id: UUID
    closed: bool


class UsageRow(NamedTuple):
    """A row of ``consent_usage``. ``starts_at``: seconds, with six decimals where they are not whole."""

    partner_id: str
    consent_id: str
    limit_key: str
    starts_at: str
    taken_minor: int
    taken_count: int


class LimitCap(NamedTuple):
    """One limit of a consent's terms: exactly one of ``max_minor`` (in ``currency``) and ``max_count`` is set.

    ``period`` and ``alignment`` are None for limits without periods.
    """

    limit_key: str
    period: str | None
    alignment: str | None
    currency: str | None
    max_minor: int | None
    max_count: int | None


class Exemption(NamedTuple):
    """Which payments a consent's terms let pass without a proof, between two that have one."""

    currency: str
    max_minor: int
    max_sum_minor: int
    max_count: int


class ConsentRow(NamedTuple):
    """A consent's limits, and whose it is. ``valid_from_s``: where lifetime and consent-aligned windows begin."""

    partner_id: str
    consent_id: str
    version: int
    valid_from_s: float
    caps: tuple[LimitCap, ...]
    exemption: Exemption | None = None
    customer_id: str = ""


class TokenRow(NamedTuple):
    """A row of ``funding_token``. ``uses``: partner → until when (seconds) it may use it; None: it still may."""

    token: str
    customer_id: str | None
    uses: Mapping[str, float | None]


class ClearingRow(NamedTuple):
    """A row of ``clearing_record``. ``kind``: ``purchase`` or ``refund``, as the network says."""

    network_id: str
    cycle_id: str
    record_no: int
    rrn: str
    amount_minor: int
    currency: str
    payment_id: UUID | None
    break_kind: str | None
    kind: str = "purchase"


class EventRow(NamedTuple):
    """An event on a partner's topic.

    Attributes:
        subject: payment id (also of a cancellation), consent id, or the reference of a refused order.
        kind: last words of its type: ``payment.approved``, ``order.refused`` …
        state, version: of a payment; of a consent its status and the number of the change; state: of a cancellation
            its effect.
        reason_code: of a refusal's or a rejection's body.
    """

    topic: str
    event_id: str
    kind: str
    subject: str
    state: str | None
    version: int | None
    reason_code: str | None
    timestamp_ms: int


class DeadLetterRow(NamedTuple):
    """A record of the dead-letter topic: where it came from, and the error's class.

    ``digest``: SHA-256 of the original bytes; None where they are sealed and were not opened.
    ``reason_code``: the ISO 20022 reason that the error names, if it names one.
    """

    topic: str
    partition: int
    offset: int
    error: str
    digest: bytes | None
    reason_code: str | None = None


class Forged(NamedTuple):
    """A record on a topic of the gateway's own that the gateway did not write; its order, as it says."""

    topic: str
    partition: int
    offset: int
    digest: bytes
    partner_id: str
    order_id: str
    payment_id: UUID


class NetworkEntry(NamedTuple):
    """A transaction in the network's own ledger. ``cleared``: it is in a closed clearing cycle."""

    network_id: str
    rrn: str
    amount_minor: int
    currency: str
    state: str
    times_seen: int
    cleared: bool
    operation: str = "purchase"


@dataclass(slots=True)
class Evidence:
    """Everything, once nothing moves any more.

    Attributes:
        cancellations: those that were sent.
        consent_changes: (partner_id, consent_id) → how often it was changed.
        proof_free: currency → largest amount that needs no proof of the customer; None: no payment does.
        proofs_used: payment or command → proofs that it has used up.
        outbox_rows: rows of the outbox ever written; outbox_unrelayed: those past the relay's cursor.
        events: in the order of their topics' partitions.
        forged: what somebody wrote to topics of the gateway's own.
        network_counters: what the networks counted, summed: ``duplicates_that_differ``, ``refused_at_the_door`` …
    """

    produced: list[Produced] = field(default_factory=list)
    cancellations: list[ProducedCancellation] = field(default_factory=list)
    payments: dict[PaymentKey, PaymentRow] = field(default_factory=dict)
    transfers: list[TransferRow] = field(default_factory=list)
    refusals: list[RefusalRow] = field(default_factory=list)
    reversals: list[ReversalRow] = field(default_factory=list)
    inquiries: list[InquiryRow] = field(default_factory=list)
    usage: list[UsageRow] = field(default_factory=list)
    consents: dict[tuple[str, str], ConsentRow] = field(default_factory=dict)
    consent_changes: dict[tuple[str, str], int] = field(default_factory=dict)
    tokens: dict[str, TokenRow] = field(default_factory=dict)
    proof_free: Mapping[str, int] | None = None
    proofs_used: Counter[UUID] = field(default_factory=Counter)
    clearing: list[ClearingRow] = field(default_factory=list)
    outbox_rows: int = 0
    outbox_unrelayed: int = 0
    events: list[EventRow] = field(default_factory=list)
    dead_letters: list[DeadLetterRow] = field(default_factory=list)
    forged: list[Forged] = field(default_factory=list)
    network: list[NetworkEntry] = field(default_factory=list)
    network_counters: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of one named check.

    Attributes:
        title: what it proves, for people.
        looked_at: how many things it compared.
        violations: ids and states of what is wrong, never amounts or persons; the first few.
        violation_count: how many there are in all.
    """

    name: str
    title: str
    looked_at: int
    violations: tuple[str, ...]
    violation_count: int

    @property
    def ok(self) -> bool:
        """True if nothing is wrong."""
        return self.violation_count == 0


def balanced(checked: Sequence[Checked]) -> bool:
    """True if every check of the books holds; of none nobody can say that."""
    return bool(checked) and all(c.ok for c in checked)
