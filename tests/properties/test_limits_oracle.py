"""Limits against an oracle that knows no windows, no usage and none of our arithmetic.

The oracle keeps a plain list of payments and sums it again for every question. It finds a period by walking from one
beginning to the next until the moment lies between two, with the time zone database and the calendar module.
"""

import calendar
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Literal
from zoneinfo import ZoneInfo

from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from gateway.consents.rules.limits import (
    Reserved,
    Usage,
    WindowKey,
    reserve,
    windows_at,
    with_given_back,
    with_taken,
)
from schemas.consents import Alignment, ConsentTerms, PaymentPurpose, Period, PeriodLimit
from schemas.primitives import Money
from schemas.reasons import Reason
from tests.support import domain_samples as sample

ZONE = ZoneInfo("Asia/Seoul")
MAX_PER_PAYMENT = (Money.of(10**6, "KRW"), Money.of(10**6, "USD"))


# ---------------------------------------------------------------- the oracle


@dataclass
class Paid:
    at: datetime
    minor: int
    currency: str
    state: Literal["in flight", "approved", "undone"]


def days_of_month(year: int, month: int) -> int:
    return calendar.monthrange(year, month)[1]


def beginnings(period: str, alignment: str, start: datetime) -> Iterator[datetime]:
    """Every beginning of a window, in Seoul's time, the first at or before the consent's start."""
    local = start.astimezone(ZONE)
    if period in ("day", "week"):
        begin = local
        if alignment == "calendar":
            begin = datetime(local.year, local.month, local.day, tzinfo=ZONE)
            while period == "week" and calendar.weekday(begin.year, begin.month, begin.day) != calendar.MONDAY:
                begin -= timedelta(days=1)
        while True:
            yield begin
            begin += timedelta(days=1 if period == "day" else 7)
    year, month = local.year, local.month
    if alignment == "calendar" and period == "year":
        month = 1
    while True:
        day = 1 if alignment == "calendar" else min(local.day, days_of_month(year, month))
        midnight = datetime(year, month, day, tzinfo=ZONE)
        yield (
            midnight
            if alignment == "calendar"
            else midnight.replace(
                hour=local.hour, minute=local.minute, second=local.second, microsecond=local.microsecond
            )
        )
        if period == "year":
            year += 1
        else:
            year, month = (year + 1, 1) if month == 12 else (year, month + 1)


def period_around(period: str, alignment: str, start: datetime, at: datetime) -> tuple[datetime, datetime]:
    walk = beginnings(period, alignment, start)
    begin = next(walk)
    for end in walk:
        if at < end:
            return begin, end
        begin = end
    raise AssertionError


def each_day(first: date, after: date) -> Iterator[date]:
    while first < after:
        yield first
        first += timedelta(days=1)


def share_of(period: str, alignment: str, start: datetime, begin: datetime, end: datetime) -> Fraction:
    """Which part of a period's maximum the consent has: of a calendar period, the days on which it already was."""
    if alignment == "consent" or period == "day":
        return Fraction(1)
    days = list(each_day(begin.date(), end.date()))
    first_day = start.astimezone(ZONE).date()
    return Fraction(sum(day >= first_day for day in days), len(days))


@dataclass
class Cap:
    """One limit at one moment, and what counts in it."""

    name: str
    most: int
    currency: str | None
    inside: list[Paid]

    @property
    def used(self) -> int:
        return sum(p.minor if self.currency else 1 for p in self.inside)


