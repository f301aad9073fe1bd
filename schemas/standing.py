"""Standing orders: what partners send on ``mypay.orders`` to begin and to end them, and what they are told.

**Digest of a schedule.** The customer who authenticates a standing order authenticates its schedule by the digest:
SHA-256, in lower-case hexadecimal, over its canonical JSON (RFC 8785) as the partner sent it, what is left out staying
out.
``jq -cjS .schedule standing.json | sha256sum`` computes it.
"""

import hashlib
from datetime import date
from enum import StrEnum, unique
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from schemas.codec import canonical
from schemas.orders import CompactJws
from schemas.primitives import (
    ConsentIdField,
    MerchantIdField,
    Model,
    Money,
    PartnerIdField,
    SeoulDate,
    StandingOrderIdField,
    UtcTime,
    expires_after_issue,
)
from schemas.reasons import Reason

STANDING_CREATE_TYPE: Final = "kr.mypay.standing-order.create.v1"
STANDING_CANCEL_TYPE: Final = "kr.mypay.standing-order.cancel.v1"
"""CloudEvents types; also the ``typ`` that the signature must carry."""


@unique
class Frequency(StrEnum):
    """The unit in which occurrences follow each other."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    YEARLY = "yearly"


@unique
class DayRule(StrEnum):
    """Which day of its month a monthly or yearly occurrence is on."""

    SAME_DAY = "same_day"  # that of first_date; the last one where the month has no such day
    LAST_DAY = "last_day"  # the month's last


@unique
class HolidayRule(StrEnum):
    """What becomes of an occurrence on a Saturday, a Sunday or a Korean public holiday."""

    NONE = "none"  # paid on that day
    PREVIOUS = "previous"  # on the last business day before it
    NEXT = "next"  # on the first business day after it


@unique
class StandingStatus(StrEnum):
    """Life of a standing order: ``active → cancelled | completed``, or ``refused``."""

    ACTIVE = "active"
    CANCELLED = "cancelled"
    COMPLETED = "completed"
    REFUSED = "refused"


class StandingSchedule(Model):
    """When to pay: days of Asia/Seoul. With neither ``last_date`` nor ``count``: until cancelled, or the consent ends.

    Attributes:
        interval: 2 with ``weekly``: every other week.
        first_date: the first occurrence; with ``last_day`` the end of its month.
        last_date: no occurrence is after it; count: how many there are. Of both the one that ends it first counts. Days
            count as they are before ``holiday_rule`` moves them.
    """

    frequency: Frequency
    interval: Annotated[int, Field(ge=1, le=366)] = 1
    first_date: SeoulDate
    last_date: SeoulDate | None = None
    count: Annotated[int, Field(ge=1, le=10_000)] | None = None
    day_rule: DayRule = DayRule.SAME_DAY
    holiday_rule: HolidayRule = HolidayRule.NONE

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.last_date is not None and self.last_date < self.first_date:
            raise ValueError("last_date must not be before first_date")
        if self.day_rule is DayRule.LAST_DAY and self.frequency in (Frequency.DAILY, Frequency.WEEKLY):
            raise ValueError("day_rule last_day is for monthly and yearly orders")
        return self


class StandingOrderCreate(Model):
    """An instruction to pay the same again and again. Closed: an unknown field is refused by name.

    Attributes:
        partner_id: the partner that signs.
        standing_order_id: unique per partner for ever; its occurrences are orders ``<standing_order_id>+<yyyymmdd>``.
        consent_id: the customer's consent to pay under, checked again for each occurrence; also the record's Kafka key.
        merchant_id: whom to pay.
        amount: what to pay each time.
        schedule: when.
        issued_at: when the partner issued it.
        expires_at: past this moment it is refused; says nothing of the occurrences.
        authentication: the customer's proof (:mod:`schemas.assertions`) for this standing order, asked for once, as for
            a payment of this amount.
    """

    partner_id: PartnerIdField
    standing_order_id: StandingOrderIdField
    consent_id: ConsentIdField
    merchant_id: MerchantIdField
    amount: Money
    schedule: StandingSchedule
    issued_at: UtcTime
    expires_at: UtcTime
    authentication: CompactJws | None = Field(default=None, repr=False)

    _expires_after_issue = model_validator(mode="after")(expires_after_issue)

    @property
    def record_key(self) -> str:
        """The record's Kafka key: what concerns one consent keeps its order."""
        return self.consent_id

    @property
    def instruction_id(self) -> str:
        """The partner's own id of the message."""
        return self.standing_order_id


class StandingOrderCancel(Model):
    """An instruction to end a standing order: no occurrence is made any more. Needs no proof, and never expires.

    Attributes:
        partner_id: the partner that signs.
        standing_order_id: which.
        consent_id: the one that it was made under; also the record's Kafka key.
        issued_at: when the partner issued it.
    """

    partner_id: PartnerIdField
    standing_order_id: StandingOrderIdField
    consent_id: ConsentIdField
    issued_at: UtcTime

    @property
    def record_key(self) -> str:
        """The record's Kafka key: a cancellation keeps its order behind what it cancels."""
        return self.consent_id

    @property
    def instruction_id(self) -> str:
        """The partner's own id of the message."""
        return self.standing_order_id


class StandingOrderEvent(Model):
    """A standing order was created, cancelled or completed (or, ``reported``, is told again because it came again).

    Order and deduplicate by ``(standing_order_id, version)``. Each occurrence is told as the payment that it is.

    Attributes:
        version: 1, 2 …: one for each status reached.
        occurrences: how many were made so far.
        next_date: the day of the next one, where there is one.
        reason: why it ended before its time.
    """

    partner_id: PartnerIdField
    standing_order_id: str
    consent_id: str
    merchant_id: MerchantIdField
    amount: Money
    status: StandingStatus
    version: Annotated[int, Field(ge=1)]
    occurrences: Annotated[int, Field(ge=0)]
    next_date: date | None = None
    reason: Reason | None = None
    occurred_at: UtcTime


class StandingOrderRefused(Model):
    """A standing order, or its cancellation, was refused and changed nothing.

    Attributes:
        reference: topic, partition and offset of the refused record: ``mypay.orders/3/1207``.
    """

    partner_id: PartnerIdField
    standing_order_id: str
    consent_id: str
    reason: Reason
    reference: str
    occurred_at: UtcTime


def schedule_digest(body: bytes) -> str:
    """Digest of the schedule in a :class:`StandingOrderCreate`'s bytes, which were decoded before."""
    return hashlib.sha256(canonical(body, member="schedule")).hexdigest()
