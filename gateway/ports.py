"""What the use cases need from the world outside, as Protocols.

Batches everywhere: a method that takes a sequence costs one round trip whatever its length. Stores raise
:class:`StoreUnavailableError` (wait and try again), :class:`StoreConflictError` (run the transaction again) or
:class:`StoreIntegrityError` (a bug), never a driver's error.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from gateway.domain.authentication import Assertion, AssurancePolicy, Issuer
from gateway.domain.bulk import Bulk, BulkKey
from gateway.domain.cancellation import CancellationKey, HandledCancellation
from gateway.domain.consent import Consent, Merchant
from gateway.domain.consent_records import CommandKey, ConsentRecord, ConsentVersion, HandledCommand, Proof
from gateway.domain.exchange import CardData, ExchangeResult, NetworkRequest, UnmatchedAnswer
from gateway.domain.intent import ConsentKey, UsageKey
from gateway.domain.ledger import Transfer
from gateway.domain.lifecycle import PaymentState
from gateway.domain.limits import Usage
from gateway.domain.payment import Payment, PaymentKey
from gateway.domain.scheduling import ScheduledOrder
from gateway.domain.settlement import Break, ClearedPayment
from gateway.domain.standing import StandingKey, StandingOrder
from schemas.clearing import ClearingRecord
from schemas.primitives import ConsentId, CustomerId, FundingToken, MerchantId, NetworkId, PartnerId, PaymentId
from schemas.reasons import Reason


class StoreUnavailableError(Exception):
    """The database cannot be reached or refuses work for now: nothing was decided; try again later."""


class StoreConflictError(Exception):
    """The transaction lost a race (deadlock, serialization, a concurrent insert): nothing was written; run it again."""


class StoreIntegrityError(Exception):
    """The database refused a write that breaks one of its rules: a bug. Nothing was written; again would not help."""


class PublisherUnavailableError(Exception):
    """Kafka did not confirm in time. The records may or may not be there: publish them again."""


class TopicClosedError(PublisherUnavailableError):
    """A topic does not exist, or we may not write to it, as Kafka says itself. Other topics are not concerned."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"topic {topic} does not exist, or is closed to us")
        self.topic = topic


# --- records of Kafka -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record as consumed. ``timestamp_ms``: since the epoch, as the broker or producer set it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]

    @property
    def reference(self) -> str:
        """``topic/partition/offset``: names the record for ever, without showing any of it."""
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One Kafka record to publish."""

    topic: str
    key: bytes | None
    value: bytes
    headers: Sequence[tuple[str, bytes]]


class Publisher(Protocol):
    """An idempotent Kafka producer."""

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Return when every record is durably in Kafka; records with one topic and key keep their order.

        Raises:
            PublisherUnavailableError: not all were confirmed; :class:`TopicClosedError` where one topic is the cause.
        """


class DeadLetters(Protocol):
    """Where records go that no stage can read."""

    async def park(self, stage: str, records: Sequence[tuple[Record, Exception]]) -> None:
        """Publish each record to the dead-letter topic with the reason; return when all are durably there.

        Raises:
            PublisherUnavailableError: not all were confirmed.
        """


# --- the database -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UsageChange:
    """What to add to one window's usage (negative to take away)."""

    key: UsageKey
    reserved_minor: int = 0
    reserved_count: int = 0
    consumed_minor: int = 0
    consumed_count: int = 0


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """One event to be relayed to Kafka once the transaction that holds it has committed."""

    topic: str
    key: str
    event_id: str
    event_type: str
    occurred_at: datetime
    body: bytes
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An order that did not become a payment; ``reference`` names the record, so that redelivery records it once."""

    partner_id: PartnerId
    order_id: str
    reference: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A reversal or an inquiry that waits to be sent, again and again until the network has settled it.

    Attributes:
        terminal_id: the original's, which is its own too.
        stan, transmitted_at: its own trace numbers, the same in every repeat.
        attempts: how often it was sent; above zero the next is a repeat (0421).
    """

    key: PaymentKey
    network_id: NetworkId
    terminal_id: str
    stan: int
    transmitted_at: datetime
    attempts: int = 0
    queued_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LateAnswer:
    """An answer that belonged to no exchange in flight, as it is kept.

    Attributes:
        key: the payment that it names by its RRN; None where there is none.
        outcome: what it did: the payment's new state, ``ignored``, ``undone`` or ``unsolicited``.
    """

    unmatched: UnmatchedAnswer
    key: PaymentKey | None
    outcome: str
    received_at: datetime


