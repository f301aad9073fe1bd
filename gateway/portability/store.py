"""Transmission requests, exports, recipients, and the customer's data as it stands at one moment."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from gateway.consents.store import ConsentUnit
from gateway.disclosure.rules.destruction import Destruction
from gateway.identity.refusals import RefusingUnit
from gateway.identity.store import AuthenticationUnit
from gateway.portability.rules.records import (
    Export,
    GoneRequest,
    PaymentFacts,
    Recipient,
    RequestKey,
    StoredRequest,
)
from schemas.primitives import CustomerId, PartnerId


class PortabilityStore(Protocol):
    """Requests, their exports, and who may receive them."""

    async def recipients(self, org_codes: Sequence[str]) -> Mapping[str, Recipient]:
        """Registered recipients, each with the newest of its keys that is not disabled."""

    async def requests(self, keys: Sequence[RequestKey]) -> Mapping[RequestKey, StoredRequest]:
        """Requests that were taken before."""

    async def gone(self, keys: Sequence[RequestKey]) -> Mapping[RequestKey, GoneRequest]:
        """Requests that were taken before and destroyed since: their ids are used."""

    async def destroy_silent(self, *, before: datetime, limit: int) -> Sequence[Destruction]:
        """Destroy what was last asked about then, or before it, and return the evidence, by kind.

        Up to ``limit`` requests that are not active, with their exports, unless one of these is on its way; and up to
        ``limit`` accesses. The database holds to a year at least.
        """

    async def add(self, requests: Sequence[StoredRequest]) -> frozenset[RequestKey]:
        """Store new requests; return the keys of those that did not exist."""

    async def access(self, requests: Sequence[StoredRequest]) -> None:
        """Note that the customer has asked for something for these recipients, when each request says.

        Requests of another recipient under the same consent have heard nothing of it.
        """

    async def add_exports(self, exports: Sequence[Export]) -> None:
        """Begin exports. One that exists is a bug and fails."""

    async def claim(
        self, *, worker: str, now: datetime, until: datetime, after: str = ""
    ) -> tuple[Export, StoredRequest] | None:
        """Take an export that nobody works on; its attempts count one more, and it is SENDING.

        It is the oldest of the first partner behind ``after``, by id; behind the last one comes the first.
        What it tells of chunks is of the attempt before.
        """

    async def hold(self, export: Export, until: datetime, *, chunks: int, consent_version: int) -> bool:
        """Go on with a claimed export, of which so many chunks may leave; False where another has taken it over."""

    async def lock_export(self, export: Export) -> Export | None:
        """An export as it stands, locked."""

    async def update_export(self, export: Export) -> None:
        """Write an export that this transaction has locked: all but what it was begun with."""

    async def claim_due(self, *, now: datetime, limit: int) -> Sequence[StoredRequest]:
        """Scheduled requests whose next export is due, locked; those that another transaction holds are left."""

    async def last_snapshots(self, keys: Sequence[RequestKey]) -> Mapping[RequestKey, datetime]:
        """When the last export of each request that is whole was as it stands; no entry where none is."""

    async def update_requests(self, requests: Sequence[StoredRequest]) -> None:
        """Write status, exports and times of requests that this transaction has locked."""

    async def finish_request(self, key: RequestKey) -> None:
        """A request that is asked for once has come to its end."""


class PortabilityDataUnit(Protocol):
    """Transmission requests."""

    @property
    def portability(self) -> PortabilityStore:
        """Requests, their exports, and who may receive them."""


class PortabilityUnit(PortabilityDataUnit, ConsentUnit, RefusingUnit, AuthenticationUnit, Protocol):
    """Takes requests and makes exports of them."""


class Snapshots(Protocol):
    """The customer's data as it stands at one moment, read in pieces."""

    def open(
        self, partner_id: PartnerId, customer_id: CustomerId, *, since: datetime | None, size: int
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[PaymentFacts]]]:
        """All payments of a customer through one partner, in pieces of ``size``: one repeatable-read transaction.

        ``since``: only what changed after it.

        Raises:
            StoreUnavailableError: from any piece.
        """
