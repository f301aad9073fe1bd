"""Consents and commands on them as they are stored and handed on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, unique
from typing import Final
from uuid import UUID, uuid5

from gateway.base.keys import ConsentKey
from gateway.consents.rules.consent import Consent, ConsentCommand
from gateway.consents.rules.purposes import PurposeEnded
from gateway.identity.assurance import NO_PROOF_ASKED, Assertion, AssurancePolicy, Issuer
from schemas.consents import ConsentStatus, ConsentTerms, Purpose
from schemas.primitives import ConsentId, CustomerId, PartnerId
from schemas.reasons import Reason

CommandKey = tuple[PartnerId, ConsentId, str]
"""Partner, consent, command id."""

_COMMAND_NAMESPACE: Final = UUID("5f6d7970-6179-4d65-9d65-6e742d636f6d")


@unique
class Actor(StrEnum):
    """Who changed a consent."""

    CUSTOMER = "customer"  # proven by an assertion
    PARTNER = "partner"  # by its signature
    OPERATOR = "operator"
    TIME = "time"


@unique
class CommandOutcome(StrEnum):
    """How a command ended."""

    DONE = "done"
    UNCHANGED = "unchanged"  # the consent was as the command wanted it
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class ConsentRecord:
    """A consent as stored, with what commands need of it besides.

    Attributes:
        digest: of the terms in force, as the partner sent them.
        changes: how many changes it has had, each told in one event.
    """

    consent: Consent
    digest: str
    changes: int

    @property
    def key(self) -> ConsentKey:
        """Primary key."""
        return (self.consent.terms.partner_id, self.consent.terms.consent_id)

    @property
    def status(self) -> ConsentStatus:
        """Where it stands."""
        return self.consent.status


@dataclass(frozen=True, slots=True)
class NewTerms:
    """Terms that a command brings. ``canonical``: as they were sent; ``digest``: SHA-256 of that."""

    terms: ConsentTerms
    canonical: str
    digest: str


@dataclass(frozen=True, slots=True)
class ReceivedCommand:
    """A command from a trusted sender.

    Attributes:
        body_digest: SHA-256 of the record's value: tells a repetition from a command id that is used twice.
        reference: topic/partition/offset of the record.
        terms: what a request or an amendment brings; None for the others.
        purposes: which of the consent's purposes a grant, an amendment or a revocation is about; None: all.
        proof: the customer's assertion, its signature verified; why it could not be; or None where there is none.
        actor: PARTNER for what came signed by one; OPERATOR and TIME need no proof.
    """

    partner_id: PartnerId
    consent_id: ConsentId
    command_id: str
    command: ConsentCommand
    issued_at: datetime
    body_digest: bytes
    reference: str
    terms: NewTerms | None = None
    purposes: tuple[Purpose, ...] | None = None
    proof: Assertion | Reason | None = None
    actor: Actor = Actor.PARTNER
    traceparent: str | None = None

    @property
    def key(self) -> CommandKey:
        """What the command is known by."""
        return (self.partner_id, self.consent_id, self.command_id)

    @property
    def consent_key(self) -> ConsentKey:
        """The consent that it is about."""
        return (self.partner_id, self.consent_id)

    @property
    def used_by(self) -> UUID:
        """Id under which it uses an assertion up."""
        return uuid5(_COMMAND_NAMESPACE, "/".join(self.key))


@dataclass(frozen=True, slots=True)
class HandledCommand:
    """A command as it is remembered.

    Attributes:
        change: which of the consent's changes it made, if it was done.
        status, version: the consent's afterwards; None where there is no such consent.
    """

    key: CommandKey
    command: ConsentCommand
    body_digest: bytes
    outcome: CommandOutcome
    change: int | None
    status: ConsentStatus | None
    version: int | None
    reason: Reason | None
    actor: Actor
    reference: str
    handled_at: datetime


@dataclass(frozen=True, slots=True)
class Proof:
    """Who authenticated a version of the terms."""

    issuer: str
    subject: str
    jti: str
    level: int
    authenticated_at: datetime


@dataclass(frozen=True, slots=True)
class Changed:
    """A command that was done. ``before`` is None for a new consent; ``ended``: purposes that it ended."""

    command: ReceivedCommand
    before: ConsentRecord | None
    after: ConsentRecord
    actor: Actor
    proof: Proof | None = None
    ended: tuple[PurposeEnded, ...] = ()


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A command that found the consent as it wanted it, or was handled before: where the consent stands is told."""

    command: ReceivedCommand
    record: ConsentRecord


@dataclass(frozen=True, slots=True)
class Refused:
    """A command that changed nothing.

    Attributes:
        status: the consent's, or None where there is none.
        is_remembered: False where the id belongs to another command, whose memory stands.
    """

    command: ReceivedCommand
    reason: Reason
    status: ConsentStatus | None
    is_remembered: bool = True


Ended = Changed | Unchanged | Refused


@dataclass(frozen=True, slots=True)
class ConsentTrust:
    """What proofs are judged by.

    Attributes:
        issuers: the trusted identity providers by name.
        links: (issuer, subject) → customer, for the proofs of the batch.
        replayed: commands whose proof another command or payment has used.
    """

    policy: AssurancePolicy = NO_PROOF_ASKED
    issuers: Mapping[str, Issuer] = field(default_factory=dict)
    links: Mapping[tuple[str, str], CustomerId] = field(default_factory=dict)
    replayed: frozenset[CommandKey] = frozenset()


@dataclass(slots=True)
class CommandsDecided:
    """What becomes of a batch.

    Attributes:
        ended: every command's end in order, changes by time among them; redeliveries that nobody is told of are not.
        handled: what is to be remembered, one entry a command.
        records: consents that changed, as they stand at the end.
        created: keys of those that are new.
        uses: commands whose proof is used up.
    """

    ended: list[Ended] = field(default_factory=list)
    handled: list[HandledCommand] = field(default_factory=list)
    records: dict[ConsentKey, ConsentRecord] = field(default_factory=dict)
    created: set[ConsentKey] = field(default_factory=set)
    uses: dict[CommandKey, tuple[ReceivedCommand, Assertion]] = field(default_factory=dict)

    @property
    def changes(self) -> list[Changed]:
        """Every change, in order."""
        return [e for e in self.ended if isinstance(e, Changed)]


@dataclass(frozen=True, slots=True)
class ConsentVersion:
    """One version of a consent's terms. ``canonical``: as they were sent; its digest is what the customer signed."""

    key: ConsentKey
    version: int
    canonical: str
    digest: str
    created_at: datetime
    proof: Proof | None = None