class ConsentStore(Protocol):
    """Consents and the usage of their limits."""

    async def read(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, Consent]:
        """Current versions, without a lock: good for advice, never for the decision."""

    async def lock(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, Consent]:
        """Current versions, locked in key order until the transaction ends: the instant of truth."""

    async def lock_records(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, ConsentRecord]:
        """The same, with what commands on consents need besides."""

    async def lock_past_end(self, *, now: datetime, limit: int) -> Sequence[ConsentRecord]:
        """Open consents past their ends, earliest end first, locked; those that another transaction holds are left."""

    async def insert(self, records: Sequence[ConsentRecord], *, now: datetime) -> frozenset[ConsentKey]:
        """Store new consents; return the keys of those that did not exist. An existing one is left as it is."""

    async def update(self, records: Sequence[ConsentRecord], *, now: datetime) -> None:
        """Write status, terms, version and changes of consents that this transaction has locked."""

    async def add_versions(self, versions: Sequence[ConsentVersion]) -> None:
        """Add versions of terms. One that exists is a bug and fails."""

    async def add_proofs(self, proofs: Sequence[tuple[ConsentKey, int, Proof]]) -> None:
        """Note who authenticated versions that nobody has authenticated yet."""

    async def versions(self, key: ConsentKey) -> Sequence[ConsentVersion]:
        """Every version of a consent's terms, the first one first."""

    async def handled(self, keys: Sequence[CommandKey]) -> Mapping[CommandKey, HandledCommand]:
        """Commands that were handled before."""

    async def remember(self, handled: Sequence[HandledCommand]) -> frozenset[CommandKey]:
        """Remember commands that are not remembered yet; return the keys of these."""

    async def ended_since(self, since: datetime) -> Mapping[ConsentKey, datetime]:
        """Consents that were revoked or expired at or after ``since``, with the moment."""

    async def usage(self, keys: Sequence[UsageKey]) -> Mapping[UsageKey, Usage]:
        """Usage of the windows that have any."""

    async def add_usage(self, changes: Sequence[UsageChange]) -> None:
        """Add to usages, making rows as needed. Fails (a bug, not a race) where a number would fall below zero."""


class PaymentStore(Protocol):
    """Payments."""

    async def find(self, keys: Sequence[PaymentKey]) -> Mapping[PaymentKey, Payment]:
        """Payments that exist, without a lock."""

    async def lock(
        self, keys: Sequence[PaymentKey], *, known: Mapping[PaymentKey, Payment] | None = None
    ) -> Mapping[PaymentKey, Payment]:
        """Payments that exist, locked in key order until the transaction ends.

        ``known``: payments as the caller last wrote them. Where the stored version is still the same, that very object
        is returned and the row is not read: nothing of a payment changes without its version.
        """

    async def insert(self, payments: Sequence[Payment]) -> frozenset[PaymentKey]:
        """Insert those that do not exist yet; return the keys of these. An existing payment is left as it is."""

    async def update(self, payments: Sequence[Payment]) -> None:
        """Write state, version, reason, approval code and time of payments that this transaction has locked."""

    async def in_flight(self, consents: Sequence[ConsentKey]) -> Mapping[ConsentKey, Sequence[PaymentId]]:
        """Payments that were sent and whose outcome is open: SENT, UNKNOWN or REVERSING; by id. No entry for none."""

    async def refunded(self, originals: Sequence[PaymentKey]) -> Mapping[PaymentKey, int]:
        """Minor units of each payment's refunds that were sent and did not fail; no entry for none.

        Exact while the caller holds the originals' locks: nobody sends a refund without them.
        """

    async def next_payment_numbers(self, count: int) -> Sequence[int]:
        """``count`` numbers, from 1, that were never given out before and never will be again, also after a crash."""

    async def next_follow_up_numbers(self, count: int) -> Sequence[int]:
        """The same for reversals and inquiries, which count apart."""

    async def insert_transfers(self, transfers: Sequence[tuple[PaymentKey, Transfer, datetime]]) -> None:
        """Append to the ledger. One transfer of a kind per payment: a second one is a bug and fails."""

    async def refuse(self, refusals: Sequence[Refusal]) -> frozenset[str]:
        """Record refusals that are not recorded yet; return the references of these."""

    async def refused(self, records: Sequence[tuple[PartnerId, str]]) -> frozenset[str]:
        """Of records (partner, reference), the references of those whose refusal is recorded."""

    async def abandoned(
        self, network_id: NetworkId, *, alive_since: datetime, sent_before: datetime, limit: int
    ) -> Sequence[PaymentKey]:
        """Payments that are still SENT although nobody will tell how they ended.

        Their worker has not reported (:meth:`Directory.report_network`) since ``alive_since``, or they were sent before
        ``sent_before``: longer ago than a live worker holds one.
        """

    async def open_since(self) -> Mapping[PaymentState, tuple[int, datetime]]:
        """Of each state with an open outcome (SENT, UNKNOWN, REVERSING): how many, and since when the oldest is so."""

    async def keys_by_rrn(self, network_id: NetworkId, rrns: Sequence[str]) -> Mapping[str, PaymentKey]:
        """Payments by the reference that they were sent under."""

    async def note_late_answers(self, answers: Sequence[LateAnswer]) -> None:
        """Keep answers that belonged to no exchange in flight."""


