"""When a partner's instruction is current: issued before now, not expired, and not valid for longer than an order."""

from datetime import datetime, timedelta
from typing import Final

from schemas.reasons import Reason, ReasonCode

CLOCK_SKEW_MAX: Final = timedelta(seconds=60)
"""How far a partner's clock may run ahead of ours: what NTP-less hosts drift between two corrections."""

ORDER_VALIDITY_MAX: Final = timedelta(hours=24)
"""Longest time between issue and expiry: an order that waits for more than a day is no longer what the payer asked for;
a payment for a later day is a scheduled one, not an order with a long life."""


def refuse_by_times(what: str, issued_at: datetime, expires_at: datetime, now: datetime) -> Reason | None:
    """Return why ``what`` (``the refund``) may not be carried out now, or None. The same rules as for orders."""
    if issued_at - now > CLOCK_SKEW_MAX:
        return Reason(code=ReasonCode.DT04, text="issued_at lies in the future")
    if now >= expires_at:
        return Reason(code=ReasonCode.TM01, text=f"{what} is past its expires_at")
    if expires_at - issued_at > ORDER_VALIDITY_MAX:
        hours = ORDER_VALIDITY_MAX // timedelta(hours=1)
        return Reason(code=ReasonCode.DT01, text=f"expires_at lies more than {hours} hours after issued_at")
    return None
