"""What refuses a transmission request, when the next export of a scheduled one is due, and when it stops.

Pure: the caller has locked the consent and read the recipient.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum, unique
from typing import Final

from gateway.base.calendar import SEOUL, day_of, day_start
from gateway.base.validity import CLOCK_SKEW_MAX
from gateway.consents.rules.consent import Consent, refuse_use
from gateway.portability.rules.records import Recipient
from schemas.consents import Cycle, PortabilityPurpose, Purpose
from schemas.portability import PortabilityRequest, search_moment
from schemas.reasons import Reason, ReasonCode


def _reason(code: ReasonCode, text: str) -> Reason:
    return Reason(code=code, text=text)


NO_CONSENT: Final = _reason(ReasonCode.MD01, "consent_id names no consent of this partner")
NO_KEY: Final = _reason(ReasonCode.AG01, "the recipient is not registered, or has no key to encrypt to")
KEY_CHANGED: Final = _reason(ReasonCode.NARR, "the recipient's key was changed: the export begins anew")
DESTROYED: Final = _reason(
    ReasonCode.AM05, "request_id was used before; what it stood for was destroyed after a year without access"
)
TERMS_CHANGED: Final = _reason(ReasonCode.NARR, "the consent's terms were changed: the export begins anew")
ATTEMPT_LOST: Final = _reason(ReasonCode.NARR, "this attempt came to nothing: the export begins anew")
TOO_LARGE: Final = _reason(ReasonCode.NARR, "a single record is larger than the recipient's topic takes")
LAPSED: Final = _reason(ReasonCode.TKXP, "the customer has asked for nothing for six months")
_ISSUED_IN_FUTURE: Final = _reason(ReasonCode.DT04, "issued_at lies in the future")
_OTHER_SENDER: Final = _reason(ReasonCode.AG01, "snd_org_code is not this gateway's")
_OTHER_RECIPIENT: Final = _reason(ReasonCode.AG01, "the consent does not name this rcv_org_code")
_SCOPE: Final = _reason(ReasonCode.AG01, "target_info asks for a scope that the consent does not have")
_NOT_SCHEDULED: Final = _reason(ReasonCode.AG01, "the consent permits no scheduled transmission")
_CYCLES: Final = _reason(ReasonCode.AG01, "fnd_cycle and add_cycle must be those of the consent")
_CYCLE_WITHOUT_SCHEDULE: Final = _reason(ReasonCode.FF01, "fnd_cycle and add_cycle go with is_scheduled alone")
_END: Final = _reason(ReasonCode.DT01, "end_date lies after that of the consent, or in the past")
_PERIOD: Final = _reason(ReasonCode.DT01, "period lies after that of the consent")
_PURPOSE: Final = _reason(ReasonCode.AG01, "purpose is not that of the consent")

STEP: Final[Mapping[Cycle, timedelta | None]] = {
    Cycle.WEEKLY: timedelta(days=7),
    Cycle.FORTNIGHTLY: timedelta(days=14),
    Cycle.MONTHLY: None,
}
"""Cycle → how long it is; None: a calendar month."""

OVERLAP: Final = timedelta(minutes=5)
"""What may change again in the next export: longer than a transaction takes from its time to its commit."""


def refuse_request(
    request: PortabilityRequest, *, consent: Consent | None, recipient: Recipient | None, org_code: str, now: datetime
) -> Reason | None:
    """Return why nothing may be handed over, or None.

    The first that applies is told, in this order:

    ==== ===== ==========================================================================
    1    DT04  ``issued_at`` is too far in the future
    2    MD01  there is no such consent of this partner
    3    —     the consent permits no portability now: :func:`gateway.consents.rules.consent.refuse_use`
    4    AG01  it asks another sender; a recipient, scope, schedule, cycle or purpose that the consent does not have
    5    DT01  ``end_date`` or ``period`` is beyond the consent's
    6    AG01  the recipient is not registered, not active, or without a key
    ==== ===== ==========================================================================
    """
    if request.issued_at - now > CLOCK_SKEW_MAX:
        return _ISSUED_IN_FUTURE
    if consent is None:
        return NO_CONSENT
    refused = refuse_use(consent, Purpose.PORTABILITY, now)
    if refused is not None:
        return refused
    purpose = consent.terms.portability
    if purpose is None:
        raise AssertionError("a purpose that is permitted is among the terms")
    return _refuse_beyond(request, purpose, org_code, now) or refuse_recipient(recipient)


def refuse_recipient(recipient: Recipient | None) -> Reason | None:
    """Return why a recipient can be handed nothing, or None."""
    return NO_KEY if recipient is None or not recipient.active or recipient.key is None else None


def _refuse_beyond(
    request: PortabilityRequest, purpose: PortabilityPurpose, org_code: str, now: datetime
) -> Reason | None:
    cycles = (request.fnd_cycle, request.add_cycle)
    checks = (
        (request.snd_org_code != org_code, _OTHER_SENDER),
        (request.rcv_org_code not in purpose.recipients, _OTHER_RECIPIENT),
        (not set(request.scopes) <= set(purpose.scopes), _SCOPE),
        (request.is_scheduled and not purpose.is_scheduled, _NOT_SCHEDULED),
        (request.is_scheduled and cycles != (purpose.fnd_cycle, purpose.add_cycle), _CYCLES),
        (not request.is_scheduled and cycles != (None, None), _CYCLE_WITHOUT_SCHEDULE),
        (request.purpose != purpose.purpose, _PURPOSE),
        (not day_of(now) <= request.end_date <= purpose.end_date, _END),
        (request.period > purpose.period, _PERIOD),
    )
    return next((reason for wrong, reason in checks if wrong), None)


def next_due(request: PortabilityRequest, begun: datetime, exports: int) -> datetime | None:
    """When export ``exports + 1`` of a scheduled request is due, counted from the first; None: past ``end_date``.

    Days are counted from the first one each time, so that no short month shortens a later cycle.
    """
    cycles = [c for c in (request.fnd_cycle, request.add_cycle) if c is not None]
    if not request.is_scheduled or not cycles:
        return None
    due = min(_after(begun, cycle, exports) for cycle in cycles)
    return due if day_of(due) <= request.end_date else None


def _after(begun: datetime, cycle: Cycle, times: int) -> datetime:
    step = STEP[cycle]
    return begun + step * times if step is not None else _months_after(begun, times)


def _months_after(begun: datetime, months: int) -> datetime:
    day = day_of(begun)
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    for last in range(day.day, 0, -1):
        try:
            return day_start(date(year, month + 1, last)) + (begun - day_start(day))
        except ValueError:
            continue
    raise AssertionError("a month has days")


def search_from(request: PortabilityRequest) -> datetime | None:
    """The moment after which something must have changed to be in a request's first export; None: everything is."""
    if request.search_timestamp is None:
        return None
    moment = search_moment(request.search_timestamp).replace(tzinfo=SEOUL)
    # To the second: what changed within it comes again.
    return moment.astimezone(UTC) - timedelta(microseconds=1)