class Oracle:
    def __init__(self, terms: ConsentTerms) -> None:
        assert terms.payment is not None
        self.start = terms.valid_from
        self.rules = terms.payment
        self.paid: list[Paid] = []

    def caps_at(self, at: datetime) -> Iterator[Cap]:
        standing = [p for p in self.paid if p.state != "undone"]
        if self.rules.single_use:
            yield Cap("single-use", 1, None, standing)
        if self.rules.lifetime_count:
            yield Cap("lifetime/count", self.rules.lifetime_count, None, standing)
        for money in self.rules.lifetime_amounts:
            own = [p for p in standing if p.currency == money.currency]
            yield Cap(f"lifetime/{money.currency}", int(money.value.replace(".", "")), money.currency, own)
        for limit in self.rules.period_limits:
            period, alignment = limit.period.value, limit.alignment.value
            begin, end = period_around(period, alignment, self.start, at)
            share = share_of(period, alignment, self.start, begin, end)
            now = [p for p in standing if begin <= p.at < end]
            money_cap = limit.max_amount
            if money_cap is not None:
                whole = int(money_cap.value.replace(".", ""))
                now = [p for p in now if p.currency == money_cap.currency]
                name = f"{period}/{alignment}/{money_cap.currency}"
                yield Cap(name, int(whole * share), money_cap.currency, now)
            else:
                assert limit.max_count is not None
                # Nobody pays half a time.
                yield Cap(f"{period}/{alignment}/count", int(limit.max_count * share) or 1, None, now)

    def stops(self, at: datetime, minor: int, currency: str) -> Cap | None:
        """The first limit that a payment does not fit into."""
        for cap in self.caps_at(at):
            if cap.currency not in (None, currency):
                continue
            if cap.used + (minor if cap.currency else 1) > cap.most:
                return cap
        return None


# ---------------------------------------------------------------- what is drawn

# Starts and steps gather around the edges of Seoul's calendar.
EDGE_DAYS = [
    "2023-12-31",
    "2024-01-01",
    "2024-01-30",
    "2024-01-31",
    "2024-02-28",
    "2024-02-29",
    "2024-03-01",
    "2025-02-28",
]
EDGE_TIMES = [timedelta(0), timedelta(microseconds=1), timedelta(hours=9), timedelta(hours=24, microseconds=-1)]


def seoul_edge(day: str, time: timedelta) -> datetime:
    return (datetime.fromisoformat(day).replace(tzinfo=ZONE) + time).astimezone(UTC)