class FollowUpStore(Protocol):
    """A durable store-and-forward queue: of reversals, or of inquiries."""

    async def queue(self, follow_ups: Sequence[FollowUp]) -> None:
        """Add; a payment has one that is open at most, which stands. A closed one is opened anew under new numbers."""

    async def claim(
        self,
        network_id: NetworkId,
        *,
        owner: str,
        now: datetime,
        lease_until: datetime,
        limit: int,
        in_order: bool = False,
    ) -> Sequence[FollowUp]:
        """Take due ones that nobody holds, oldest first; counts one more attempt on each.

        ``in_order``: of each terminal only the oldest open one, due or not.
        """

    async def retry(self, keys: Sequence[PaymentKey], *, owner: str, next_attempt_at: datetime, code: str) -> None:
        """Give back those that were not settled, with what the network said (raw code or cause)."""

    async def close(self, keys: Sequence[PaymentKey], *, owner: str, now: datetime) -> frozenset[PaymentKey]:
        """Close; return those that were open and held by ``owner``: only their outcome counts."""

    async def take_away(self, keys: Sequence[PaymentKey], *, now: datetime) -> frozenset[PaymentKey]:
        """Close whoever holds them; return those that were open. The holder's :meth:`close` then finds none."""

    async def next_due(self, network_id: NetworkId) -> datetime | None:
        """When the earliest open one is due."""


class ScheduleStore(Protocol):
    """Orders that wait for their day. Each belongs to a SCHEDULED payment; both are written in one transaction."""

    async def keep(self, orders: Sequence[ScheduledOrder]) -> None:
        """Add orders of payments that this transaction has inserted."""

    async def claim(self, *, now: datetime, lease_until: datetime, limit: int) -> Sequence[ScheduledOrder]:
        """Take orders that are due and that nobody holds, earliest first; each counts one more dispatch."""

    async def put_off(self, until: Sequence[tuple[PaymentKey, datetime]]) -> None:
        """Look at each again then: whether the payment still waits."""

    async def close(self, keys: Sequence[PaymentKey], *, now: datetime) -> None:
        """Forget about orders whose payments wait no more."""

    async def begin(self, payments: Sequence[Payment]) -> None:
        """Write what was decided of SCHEDULED payments that this transaction has locked: SENT or REJECTED, in full."""


class CancellationStore(Protocol):
    """Cancellations and what became of them."""

    async def handled(self, keys: Sequence[CancellationKey]) -> Mapping[CancellationKey, HandledCancellation]:
        """Cancellations that were handled before."""

    async def remember(self, handled: Sequence[HandledCancellation]) -> frozenset[CancellationKey]:
        """Remember cancellations that are not remembered yet; return the keys of these."""

    async def answer(self, references: Sequence[tuple[PartnerId, str]]) -> frozenset[tuple[PartnerId, str]]:
        """Note that these records are answered; return those that were not answered before."""

    async def not_sent(self, orders: Sequence[PaymentKey]) -> Mapping[PaymentKey, ConsentId]:
        """Orders that were cancelled before they came, with the consent that the cancellation names."""

    async def lock_due(self, *, limit: int) -> Sequence[HandledCancellation]:
        """Open ones whose payments' outcomes are known, locked; those that another transaction holds are left."""

    async def update(self, handled: Sequence[HandledCancellation]) -> None:
        """Write outcome and openness of cancellations that this transaction has locked."""


