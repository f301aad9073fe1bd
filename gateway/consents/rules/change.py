"""Commands on consents: what each does, decided while the consents are locked.

Pure: the caller has locked the consents, read which commands were handled before, and verified signatures; it writes
what is decided here in the same transaction. Commands count in their order, each seeing what those before it did.

Taking a permission away needs no proof: reject, suspend and revoke work on the partner's signature alone. A proof that
comes with them and holds tells that the customer did it; one that does not hold changes nothing about the command, for
a customer who ends a consent must not be stopped by a proof that went stale on its way.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, assert_never

from gateway.base.keys import ConsentKey
from gateway.base.repetition import id_used
from gateway.base.validity import CLOCK_SKEW_MAX
from gateway.consents.rules.bringing import judge_proof, refuse_names, refuse_terms, refuse_token
from gateway.consents.rules.consent import Consent, ConsentCommand, consent_transition
from gateway.consents.rules.purposes import (
    PurposeEnd,
    PurposeEnded,
    amended_from,
    granted_from,
    in_force,
    next_end,
    past_end,
    revoked_from,
)
from gateway.consents.rules.records import (
    Actor,
    Changed,
    CommandKey,
    CommandOutcome,
    CommandsDecided,
    ConsentRecord,
    ConsentTrust,
    Ended,
    HandledCommand,
    NewTerms,
    Proof,
    ReceivedCommand,
    Refused,
    Unchanged,
)
from gateway.directory.funding import TokenUse
from gateway.identity.assurance import Assertion
from gateway.identity.rules import Accepted
from schemas.consents import ConsentStatus, Purpose
from schemas.reasons import Reason, ReasonCode

OPEN_STATUSES: Final = frozenset({ConsentStatus.AWAU, ConsentStatus.AUTH, ConsentStatus.SUSP})
"""A consent in one of these can still change, and time ends it."""

_ALREADY: Final[Mapping[ConsentCommand, ConsentStatus]] = {
    ConsentCommand.GRANT: ConsentStatus.AUTH,
    ConsentCommand.REJECT: ConsentStatus.RJCT,
    ConsentCommand.SUSPEND: ConsentStatus.SUSP,
    ConsentCommand.RESUME: ConsentStatus.AUTH,
    ConsentCommand.REVOKE: ConsentStatus.CANC,
    ConsentCommand.EXPIRE: ConsentStatus.EXPD,
}
"""The status in which a consent already is what the command wants."""

_ENDS_BY_PURPOSE: Final = frozenset({ConsentCommand.REVOKE, ConsentCommand.EXPIRE})
"""Commands that end a consent with the last of its purposes."""

_Ends = tuple[frozenset[Purpose], tuple[PurposeEnded, ...]]
"""All purposes that are over after a change, and those that the change ended."""

_STANDS: Final[Mapping[ConsentStatus, tuple[ReasonCode, str]]] = {
    ConsentStatus.AWAU: (ReasonCode.MD01, "the consent awaits the customer's authorisation"),
    ConsentStatus.AUTH: (ReasonCode.AG01, "the consent is authorised"),
    ConsentStatus.SUSP: (ReasonCode.TKSP, "the consent is suspended"),
    ConsentStatus.RJCT: (ReasonCode.MD01, "the customer rejected the consent"),
    ConsentStatus.CANC: (ReasonCode.MD01, "the consent is revoked"),
    ConsentStatus.EXPD: (ReasonCode.TKXP, "the consent is past its end"),
}


def _reason(code: ReasonCode, text: str) -> Reason:
    return Reason(code=code, text=text)


_NO_CONSENT: Final = _reason(ReasonCode.MD01, "consent_id names no consent of this partner")
_CONSENT_ID_TAKEN: Final = _reason(ReasonCode.AM05, "consent_id was used before for other terms; that consent stands")
_ISSUED_IN_FUTURE: Final = _reason(ReasonCode.DT04, "issued_at lies in the future")


def decide_commands(
    commands: Iterable[ReceivedCommand],
    *,
    records: Mapping[ConsentKey, ConsentRecord],
    handled: Mapping[CommandKey, HandledCommand],
    usable: Collection[TokenUse],
    trust: ConsentTrust,
    now: datetime,
) -> CommandsDecided:
    """Decide a batch.

    The first that applies is told, in this order:

    ==== ===== ==========================================================================================
    1    AM05  the command id belongs to a command with other content
    2    DT04  ``issued_at`` is more than :data:`gateway.base.validity.CLOCK_SKEW_MAX` in the future
    3    MD01  there is no such consent (but for a request)
    4    AM05  a request names a consent that exists, with other terms or ended
    5    —     the consent's status does not permit it: AWAU, RJCT, CANC MD01; AUTH AG01; SUSP TKSP; EXPD TKXP
    6    FF01  the terms name another partner or consent than the command; purposes are named where none can be
    7    AG01  an amendment's terms name another customer
    8    DT01  an amendment's ``valid_from`` is another; the terms' ``valid_until``, or a purpose's own end, is not in
               the future; ``portability.end_date`` is more than five years after ``valid_from``
    9    AG01  the terms' low-value exemption is beyond what the trust policy allows
    10   DS0H  what gives a permission: the funding token is none that the customer lets the partner use
    11   DS…   the proof, see :func:`gateway.identity.rules.judge_consent_assertion`
    12   DS15  the proof was used before
    13   AG01  the purposes named are not all among those that the terms ask for
    ==== ===== ==========================================================================================

    A consent that is open past its ``valid_until``, or past the own end of a purpose, first expires as far: a change of
    its own, by TIME.

    Args:
        commands: in their order.
        records: the consents that exist, locked.
        handled: commands that were handled before.
        usable: of the uses of funding tokens by terms new and in force, those that their customers permit.
        trust: what proofs are judged by.
        now: read after the locks were granted.
    """
    decided = CommandsDecided()
    known = dict(handled)
    standing = dict(records)
    for received in commands:
        first = known.get(received.key)
        if first is not None:
            _repeat(received, first, standing.get(received.consent_key), decided)
            continue
        record = standing.get(received.consent_key)
        if record is not None and _is_past_end(record, now):
            expired = _expired(record, received.reference, now)
            _remember(expired, now, decided, standing, known)
            record = expired.after
        end = _decide(received, record, usable, trust, now)
        _remember(end, now, decided, standing, known)
        if isinstance(end, Changed) and end.proof is not None and isinstance(received.proof, Assertion):
            decided.uses[received.key] = (received, received.proof)
    return decided


def decide_expiry(records: Sequence[ConsentRecord], *, reference: str, now: datetime) -> CommandsDecided:
    """Expire consents, locked, that are open past their ends, and purposes past their own; the others stay."""
    decided = CommandsDecided()
    for record in records:
        if _is_past_end(record, now):
            _remember(_expired(record, reference, now), now, decided, {}, {})
    return decided


def own_command_id(actor: Actor, record: ConsentRecord) -> str:
    """Id of a command of the gateway's own; a partner's holds no colon."""
    return f"{actor}:{record.changes + 1}"


def _is_past_end(record: ConsentRecord, now: datetime) -> bool:
    return record.status in OPEN_STATUSES and now >= next_end(record.consent.terms, record.consent.ended)


def _expired(record: ConsentRecord, reference: str, now: datetime) -> Changed:
    partner_id, consent_id = record.key
    command = ReceivedCommand(
        partner_id=partner_id,
        consent_id=consent_id,
        command_id=own_command_id(Actor.TIME, record),
        command=ConsentCommand.EXPIRE,
        issued_at=next_end(record.consent.terms, record.consent.ended),
        body_digest=b"",
        reference=reference,
        actor=Actor.TIME,
    )
    over = past_end(record.consent.terms, record.consent.ended, now)
    ends = record.consent.ended.union(over), tuple(PurposeEnded(p, PurposeEnd.EXPIRED) for p in over)
    return _changed(command, record, ConsentStatus.EXPD, Actor.TIME, ends)


def _repeat(
    received: ReceivedCommand, first: HandledCommand, record: ConsentRecord | None, decided: CommandsDecided
) -> None:
    status = record.status if record else None
    if first.body_digest != received.body_digest or first.command is not received.command:
        reason = id_used(
            "command_id",
            {"the command": first.command},
            {"the command": received.command},
            stands="terms may differ too; what the first one did stands",
        )
        decided.ended.append(Refused(received, reason, status, is_remembered=False))
    elif first.reference == received.reference:
        # Kafka's redelivery of the very record: what it did was told in the transaction that did it.
        return
    elif first.reason is not None:
        decided.ended.append(Refused(received, first.reason, status, is_remembered=False))
    elif record is not None:
        decided.ended.append(Unchanged(received, record))


def _remember(
    end: Ended,
    now: datetime,
    decided: CommandsDecided,
    standing: dict[ConsentKey, ConsentRecord],
    known: dict[CommandKey, HandledCommand],
) -> None:
    received, actor = end.command, end.command.actor
    record = standing.get(received.consent_key)
    reason: Reason | None = None
    match end:
        case Changed():
            outcome, record, actor = CommandOutcome.DONE, end.after, end.actor
            standing[record.key] = decided.records[record.key] = record
            if end.before is None:
                decided.created.add(record.key)
        case Unchanged():
            outcome, record = CommandOutcome.UNCHANGED, end.record
        case Refused():
            outcome, reason = CommandOutcome.REFUSED, end.reason
        case _:
            assert_never(end)
    handled = HandledCommand(
        key=received.key,
        command=received.command,
        body_digest=received.body_digest,
        outcome=outcome,
        change=record.changes if record and outcome is CommandOutcome.DONE else None,
        status=record.status if record else None,
        version=record.consent.version if record else None,
        reason=reason,
        actor=actor,
        reference=received.reference,
        handled_at=now,
    )
    known[received.key] = handled
    decided.handled.append(handled)
    decided.ended.append(end)


def _decide(
    received: ReceivedCommand,
    record: ConsentRecord | None,
    usable: Collection[TokenUse],
    trust: ConsentTrust,
    now: datetime,
) -> Ended:
    status = record.status if record else None
    if received.issued_at - now > CLOCK_SKEW_MAX:
        return Refused(received, _ISSUED_IN_FUTURE, status)
    if received.command is ConsentCommand.REQUEST:
        return _request(received, record, usable, trust, now)
    if record is None:
        return Refused(received, _NO_CONSENT, None)
    if _is_already(received, record):
        return Unchanged(received, record)
    after = consent_transition(record.status, received.command)
    if after is None:
        code, stands = _STANDS[record.status]
        return Refused(received, _reason(code, f"{stands}: {received.command} is not possible"), status)
    allowed = _allowed(received, record, usable, trust, now)
    return (
        Refused(received, allowed, status) if isinstance(allowed, Reason) else _done(received, record, after, *allowed)
    )


def _allowed(
    received: ReceivedCommand,
    record: ConsentRecord,
    usable: Collection[TokenUse],
    trust: ConsentTrust,
    now: datetime,
) -> tuple[Accepted | None, _Ends] | Reason:
    accepted = (
        refuse_names(received)
        or refuse_terms(received, record, trust, now)
        or refuse_token(received, record, usable)
        or judge_proof(received, record, trust, now)
    )
    if isinstance(accepted, Reason):
        return accepted
    ends = _ends(received, record)
    return ends if isinstance(ends, Reason) else (accepted, ends)


def _ends(received: ReceivedCommand, record: ConsentRecord) -> _Ends | Reason:
    """Which purposes are over once the command is done; a Reason where those that it names are none to choose from."""
    terms, ended, named = record.consent.terms, record.consent.ended, received.purposes
    match received.command:
        case ConsentCommand.GRANT:
            return granted_from(terms, ended, named)
        case ConsentCommand.REVOKE:
            return revoked_from(terms, ended, named)
        case ConsentCommand.AMEND:
            return amended_from(terms, ended, _terms_of(received).terms, named)
        case ConsentCommand.REJECT:
            left = in_force(terms, ended)
            return ended.union(left), tuple(PurposeEnded(p, PurposeEnd.DECLINED) for p in left)
        case ConsentCommand.SUSPEND | ConsentCommand.RESUME:
            return ended, ()
        case ConsentCommand.REQUEST | ConsentCommand.EXPIRE:
            raise AssertionError("decided elsewhere")
        case _:
            assert_never(received.command)


def _done(
    received: ReceivedCommand, record: ConsentRecord, after: ConsentStatus, accepted: Accepted | None, ends: _Ends
) -> Changed:
    if accepted is None or accepted.assertion is None:
        return _changed(received, record, after, received.actor, ends)
    shown = accepted.assertion
    proof = Proof(shown.issuer, shown.subject, shown.jti, accepted.level, shown.authenticated_at)
    return _changed(received, record, after, Actor.CUSTOMER, ends, proof)


def _request(
    received: ReceivedCommand,
    record: ConsentRecord | None,
    usable: Collection[TokenUse],
    trust: ConsentTrust,
    now: datetime,
) -> Ended:
    new = _terms_of(received)
    if record is not None:
        if record.status in OPEN_STATUSES and record.digest == new.digest:
            return Unchanged(received, record)
        return Refused(received, _CONSENT_ID_TAKEN, record.status)
    refused = refuse_terms(received, None, trust, now) or refuse_token(received, None, usable)
    if refused is not None:
        return Refused(received, refused, None)
    created = ConsentRecord(Consent(new.terms, 1, ConsentStatus.AWAU), new.digest, 1)
    return Changed(received, None, created, received.actor)


def _is_already(received: ReceivedCommand, record: ConsentRecord) -> bool:
    if received.command is ConsentCommand.AMEND:
        amendable = consent_transition(record.status, received.command) is not None
        return amendable and record.digest == _terms_of(received).digest and _purposes_are(received, record)
    if received.command is ConsentCommand.REVOKE and received.purposes and record.status in OPEN_STATUSES:
        return record.consent.ended.issuperset(received.purposes)
    return _ALREADY[received.command] is record.status and _purposes_are(received, record)


def _purposes_are(received: ReceivedCommand, record: ConsentRecord) -> bool:
    """True where the purposes in force are those that a command names that gives them; a revocation takes them."""
    is_giving = received.command in (ConsentCommand.GRANT, ConsentCommand.AMEND)
    return not is_giving or received.purposes in (None, record.consent.purposes)


def _changed(
    received: ReceivedCommand,
    record: ConsentRecord,
    status: ConsentStatus,
    actor: Actor,
    ends: _Ends,
    proof: Proof | None = None,
) -> Changed:
    ended, told = ends
    consent, digest = replace(record.consent, ended=ended), record.digest
    if received.command is ConsentCommand.AMEND:
        new = _terms_of(received)
        consent, digest = Consent(new.terms, record.consent.version + 1, status, ended), new.digest
    # A consent is over with the last of its purposes, and stays as it is for as long as one is left.
    if consent.purposes and received.command in _ENDS_BY_PURPOSE:
        status = record.status
    elif not consent.purposes and status in OPEN_STATUSES:
        raise AssertionError("a consent without a purpose is over")
    after = ConsentRecord(replace(consent, status=status), digest, record.changes + 1)
    return Changed(received, record, after, actor, proof, told)


def _terms_of(received: ReceivedCommand) -> NewTerms:
    if received.terms is None:
        raise AssertionError("a request and an amendment bring terms")
    return received.terms
