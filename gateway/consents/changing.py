"""Writing what becomes of consents, and the ways in of operators and of time; partners' is in ``consent_commands``.

Every change is one transaction that takes the lock which every intent takes: after it commits no further intent can
under what was in force before; an intent from before has committed, and is named in the event.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, assert_never
from uuid import UUID

from gateway.base.errors import StoreConflictError
from gateway.base.keys import ConsentKey
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.consents.rules.change import decide_commands, decide_expiry, own_command_id
from gateway.consents.rules.consent import ConsentCommand
from gateway.consents.rules.purposes import PurposeEnded
from gateway.consents.rules.records import (
    Actor,
    Changed,
    CommandsDecided,
    ConsentRecord,
    ConsentTrust,
    ConsentVersion,
    ReceivedCommand,
    Refused,
    Unchanged,
)
from gateway.consents.store import ConsentChangeUnit, PurposeEndRow
from gateway.database.unit import Store
from gateway.directory.funding import TOKEN_NOT_USABLE, TokenUse, token_uses
from gateway.directory.store import DirectoryUnit
from gateway.identity.refusals import Refusal, RefusingUnit
from gateway.outbox.store import OutboxEvent
from schemas.codec import encode
from schemas.consents import ConsentStatus, Purpose
from schemas.events import ConsentEvent, ConsentRefused, EndedPurpose, EventType
from schemas.primitives import PaymentId
from schemas.topics import events_topic

InFlight = Mapping[ConsentKey, Sequence[PaymentId]]

_BRINGS_TERMS: Final = frozenset({ConsentCommand.REQUEST, ConsentCommand.AMEND})
_CLOSES: Final = frozenset({ConsentCommand.SUSPEND, ConsentCommand.REVOKE, ConsentCommand.EXPIRE, ConsentCommand.AMEND})
"""Changes after which no payment follows under what was in force before: these name what is in flight."""

OWN_REFERENCE: Final = "gateway"
"""Stands for a record's place in Kafka where none was the cause."""


class ConsentUnknownError(Exception):
    """The partner has no such consent."""


class ConsentCommandRefusedError(Exception):
    """The consent's status does not permit this.

    Attributes:
        status: the status that it has and keeps.
    """

    def __init__(self, command: ConsentCommand, status: ConsentStatus, why: str | None = None) -> None:
        super().__init__(f"{command} is not possible: the consent is {status}" + (f"; {why}" if why else ""))
        self.status = status


@dataclass(frozen=True, slots=True)
class ConsentChanged:
    """What was done.

    Attributes:
        in_flight: payments whose outcome was open at that moment; no other can follow while the status stands.
        purposes: those that are in force now.
    """

    status: ConsentStatus
    purposes: tuple[Purpose, ...]
    before: ConsentStatus
    in_flight: tuple[UUID, ...]
    changed_at: datetime


async def change_consent_status(
    store: Store[ConsentChangeUnit],
    clock: Clock,
    key: ConsentKey,
    command: ConsentCommand,
    *,
    reason: str | None = None,
    purposes: tuple[Purpose, ...] | None = None,
) -> ConsentChanged:
    """Suspend, resume, revoke … a consent for an operator, and tell its partner.

    ``reason`` is told as it is: no personal data in it. ``purposes``: what is revoked; None: all of the consent.

    Raises:
        ConsentUnknownError, ConsentCommandRefusedError: nothing was changed, unless the consent's time was up.
        StoreUnavailableError, StoreConflictError: nothing was changed; try again.
    """
    async with store.transaction() as uow:
        record = (await uow.consents.lock_records([key])).get(key)
        if record is None:
            raise ConsentUnknownError("the partner has no such consent")
        # After the lock: nothing that happened before it can be told as later.
        now = clock.now()
        received = ReceivedCommand(
            partner_id=key[0],
            consent_id=key[1],
            command_id=own_command_id(Actor.OPERATOR, record),
            command=command,
            issued_at=now,
            body_digest=b"",
            reference=OWN_REFERENCE,
            purposes=purposes,
            actor=Actor.OPERATOR,
        )
        usable = await usable_tokens(uow, [received], [record])
        decided = decide_commands(
            [received], records={key: record}, handled={}, usable=usable, trust=ConsentTrust(), now=now
        )
        # What came to nothing is told to the operator and to nobody else; what time did on the way stands.
        done = _changes_alone(decided)
        in_flight = await write_decided(uow, done, now=now, reason=reason)
    last = decided.ended[-1]
    if not isinstance(last, Changed):
        named = isinstance(last, Refused) and (last.reason == TOKEN_NOT_USABLE or purposes is not None)
        why = last.reason.text if named and isinstance(last, Refused) else None
        raise ConsentCommandRefusedError(command, decided.records.get(key, record).status, why)
    return ConsentChanged(
        last.after.status, last.after.consent.purposes, record.status, tuple(in_flight.get(key, ())), now
    )