class StandingOrderStore(Protocol):
    """Standing orders."""

    async def lock(self, keys: Sequence[StandingKey]) -> Mapping[StandingKey, StandingOrder]:
        """Those that exist, locked in key order until the transaction ends."""

    async def insert(self, orders: Sequence[StandingOrder]) -> frozenset[StandingKey]:
        """Insert those that do not exist yet; return the keys of these. An existing one is left as it is."""

    async def claim_due(self, *, now: datetime, limit: int) -> Sequence[StandingOrder]:
        """Active ones whose next occurrence is due, earliest first, locked; what another transaction holds is left."""

    async def update(self, orders: Sequence[StandingOrder]) -> None:
        """Write status, version, occurrences, next due time, reason and time of orders that are locked."""


class BulkStore(Protocol):
    """Bulks that were decided."""

    async def find(self, keys: Sequence[BulkKey]) -> Mapping[BulkKey, Bulk]:
        """Those that exist, without a lock."""

    async def insert(self, bulks: Sequence[Bulk]) -> frozenset[BulkKey]:
        """Insert those that do not exist yet; return the keys of these. An existing one is left as it is."""

    async def dispatched(self, keys: Sequence[BulkKey], *, now: datetime) -> None:
        """Note that every accepted item was handed on, where that is not noted yet."""


class ClearingStore(Protocol):
    """Clearing records and breaks."""

    async def payments_by_rrn(self, network_id: NetworkId, rrns: Sequence[str]) -> Mapping[str, ClearedPayment]:
        """Payments by the network's reference, locked until the transaction ends."""

    async def insert(self, network_id: NetworkId, cycle_id: str, records: Sequence[ClearingRecord]) -> frozenset[int]:
        """Record what was not recorded yet; return the record numbers of these."""

    async def write_outcomes(
        self,
        network_id: NetworkId,
        cycle_id: str,
        outcomes: Sequence[tuple[int, PaymentKey | None, Break | None]],
    ) -> None:
        """Note for each record number the payment it matched, or the break."""


class Outbox(Protocol):
    """Events that wait for the relay."""

    async def append(self, events: Sequence[OutboxEvent]) -> None:
        """Add events to this transaction."""

    async def purge(self, *, before: datetime, limit: int) -> int:
        """Forget up to ``limit`` of the first events that were relayed and occurred before; return how many.

        Those that are set aside stay, and so do all behind the first event that is younger.
        """


class Directory(Protocol):
    """Merchants and networks' health; partners and keys are read through :class:`KeySource`."""

    async def merchants(self, ids: Sequence[MerchantId]) -> Mapping[MerchantId, Merchant]:
        """Merchants that exist."""

    async def open_networks(self, *, reported_since: datetime) -> frozenset[NetworkId]:
        """Networks that at least one execution worker has reported open since then."""

    async def report_network(self, network_id: NetworkId, *, worker: str, is_open: bool, now: datetime) -> None:
        """Note what one worker sees of one network, and that it lives."""


class TokenVault(Protocol):
    """Opens funding tokens. What it returns is never logged, stored or kept."""

    async def open(self, tokens: Sequence[FundingToken]) -> Mapping[FundingToken, CardData]:
        """Cards behind the tokens that exist."""


class UnitOfWork(Protocol):
    """One transaction. Everything written through it commits together or not at all."""

    @property
    def consents(self) -> ConsentStore:
        """Consents and usage."""

    @property
    def payments(self) -> PaymentStore:
        """Payments, ledger, refusals."""

    @property
    def reversals(self) -> FollowUpStore:
        """The reversal queue."""

    @property
    def inquiries(self) -> FollowUpStore:
        """The inquiry queue."""

    @property
    def schedule(self) -> ScheduleStore:
        """Orders that wait for their day."""

    @property
    def cancellations(self) -> CancellationStore:
        """Cancellations of orders."""

    @property
    def standing(self) -> StandingOrderStore:
        """Standing orders."""

    @property
    def bulks(self) -> BulkStore:
        """Bulks."""

    @property
    def clearing(self) -> ClearingStore:
        """Clearing records."""

    @property
    def outbox(self) -> Outbox:
        """Events."""

    @property
    def authentication(self) -> "AuthenticationStore":
        """Identity links and used assertions."""

    @property
    def directory(self) -> Directory:
        """Merchants."""


