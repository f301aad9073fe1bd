"""Limits over time: which windows a payment counts in, and whether it still fits.

A **window** is one stretch of time of one limit. Day, week, month and year windows follow the calendar of Asia/Seoul
(weeks begin on Monday) or the consent's own ``valid_from``; lifetime and single-use limits have one window without end.

- A calendar window that the consent's start cuts short has the pro-rata share of its maximum, amount or count: whole
  Seoul days that remain, the first included, over the days of the period, rounded down. A day is never cut short. The
  share of a count is at least one: a payment cannot be made in part, so "once a month" means once in a short month too.
  An amount has no such floor: it may be as little as nothing, for what is a share of money is never rounded up.
- A consent-aligned month begins on the day of month of ``valid_from``, or on the last day of a shorter month; a year
  likewise (29 February → 28 February). Each is counted from ``valid_from`` itself, so a short month shortens no other.
- What is in flight counts: a payment is counted when it is sent, and given back when it is declined or undone.

Amounts are minor units of the window's currency; all times are aware, window bounds are in UTC.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple, assert_never

from msgspec import Struct

from gateway.base.calendar import SEOUL
from schemas.consents import Alignment, ConsentTerms, PaymentPurpose, Period, PeriodLimit
from schemas.primitives import ConsentId, PartnerId, decimal_of
from schemas.reasons import Reason, ReasonCode

SINGLE_USE_KEY: Final = "single-use"
LIFETIME_PREFIX: Final = "lifetime/"

_NO_TIME: Final = timedelta(0)

# Two batches of the largest usual size: each entry keeps its terms (a few kB) alive.
_MEMO_ENTRIES: Final = 4096

# Four periods on every day that a batch is likely to fall on, and some history for reports.
_CALENDAR_MEMO_ENTRIES: Final = 256


class LimitAccountingError(Exception):
    """A usage would fall below zero: what is given back was never taken. A defect, never a refusal."""


class WindowKey(NamedTuple):
    """Names a window within one consent; sorted, it is the order in which rows are locked.

    A tuple, as :class:`Usage` is: every payment looks up and counts several, and tuples hash and compare in C.

    Attributes:
        limit_key: ``month/calendar/KRW``, ``day/consent/count``, ``lifetime/KRW``, ``lifetime/count``, ``single-use``.
        starts_at: UTC. A calendar window's own start, also where the consent begins later in it; the consent's
            ``valid_from`` for lifetime and single-use windows.
    """

    limit_key: str
    starts_at: datetime


UsageKey = tuple[PartnerId, ConsentId, WindowKey]


class Usage(NamedTuple):
    """What payments have taken of one window: those in flight and those that stand, in one figure.

    A payment is counted once, when it is sent, and taken out again if nothing of it stands in the end; that it was
    approved changes nothing. How much of a window is in flight follows from the payments that are.

    A window over a count keeps sums of minor units too; where currencies mix they mean nothing and are not read.
    """

    taken_minor: int = 0
    taken_count: int = 0


UNUSED: Final = Usage()


class Window(Struct, frozen=True, gc=False):
    """One stretch of one limit: exactly one of ``max_minor`` (with ``currency``) and ``max_count`` is set.

    Attributes:
        ends_at: first moment after the window, UTC; None: it does not end.
        max_minor: pro-rated where the consent's start cuts the period short, as is ``max_count``.
    """

    key: WindowKey
    ends_at: datetime | None
    max_minor: int | None
    max_count: int | None
    currency: str | None


class Reserved(Struct, frozen=True, gc=False):
    """The windows that the payment counts in: those over a count, and those over an amount of its currency."""

    windows: tuple[WindowKey, ...]


class _SameTerms:
    """Terms as a memo key by identity: they are immutable, and hashing a model walks all of it."""

    __slots__ = ("terms",)

    def __init__(self, terms: ConsentTerms) -> None:
        self.terms = terms

    def __hash__(self) -> int:
        return id(self.terms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SameTerms) and other.terms is self.terms


def windows_at(terms: ConsentTerms, at: datetime) -> tuple[Window, ...]:
    """Return the windows of all the payment purpose's limits that contain ``at``, in the order they are checked in.

    Single use first, then lifetime limits, then period limits as the terms list them. Empty without a payment purpose.
    Before ``valid_from`` these are the first windows.
    """
    since_start = at - terms.valid_from
    if since_start < _NO_TIME:
        at, since_start = terms.valid_from, _NO_TIME
    # Calendar windows change at Seoul's midnight and consent-aligned ones at valid_from's time of day: nothing between.
    return _windows(_SameTerms(terms), _seoul_day(at), since_start.days)


# A batch is decided at one moment; consents that have not begun bring moments of their own.
@lru_cache(maxsize=_CALENDAR_MEMO_ENTRIES)
def _seoul_day(at: datetime) -> int:
    return at.astimezone(SEOUL).toordinal()


@lru_cache(maxsize=_MEMO_ENTRIES)
def _windows(same: _SameTerms, seoul_day: int, consent_day: int) -> tuple[Window, ...]:
    terms = same.terms
    if terms.payment is None:
        return ()
    start = terms.valid_from.astimezone(SEOUL)
    return (
        *_endless_windows(terms.payment, terms.valid_from),
        *(_period_window(limit, start, seoul_day, consent_day) for limit in terms.payment.period_limits),
    )


def _endless_windows(purpose: PaymentPurpose, valid_from: datetime) -> Iterator[Window]:
    if purpose.single_use:
        yield Window(WindowKey(SINGLE_USE_KEY, valid_from), None, None, 1, None)
    if purpose.lifetime_count is not None:
        yield Window(WindowKey(f"{LIFETIME_PREFIX}count", valid_from), None, None, purpose.lifetime_count, None)
    for most in purpose.lifetime_amounts:
        key = WindowKey(f"{LIFETIME_PREFIX}{most.currency}", valid_from)
        yield Window(key, None, most.minor, None, most.currency)


def _period_window(limit: PeriodLimit, start: datetime, seoul_day: int, consent_day: int) -> Window:
    """The limit's window on a day; ``start`` is the consent's ``valid_from`` in Seoul's time."""
    match limit.alignment:
        case Alignment.CALENDAR:
            first, after, starts_at, ends_at = _calendar_period(limit.period, seoul_day)
            days = after - first
            days_left = days - max(0, start.toordinal() - first)
        case Alignment.CONSENT:
            first, after = _consent_period(limit.period, start.date(), consent_day)
            # Every Seoul day has 24 hours, so days are added as they are.
            starts_at, ends_at = (start + timedelta(days=day) for day in (first, after))
            starts_at, ends_at = starts_at.astimezone(UTC), ends_at.astimezone(UTC)
            days = days_left = 1
        case _:
            assert_never(limit.alignment)
    key = WindowKey(limit.key, starts_at)
    if limit.max_amount is not None:
        return Window(key, ends_at, limit.max_amount.minor * days_left // days, None, limit.max_amount.currency)
    if limit.max_count is not None:
        return Window(key, ends_at, None, max(1, limit.max_count * days_left // days), None)
    raise ValueError("a period limit has exactly one of max_amount and max_count")


@lru_cache(maxsize=_CALENDAR_MEMO_ENTRIES)
def _calendar_period(period: Period, seoul_day: int) -> tuple[int, int, datetime, datetime]:
    """First day of the calendar period that holds a day, the first day after it, and both midnights in UTC.

    Days are proleptic Gregorian ordinals of Seoul days.
    """
    day = date.fromordinal(seoul_day)
    match period:
        case Period.DAY:
            first, after = day, day + timedelta(days=1)
        case Period.WEEK:
            first = day - timedelta(days=day.weekday())
            after = first + timedelta(days=7)
        case Period.MONTH:
            first = day.replace(day=1)
            after = _plus_months(first, 1)
        case Period.YEAR:
            first, after = date(day.year, 1, 1), date(day.year + 1, 1, 1)
        case _:
            assert_never(period)
    return first.toordinal(), after.toordinal(), _seoul_midnight(first), _seoul_midnight(after)


def _consent_period(period: Period, start: date, consent_day: int) -> tuple[int, int]:
    """First day of the period that holds day ``consent_day``, and the first day after it; ``start`` is day 0."""
    match period:
        case Period.DAY:
            return consent_day, consent_day + 1
        case Period.WEEK:
            first = consent_day - consent_day % 7
            return first, first + 7
        case Period.MONTH:
            step = 1
        case Period.YEAR:
            step = 12
        case _:
            assert_never(period)
    today = start + timedelta(days=consent_day)
    months = (today.year - start.year) * 12 + (today.month - start.month)
    months -= months % step
    if _plus_months(start, months) > today:
        months -= step
    return (_plus_months(start, months) - start).days, (_plus_months(start, months + step) - start).days


def _plus_months(day: date, months: int) -> date:
    """The same day of month ``months`` later, or the last day of a month that is too short."""
    years, month0 = divmod(day.month - 1 + months, 12)
    first = date(day.year + years, month0 + 1, 1)
    # Day 28 exists everywhere; four days on is always the next month.
    last = (first.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
    return last if day.day > last.day else first.replace(day=day.day)


def _seoul_midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=SEOUL).astimezone(UTC)


def reserve(
    terms: ConsentTerms, amount_minor: int, currency: str, at: datetime, usage: Mapping[WindowKey, Usage]
) -> Reserved | Reason:
    """Decide whether a payment fits into every limit at ``at``.

    Args:
        terms: the consent's terms in force.
        amount_minor: above zero, minor units of ``currency``.
        currency: ISO 4217 alphabetic.
        at: the moment the payment counts at.
        usage: what each window holds, in-flight payments included; a window that is not there is unused.

    Returns:
        the windows to reserve in; or the reason, which names the first limit that it does not fit into (order of
        :func:`windows_at`), the limit's value in this window and what is left: TKSG single use, TKVE lifetime,
        SL13 count and SL14 amount of a period, AG01 no payment purpose.

    Raises:
        ValueError: the amount is not above zero.
    """
    if amount_minor <= 0:
        raise ValueError("amount_minor must be above zero")
    if terms.payment is None:
        return Reason(code=ReasonCode.AG01, text="the consent does not permit payments")
    keys: list[WindowKey] = []
    for window in windows_at(terms, at):
        if window.currency is not None and window.currency != currency:
            continue
        used = usage.get(window.key, UNUSED)
        if window.max_minor is not None:
            left = window.max_minor - used.taken_minor
            fits = amount_minor <= left
        elif window.max_count is not None:
            left = window.max_count - used.taken_count
            fits = left >= 1
        else:
            raise ValueError("a window has exactly one of max_minor and max_count")
        if not fits:
            return _refusal(window, left)
        keys.append(window.key)
    return Reserved(tuple(keys))


def _refusal(window: Window, left: int) -> Reason:
    # An amendment may set a limit below what is already used.
    left = max(0, left)
    limit_key = window.key.limit_key
    if limit_key == SINGLE_USE_KEY:
        return Reason(code=ReasonCode.TKSG, text="limit single-use of 1 payment: 0 left, it is used or in flight")
    if window.currency is not None and window.max_minor is not None:
        code = ReasonCode.SL14
        most = f"{decimal_of(window.max_minor, window.currency)} {window.currency}"
        remains = f"{decimal_of(left, window.currency)} {window.currency}"
    else:
        code = ReasonCode.SL13
        most, remains = f"{window.max_count} payments", str(left)
    if limit_key.startswith(LIFETIME_PREFIX):
        code = ReasonCode.TKVE
    until = "" if window.ends_at is None else f" until {window.ends_at.astimezone(SEOUL).isoformat(timespec='seconds')}"
    return Reason(code=code, text=f"limit {limit_key} of {most}: {remains} left{until}")


def with_taken(u: Usage, amount_minor: int) -> Usage:
    """Count one more payment: it is sent.

    Raises:
        LimitAccountingError: the amount is not above zero.
    """
    return _counted(u.taken_minor + amount_minor, u.taken_count + 1, amount_minor)


def with_given_back(u: Usage, amount_minor: int) -> Usage:
    """Give back one payment of which nothing stands: declined, withdrawn, or reversed. A refund gives nothing back.

    Raises:
        LimitAccountingError: it was not taken.
    """
    return _counted(u.taken_minor - amount_minor, u.taken_count - 1, amount_minor)


def _counted(taken_minor: int, taken_count: int, amount_minor: int) -> Usage:
    if amount_minor <= 0:
        raise LimitAccountingError("a payment's amount is above zero")
    if taken_minor < 0 or taken_count < 0:
        raise LimitAccountingError("a limit's usage would fall below zero")
    return Usage(taken_minor, taken_count)
