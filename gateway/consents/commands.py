"""Partners' commands on consents: partner signature → decode → customer's proof → decided under the consents' locks.

A batch costs seven to a dozen round trips and one transaction, whatever its size. Every record ends in exactly one way:
done (the consent changed, one event), unchanged (told where it stands), refused (told why), or parked as a dead letter,
of which nobody is told: nobody is known to have sent it (:mod:`gateway.identity.door`).
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, assert_never

from pydantic import TypeAdapter

from gateway.base.errors import NotAuthenticatedError
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.consents.changing import usable_tokens, write_decided
from gateway.consents.rules.change import decide_commands
from gateway.consents.rules.consent import ConsentCommand
from gateway.consents.rules.records import (
    Changed,
    CommandKey,
    CommandsDecided,
    ConsentTrust,
    NewTerms,
    ReceivedCommand,
    Refused,
)
from gateway.consents.store import ConsentCommandUnit
from gateway.database.unit import Store
from gateway.identity.arriving import arriving
from gateway.identity.assurance import Assertion
from gateway.identity.door import Authentic, Door, Faulty, Nobodys
from gateway.identity.no_providers import NoIdentityProviders
from gateway.identity.parking import park_nobodys
from gateway.identity.refusals import Refusal, RefusingUnit
from gateway.identity.signing import KeySource, SignatureVerifier
from gateway.identity.store import AssertionUse, AssertionVerifier, AuthenticationUnit, TrustTable
from gateway.identity.verifying import lapsed_proof, verify_proofs
from gateway.identity.vouching import Vouching
from gateway.messaging.records import DeadLetters, Record
from gateway.outbox.store import OutboxEvent
from schemas.codec import encode
from schemas.consent_commands import (
    CONSENT_AMEND_TYPE,
    CONSENT_GRANT_TYPE,
    CONSENT_MESSAGES,
    CONSENT_REJECT_TYPE,
    CONSENT_REQUEST_TYPE,
    CONSENT_RESUME_TYPE,
    CONSENT_REVOKE_TYPE,
    CONSENT_SUSPEND_TYPE,
    CommandIdField,
    ConsentInstruction,
    ConsentMessage,
    ConsentRequest,
    canonical_terms,
    terms_digest,
)
from schemas.events import ConsentRefused, EventType
from schemas.primitives import ConsentIdField
from schemas.reasons import Reason
from schemas.topics import events_topic

COMMANDS: Final[Mapping[str, ConsentCommand]] = {
    CONSENT_REQUEST_TYPE: ConsentCommand.REQUEST,
    CONSENT_GRANT_TYPE: ConsentCommand.GRANT,
    CONSENT_REJECT_TYPE: ConsentCommand.REJECT,
    CONSENT_SUSPEND_TYPE: ConsentCommand.SUSPEND,
    CONSENT_RESUME_TYPE: ConsentCommand.RESUME,
    CONSENT_REVOKE_TYPE: ConsentCommand.REVOKE,
    CONSENT_AMEND_TYPE: ConsentCommand.AMEND,
}
"""What each message type asks for."""

_CONSENT_ID: Final[TypeAdapter[str]] = TypeAdapter(ConsentIdField)
_COMMAND_ID: Final[TypeAdapter[str]] = TypeAdapter(CommandIdField)


@dataclass(slots=True)
class _Read:
    """A batch as read; each command with the message that it is."""

    trusted: list[tuple[Authentic[ConsentMessage], ReceivedCommand]] = field(default_factory=list)
    faults: list[Faulty] = field(default_factory=list)
    nobodys: list[Nobodys] = field(default_factory=list)


class ConsentCommandService:
    """Takes in partners' commands on consents."""

    def __init__(
        self,
        *,
        store: Store[ConsentCommandUnit],
        keys: KeySource,
        verifier: SignatureVerifier,
        dead_letters: DeadLetters,
        observer: Observer,
        clock: Clock,
        trust: TrustTable | None = None,
        assertions: AssertionVerifier | None = None,
    ) -> None:
        self._store = store
        self._keys = keys
        self._verifier = verifier
        self._door: Door[ConsentMessage] = Door(verifier=verifier, models=CONSENT_MESSAGES)
        self._dead_letters = dead_letters
        self._observer = observer
        self._clock = clock
        self._trust: TrustTable = trust or NoIdentityProviders()
        self._assertions: AssertionVerifier = assertions or NoIdentityProviders()

    async def take(self, records: Sequence[Record]) -> None:
        """Bring every record of a batch to its end. Once this returns, the offsets may be committed."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        now = self._clock.now()
        with arriving(self._observer, await self._door.read_all(records, now, self._keys)) as came:
            await self._bring_to_ends(await self._sort(came, now))
        self._observer.batch("consents", size=len(records), seconds=loop.time() - started)

    async def _bring_to_ends(self, read: _Read) -> None:
        vouching = Vouching(self._verifier, self._clock)
        if read.trusted or read.faults:
            self._report(await until_done(lambda: self._commit(read, vouching)), read)
        parked = [*((n.record, n.error) for n in read.nobodys), *vouching.lapsed]
        await park_nobodys(self._dead_letters, self._observer, "consents", parked)

    async def _sort(self, came: Sequence[Authentic[ConsentMessage] | Faulty | Nobodys], now: datetime) -> _Read:
        read = _Read()
        authentic: list[Authentic[ConsentMessage]] = []
        for one in came:
            match one:
                case Nobodys():
                    read.nobodys.append(one)
                case Faulty():
                    read.faults.append(one)
                case Authentic() if one.lapsed is not None:
                    # What the key did before it was disabled stands; what comes now may be a thief's.
                    read.nobodys.append(Nobodys(one.record, NotAuthenticatedError(one.lapsed)))
                case Authentic():
                    authentic.append(one)
                case _:
                    assert_never(one)
        proofs = [_proof(a.message) for a in authentic]
        verified = await verify_proofs(proofs, self._assertions, self._trust, now)
        read.trusted = [(a, _taken(a, proof)) for a, proof in zip(authentic, verified, strict=True)]
        return read

    async def _commit(self, read: _Read, vouching: Vouching) -> CommandsDecided:
        async with self._store.transaction() as uow:
            records = await uow.consents.lock_records(sorted({c.consent_key for _, c in read.trusted}))
            # Time is read after the locks were granted: a proof that went stale while it waited counts no more, nor
            # does what is signed with a key that was disabled meanwhile.
            now = self._clock.now()
            commands = [self._proof_rechecked(c) for message, c in read.trusted if vouching(message)]
            handled = await uow.consents.handled(sorted({c.key for c in commands}))
            usable = await usable_tokens(uow, commands, records.values())
            trust = await self._read_trust(uow, commands)
            tried: set[CommandKey] = set()
            while True:
                decided = decide_commands(
                    commands, records=records, handled=handled, usable=usable, trust=trust, now=now
                )
                fresh = {key: use for key, use in decided.uses.items() if key not in tried}
                replayed = await _use(uow, fresh)
                if not replayed:
                    break
                # A replayed proof counts for nothing: what rested on it, and what followed, is decided again.
                tried.update(fresh)
                trust = _with_replayed(trust, replayed)
            await write_decided(uow, decided, now=now)
            await tell_faults(uow, read.faults, now=now)
        return decided

    def _proof_rechecked(self, command: ReceivedCommand) -> ReceivedCommand:
        problem = lapsed_proof(self._assertions, command.proof)
        return command if problem is None else replace(command, proof=problem)

    async def _read_trust(self, uow: AuthenticationUnit, commands: Sequence[ReceivedCommand]) -> ConsentTrust:
        proofs = [c.proof for c in commands if isinstance(c.proof, Assertion)]
        found = {a.issuer: self._trust.issuer(a.issuer) for a in proofs}
        return ConsentTrust(
            policy=self._trust.policy,
            issuers={name: issuer for name, issuer in found.items() if issuer is not None},
            links=await uow.authentication.links(sorted({a.identity for a in proofs})) if proofs else {},
        )

    def _report(self, decided: CommandsDecided, read: _Read) -> None:
        outcomes: Counter[tuple[str, str]] = Counter()
        for end in decided.ended:
            if isinstance(end, Changed):
                outcomes[end.command.command.value, end.actor.value] += 1
            else:
                outcomes["refused" if isinstance(end, Refused) else "unchanged", _code(end)] += 1
        outcomes.update(("refused", fault.reason.code.value) for fault in read.faults)
        for (outcome, reason), n in outcomes.items():
            self._observer.count("consents", outcome, reason=reason, n=n)


def _code(end: object) -> str:
    return end.reason.code.value if isinstance(end, Refused) else ""


def _new_terms(message: ConsentMessage, body: bytes) -> NewTerms | None:
    if isinstance(message, ConsentInstruction):
        return None
    canonical = canonical_terms(body, member="terms")
    return NewTerms(message.terms, canonical, terms_digest(canonical))


async def _use(
    uow: AuthenticationUnit, wanted: Mapping[CommandKey, tuple[ReceivedCommand, Assertion]]
) -> frozenset[CommandKey]:
    """Use proofs up; return the commands whose proof another payment or command has used."""
    if not wanted:
        return frozenset()
    uses = {
        key: AssertionUse(
            issuer=assertion.issuer,
            jti=assertion.jti,
            partner_id=received.partner_id,
            used_by=received.used_by,
            keep_until=assertion.keep_until,
        )
        for key, (received, assertion) in wanted.items()
    }
    refused = await uow.authentication.use(list(uses.values()))
    return frozenset(key for key, use in uses.items() if use in refused)


def _with_replayed(trust: ConsentTrust, replayed: frozenset[CommandKey]) -> ConsentTrust:
    return ConsentTrust(trust.policy, trust.issuers, trust.links, trust.replayed | replayed)


def _proof(message: ConsentMessage) -> str | None:
    return None if isinstance(message, ConsentRequest) else message.authentication


def _taken(read: Authentic[ConsentMessage], proof: Assertion | Reason | None) -> ReceivedCommand:
    message = read.message
    return ReceivedCommand(
        partner_id=message.partner_id,
        consent_id=message.consent_id,
        command_id=message.command_id,
        command=COMMANDS[read.envelope.type],
        issued_at=message.issued_at,
        body_digest=read.digest,
        reference=read.reference,
        terms=_new_terms(message, read.record.value),
        purposes=None if isinstance(message, ConsentRequest) else message.purposes,
        proof=proof,
        traceparent=read.envelope.traceparent,
    )


async def tell_faults(uow: RefusingUnit, faults: Sequence[Faulty], *, now: datetime) -> None:
    """Write down partners' records that are no command, and tell the partners, once however often one is delivered.

    An id that cannot be read is told, and written down, as the record's place.
    """
    if not faults:
        return
    told = [_told(fault, now) for fault in faults]
    # No order's id holds a colon.
    new = await uow.refusals.insert(
        [Refusal(t.partner_id, f"{t.consent_id}:{t.command_id}", t.reference, t.reason) for t in told]
    )
    await uow.outbox.append(
        [
            OutboxEvent(
                topic=events_topic(t.partner_id),
                key=t.consent_id,
                event_id=t.reference,
                event_type=EventType.CONSENT_REFUSED,
                occurred_at=now,
                body=encode(t),
                traceparent=fault.traceparent,
            )
            for fault, t in zip(faults, told, strict=True)
            if t.reference in new
        ]
    )


def _told(fault: Faulty, now: datetime) -> ConsentRefused:
    command = COMMANDS.get(fault.type_ or "")
    return ConsentRefused.of_stored(
        partner_id=fault.partner_id,
        consent_id=fault.member("consent_id", _CONSENT_ID) or fault.reference,
        command=command.value if command else "unknown",
        command_id=fault.member("command_id", _COMMAND_ID) or fault.reference,
        reason=fault.reason,
        reference=fault.reference,
        occurred_at=now,
    )