@unique
class Lapse(StrEnum):
    """What a customer's silence makes of a scheduled transmission."""

    GOES_ON = "goes_on"
    STOPS = "stops"  # after six months
    DELETES = "deletes"  # after a year: what is held for it goes


LAPSE_MONTHS: Final[Mapping[Lapse, int]] = {Lapse.STOPS: 6, Lapse.DELETES: 12}
"""MyData: without access of the customer for so long."""


def lapse(accessed_at: datetime, now: datetime) -> Lapse:
    """What becomes of a scheduled transmission whose customer last asked for something then."""
    for found in (Lapse.DELETES, Lapse.STOPS):
        if now >= _months_after(accessed_at, LAPSE_MONTHS[found]):
            return found
    return Lapse.GOES_ON


def silent_since(now: datetime) -> datetime:
    """Who last asked for something then, or before it, has been silent for a year: :attr:`Lapse.DELETES`."""
    return _months_after(now, -LAPSE_MONTHS[Lapse.DELETES])


@dataclass(frozen=True, slots=True)
class Using:
    """What an export is made under: read under the consent's lock, or between two chunks.

    Attributes:
        accessed_at: of a scheduled request: when the customer last asked for anything for its recipient.
    """

    consent: Consent | None
    recipient: Recipient | None
    kid: str | None = None
    accessed_at: datetime | None = None


def refuse_export(request: PortabilityRequest, using: Using, org_code: str, now: datetime) -> Reason | None:
    """Why an export must not go on: what permitted it has ended, or the key that it is encrypted to is another now.

    A scheduled one may have waited since it was due: the customer's silence counts until the moment when it is made.
    """
    refused = refuse_request(request, consent=using.consent, recipient=using.recipient, org_code=org_code, now=now)
    if refused is not None:
        return refused
    if using.accessed_at is not None and lapse(using.accessed_at, now) is not Lapse.GOES_ON:
        return LAPSED
    key = using.recipient.key if using.recipient else None
    return KEY_CHANGED if using.kid is not None and (key is None or key.kid != using.kid) else None