class Store(Protocol):
    """The database."""

    def transaction(self) -> AbstractAsyncContextManager[UnitOfWork]:
        """Begin; commit at the end of the block, roll back when it raises.

        Raises:
            StoreUnavailableError, StoreConflictError: from any call inside, or at the commit.
        """

    def reading(self) -> AbstractAsyncContextManager[UnitOfWork]:
        """A connection without a transaction, for advice that nothing rests on."""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One outbox row with its place in the relay's order."""

    tx: int
    id: int
    event: OutboxEvent


class OutboxReader(Protocol):
    """The relay's side of the outbox. Holds a leader lock: one reader at a time."""

    async def acquire(self) -> bool:
        """Become the one relay; False while another is."""

    async def read(self, limit: int) -> Sequence[OutboxRow]:
        """Rows past the cursor whose order can no longer change."""

    async def advance(self, last: OutboxRow, *, parked: Sequence[OutboxRow] = (), reason: str = "") -> None:
        """Move the cursor past the last of the rows that Kafka has confirmed, or that are set aside here and now."""

    async def parked_topics(self) -> frozenset[str]:
        """Topics with rows that are set aside."""

    async def read_parked(self, topic: str, limit: int) -> Sequence[OutboxRow]:
        """A topic's rows that are set aside, in their order."""

    async def unpark(self, rows: Sequence[OutboxRow]) -> None:
        """Forget that these were set aside: Kafka has confirmed them now."""

    async def release(self) -> None:
        """Let another relay in."""


# --- keys, network, clock, observation --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PartnerKey:
    """A partner's registered public key. ``jwk`` holds public members only."""

    kid: str
    partner_id: PartnerId
    algorithm: str
    jwk: Mapping[str, Any]
    valid_from: datetime
    valid_until: datetime | None
    disabled_at: datetime | None


class KeySource(Protocol):
    """Partners and their keys, held in memory and refreshed within seconds of a change."""

    def partner_exists(self, partner_id: str) -> bool:
        """True for a registered, active partner."""

    def key(self, kid: str) -> PartnerKey | None:
        """The key with this id, whatever its state."""

    async def refresh_if_stale(self) -> bool:
        """Read the registry again for an unknown partner or key; True if it was read by this call or during it.

        At most once a second, which this waits for, unless too many in a row have asked for what does not exist.
        """


class SignatureVerifier(Protocol):
    """Checks a partner's detached signature."""

    def verify(
        self, *, body: bytes, signature: str | None, partner_id: str, type_: str, now: datetime
    ) -> Reason | None:
        """None if the partner signed exactly these bytes as this message type; else why not."""

    def recheck(self, *, signature: str | None, now: datetime) -> Reason | None:
        """Why a signature that :meth:`verify` accepted a while ago counts no more: its key or partner was disabled."""


class CardNetwork(Protocol):
    """Request/answer exchanges with one card network over all of its links."""

    network_id: NetworkId

    @property
    def is_open(self) -> bool:
        """True while at least one link is signed on and the circuit breaker lets traffic through."""

    async def wait_open(self) -> None:
        """Return once ``is_open``."""

    async def reserve(self, wanted: int) -> int:
        """Wait until the in-flight window has room; take and return 1 … ``wanted`` places.

        Every place taken must be followed by one ``submit`` or given back with ``release``.
        """

    def release(self, places: int) -> None:
        """Give back places that will not be used."""

    def submit(self, request: NetworkRequest, *, send_before: float, done: Callable[[ExchangeResult], None]) -> None:
        """Encode and write one request; ``done`` is called exactly once, from the event loop.

        ``send_before`` is a time of ``loop.time()``: past it, or with no signed-on link, the result is NotSent.
        The result is Answered, or Unanswered after the network's answer timeout or when the link is lost.
        Never resends, never moves to another link once a byte may have left.
        """

    async def start(self) -> None:
        """Begin to connect; returns at once."""

    async def stop(self, *, drain_seconds: float) -> None:
        """Take no more, wait for what is in flight up to the deadline (the rest ends Unanswered), sign off, close."""


