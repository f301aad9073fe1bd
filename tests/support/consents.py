"""The consents' use cases on fakes: partners' commands, an identity provider that signs nothing, and time."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from gateway.app.consents import ConsentConnections, consents
from gateway.app.runtime import Runtime
from gateway.consents.commands import COMMANDS, ConsentCommandService
from gateway.consents.rules.consent import Consent
from gateway.consents.rules.records import HandledCommand
from gateway.identity.assurance import Assertion, AssurancePolicy, AssuranceRule, AssuredOperation, Issuer, Requirement
from gateway.identity.exemption_caps import ExemptionCap
from gateway.identity.store import IssuerKey
from gateway.messaging.records import Record
from gateway.observability.recording import RecordingObserver
from gateway.outbox.store import OutboxEvent
from gateway.proving.memory import Database, MemoryClock, MemoryDeadLetters, MemoryKeySource, MemoryStore
from gateway.proving.memory.keys import MemoryVerifier
from schemas.assertions import ConsentLink, LinkedCommand
from schemas.codec import encode
from schemas.consent_commands import canonical_terms, terms_digest
from schemas.consents import ConsentStatus, ConsentTerms, Purpose
from schemas.envelope import Envelope, write_envelope
from schemas.reasons import Reason, ReasonCode
from schemas.topics import CONSENT_COMMANDS
from tests.support.builders import NOW
from tests.support.domain_samples import consent, krw, purpose, terms
from tests.support.faults import Faults
from tests.support.stages import NoSubscription, signers, timers

OTHER: Final = terms(payment=purpose(max_per_payment=(krw(99_000),)))
"""Terms that differ from :func:`tests.support.domain_samples.terms` in one limit."""

ISSUER: Final = "https://id.test"
SUBJECT: Final = "subject-1"
TYPES: Final[Mapping[str, str]] = {command.value: type_ for type_, command in COMMANDS.items()}
FORGED: Final = Reason(code=ReasonCode.DS17, text="signature does not match the body")
REVOKED_KEY: Final = Reason(code=ReasonCode.DS0C, text="assertion key is revoked")
UNKNOWN_KEY: Final = Reason(code=ReasonCode.DS0E, text="signing key is not registered")
DISABLED: Final = Reason(code=ReasonCode.DS0C, text="signing key is disabled")
OVER: Final = Reason(code=ReasonCode.DS0D, text="signing key is valid no more")
BAD_PROOF: Final = Reason(code=ReasonCode.DS17, text="assertion signature does not match")


def policy(level: int = 2, max_age: timedelta = timedelta(minutes=5)) -> AssurancePolicy:
    """Grant, resume and amend ask for this; everything else for level 1, an hour old at most."""
    strong = {AssuredOperation.GRANT, AssuredOperation.RESUME, AssuredOperation.AMEND}
    return AssurancePolicy(
        tuple(
            AssuranceRule(o, None, Requirement(level, max_age) if o in strong else Requirement(1, timedelta(hours=1)))
            for o in AssuredOperation
        ),
        methods={"pin": 2},
        exemptions={"KRW": ExemptionCap(50_000, 5, 150_000)},
    )


class FakeIdentities:
    """A trust table and a verifier over assertions that were made here: their text is their number."""

    def __init__(self) -> None:
        self.policy = policy()
        self.made: list[Assertion] = []
        self.hidden: set[str] = set()
        self.revoked: set[str] = set()
        self.refreshed = 0
        self._known = Issuer(ISSUER, "financial", "gateway", {"low": 1, "high": 2})

    def issue(self, link: ConsentLink, *, now: datetime, **fields: Any) -> str:
        values: dict[str, Any] = {
            "issuer": ISSUER,
            "subject": SUBJECT,
            "audience": ("gateway",),
            "issued_at": now,
            "not_before": None,
            "expires_at": now + timedelta(minutes=5),
            "authenticated_at": now,
            "jti": f"jti-{len(self.made)}",
            "level_name": "high",
            "methods": ("pin",),
            "link": link,
            "kid": f"kid-{len(self.made)}",
        }
        self.made.append(Assertion(**(values | fields)))
        return f"a.{len(self.made) - 1}.z"

    def issuer(self, issuer: str) -> Issuer | None:
        return self._known if issuer == ISSUER else None

    def key(self, issuer: str, kid: str) -> IssuerKey | None:
        return None

    async def refresh_unknown(self) -> bool:
        found, self.hidden = bool(self.hidden), set()
        self.refreshed += found
        return found

    def verify(self, token: str, now: datetime) -> Assertion | Reason:
        number = token.split(".")[1]
        if token in self.hidden:
            return UNKNOWN_KEY
        return self.made[int(number)] if number.isdigit() else BAD_PROOF

    def recheck(self, issuer: str, kid: str) -> Reason | None:
        token = f"a.{kid.removeprefix('kid-')}.z"
        return REVOKED_KEY if kid in self.revoked else UNKNOWN_KEY if token in self.hidden else None


def document(of: ConsentTerms) -> dict[str, Any]:
    """Terms as a partner sends them: with members in an order of its own, and times in an offset of its own."""
    fields: dict[str, Any] = json.loads(encode(of))
    fields["valid_from"] = fields["valid_from"].replace("Z", "+00:00")
    return dict(sorted(fields.items(), reverse=True))


def digest(fields: Mapping[str, Any]) -> str:
    """Computed as a partner would."""
    return terms_digest(canonical_terms(json.dumps(fields).encode()))


class ConsentRig:
    """One database and one worker of the consents and schedule stages over it, on fakes.

    Partners ``partner-1`` and ``partner-2`` are registered; the identity provider knows customer ``customer-1``,
    who lets both use ``token-1`` and ``token-2``.
    """

    def __init__(self, faults: Faults | None = None, database: Database | None = None) -> None:
        self.faults = faults or Faults()
        self.clock = MemoryClock(NOW)
        self.observer = RecordingObserver()
        self.database = database or Database()
        self.store = MemoryStore(self.database, self.faults)
        self.dead_letters = MemoryDeadLetters(self.faults)
        self.keys = MemoryKeySource(["partner-1", "partner-2"], boundary=self.faults)
        self.verifier = MemoryVerifier(
            {"forged": FORGED, "unknown-key": UNKNOWN_KEY, "stolen": DISABLED, "over": OVER},
            owners={"theirs": "partner-2"},
            keys=self.keys,
        )
        self.identities = FakeIdentities()
        self.database.identity_links.rows[ISSUER, SUBJECT] = "customer-1"  # type: ignore[assignment]
        for token in ("token-1", "token-2"):
            self.database.put_token(token, "customer-1", "partner-1", "partner-2")
        self.service = self.new_service()
        self.expiry = timers(self.store, self.clock, self.observer).expiry
        self.offset = 0

    def new_service(self, store: MemoryStore | None = None) -> ConsentCommandService:
        """Another worker."""
        connections = ConsentConnections(
            commands=NoSubscription(),
            dead_letters=self.dead_letters,
            signers=signers(self.keys, self.verifier, self.identities),
        )
        runtime = Runtime(store=store or self.store, observer=self.observer, clock=self.clock, worker="consents-1")
        return consents(runtime, connections).service

    # --- what partners and customers make ---

    def proof(
        self,
        command: str,
        terms_digest: str,
        *,
        consent_id: str = "consent-1",
        purposes: tuple[Purpose, ...] | None = None,
        **fields: Any,
    ) -> str:
        """The customer's assertion for a command and terms."""
        link = ConsentLink(
            partner_id="partner-1",
            consent_id=consent_id,
            command=LinkedCommand(command),
            terms_digest=terms_digest,
            purposes=purposes,
        )
        return self.identities.issue(link, now=self.clock.now(), **fields)

    def record(
        self,
        command: str,
        *,
        consent_id: str = "consent-1",
        partner_id: str = "partner-1",
        signature: str | None = "good",
        key: bytes | None = None,
        **fields: Any,
    ) -> Record:
        """A partner's record; each has an offset, and unless told otherwise a command id, of its own."""
        self.offset += 1
        body = {
            "partner_id": partner_id,
            "consent_id": consent_id,
            "command_id": f"command-{self.offset}",
            "issued_at": self.clock.now().isoformat(),
            **fields,
        }
        envelope = Envelope(f"ce-{self.offset}", "/partner", TYPES[command], NOW, signature=signature)
        return Record(
            CONSENT_COMMANDS,
            0,
            self.offset,
            int(NOW.timestamp() * 1000),
            consent_id.encode() if key is None else key,
            json.dumps(body).encode(),
            tuple(write_envelope(envelope)),
        )

    def request(self, of: ConsentTerms | None = None, **fields: Any) -> Record:
        asked = of or terms()
        return self.record("request", **{"terms": document(asked), "consent_id": asked.consent_id} | fields)

    def amendment(self, of: ConsentTerms, *, proven: bool = True, **fields: Any) -> Record:
        asked = document(of)
        if proven:
            fields = {"authentication": self.proof("amend", digest(asked), consent_id=of.consent_id)} | fields
        return self.record("amend", **{"terms": asked, "consent_id": of.consent_id} | fields)

    def instruction(self, command: str, *, proven: bool = True, consent_id: str = "consent-1", **fields: Any) -> Record:
        """Grant, reject …; proven for the terms in force."""
        if proven:
            made = self.proof(command, self.digest_in_force(consent_id), consent_id=consent_id)
            fields = {"authentication": made} | fields
        return self.record(command, consent_id=consent_id, **fields)

    # --- what stands ---

    def digest_in_force(self, consent_id: str = "consent-1") -> str:
        key = ("partner-1", consent_id)
        found = self.database.consents.rows.get(key)  # type: ignore[call-overload]
        return self.database.consent_versions.rows[key, found.version].digest if found else "0" * 64

    def consent(self, consent_id: str = "consent-1") -> Consent:
        return self.database.consents.rows["partner-1", consent_id]  # type: ignore[index]

    def handled(self, command_id: str, consent_id: str = "consent-1") -> HandledCommand:
        return self.database.consent_commands.rows["partner-1", consent_id, command_id]  # type: ignore[index]

    def events(self) -> list[OutboxEvent]:
        return [row.event for row in self.database.outbox]

    def told(self) -> list[tuple[str, dict[str, Any]]]:
        """Short type and body of every event, in order."""
        return [(short(e), json.loads(e.body)) for e in self.events()]

    async def take(self, *records: Record) -> None:
        await self.service.take(records)

    async def until_locked_out(self) -> None:
        while not self.database.locks.waiting:  # noqa: ASYNC110 - a lock's queue tells nobody
            await asyncio.sleep(0)


def short(event: OutboxEvent) -> str:
    return event.event_type.removeprefix("kr.mypay.consent.").removesuffix(".v1")


def put(rig: ConsentRig, status: str, **fields: Any) -> None:
    """Store a consent in this status, whose terms are as :func:`document` sends them."""
    rig.database.put_consent(consent(ConsentStatus(status), **fields))
    key = ("partner-1", rig.consent().terms.consent_id)
    version = rig.database.consent_versions.rows[key, 1]  # type: ignore[index]
    sent = digest(document(rig.consent().terms))
    rig.database.consent_versions.rows[key, 1] = replace(version, digest=sent)  # type: ignore[index]
