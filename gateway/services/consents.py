"""Changing a consent's status: one transaction that takes the lock which every intent takes.

After it commits no further intent can: an intent under the old status has committed before, and is named in the event.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from gateway.domain.consent import Consent, ConsentCommand, consent_transition
from gateway.domain.intent import ConsentKey
from gateway.ports import Clock, OutboxEvent, Store
from schemas.codec import encode
from schemas.consents import ConsentStatus
from schemas.events import ConsentEvent, EventType
from schemas.topics import events_topic


class ConsentUnknownError(Exception):
    """The partner has no such consent."""


class ConsentCommandRefusedError(Exception):
    """The consent's status does not permit this.

    Attributes:
        status: the status that it has and keeps.
    """

    def __init__(self, command: ConsentCommand, status: ConsentStatus) -> None:
        super().__init__(f"{command} is not possible: the consent is {status}")
        self.status = status


@dataclass(frozen=True, slots=True)
class ConsentChanged:
    """What was done.

    Attributes:
        in_flight: payments whose outcome was open at that moment; no other can follow while the status stands.
    """

    status: ConsentStatus
    before: ConsentStatus
    in_flight: tuple[UUID, ...]
    changed_at: datetime


async def change_consent_status(
    store: Store, clock: Clock, key: ConsentKey, command: ConsentCommand, *, reason: str | None = None
) -> ConsentChanged:
    """Suspend, resume, revoke … a consent and tell its partner. ``reason`` is told as it is: no personal data in it.

    Raises:
        ConsentUnknownError, ConsentCommandRefusedError: nothing was changed.
        StoreUnavailableError, StoreConflictError: nothing was changed; try again.
    """
    async with store.transaction() as uow:
        consent = (await uow.consents.lock([key])).get(key)
        if consent is None:
            raise ConsentUnknownError("the partner has no such consent")
        status = consent_transition(consent.status, command)
        if status is None:
            raise ConsentCommandRefusedError(command, consent.status)
        # After the lock: nothing that happened before it can be told as later.
        now = clock.now()
        in_flight = tuple(await uow.payments.in_flight(key))
        await uow.consents.set_status(key, status, now=now)
        await uow.outbox.append([_event(key, consent, status, in_flight, now, reason)])
    return ConsentChanged(status=status, before=consent.status, in_flight=in_flight, changed_at=now)


def _event(
    key: ConsentKey,
    consent: Consent,
    status: ConsentStatus,
    in_flight: tuple[UUID, ...],
    now: datetime,
    reason: str | None,
) -> OutboxEvent:
    partner_id, consent_id = key
    told = ConsentEvent(
        consent_id=consent_id,
        version=consent.version,
        partner_id=partner_id,
        status=status,
        occurred_at=now,
        reason=reason,
        in_flight=in_flight,
    )
    return OutboxEvent(
        topic=events_topic(partner_id),
        key=consent_id,
        # A consent may be suspended and resumed any number of times: the moment tells one from the other.
        event_id=f"{partner_id}/{consent_id}:{consent.version}:{status}:{now:%Y%m%dT%H%M%S%f}",
        event_type=EventType.CONSENT_CHANGED,
        occurred_at=now,
        body=encode(told),
    )
