"""Transmission requests, exports and recipients as they are stored and handed on."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Any

from gateway.base.keys import ConsentKey
from schemas.portability import PortabilityRequest
from schemas.primitives import ConsentId, CustomerId, PartnerId
from schemas.reasons import Reason

RequestKey = tuple[PartnerId, str]
"""Partner and request id."""


@unique
class RequestStatus(StrEnum):
    """Where a request stands."""

    ACTIVE = "active"
    DONE = "done"
    STOPPED = "stopped"


@unique
class ExportState(StrEnum):
    """Life of an export: ``waiting → sending → complete | void``; an attempt that came to nothing waits again."""

    WAITING = "waiting"
    SENDING = "sending"
    COMPLETE = "complete"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class RecipientKey:
    """A recipient's public key. ``jwk`` holds public members only."""

    kid: str
    jwk: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Recipient:
    """A registered recipient. ``key``: what is encrypted to now; None where it has none that counts."""

    org_code: str
    active: bool
    key: RecipientKey | None


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A request that was taken.

    Attributes:
        digest: SHA-256 of the record's value.
        exports: how many exports were begun.
        next_due_at: when the next one is; None where none follows.
        accessed_at: when the customer last asked for anything for its recipient under its consent.
    """

    request: PortabilityRequest
    customer_id: CustomerId
    digest: bytes
    status: RequestStatus
    exports: int
    next_due_at: datetime | None
    accessed_at: datetime
    reference: str
    created_at: datetime
    traceparent: str | None = None

    @property
    def key(self) -> RequestKey:
        """Primary key."""
        return (self.request.partner_id, self.request.request_id)

    @property
    def consent_key(self) -> ConsentKey:
        """The consent that permits it."""
        return (self.request.partner_id, self.request.consent_id)


@dataclass(frozen=True, slots=True)
class GoneRequest:
    """All that is kept of a request whose customer has asked for nothing for a year: its id stays used.

    Attributes:
        digest: SHA-256 of the record's value.
        reference: the record's place.
    """

    digest: bytes
    reference: str


@dataclass(frozen=True, slots=True)
class Export:
    """One export of a request.

    Attributes:
        number: 1, 2, 3 … within its request.
        attempt: how often it was begun; 0: never.
        search_from: only what changed after it; None: everything.
        sent_chunks: of the attempt: how many may have left; it is counted before each does.
        sent_version: of the consent, under which the last of them did.
    """

    partner_id: PartnerId
    request_id: str
    number: int
    consent_id: ConsentId
    state: ExportState
    attempt: int
    search_from: datetime | None
    created_at: datetime
    changed_at: datetime
    leased_by: str | None = None
    leased_until: datetime | None = None
    snapshot_at: datetime | None = None
    receipt: str | None = None
    reason: Reason | None = None
    sent_chunks: int = 0
    sent_version: int | None = None

    @property
    def key(self) -> tuple[PartnerId, str, int]:
        """Primary key."""
        return (self.partner_id, self.request_id, self.number)

    @property
    def request_key(self) -> RequestKey:
        """Its request."""
        return (self.partner_id, self.request_id)

    @property
    def consent_key(self) -> ConsentKey:
        """The consent that permits it."""
        return (self.partner_id, self.consent_id)

    @property
    def export_id(self) -> str:
        """Names it to its recipient."""
        name = f"{self.partner_id}/{self.request_id}/{self.number}"
        return f"E-{hashlib.sha256(name.encode()).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class PaymentFacts:
    """What an export may tell of a payment, before it is said what it may.

    Attributes:
        refunded_minor: of a purchase: what was given back of it.
        merchant_name, mcc: of the merchant directory; None where the merchant is not in it.
    """

    payment_id: str
    operation: str
    state: str
    amount_minor: int
    currency: str
    approval_code: str | None
    decided_at: datetime
    changed_at: datetime
    funding_token: str | None
    merchant_name: str | None
    mcc: str | None
    refunded_minor: int
