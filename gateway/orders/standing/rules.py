"""Standing orders: the days of their occurrences, and what refuses and ends them.

Occurrence ``n`` (from 0) is counted from the first date itself, so a short month shortens no other: 31 January, 28
February, 31 March. Ends count on these days; only then does the holiday rule move an occurrence, which keeps its id.
"""

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, assert_never

from gateway.base.calendar import BusinessDays, day_of, day_start
from gateway.consents.rules.consent import Consent
from schemas.consents import ConsentStatus, Purpose
from schemas.primitives import (
    ConsentId,
    MerchantId,
    Money,
    OrderId,
    PartnerId,
    PaymentId,
    StandingOrderId,
    payment_id_of,
)
from schemas.reasons import Reason, ReasonCode
from schemas.standing import DayRule, Frequency, HolidayRule, StandingSchedule, StandingStatus

StandingKey = tuple[PartnerId, StandingOrderId]

_MONTHS_A_YEAR: Final = 12
_YEAR_LAST: Final = 9000
"""Far from the calendar's end: holidays and validity are added to days before it."""

_OVER_FOR_EVER: Final = frozenset({ConsentStatus.RJCT, ConsentStatus.CANC, ConsentStatus.EXPD})

CONSENT_ENDED: Final = Reason(code=ReasonCode.MD01, text="the consent has ended: no further occurrence is made")
DAY_MISSED: Final = Reason(
    code=ReasonCode.TM01, text="the day was missed: the gateway could not pay it in time, and pays nothing late"
)
_NO_OCCURRENCE: Final = Reason(code=ReasonCode.DT01, text="the schedule has no occurrence before its last_date")
_BEGINS_BEFORE_ISSUE: Final = Reason(code=ReasonCode.DT01, text="the first occurrence lies before issued_at")
_CONSENT_ENDS_FIRST: Final = Reason(code=ReasonCode.TKXP, text="the consent ends before the first occurrence")


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One day to pay on.

    Attributes:
        number: from 0.
        nominal: the day that the schedule names; day: when it is paid, after the holiday rule.
    """

    number: int
    nominal: date
    day: date

    @property
    def due_at(self) -> datetime:
        """When its day begins."""
        return day_start(self.day)


@dataclass(frozen=True, slots=True)
class StandingOrder:
    """A standing order as it is stored.

    Attributes:
        consent_version: of the terms that it was accepted under; 0 where there were none.
        version: one for each status reached.
        occurrences: made so far; also the number of the next one.
        next_due_at: when the next one is due; set while it is active.
        proven: the customer's proof was judged when it was created.
        digest: SHA-256 of the partner's record; signature, reference, ordered_at: of that record too.
    """

    partner_id: PartnerId
    standing_order_id: StandingOrderId
    consent_id: ConsentId
    consent_version: int
    merchant_id: MerchantId
    amount: Money
    schedule: StandingSchedule
    status: StandingStatus
    version: int
    occurrences: int
    next_due_at: datetime | None
    proven: bool
    digest: bytes
    signature: str | None
    reference: str
    ordered_at: datetime
    changed_at: datetime
    reason: Reason | None = None
    traceparent: str | None = None

    @property
    def key(self) -> StandingKey:
        """Primary key."""
        return (self.partner_id, self.standing_order_id)

    def order_id(self, occurrence: Occurrence) -> OrderId:
        """The occurrence's order id: of the nominal day, and with a "+", which no partner can choose."""
        return OrderId(f"{self.standing_order_id}+{occurrence.nominal:%Y%m%d}")


def proof_used_by(partner_id: PartnerId, standing_order_id: StandingOrderId) -> PaymentId:
    """The id under which a standing order uses its proof up; no payment has it."""
    return payment_id_of(partner_id, f"{standing_order_id}+")


def occurrence(schedule: StandingSchedule, number: int, days: BusinessDays) -> Occurrence | None:
    """Occurrence ``number``, or None where the schedule has ended before it."""
    if schedule.count is not None and number >= schedule.count:
        return None
    nominal = _nominal(schedule, number)
    if nominal is None or (schedule.last_date is not None and nominal > schedule.last_date):
        return None
    return Occurrence(number, nominal, _moved(nominal, schedule.holiday_rule, days))


def occurrences(schedule: StandingSchedule, days: BusinessDays) -> Iterator[Occurrence]:
    """All of them, in order; without end where the schedule has none."""
    number = 0
    while (found := occurrence(schedule, number, days)) is not None:
        yield found
        number += 1


def refuse_schedule(
    schedule: StandingSchedule,
    consent: Consent,
    days: BusinessDays,
    *,
    issued_at: datetime,
    now: datetime,
    ahead_days_max: int,
) -> Occurrence | Reason:
    """Return the first occurrence, or why the schedule cannot be kept.

    DT01 without any occurrence, or where the first lies before the order's issue; DT04 where it is more than
    ``ahead_days_max`` days after today; TKXP where the consent ends before it.
    """
    first = occurrence(schedule, 0, days)
    if first is None:
        return _NO_OCCURRENCE
    if first.day < day_of(issued_at):
        return _BEGINS_BEFORE_ISSUE
    if first.day - day_of(now) > timedelta(days=ahead_days_max):
        return Reason(code=ReasonCode.DT04, text=f"the first occurrence is more than {ahead_days_max} days from today")
    if first.due_at >= consent.terms.valid_until:
        return _CONSENT_ENDS_FIRST
    return first


def consent_has_ended(consent: Consent | None, now: datetime) -> bool:
    """True where no occurrence can be paid any more: the consent, or its payment purpose, has ended for good.

    A suspended one may come back.
    """
    if consent is None or consent.status in _OVER_FOR_EVER or now >= consent.terms.valid_until:
        return True
    return Purpose.PAYMENT in consent.ended


def _nominal(schedule: StandingSchedule, number: int) -> date | None:
    steps = number * schedule.interval
    match schedule.frequency:
        case Frequency.DAILY:
            return _after(schedule.first_date, steps)
        case Frequency.WEEKLY:
            return _after(schedule.first_date, 7 * steps)
        case Frequency.MONTHLY:
            return _in_month(schedule, steps)
        case Frequency.YEARLY:
            return _in_month(schedule, _MONTHS_A_YEAR * steps)
        case _:
            assert_never(schedule.frequency)


def _after(first: date, days: int) -> date | None:
    return None if days > (date(_YEAR_LAST, 1, 1) - first).days else first + timedelta(days=days)


def _in_month(schedule: StandingSchedule, months: int) -> date | None:
    first = schedule.first_date
    year, month = divmod(first.year * _MONTHS_A_YEAR + first.month - 1 + months, _MONTHS_A_YEAR)
    if year >= _YEAR_LAST:
        return None
    last = calendar.monthrange(year, month + 1)[1]
    day = last if schedule.day_rule is DayRule.LAST_DAY else min(first.day, last)
    return date(year, month + 1, day)


def _moved(nominal: date, rule: HolidayRule, days: BusinessDays) -> date:
    match rule:
        case HolidayRule.NONE:
            return nominal
        case HolidayRule.PREVIOUS:
            return days.previous(nominal)
        case HolidayRule.NEXT:
            return days.next(nominal)
        case _:
            assert_never(rule)
