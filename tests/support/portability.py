"""Portability on fakes: one worker, one recipient with its own reader, and what stands in Kafka."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from joserfc.jwk import ECKey

from gateway.app.portability import PortabilityConnections, PortabilityTerms, portability
from gateway.app.runtime import Runtime
from gateway.consents.rules.consent import Consent
from gateway.directory.merchants import Merchant
from gateway.disclosure.rules.entry import Kind, Use
from gateway.disclosure.rules.uses import BODY_TYPES, SourceRow, told_by, use_of
from gateway.messaging.records import Outgoing, Record
from gateway.network.exchange import Acceptor
from gateway.observability.recording import RecordingObserver
from gateway.payments.rules.lifecycle import PaymentState
from gateway.portability.exporting import ExportSettings, ReceiptKey
from gateway.portability.rules.records import Recipient, RecipientKey
from gateway.portability.schedule import ScheduledExports
from gateway.portability.sealed import import_recipient_key
from gateway.portability.verifying import ExportReader
from gateway.proving.memory import Database, MemoryClock, MemoryDeadLetters, MemoryKeySource, MemoryStore
from gateway.proving.memory.keys import MemoryVerifier
from gateway.proving.memory.portability import MemorySnapshots
from schemas.assertions import PortabilityLink
from schemas.codec import decode
from schemas.consents import ConsentStatus, Cycle, PortabilityPurpose, PortabilityScope
from schemas.envelope import Envelope, read_envelope, write_envelope
from schemas.portability import EXPORT_CHUNK_TYPE, PORTABILITY_REQUEST_TYPE, ExportChunk, request_digest
from schemas.topics import PORTABILITY_REQUESTS, exports_topic
from tests.support.builders import NOW, payment
from tests.support.consents import FORGED, ISSUER, SUBJECT, FakeIdentities, short
from tests.support.domain_samples import terms
from tests.support.faults import Faults
from tests.support.stages import NoSubscription, signers

GATEWAY: Final = "MYPAY00000"
ORG: Final = "A1AAAA0000"
LAST: Final = NOW.date() + timedelta(days=360)
KEPT: Final = LAST + timedelta(days=300)
PURPOSE: Final = PortabilityPurpose(
    recipients=(ORG, "B2BBBB0000"),
    scopes=tuple(PortabilityScope),
    is_scheduled=True,
    fnd_cycle=Cycle.MONTHLY,
    add_cycle=Cycle.WEEKLY,
    end_date=LAST,
    purpose="household accounts",
    period=KEPT,
    is_consent_merchant_name_regno=True,
    is_consent_trans_category=True,
)


class PublishedChunks:
    """Implements :class:`gateway.messaging.records.Publisher`: keeps records, and calls back before each."""

    def __init__(self, boundary: Any) -> None:
        self.records: list[Outgoing] = []
        self._boundary = boundary

    async def publish(self, records: Any) -> None:
        await self._boundary("publisher.publish")
        self.records.extend(records)
        await self._boundary("publisher.published")


class PortabilityRig:
    """One database and workers of portability over it."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.clock = MemoryClock(NOW)
        self.observer = RecordingObserver()
        self.database = Database()
        self.store = MemoryStore(self.database, self.faults)
        self.dead_letters = MemoryDeadLetters(self.faults)
        self.keys = MemoryKeySource(["partner-1", "partner-2"], boundary=self.faults)
        self.verifier = MemoryVerifier({"forged": FORGED}, owners={"theirs": "partner-2"}, keys=self.keys)
        self.identities = FakeIdentities()
        self.database.identity_links.rows[ISSUER, SUBJECT] = "customer-1"  # type: ignore[assignment]
        self.kafka = PublishedChunks(self.faults)
        self.private = {"key-1": ECKey.generate_key("P-256"), "key-2": ECKey.generate_key("P-256")}
        self.receipt = ECKey.generate_key("P-256")
        self.use_key("key-1")
        self.put(PURPOSE)
        name = Merchant("merchant-1", Acceptor("A1", "Cafe Seoul KR", "5814"), frozenset({"net-a"}), True, "Cafe")  # type: ignore[arg-type]
        self.database.merchants.rows["merchant-1"] = name  # type: ignore[index]
        self.stage = self.new_stage("worker-1")
        self.schedule = ScheduledExports(store=self.store, observer=self.observer, clock=self.clock)
        self.offset = 0

    def new_stage(self, worker: str, chunk_payments: int = 2) -> Any:
        return portability(
            Runtime(store=self.store, observer=self.observer, clock=self.clock, worker=worker),
            PortabilityConnections(
                consumer=NoSubscription(),  # type: ignore[arg-type]
                publisher=self.kafka,
                dead_letters=self.dead_letters,
                signers=signers(self.keys, self.verifier, self.identities),
                snapshots=MemorySnapshots(self.database, self.faults),
            ),
            PortabilityTerms(
                receipt_key=ReceiptKey(self.receipt, "receipt-1", "ES256"),
                exports=ExportSettings(org_code=GATEWAY, chunk_payments=chunk_payments),
            ),
        )

    def use_key(self, kid: str, *, active: bool = True, org_code: str = ORG) -> None:
        jwk: Mapping[str, Any] = self.private[kid].as_dict(private=False)
        import_recipient_key(jwk)
        self.database.recipients.rows[org_code] = Recipient(org_code, active, RecipientKey(kid, jwk))

    def put(self, purpose: PortabilityPurpose, **fields: Any) -> None:
        self.database.put_consent(Consent(terms(portability=purpose, **fields), 1, ConsentStatus.AUTH))

    def pay(self, *numbers: int, **fields: Any) -> None:
        """Payments of the customer's that were approved."""
        for n in numbers:
            made = payment(
                n, **{"state": PaymentState.APPROVED, "funding_token": "token-1", "approval_code": f"A{n:05}"} | fields
            )
            self.database.payments.rows[made.key] = made

    # --- what partners and customers make ---

    def body(self, **fields: Any) -> dict[str, Any]:
        purpose = self.database.consents.rows["partner-1", "consent-1"].terms.portability  # type: ignore[index]
        assert purpose is not None
        asked: dict[str, Any] = {
            "partner_id": "partner-1",
            "consent_id": "consent-1",
            "request_id": "request-1",
            "issued_at": self.clock.now().isoformat(),
            "snd_org_code": GATEWAY,
            "rcv_org_code": ORG,
            "end_date": purpose.end_date.isoformat(),
            "purpose": purpose.purpose,
            "period": purpose.period.isoformat(),
            "target_info": [{"scope": s.value} for s in purpose.scopes],
        }
        return {k: v for k, v in (asked | fields).items() if v is not None}

    def record(self, *, signature: str = "good", proven: bool = True, **fields: Any) -> Record:
        self.offset += 1
        body = self.body(**fields)
        if proven and "authentication" not in body:
            link = PortabilityLink(
                partner_id=body["partner_id"],
                request_id=body["request_id"],
                consent_id=body["consent_id"],
                rcv_org_code=body["rcv_org_code"],
                request_digest=request_digest(json.dumps(body).encode()),
            )
            body["authentication"] = self.identities.issue(link, now=self.clock.now())  # type: ignore[arg-type]
        return self.again(json.dumps(body).encode(), body["consent_id"], signature)

    def again(self, value: bytes, key: str = "consent-1", signature: str = "good") -> Record:
        self.offset += 1
        envelope = Envelope(f"ce-{self.offset}", "/partner", PORTABILITY_REQUEST_TYPE, NOW, signature=signature)
        at = int(NOW.timestamp() * 1000)
        headers = tuple(write_envelope(envelope))
        return Record(PORTABILITY_REQUESTS, 0, self.offset, at, key.encode(), value, headers)

    async def take(self, *records: Record) -> None:
        await self.stage.requests.take(records)

    async def make_all(self) -> int:
        made = 0
        while await self.stage.exports.make_one():
            made += 1
        return made

    # --- what stands ---

    def told(self) -> list[tuple[str, dict[str, Any]]]:
        return [(short(row.event), json.loads(row.event.body)) for row in self.database.outbox]

    def partner_told(self) -> list[str]:
        return [str(body["status"]) for kind, body in self.told() if "status" in body]

    def logged(self) -> list[Use]:
        """What the disclosure log holds of exports, once the sequencer has been through."""
        uses = self.logged_all()
        assert all(u.kind is Kind.EXPORT for u in uses)
        return uses

    def logged_all(self) -> list[Use]:
        """What the disclosure log holds, once the sequencer has been through."""
        uses = [
            use_of(
                SourceRow(
                    row.tx,
                    row.id,
                    row.event.event_type,
                    row.event.event_id,
                    row.event.occurred_at,
                    told=told_by(row.event.body),
                    customer_id="customer-1",
                )
            )
            for row in self.database.outbox
            if row.event.event_type in BODY_TYPES
        ]
        return [u for u in uses if u is not None]

    def handed_over(self) -> dict[tuple[str, int], int]:
        """Export and attempt → how many chunks of it are in Kafka."""
        found: dict[tuple[str, int], int] = {}
        for record in self.kafka.records:
            if read_envelope(tuple(record.headers)).type == EXPORT_CHUNK_TYPE:
                chunk = decode(ExportChunk, record.value)
                found[chunk.export_id, chunk.attempt] = found.get((chunk.export_id, chunk.attempt), 0) + 1
        return found

    def unlogged(self) -> list[str]:
        """Attempts of which chunks were handed over without one entry of the log; chunks beyond what it tells."""
        told: dict[tuple[str, int], list[int]] = {}
        for kind, body in self.told():
            if kind.endswith((".delivered", ".abandoned")):
                told.setdefault((body["export_id"], body["attempt"]), []).append(body["chunks"])
        wrong = [f"{a}: {n} chunks, logged {told.get(a)}" for a, n in self.handed_over().items() if a not in told]
        wrong += [f"{a}: logged {c}, handed over {self.handed_over().get(a)}" for a, c in told.items() if len(c) != 1]
        wrong += [
            f"{a}: {n} chunks, logged {told[a]}" for a, n in self.handed_over().items() if n > max(told.get(a, [n]))
        ]
        return wrong + [f"{len(told)} attempts, {len(self.logged())} entries"] * (len(told) != len(self.logged()))

    def reader(self, org_code: str = ORG) -> ExportReader:
        """A recipient that has read all that is in its topic: chunks as they came, then what the relay brought."""
        public = ECKey.import_key(self.receipt.as_dict(private=False))
        reader = ExportReader(private_keys=self.private, receipt_key=public, org_code=org_code)
        topic = exports_topic(org_code)
        for record in self.kafka.records:
            if record.topic == topic:
                reader.take(read_envelope(tuple(record.headers)).type, record.value)
        for row in self.database.outbox:
            if row.event.topic == topic:
                reader.take(row.event.event_type, row.event.body)
        return reader
