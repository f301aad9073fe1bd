"""Making exports: a snapshot → records cut to what the consent permits → chunks sealed to the recipient → receipt.

**Never two that are whole.** An export is claimed, and each claim is an attempt of its own. Its chunks go to Kafka one
by one. It becomes whole by one transaction, under the consent's lock and its own row's, which writes its receipt; and
only if this attempt is still the last. What makes chunks an export is that receipt: an attempt that dies leaves chunks
of which no receipt tells, and the next attempt says that they are void before it begins.

**Nothing leaves unlogged.** Each chunk is counted in the export's row before it leaves. What makes the export whole is
a use of its consent, and so is what says that an attempt is void of which a chunk may have left.

**Nothing after the end of what permits it.** Before each chunk the consent is read again under its lock: what was
revoked is seen by the next chunk, and by the receipt; terms that permit less begin the export anew. A chunk bears the
time at which it was decided, and its topic takes none that is older than :data:`schemas.topics.EXPORT_LATE_MS`: one
that a broker's absence has held up comes to stand there by then, or never. It can be read once all replicas in sync
have it: where one of these stands still, up to the brokers' ``replica.lag.time.max.ms`` later. How late chunks and
receipts come is measured (:mod:`gateway.consents.ended_watch`).
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from pydantic_core import to_json

from gateway.base.calendar import SEOUL
from gateway.base.errors import (
    PublisherUnavailableError,
    StoreConflictError,
    StoreUnavailableError,
    TooLargeForTopicError,
)
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.consents.ended_watch import EndedConsentWatch
from gateway.database.unit import Store
from gateway.messaging.records import Outgoing, Publisher
from gateway.portability.export_events import ended_event, tran_id, void_events, whole_events
from gateway.portability.rules.records import Export, ExportState, PaymentFacts, RecipientKey, StoredRequest
from gateway.portability.rules.requests import ATTEMPT_LOST, KEY_CHANGED, TERMS_CHANGED, TOO_LARGE, Using, refuse_export
from gateway.portability.rules.rows import Extract, Lists, card_row, consent_row, lists_of
from gateway.portability.sealed import import_recipient_key, seal, sign_receipt
from gateway.portability.store import PortabilityUnit, Snapshots
from schemas.codec import encode
from schemas.consents import PortabilityScope
from schemas.envelope import Envelope, write_envelope
from schemas.portability import (
    EXPORT_CHUNK_TYPE,
    EXPORT_SCHEMA_VERSION,
    ExportChunk,
    ExportManifest,
    ManifestChunk,
    search_timestamp_of,
)
from schemas.reasons import Reason
from schemas.topics import exports_topic

T = TypeVar("T")

CHUNK_PAYMENTS: Final = 500
"""Payments a chunk, two records each at most: with names at their longest, some 600 KB when sealed."""

_SOURCE: Final = "/gateway/portability"


@dataclass(frozen=True, slots=True)
class ReceiptKey:
    """What the gateway signs receipts with: joserfc's key object, its id and algorithm."""

    key: Any = field(repr=False)
    kid: str
    algorithm: str


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """How exports are made.

    Attributes:
        org_code: the gateway's own.
        lease_s: a worker that has not sent a chunk for this long has lost its export to another.
    """

    org_code: str
    lease_s: float = 60.0
    chunk_payments: int = CHUNK_PAYMENTS