class ExpiryService:
    """Ends consents whose time is up: an order past a consent's end is refused by the time itself; this tells of it."""

    def __init__(
        self, *, store: Store[ConsentChangeUnit], observer: Observer, clock: Clock, batch_max: int = 500
    ) -> None:
        self._store = store
        self._observer = observer
        self._clock = clock
        self._batch_max = batch_max

    async def expire(self) -> int:
        """Expire a batch; return how many. Any number of workers may do so side by side."""
        ended = await until_done(self._expire)
        if ended:
            self._observer.count("schedule", "consent_expired", n=len(ended))
            now = self._clock.now()
            self._observer.spans("consent_end_to_event", [(now - e).total_seconds() for e in ended])
        return len(ended)

    async def _expire(self) -> list[datetime]:
        async with self._store.transaction() as uow:
            records = await uow.consents.lock_past_end(now=self._clock.now(), limit=self._batch_max)
            now = self._clock.now()
            decided = decide_expiry(records, reference=OWN_REFERENCE, now=now)
            await write_decided(uow, decided, now=now)
        return [c.command.issued_at for c in decided.changes]


async def usable_tokens(
    uow: DirectoryUnit, commands: Iterable[ReceivedCommand], records: Iterable[ConsentRecord]
) -> frozenset[TokenUse]:
    """Of the funding tokens that a batch's terms name, new or in force, those that may be used; one query."""
    named = [r.consent.terms for r in records] + [c.terms.terms for c in commands if c.terms is not None]
    return await uow.directory.usable_tokens(token_uses(named))


async def write_decided(
    uow: ConsentChangeUnit, decided: CommandsDecided, *, now: datetime, reason: str | None = None
) -> InFlight:
    """Write a batch's consents, versions, memory of commands and events; return what was in flight.

    Raises:
        StoreConflictError: a consent or command came up meanwhile: decide again.
    """
    changes = decided.changes
    created = [r for k, r in decided.records.items() if k in decided.created]
    if len(await uow.consents.insert(created, now=now)) != len(created):
        raise StoreConflictError("consent inserted concurrently")
    await uow.consents.update([r for k, r in decided.records.items() if k not in decided.created], now=now)
    await uow.consents.add_versions([_version(c, now) for c in changes if c.command.command in _BRINGS_TERMS])
    await uow.consents.add_proofs(
        [
            (c.after.key, c.after.consent.version, c.proof)
            for c in changes
            if c.proof is not None and c.command.command is ConsentCommand.GRANT
        ]
    )
    await uow.consents.add_purpose_ends(
        [
            PurposeEndRow(c.after.key, c.after.changes, e.purpose, e.how, c.after.consent.version, now)
            for c in changes
            for e in c.ended
        ]
    )
    if len(await uow.consents.remember(decided.handled)) != len(decided.handled):
        raise StoreConflictError("command handled concurrently")
    in_flight = await uow.payments.in_flight([c.after.key for c in changes if c.command.command in _CLOSES])
    await uow.outbox.append(_events(decided, in_flight, now, reason))
    await tell_refusals(uow, [e for e in decided.ended if isinstance(e, Refused) and not e.is_remembered], now=now)
    return in_flight


