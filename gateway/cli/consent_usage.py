"""What is used of a consent's limits, for people and for programs."""

from typing import Any, Final

from gateway.base.calendar import SEOUL
from gateway.cli.common import money, money_json
from gateway.consents.rules.limits import Window, WindowKey
from gateway.views.consents import WindowUse
from schemas.consents import ConsentTerms

COLUMNS: Final = ("limit", "maximum", "used", "reserved", "left", f"begins anew ({SEOUL})")
_EXEMPT: Final = "without-proof"


def exempt_windows(terms: ConsentTerms, used: WindowUse | None) -> list[tuple[Window, WindowUse]]:
    """What may be paid without a proof, shown as the limits are: its sum and its count."""
    exemption = terms.payment.low_value_exemption if terms.payment else None
    if used is None or exemption is None:
        return []
    currency, start = exemption.max_sum.currency, terms.valid_from
    return [
        (Window(WindowKey(f"{_EXEMPT}/{currency}", start), None, exemption.max_sum.minor, None, currency), used),
        (Window(WindowKey(f"{_EXEMPT}/count", start), None, None, exemption.max_count, None), used),
    ]


def window_row(window: Window, use: WindowUse) -> tuple[object, ...]:
    """Limit, maximum, used, reserved, left, and when it begins anew."""
    if window.max_minor is not None and window.currency is not None:
        amounts = (window.max_minor, use.used.taken_minor, use.reserved.taken_minor)
        left = window.max_minor - use.taken.taken_minor
        # The limit's name tells the currency.
        cells = [money(n, window.currency).removesuffix(f" {window.currency}") for n in (*amounts, max(0, left))]
    else:
        most = window.max_count or 0
        counts = (most, use.used.taken_count, use.reserved.taken_count)
        cells = [f"{n:,}" for n in (*counts, max(0, most - use.taken.taken_count))]
    # Windows turn at midnights of Seoul, or at the consent's own time of day.
    anew = f"{window.ends_at.astimezone(SEOUL):%Y-%m-%d %H:%M}" if window.ends_at else "never"
    if window.key.limit_key.startswith(_EXEMPT):
        anew = "at next proof"
    return (window.key.limit_key, *cells, anew)


def window_json(window: Window, use: WindowUse) -> dict[str, Any]:
    """The same for programs: a limit is an amount of money, or a count."""

    def told(minor: int | None, count: int | None) -> dict[str, str] | int | None:
        if window.max_minor is None or window.currency is None or minor is None:
            return count
        return money_json(minor, window.currency)

    return {
        "limit": window.key.limit_key,
        "starts_at": None if window.key.limit_key.startswith(_EXEMPT) else window.key.starts_at,
        "ends_at": window.ends_at,
        "max": told(window.max_minor, window.max_count),
        "used": told(use.used.taken_minor, use.used.taken_count),
        "reserved": told(use.reserved.taken_minor, use.reserved.taken_count),
    }
