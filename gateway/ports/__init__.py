"""What the use cases need from the world outside, as Protocols.

Batches everywhere: a method that takes a sequence costs one round trip whatever its length. Stores raise
:class:`StoreUnavailableError` (wait and try again), :class:`StoreConflictError` (run the transaction again) or
:class:`StoreIntegrityError` (a bug), never a driver's error.
"""

from gateway.ports.authentication import (
    AssertionUse,
    AssertionVerifier,
    AuthenticationStore,
    IdentityLink,
    IssuerKey,
    TrustTable,
)
from gateway.ports.clearing import SEAL_SUFFIXES, ClearingSealError, ClearingSeals, ClearingStore
from gateway.ports.consents import ConsentStore, UsageChange
from gateway.ports.directory import Directory, OpenedCards, TokenVault, Unopened
from gateway.ports.errors import (
    PublisherUnavailableError,
    StoreConflictError,
    StoreForbiddenError,
    StoreIntegrityError,
    StoreUnavailableError,
    TopicClosedError,
)
from gateway.ports.follow_ups import UNSENDABLE, FollowUp, FollowUpStore
from gateway.ports.kafka import DeadLetters, Outgoing, Publisher, Record, Unread, UnreadError
from gateway.ports.keys import (
    KeySource,
    MarkProblem,
    NotAuthenticatedError,
    PartnerKey,
    RecordMarks,
    SignatureVerifier,
    Signed,
)
from gateway.ports.network import CardNetwork
from gateway.ports.orders import BulkStore, CancellationStore, ScheduleStore, StandingOrderStore
from gateway.ports.outbox import Outbox, OutboxEvent, OutboxReader, OutboxRow
from gateway.ports.payments import LateAnswer, PaymentStore, Refusal
from gateway.ports.process import Clock, Observer
from gateway.ports.store import Store, UnitOfWork

__all__ = [
    "SEAL_SUFFIXES",
    "UNSENDABLE",
    "AssertionUse",
    "AssertionVerifier",
    "AuthenticationStore",
    "BulkStore",
    "CancellationStore",
    "CardNetwork",
    "ClearingSealError",
    "ClearingSeals",
    "ClearingStore",
    "Clock",
    "ConsentStore",
    "DeadLetters",
    "Directory",
    "FollowUp",
    "FollowUpStore",
    "IdentityLink",
    "IssuerKey",
    "KeySource",
    "LateAnswer",
    "MarkProblem",
    "NotAuthenticatedError",
    "Observer",
    "OpenedCards",
    "Outbox",
    "OutboxEvent",
    "OutboxReader",
    "OutboxRow",
    "Outgoing",
    "PartnerKey",
    "PaymentStore",
    "Publisher",
    "PublisherUnavailableError",
    "Record",
    "RecordMarks",
    "Refusal",
    "ScheduleStore",
    "SignatureVerifier",
    "Signed",
    "StandingOrderStore",
    "Store",
    "StoreConflictError",
    "StoreForbiddenError",
    "StoreIntegrityError",
    "StoreUnavailableError",
    "TokenVault",
    "TopicClosedError",
    "TrustTable",
    "UnitOfWork",
    "Unopened",
    "Unread",
    "UnreadError",
    "UsageChange",
]