STARTS = st.one_of(
    st.builds(seoul_edge, st.sampled_from(EDGE_DAYS), st.sampled_from(EDGE_TIMES)),
    st.datetimes(datetime(2023, 1, 1), datetime(2029, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
AMOUNTS = st.integers(1, 60)
CURRENCIES = st.sampled_from(["KRW", "KRW", "USD"])
MONIES = st.builds(Money.of, st.integers(1, 400), CURRENCIES)
LIMITS = st.one_of(
    st.builds(PeriodLimit, period=st.sampled_from(Period), alignment=st.sampled_from(Alignment), max_amount=MONIES),
    st.builds(
        PeriodLimit, period=st.sampled_from(Period), alignment=st.sampled_from(Alignment), max_count=st.integers(1, 12)
    ),
)
PURPOSES = st.builds(
    PaymentPurpose,
    funding_token=st.just("token-1"),
    max_per_payment=st.just(MAX_PER_PAYMENT),
    period_limits=st.lists(LIMITS, max_size=4, unique_by=lambda limit: limit.key).map(tuple),
    lifetime_amounts=st.lists(MONIES, max_size=2, unique_by=lambda money: money.currency).map(tuple),
    lifetime_count=st.none() | st.integers(1, 30),
    single_use=st.sampled_from([False] * 9 + [True]),
)
STEPS = st.sampled_from(
    [timedelta(0)] * 6
    + [
        timedelta(microseconds=1),
        timedelta(minutes=30),
        timedelta(hours=9),
        timedelta(hours=15),
        timedelta(days=1, microseconds=-1),
        timedelta(days=1),
        timedelta(days=6),
        timedelta(days=28),
        timedelta(days=31),
        timedelta(days=366),
    ]
)
# pay: one more payment; the others: the outcome of the n-th one that can have it.
ACTIONS = st.tuples(
    STEPS,
    st.sampled_from(["pay", "pay", "pay", "approve", "decline", "reverse"]),
    AMOUNTS,
    CURRENCIES,
    st.integers(0, 99),
)


def terms_of(start: datetime, purpose: PaymentPurpose) -> ConsentTerms:
    return sample.terms(valid_from=start, valid_until=start + timedelta(days=365 * 60), payment=purpose)


# ---------------------------------------------------------------- the comparison


class Gateway:
    """Keeps usage as a service does: by window, moved by the outcome of each payment."""

    def __init__(self, terms: ConsentTerms) -> None:
        self.terms = terms
        self.usage: dict[WindowKey, Usage] = {}
        self.windows: list[tuple[WindowKey, ...]] = []

    def pays(self, at: datetime, minor: int, currency: str) -> Reason | None:
        result = reserve(self.terms, minor, currency, at, self.usage)
        if isinstance(result, Reason):
            return result
        assert isinstance(result, Reserved)
        self.windows.append(result.windows)
        for key in result.windows:
            self.usage[key] = with_taken(self.usage.get(key, Usage()), minor)
        return None

    def outcome(self, number: int, minor: int, action: str) -> None:
        if action == "approve":
            return
        for key in self.windows[number]:
            self.usage[key] = with_given_back(self.usage[key], minor)


def left_told(text: str) -> int:
    found = re.search(r": ([\d.]+)(?: [A-Z]{3})? left", text)
    assert found is not None, text
    return int(found.group(1).replace(".", ""))


def agrees(refused: Reason | None, stopped_by: Cap | None) -> None:
    assert (refused is None) == (stopped_by is None), (refused, stopped_by)
    if refused is None or stopped_by is None:
        return
    assert f"limit {stopped_by.name} " in refused.text
    assert left_told(refused.text) == max(0, stopped_by.most - stopped_by.used)
    codes: Mapping[str, str] = {"single-use": "TKSG", "lifetime": "TKVE"}
    expected = codes.get(stopped_by.name.split("/")[0], "SL14" if stopped_by.currency else "SL13")
    assert refused.code == expected


TO_STATE: Mapping[str, Literal["approved", "undone"]] = {
    "approve": "approved",
    "decline": "undone",
    "reverse": "undone",
}
FROM_STATE = {"approve": "in flight", "decline": "in flight", "reverse": "approved"}


@given(STARTS, PURPOSES, st.lists(ACTIONS, min_size=1, max_size=60))
@settings(max_examples=1500, deadline=None)
def test_what_limits_refuse_the_oracle_refuses_and_nothing_else(
    start: datetime, purpose: PaymentPurpose, actions: list[tuple[timedelta, str, int, str, int]]
) -> None:
    terms = terms_of(start, purpose)
    gateway, oracle = Gateway(terms), Oracle(terms)
    now = start
    for step, action, minor, currency, pick in actions:
        now += step
        if action == "pay":
            stopped_by = oracle.stops(now, minor, currency)
            agrees(gateway.pays(now, minor, currency), stopped_by)
            event(f"refused by {stopped_by.name.split('/')[0]}" if stopped_by else "paid")
            if stopped_by is None:
                oracle.paid.append(Paid(now, minor, currency, "in flight"))
        else:
            able = [n for n, p in enumerate(oracle.paid) if p.state == FROM_STATE[action]]
            if not able:
                continue
            number = able[pick % len(able)]
            paid = oracle.paid[number]
            paid.state = TO_STATE[action]
            gateway.outcome(number, paid.minor, action)
        for cap in oracle.caps_at(now):
            assert cap.used <= cap.most, f"beyond {cap.name}"
    books_agree(gateway, oracle)


def books_agree(gateway: Gateway, oracle: Oracle) -> None:
    """What each window holds is what the payments that counted in it sum up to."""
    for at in {p.at for p in oracle.paid}:
        caps = {cap.name: cap for cap in oracle.caps_at(at)}
        for window in windows_at(gateway.terms, at):
            usage = gateway.usage.get(window.key, Usage())
            inside = caps[window.key.limit_key].inside
            taken = [p.minor for p in inside if p.state in ("in flight", "approved")]
            assert usage == Usage(sum(taken), len(taken))


@given(STARTS, st.sampled_from(Period), st.sampled_from(Alignment), st.timedeltas(timedelta(0), timedelta(days=3000)))
@example(seoul_edge("2024-02-29", timedelta(hours=10)), Period.YEAR, Alignment.CONSENT, timedelta(days=1461))
@settings(max_examples=1500, deadline=None)
def test_windows_are_the_oracles_periods(
    start: datetime, period: Period, alignment: Alignment, later: timedelta
) -> None:
    limit = PeriodLimit(period=period, alignment=alignment, max_count=1_000_000)
    purpose = sample.purpose(period_limits=(limit,))
    at = start + later
    (window,) = windows_at(terms_of(start, purpose), at)
    begin, end = period_around(period.value, alignment.value, start, at)
    assert (window.key.starts_at, window.ends_at) == (begin, end)
    assert window.max_count == int(1_000_000 * share_of(period.value, alignment.value, start, begin, end))
