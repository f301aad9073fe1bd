"""Partners' commands on consents: decode → partner signature → customer's proof → decided under the consents' locks.

A batch costs seven to a dozen round trips and one transaction, whatever its size. Every record ends in exactly one way:
done (the consent changed, one event), unchanged (told where it stands), refused (told why), or parked as a dead letter.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from gateway.domain.authentication import Assertion
from gateway.domain.consent import ConsentCommand
from gateway.domain.consent_change import decide_commands
from gateway.domain.consent_records import (
    Changed,
    CommandKey,
    CommandsDecided,
    ConsentTrust,
    NewTerms,
    Refused,
    TakenCommand,
)
from gateway.ports import (
    AssertionUse,
    AssertionVerifier,
    Clock,
    DeadLetters,
    KeySource,
    Observer,
    Record,
    SignatureVerifier,
    Store,
    TrustTable,
    UnitOfWork,
)
from gateway.services.consents import tell_refusals, usable_tokens, write_decided
from gateway.services.proofs import NoIdentityProviders
from gateway.services.retrying import until_done
from schemas.codec import DecodeError, decode
from schemas.consent_commands import (
    CONSENT_AMEND_TYPE,
    CONSENT_GRANT_TYPE,
    CONSENT_MESSAGES,
    CONSENT_REJECT_TYPE,
    CONSENT_REQUEST_TYPE,
    CONSENT_RESUME_TYPE,
    CONSENT_REVOKE_TYPE,
    CONSENT_SUSPEND_TYPE,
    ConsentInstruction,
    ConsentMessage,
    ConsentRequest,
    canonical_terms,
    terms_digest,
)
from schemas.envelope import EnvelopeError, read_envelope
from schemas.reasons import Reason, ReasonCode

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


class UnknownSenderError(Exception):
    """The command names a partner that is not registered: there is nobody to tell."""


@dataclass(slots=True)
class _Read:
    """A batch as read. ``untrusted``: not signed by whom they name; they use up no command id."""

    trusted: list[TakenCommand] = field(default_factory=list)
    untrusted: list[Refused] = field(default_factory=list)
    unreadable: list[tuple[Record, Exception]] = field(default_factory=list)

    @property
    def has_unknown_sender(self) -> bool:
        """True if a record names a partner or key that the registry does not hold."""
        return any(isinstance(e, UnknownSenderError) for _, e in self.unreadable) or any(
            r.reason.code is ReasonCode.DS0E for r in self.untrusted
        )


class ConsentCommandService:
    """Takes in partners' commands on consents."""

    def __init__(
        self,
        *,
        store: Store,
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
        read = self._read_all(records, now)
        # A partner or key may have been registered a moment ago: look once more before turning anybody away.
        refreshed = read.has_unknown_sender and await self._keys.refresh_if_stale()
        if await self._trust.refresh_unknown() or refreshed:
            read = self._read_all(records, now)
        if read.trusted or read.untrusted:
            self._report(await until_done(lambda: self._commit(read)), read)
        if read.unreadable:
            await until_done(lambda: self._dead_letters.park("consents", read.unreadable))
            for name, n in Counter(type(e).__name__ for _, e in read.unreadable).items():
                self._observer.count("consents", "dead_letter", reason=name, n=n)
        self._observer.batch("consents", size=len(records), seconds=loop.time() - started)

    def _read_all(self, records: Sequence[Record], now: datetime) -> _Read:
        read = _Read()
        for record in records:
            self._read(record, now, read)
        return read

    def _read(self, record: Record, now: datetime, read: _Read) -> None:
        """Decode and check who sent it."""
        try:
            envelope = read_envelope(record.headers)
            model = CONSENT_MESSAGES.get(envelope.type)
            if model is None:
                raise EnvelopeError("ce_type", "must be a command on consents")
            message: ConsentMessage = decode(model, record.value)
            if record.key != message.consent_id.encode():
                raise EnvelopeError("key", "the record's key must be consent_id")
            if not self._keys.partner_exists(message.partner_id):
                raise UnknownSenderError("partner_id is not a registered, active partner")
        except (EnvelopeError, DecodeError, UnknownSenderError) as error:
            read.unreadable.append((record, error))
            return
        problem = self._verifier.verify(
            body=record.value,
            signature=envelope.signature,
            partner_id=message.partner_id,
            type_=envelope.type,
            now=now,
        )
        taken = TakenCommand(
            partner_id=message.partner_id,
            consent_id=message.consent_id,
            command_id=message.command_id,
            command=COMMANDS[envelope.type],
            issued_at=message.issued_at,
            body_digest=hashlib.sha256(record.value).digest(),
            reference=record.reference,
            terms=_new_terms(message, record.value),
            proof=None if problem else self._proof(message, now),
            traceparent=envelope.traceparent,
        )
        if problem is not None:
            read.untrusted.append(Refused(taken, problem, None, is_remembered=False))
        else:
            read.trusted.append(taken)

    def _proof(self, message: ConsentMessage, now: datetime) -> Assertion | Reason | None:
        if isinstance(message, ConsentRequest) or message.authentication is None:
            return None
        return self._assertions.verify(message.authentication, now)

    async def _commit(self, read: _Read) -> CommandsDecided:
        async with self._store.transaction() as uow:
            commands = read.trusted
            records = await uow.consents.lock_records(sorted({c.consent_key for c in commands}))
            # Time is read after the locks were granted: a proof that went stale while it waited counts no more.
            now = self._clock.now()
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
            await tell_refusals(uow, read.untrusted, now=now)
        return decided

    async def _read_trust(self, uow: UnitOfWork, commands: Sequence[TakenCommand]) -> ConsentTrust:
        proofs = [c.proof for c in commands if isinstance(c.proof, Assertion)]
        found = {a.issuer: self._trust.issuer(a.issuer) for a in proofs}
        return ConsentTrust(
            policy=self._trust.policy,
            issuers={name: issuer for name, issuer in found.items() if issuer is not None},
            links=await uow.authentication.links(sorted({a.identity for a in proofs})) if proofs else {},
        )

    def _report(self, decided: CommandsDecided, read: _Read) -> None:
        ends: Counter[tuple[str, str]] = Counter()
        for end in decided.ended:
            if isinstance(end, Changed):
                ends[end.command.command.value, end.actor.value] += 1
            else:
                ends["refused" if isinstance(end, Refused) else "unchanged", _code(end)] += 1
        ends.update(("refused", _code(end)) for end in read.untrusted)
        for (outcome, reason), n in ends.items():
            self._observer.count("consents", outcome, reason=reason, n=n)


def _code(end: object) -> str:
    return end.reason.code.value if isinstance(end, Refused) else ""


def _new_terms(message: ConsentMessage, body: bytes) -> NewTerms | None:
    if isinstance(message, ConsentInstruction):
        return None
    canonical = canonical_terms(body, member="terms")
    return NewTerms(message.terms, canonical, terms_digest(canonical))


async def _use(uow: UnitOfWork, wanted: Mapping[CommandKey, tuple[TakenCommand, Assertion]]) -> frozenset[CommandKey]:
    """Use proofs up; return the commands whose proof another payment or command has used."""
    if not wanted:
        return frozenset()
    uses = {
        key: AssertionUse(
            issuer=assertion.issuer,
            jti=assertion.jti,
            partner_id=taken.partner_id,
            used_by=taken.used_by,
            keep_until=assertion.keep_until,
        )
        for key, (taken, assertion) in wanted.items()
    }
    refused = await uow.authentication.use(list(uses.values()))
    return frozenset(key for key, use in uses.items() if use in refused)


def _with_replayed(trust: ConsentTrust, replayed: frozenset[CommandKey]) -> ConsentTrust:
    return ConsentTrust(trust.policy, trust.issuers, trust.links, trust.replayed | replayed)