class Clock(Protocol):
    """Wall time."""

    def now(self) -> datetime:
        """Aware UTC."""


class Observer(Protocol):
    """Where stages report. Names and label values come from small fixed sets; ids go to logs only."""

    def batch(self, stage: str, *, size: int, seconds: float) -> None:
        """One batch was handled."""

    def count(self, stage: str, outcome: str, *, reason: str = "", n: int = 1) -> None:
        """``n`` items of a stage ended this way."""

    def delay(self, span: str, seconds: float) -> None:
        """A span of a payment's way took this long."""

    def level(self, name: str, value: float) -> None:
        """A quantity stands at this value now."""

    def note(self, event: str, *, level: str = "info", **fields: str | float | UUID | None) -> None:
        """One log line. Only ids, codes and numbers: the adapter drops every field that it does not know."""


# --- authentication ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """A public key of an identity provider, as its key set gives it. ``jwk`` holds public members only.

    Attributes:
        revoked: the provider or an operator has withdrawn it, for ever.
    """

    issuer: str
    kid: str
    algorithm: str
    jwk: Mapping[str, Any]
    valid_from: datetime | None
    valid_until: datetime | None
    revoked: bool


class TrustTable(Protocol):
    """Trusted identity providers, their keys and the assurance policy; held in memory, refreshed within seconds."""

    @property
    def policy(self) -> AssurancePolicy:
        """Levels and freshness asked for."""

    def issuer(self, issuer: str) -> Issuer | None:
        """The provider's entry."""

    def key(self, issuer: str, kid: str) -> IssuerKey | None:
        """The provider's key, whatever its state. A miss on a trusted provider is remembered for the next call."""

    async def refresh_unknown(self) -> bool:
        """Read again the key sets in which :meth:`key` missed, each at most once a second; True if one was read.

        Waits half a second at most and never raises: then look once more at what was refused for an unknown key.
        """


class AssertionVerifier(Protocol):
    """Checks an assertion's signature and shape; what it proves is judged by the domain."""

    def verify(self, token: str, now: datetime) -> Assertion | Reason:
        """The verified claims of a compact JWS, or why there are none."""

    def recheck(self, token: str, now: datetime) -> Assertion | Reason:
        """The claims of a JWS that :meth:`verify` accepted a while ago, without verifying its signature again.

        Refused where its key was revoked or withdrawn since.
        """


@dataclass(frozen=True, slots=True)
class AssertionUse:
    """One assertion's one use.

    Attributes:
        used_by: the payment's id; for a command on a consent an id of the command.
        keep_until: :attr:`gateway.domain.authentication.Assertion.keep_until`.
    """

    issuer: str
    jti: str
    partner_id: PartnerId
    used_by: UUID
    keep_until: datetime


@dataclass(frozen=True, slots=True)
class IdentityLink:
    """One customer as one identity provider knows them; ``unlinked_at`` is None while the link stands."""

    issuer: str
    subject: str
    customer_id: CustomerId
    linked_at: datetime
    unlinked_at: datetime | None = None


class AuthenticationStore(Protocol):
    """Identity links and used assertions."""

    async def links(self, identities: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], CustomerId]:
        """Customers by (issuer, subject), for the links that stand."""

    async def use(self, uses: Sequence[AssertionUse]) -> frozenset[AssertionUse]:
        """Use assertions up; return those that another payment or command has used: they must be refused.

        The same use again is no other use: a redelivered order keeps its proof. Within a batch the first one counts.
        """

    async def authenticated_at(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, datetime]:
        """When a payment under each consent last carried a proof, as far as that was marked."""

    async def mark_authenticated(self, keys: Sequence[ConsentKey], *, now: datetime) -> None:
        """Note that a payment with a proof was sent now; the caller holds the consents' locks."""

    async def purge(self, *, before: datetime, limit: int) -> int:
        """Forget up to ``limit`` used assertions that need not be kept past ``before``; return how many."""
