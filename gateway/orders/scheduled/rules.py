"""Orders for a later day: when they are due, what refuses them when they come, and what is kept of them.

A day begins and ends in Asia/Seoul. An order whose day has come, or has passed since the partner issued it, is paid at
once; one for a later day is judged when it comes, waits, and is judged again when it is due:

=================== =================================================================================================
when it comes       everything that is judged of any order, but the limits: they are reserved when it is sent, and what
                    waits holds nothing of them. The customer's proof is used up: it was fresh when it was shown
when it is due      the consent, payee and amount as they stand then; the limits; whether the partner's key was disabled
                    meanwhile. The proof is not judged again; an order without one has none on its day either
=================== =================================================================================================
"""

from datetime import datetime, timedelta
from typing import Final

from gateway.base.calendar import day_of, day_start
from gateway.consents.rules.consent import Consent
from schemas.orders import PaymentOrder
from schemas.reasons import Reason, ReasonCode

AHEAD_DAYS_DEFAULT: Final = 366

_CONSENT_ENDS_FIRST: Final = Reason(
    code=ReasonCode.TKXP, text="the consent ends before requested_execution_date begins"
)


def due_later(order: PaymentOrder, now: datetime) -> datetime | None:
    """When the order's day begins, if it has not begun; None for an order to pay now."""
    if order.requested_execution_date is None:
        return None
    due_at = day_start(order.requested_execution_date)
    return due_at if due_at > now else None


def refuse_to_wait(due_at: datetime, consent: Consent, *, now: datetime, ahead_days_max: int) -> Reason | None:
    """Return why an order for a later day may not wait for it, or None.

    DT04 where the day is more than ``ahead_days_max`` days after today; TKXP where the consent ends before it begins.
    """
    if due_at - day_start(day_of(now)) > timedelta(days=ahead_days_max):
        return Reason(
            code=ReasonCode.DT04, text=f"requested_execution_date is more than {ahead_days_max} days from today"
        )
    return _CONSENT_ENDS_FIRST if due_at >= consent.terms.valid_until else None