class _StoppedError(Exception):
    """The attempt must not go on."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.text)
        self.reason = reason


class _LostError(Exception):
    """Another worker has taken the export over: whatever this one did is void."""


@dataclass(slots=True)
class _Attempt:
    export: Export
    stored: StoredRequest
    key: RecipientKey
    sealing_key: Any
    extract: Extract
    consent_record: dict[str, object]
    snapshot_at: datetime
    chunks: list[ManifestChunk] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    tokens: set[str] = field(default_factory=set)


class ExportService:
    """Makes exports, one after the other, one of each partner's in turn. Any number of workers may do so side by side.

    Args:
        watch: compares exports with the ends of consents; None: nobody looks.
    """

    def __init__(
        self,
        *,
        store: Store[PortabilityUnit],
        snapshots: Snapshots,
        publisher: Publisher,
        receipt_key: ReceiptKey,
        observer: Observer,
        clock: Clock,
        worker: str,
        settings: ExportSettings,
        watch: EndedConsentWatch | None = None,
    ) -> None:
        self._watch = watch
        self._store = store
        self._snapshots = snapshots
        self._publisher = publisher
        self._receipt_key = receipt_key
        self._observer = observer
        self._clock = clock
        self._worker = worker
        self._settings = settings
        # Whose turn was the last: who has many waiting holds up nobody else.
        self._served = ""

    async def make_one(self) -> bool:
        """Make an export that waits, or go on with one that a dead worker left; False where there is none."""
        claimed = await until_done(self._claim)
        if claimed is None:
            return False
        export, stored = claimed
        self._served = export.partner_id
        try:
            attempt = await self._begin(export, stored)
            await self._send_all(attempt)
            await self._finish(attempt)
            self._count("delivered")
            self._observer.count("portability", "record", n=attempt.counts.total())
        except _StoppedError as stopped:
            reason, again = stopped.reason, stopped.reason in (KEY_CHANGED, TERMS_CHANGED)
            await until_done(lambda: self._void(export, stored, reason, again=again))
            self._count("restarted" if again else "too_large" if reason == TOO_LARGE else "voided")
            if reason == TOO_LARGE:
                # To try again would not help: people make the topic larger, and the request is made anew.
                topic = exports_topic(stored.request.rcv_org_code)
                self._observer.note("export_too_large", level="error", topic=topic)
        except _LostError:
            self._count("lost")
        except (StoreUnavailableError, StoreConflictError, PublisherUnavailableError) as error:
            # The lease runs out, and the next attempt says that this one is void.
            self._count("attempt_failed")
            self._observer.note("export_attempt_failed", level="warning", reason=type(error).__name__)
        return True

    def _count(self, outcome: str) -> None:
        self._observer.count("portability", outcome)

    async def _claim(self) -> tuple[Export, StoredRequest] | None:
        async with self._store.transaction() as uow:
            now = self._clock.now()
            claimed = await uow.portability.claim(
                worker=self._worker, now=now, until=self._leased(now), after=self._served
            )
            if claimed is not None and claimed[0].attempt > 1:
                before, stored = claimed
                await uow.outbox.append(void_events(before, before.attempt - 1, stored, ATTEMPT_LOST, now))
                if before.sent_chunks:
                    # Told: should this attempt die before its first chunk, they are not told of again.
                    export = replace(before, sent_chunks=0, sent_version=None)
                    await uow.portability.update_export(export)
                    return export, stored
        return claimed

    def _leased(self, now: datetime) -> datetime:
        return now + timedelta(seconds=self._settings.lease_s)

    async def _begin(self, export: Export, stored: StoredRequest) -> _Attempt:
        """Decide under the consent's lock that this attempt may begin."""
        request = stored.request
        async with self._store.transaction() as uow:
            using = await _using(uow, stored)
            now = self._clock.now()
        refused = refuse_export(request, using, self._settings.org_code, now)
        if refused is not None:
            raise _StoppedError(refused)
        purpose = using.consent.terms.portability if using.consent else None
        key = using.recipient.key if using.recipient else None
        if purpose is None or key is None:
            raise AssertionError("what is permitted has a purpose and a key")
        return _Attempt(
            export,
            stored,
            key,
            import_recipient_key(key.jwk),
            Extract.of(purpose, request.scopes, request.rcv_org_code),
            consent_row(purpose, request.consent_id),
            now,
        )

    async def _send_all(self, attempt: _Attempt) -> None:
        export, stored, size = attempt.export, attempt.stored, self._settings.chunk_payments
        await self._send_parts(attempt, [attempt.consent_record], _consents)
        opened = self._snapshots.open(export.partner_id, stored.customer_id, since=export.search_from, size=size)
        async with opened as pieces:
            async for piece in pieces:
                attempt.tokens.update(_tokens(piece, attempt.extract))
                await self._send_parts(attempt, piece, lambda p: lists_of(p, attempt.extract))
        tokens = sorted(attempt.tokens)
        for first in range(0, len(tokens), size):
            await self._send_parts(attempt, tokens[first : first + size], lambda p: _cards(p, attempt.extract))

    async def _send_parts(self, attempt: _Attempt, items: Sequence[T], lists: Callable[[Sequence[T]], Lists]) -> None:
        """Send what the items become, in one chunk; in smaller ones where their topic takes none as large.

        Raises:
            _StoppedError: it takes not even one of them.
        """
        found = lists(items)
        if not found.rows:
            return
        try:
            await self._send(attempt, found)
        except TooLargeForTopicError:
            # It was refused, so nothing stands under its number: the next chunk has it.
            if len(items) == 1:
                raise _StoppedError(TOO_LARGE) from None
            half = len(items) // 2
            await self._send_parts(attempt, items[:half], lists)
            await self._send_parts(attempt, items[half:], lists)

    async def _send(self, attempt: _Attempt, found: Lists) -> None:
        decided_at = await self._check(attempt)
        export, number = attempt.export, len(attempt.chunks) + 1
        told = {
            "export_id": export.export_id,
            "attempt": export.attempt,
            "chunk": number,
            "schema_version": EXPORT_SCHEMA_VERSION,
            **found.rows,
        }
        sealed = seal(to_json(told), attempt.sealing_key, attempt.key.kid)
        chunk = ExportChunk(export_id=export.export_id, attempt=export.attempt, chunk=number, jwe=sealed)
        envelope = Envelope(
            f"{export.export_id}:{export.attempt}:{number}", _SOURCE, EXPORT_CHUNK_TYPE, attempt.snapshot_at
        )
        topic = exports_topic(attempt.stored.request.rcv_org_code)
        at_ms = int(decided_at.timestamp() * 1000)
        record = Outgoing(topic, export.export_id.encode(), encode(chunk), write_envelope(envelope), at_ms=at_ms)
        try:
            await self._publisher.publish([record])
        finally:
            # Also where nobody has confirmed it: it may have left until now.
            if self._watch is not None:
                self._watch.sent([(export.consent_key, asyncio.get_running_loop().time())])
        digest = hashlib.sha256(sealed.encode()).hexdigest()
        attempt.chunks.append(ManifestChunk(records=sum(found.counts().values()), sha256=digest))
        attempt.counts.update(found.counts())

    async def _check(self, attempt: _Attempt) -> datetime:
        """Read again what permits the export, and say that this worker is still at it; returns when that was."""
        export = attempt.export
        async with self._store.transaction() as uow:
            using = await _using(uow, attempt.stored, attempt.key.kid)
            # After the lock: what ended before it has ended.
            now = self._clock.now()
            refused = self._refuse(attempt, using, now)
            # The next chunk counts before it leaves: whatever becomes of this attempt, the log tells of it.
            is_ours = using.consent is None or await uow.portability.hold(
                export,
                self._leased(now),
                chunks=len(attempt.chunks) + (refused is None),
                consent_version=using.consent.version,
            )
        if refused is not None:
            raise _StoppedError(refused)
        if not is_ours:
            raise _LostError
        return now

    def _refuse(self, attempt: _Attempt, using: Using, now: datetime) -> Reason | None:
        """Why the attempt must not go on under what permits it now."""
        request = attempt.stored.request
        refused = refuse_export(request, using, self._settings.org_code, now)
        purpose = using.consent.terms.portability if using.consent else None
        if refused is None and purpose is not None:
            permitted = Extract.of(purpose, request.scopes, request.rcv_org_code)
            return TERMS_CHANGED if permitted != attempt.extract else None
        return refused

    async def _finish(self, attempt: _Attempt) -> None:
        """Make the export whole, if what permits it does so still: decided under the consent's lock."""
        export, stored = attempt.export, attempt.stored
        refused: Reason | None = None
        async with self._store.transaction() as uow:
            using = await _using(uow, stored, attempt.key.kid)
            standing = await uow.portability.lock_export(export)
            now = self._clock.now()
            if standing is None or (standing.attempt, standing.state) != (export.attempt, ExportState.SENDING):
                raise _LostError
            refused = self._refuse(attempt, using, now)
            if refused is None:
                manifest = self._manifest(attempt)
                receipt = sign_receipt(
                    encode(manifest),
                    self._receipt_key.key,
                    kid=self._receipt_key.kid,
                    algorithm=self._receipt_key.algorithm,
                )
                done = replace(
                    standing,
                    state=ExportState.COMPLETE,
                    snapshot_at=attempt.snapshot_at,
                    receipt=receipt,
                    leased_by=None,
                    leased_until=None,
                    changed_at=now,
                )
                await uow.portability.update_export(done)
                await uow.portability.finish_request(stored.key)
                version = using.consent.version if using.consent else 0
                await uow.outbox.append(whole_events(done, stored, manifest, receipt, version, now))
        if refused is not None:
            raise _StoppedError(refused)
        if self._watch is not None:
            self._watch.intended([export.consent_key], now)

    def _manifest(self, attempt: _Attempt) -> ExportManifest:
        export, request = attempt.export, attempt.stored.request
        since = export.search_from
        return ExportManifest.of_stored(
            schema_version=EXPORT_SCHEMA_VERSION,
            partner_id=request.partner_id,
            request_id=request.request_id,
            export_id=export.export_id,
            attempt=export.attempt,
            x_api_tran_id=tran_id(request.snd_org_code, f"{export.partner_id}/{export.export_id}/{export.attempt}"),
            snd_org_code=request.snd_org_code,
            rcv_org_code=request.rcv_org_code,
            scopes=tuple(sorted(s.value for s in attempt.extract.scopes)),
            purpose=request.purpose,
            period=request.period,
            search_timestamp=search_timestamp_of(since.astimezone(SEOUL)) if since else None,
            snapshot_at=attempt.snapshot_at,
            kid=attempt.key.kid,
            counts=dict(attempt.counts),
            chunks=tuple(attempt.chunks),
        )

    async def _void(self, export: Export, stored: StoredRequest, reason: Reason, *, again: bool) -> None:
        """Say that an attempt came to nothing; with ``again`` the export is begun anew, else it has ended."""
        async with self._store.transaction() as uow:
            standing = await uow.portability.lock_export(export)
            if standing is None or (standing.attempt, standing.state) != (export.attempt, ExportState.SENDING):
                return
            now = self._clock.now()
            state = ExportState.WAITING if again else ExportState.VOID
            ended = replace(standing, state=state, reason=reason, leased_by=None, leased_until=None, changed_at=now)
            await uow.portability.update_export(ended)
            if again:
                # The next claim tells that this attempt is void.
                return
            await uow.portability.finish_request(stored.key)
            await uow.outbox.append(void_events(standing, standing.attempt, stored, reason, now))
            await uow.outbox.append([ended_event(export, stored, reason, now)])


async def _using(uow: PortabilityUnit, stored: StoredRequest, kid: str | None = None) -> Using:
    """What an export of this request is made under, read once its consent is locked."""
    request = stored.request
    consents = await uow.consents.lock([stored.consent_key])
    recipients = await uow.portability.recipients([request.rcv_org_code])
    # Read again: the customer may have asked since the export was claimed.
    asked = await uow.portability.requests([stored.key]) if request.is_scheduled else {}
    since = asked[stored.key].accessed_at if stored.key in asked else None
    return Using(consents.get(stored.consent_key), recipients.get(request.rcv_org_code), kid, since)


def _consents(records: Sequence[dict[str, object]]) -> Lists:
    found = Lists()
    for record in records:
        found.add("consent_list", record)
    return found


def _cards(tokens: Sequence[str], extract: Extract) -> Lists:
    found = Lists()
    for token in tokens:
        found.add("card_list", card_row(token, extract.org_code))
    return found


def _tokens(piece: Sequence[PaymentFacts], extract: Extract) -> set[str]:
    if PortabilityScope.CARD_LIST not in extract.scopes:
        return set()
    return {p.funding_token for p in piece if p.funding_token is not None}