async def tell_refusals(uow: RefusingUnit, refused: Sequence[Refused], *, now: datetime) -> None:
    """Tell of refused commands that are not remembered under their ids: once, however often a record is delivered."""
    if not refused:
        return
    new = await uow.refusals.insert(
        [
            # No order's id holds a colon.
            Refusal(r.command.partner_id, ":".join(r.command.key[1:]), r.command.reference, r.reason)
            for r in refused
        ]
    )
    await uow.outbox.append([_refused(r, now) for r in refused if r.command.reference in new])


def _changes_alone(decided: CommandsDecided) -> CommandsDecided:
    changes = decided.changes
    made = {c.command.key for c in changes}
    return replace(decided, ended=list(changes), handled=[h for h in decided.handled if h.key in made])


def _version(change: Changed, now: datetime) -> ConsentVersion:
    terms = change.command.terms
    if terms is None:
        raise AssertionError("a request and an amendment bring terms")
    after = change.after
    return ConsentVersion(after.key, after.consent.version, terms.canonical, terms.digest, now, change.proof)


def _events(decided: CommandsDecided, in_flight: InFlight, now: datetime, reason: str | None) -> list[OutboxEvent]:
    events: list[OutboxEvent] = []
    for end in decided.ended:
        match end:
            case Changed():
                closes = end.command.command in _CLOSES
                open_now = tuple(in_flight.get(end.after.key, ())) if closes else ()
                told = _told(end.after, end.command, end.actor, open_now, now, reason, end.ended)
                name = f"{end.after.key[0]}/{end.after.key[1]}:{end.after.changes}"
                events.append(_event(end.command, EventType.CONSENT_CHANGED, name, told, now))
            case Unchanged():
                told = _told(end.record, end.command, end.command.actor, (), now, None)
                name = f"{end.record.key[0]}/{end.record.key[1]}:{end.record.changes}:{end.command.reference}"
                events.append(_event(end.command, EventType.CONSENT_REPORTED, name, told, now))
            case Refused():
                if end.is_remembered:
                    events.append(_refused(end, now))
            case _:
                assert_never(end)
    return events


def _told(
    record: ConsentRecord,
    command: ReceivedCommand,
    actor: Actor,
    in_flight: tuple[PaymentId, ...],
    now: datetime,
    reason: str | None,
    ended: Sequence[PurposeEnded] = (),
) -> ConsentEvent:
    own = command.actor in (Actor.OPERATOR, Actor.TIME)
    return ConsentEvent.of_stored(
        consent_id=record.key[1],
        version=record.consent.version,
        partner_id=record.key[0],
        status=record.status,
        occurred_at=now,
        change=record.changes,
        command=command.command.value,
        command_id=None if own else command.command_id,
        actor=actor.value,
        terms_digest=record.digest,
        purposes=record.consent.purposes,
        ended=tuple(EndedPurpose(purpose=e.purpose, how=e.how.value) for e in ended),
        # An operator's words are about what the operator did, not about time.
        reason=reason if command.actor is Actor.OPERATOR else None,
        in_flight=in_flight,
    )


def _refused(end: Refused, now: datetime) -> OutboxEvent:
    command = end.command
    told = ConsentRefused.of_stored(
        partner_id=command.partner_id,
        consent_id=command.consent_id,
        command=command.command.value,
        command_id=command.command_id,
        status=end.status,
        reason=end.reason,
        reference=command.reference,
        occurred_at=now,
    )
    return _event(command, EventType.CONSENT_REFUSED, command.reference, told, now)


def _event(
    command: ReceivedCommand, type_: EventType, event_id: str, told: ConsentEvent | ConsentRefused, now: datetime
) -> OutboxEvent:
    return OutboxEvent(
        topic=events_topic(command.partner_id),
        key=command.consent_id,
        event_id=event_id,
        event_type=type_,
        occurred_at=now,
        body=encode(told),
        traceparent=command.traceparent,
    )
