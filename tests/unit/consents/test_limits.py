from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway.base.calendar import SEOUL
from gateway.consents.rules.limits import (
    LimitAccountingError,
    Reserved,
    Usage,
    Window,
    WindowKey,
    reserve,
    windows_at,
    with_given_back,
    with_taken,
)
from schemas.consents import Alignment, ConsentTerms, Period, PeriodLimit
from schemas.primitives import Money
from schemas.reasons import Reason
from tests.support import domain_samples as sample
from tests.support.domain_samples import NOW, krw
from tests.support.messages import PORTABILITY

# All times are Seoul's, midnight where no time is given. A whole window has 3100; "full" is what this one has of it.
WINDOWS = """
  limit          consent from    payment at         window from     window until    full  why
  day/calendar   25-05-01/09:30  25-05-17/12:00     25-05-17        25-05-18        3100  an ordinary day
  day/calendar   25-05-01/09:30  25-05-17           25-05-17        25-05-18        3100  midnight in Seoul, not in UTC
  day/calendar   25-05-01/09:30  25-05-16/23:59:59  25-05-16        25-05-17        3100  the second before it
  day/calendar   25-05-01/09:30  25-05-17/09:00     25-05-17        25-05-18        3100  UTC midnight begins nothing
  day/calendar   25-05-17/23:59  25-05-17/23:59:59  25-05-17        25-05-18        3100  a first day is not cut short
  day/calendar   24-01-10        24-02-29/12:00     24-02-29        24-03-01        3100  leap day
  day/calendar   24-01-10        24-12-31/23:59:59  24-12-31        25-01-01        3100  last day of a year
  week/calendar  25-01-01        25-05-19           25-05-19        25-05-26        3100  Monday midnight begins it
  week/calendar  25-01-01        25-05-18/23:59:59  25-05-12        25-05-19        3100  Sunday's last second ends it
  week/calendar  24-06-01        25-01-01           24-12-30        25-01-06        3100  ISO week 1 begins in 2024
  week/calendar  25-05-14/18:00  25-05-15           25-05-12        25-05-19        2214  5 of 7 days, rounded down
  week/calendar  25-05-18/18:00  25-05-18/19:00     25-05-12        25-05-19         442  1 of 7 days
  week/calendar  25-05-12        25-05-18/19:00     25-05-12        25-05-19        3100  from the first moment: whole
  month/calendar 25-01-01        25-05-31/23:59:59  25-05-01        25-06-01        3100  last second of a month
  month/calendar 25-01-01        25-06-01           25-06-01        25-07-01        3100  first moment of a month
  month/calendar 25-01-01        25-12-31/23:59:59  25-12-01        26-01-01        3100  December
  month/calendar 24-01-01        24-02-29/23:59:59  24-02-01        24-03-01        3100  leap February
  month/calendar 25-05-31/23:00  25-05-31/23:30     25-05-01        25-06-01         100  1 of 31 days
  month/calendar 25-05-01/23:00  25-05-20           25-05-01        25-06-01        3100  evening of the 1st: whole
  month/calendar 25-05-02        25-05-20           25-05-01        25-06-01        3000  30 of 31 days
  month/calendar 25-05-02        25-06-01           25-06-01        25-07-01        3100  the second month is whole
  month/calendar 24-02-15/10:00  24-02-20           24-02-01        24-03-01        1603  15 of 29 days
  month/calendar 25-02-15/10:00  25-02-20           25-02-01        25-03-01        1550  14 of 28 days
  year/calendar  24-01-01        24-12-31/23:59:59  24-01-01        25-01-01        3100  a leap year, whole
  year/calendar  24-03-01        24-12-31/23:59:59  24-01-01        25-01-01        2591  306 of 366 days
  year/calendar  25-03-01        25-12-31/23:59:59  25-01-01        26-01-01        2598  306 of 365 days
  year/calendar  24-12-31/12:00  24-12-31/12:00     24-01-01        25-01-01           8  1 of 366 days
  day/consent    25-05-01/09:30  25-05-17/09:29:59  25-05-16/09:30  25-05-17/09:30  3100  the consent's time of day
  day/consent    25-05-01/09:30  25-05-17/09:30     25-05-17/09:30  25-05-18/09:30  3100  its first moment
  week/consent   25-05-01/09:30  25-05-08/09:29:59  25-05-01/09:30  25-05-08/09:30  3100  first week, last second
  week/consent   25-05-01/09:30  25-05-08/09:30     25-05-08/09:30  25-05-15/09:30  3100  second week
  month/consent  25-01-31/10:00  25-01-31/10:00     25-01-31/10:00  25-02-28/10:00  3100  the 31st in a 28-day month
  month/consent  25-01-31/10:00  25-02-28/09:59:59  25-01-31/10:00  25-02-28/10:00  3100  until that time of day
  month/consent  25-01-31/10:00  25-02-28/10:00     25-02-28/10:00  25-03-31/10:00  3100  back to the 31st afterwards
  month/consent  25-01-31/10:00  25-04-30/10:00     25-04-30/10:00  25-05-31/10:00  3100  the 31st in a 30-day month
  month/consent  24-01-31/10:00  24-02-29/10:00     24-02-29/10:00  24-03-31/10:00  3100  the 31st in leap February
  month/consent  25-01-30/10:00  25-03-01           25-02-28/10:00  25-03-30/10:00  3100  the 30th in February
  month/consent  24-12-15/10:00  25-01-15/09:59:59  24-12-15/10:00  25-01-15/10:00  3100  over the end of a year
  month/consent  25-01-31/02:00  25-02-28/03:00     25-02-28/02:00  25-03-31/02:00  3100  the 31st in Seoul, 30th in UTC
  year/consent   24-02-29/10:00  25-02-28/09:59:59  24-02-29/10:00  25-02-28/10:00  3100  29 February a year later
  year/consent   24-02-29/10:00  25-02-28/10:00     25-02-28/10:00  26-02-28/10:00  3100  two years without one
  year/consent   24-02-29/10:00  28-02-29/09:59:59  27-02-28/10:00  28-02-29/10:00  3100  the next leap year
  year/consent   24-02-29/10:00  28-03-01           28-02-29/10:00  29-02-28/10:00  3100  29 February again
  year/consent   24-05-01/10:00  25-05-01/10:00     25-05-01/10:00  26-05-01/10:00  3100  an ordinary anniversary
  year/consent   24-05-01/10:00  25-03-20           24-05-01/10:00  25-05-01/10:00  3100  the year before it
  year/consent   24-05-01/10:00  25-09-20           25-05-01/10:00  26-05-01/10:00  3100  the year after it
"""
ROWS = [line.split(maxsplit=6) for line in WINDOWS.strip().splitlines()[1:]]


def seoul(text: str) -> datetime:
    return datetime.fromisoformat("20" + text.replace("/", "T")).replace(tzinfo=ZoneInfo("Asia/Seoul"))


def terms_from(valid_from: datetime, *limits: PeriodLimit, **purpose: Any) -> ConsentTerms:
    payment = sample.purpose(period_limits=limits, **purpose)
    return sample.terms(valid_from=valid_from, valid_until=valid_from + timedelta(days=3650), payment=payment)


@pytest.mark.parametrize("row", ROWS, ids=[f"{r[0]}: {r[6]}" for r in ROWS])
def test_windows_begin_and_end_as_the_table_says(row: list[str]) -> None:
    limit_name, valid_from, at, starts_at, ends_at, full, _ = row
    period, aligned = limit_name.split("/")
    kind: dict[str, Any] = {"period": Period(period), "alignment": Alignment(aligned)}
    terms = terms_from(
        seoul(valid_from), PeriodLimit(max_amount=krw(3100), **kind), PeriodLimit(max_count=3100, **kind)
    )
    expected = (
        Window(WindowKey(f"{period}/{aligned}/KRW", seoul(starts_at)), seoul(ends_at), int(full), None, "KRW"),
        Window(WindowKey(f"{period}/{aligned}/count", seoul(starts_at)), seoul(ends_at), None, int(full), None),
    )
    found = windows_at(terms, seoul(at))
    assert found == expected
    assert windows_at(terms, seoul(at).astimezone(UTC)) == expected
    for window in found:
        assert window.ends_at is not None
        assert window.key.starts_at.tzinfo is window.ends_at.tzinfo is UTC
        assert window.key.starts_at <= seoul(at) < window.ends_at


# What is left of a limit in the consent's first month, of a month with 30 days (April 2025) from a day of it on.
SHARES = """
  from         whole  count  amount
  25-04-01         1      1       1
  25-04-02         1      1       0
  25-04-30         1      1       0
  25-04-02         2      1       1
  25-04-16         2      1       1
  25-04-17         2      1       0
  25-04-16         3      1       1
  25-04-30        29      1       0
  25-04-30        30      1       1
  25-04-30        59      1       1
  25-04-30        60      2       2
"""


@pytest.mark.parametrize("row", SHARES.strip().splitlines()[1:])
def test_a_count_is_never_cut_to_nothing_and_an_amount_is_never_rounded_up(row: str) -> None:
    begin, whole, count, amount = row.split()
    kind: dict[str, Any] = {"period": Period.MONTH, "alignment": Alignment.CALENDAR}
    terms = terms_from(
        seoul(begin), PeriodLimit(max_count=int(whole), **kind), PeriodLimit(max_amount=krw(int(whole)), **kind)
    )
    windows = windows_at(terms, seoul(begin))
    assert [(w.max_count, w.max_minor) for w in windows] == [(int(count), None), (None, int(amount))]
    # One payment a month is one payment, also in the month in which the consent begins on the second.
    counted = terms_from(seoul(begin), PeriodLimit(max_count=int(whole), **kind))
    assert isinstance(reserve(counted, 1000, "KRW", seoul(begin), {}), Reserved)
    # An amount that is cut to nothing lets nothing pass until the next month begins.
    if amount == "0":
        summed = terms_from(seoul(begin), PeriodLimit(max_amount=krw(int(whole)), **kind))
        refused = reserve(summed, 1, "KRW", seoul(begin), {})
        assert isinstance(refused, Reason)
        assert refused.code.value == "SL14"


def test_seoul_has_kept_the_offset_that_is_built_in() -> None:
    # Red on the day that the law of time changes: then windows must be computed with the time zone database.
    zone = ZoneInfo("Asia/Seoul")
    for day in range(0, 60 * 365, 7):
        moment = datetime(1990, 1, 1, tzinfo=UTC) + timedelta(days=day)
        assert moment.astimezone(zone).utcoffset() == SEOUL.utcoffset(None)


def test_windows_of_two_versions_of_a_consent_are_not_mixed_up() -> None:
    def daily(most: int) -> ConsentTerms:
        return terms_from(NOW, PeriodLimit(period=Period.DAY, max_amount=krw(most)))

    assert [windows_at(daily(most), NOW)[0].max_minor for most in (1, 2, 1)] == [1, 2, 1]


def test_before_its_start_a_consent_shows_its_first_windows() -> None:
    terms = terms_from(NOW, PeriodLimit(period=Period.DAY, alignment=Alignment.CONSENT, max_count=1))
    assert windows_at(terms, NOW - timedelta(days=3)) == windows_at(terms, NOW)


def test_limits_without_period_have_one_window_from_the_consents_start() -> None:
    terms = terms_from(
        NOW,
        PeriodLimit(period=Period.DAY, alignment=Alignment.CONSENT, max_count=9),
        single_use=True,
        lifetime_count=7,
        lifetime_amounts=(krw(500), Money.of(600, "USD")),
    )
    for at in (NOW, NOW + timedelta(days=2000)):
        *endless, period = windows_at(terms, at)
        assert endless == [
            Window(WindowKey("single-use", NOW), None, None, 1, None),
            Window(WindowKey("lifetime/count", NOW), None, None, 7, None),
            Window(WindowKey("lifetime/KRW", NOW), None, 500, None, "KRW"),
            Window(WindowKey("lifetime/USD", NOW), None, 600, None, "USD"),
        ]
        assert period.key.limit_key == "day/consent/count"


def test_a_consent_without_payment_purpose_has_no_windows_and_pays_nothing() -> None:
    terms = sample.terms(payment=None, portability=PORTABILITY)
    assert windows_at(terms, NOW) == ()
    refused = reserve(terms, 1, "KRW", NOW, {})
    assert isinstance(refused, Reason)
    assert refused.code == "AG01"


def test_a_payment_counts_in_count_windows_and_in_those_of_its_currency() -> None:
    terms = terms_from(
        NOW,
        PeriodLimit(period=Period.DAY, alignment=Alignment.CONSENT, max_amount=krw(100)),
        PeriodLimit(period=Period.DAY, alignment=Alignment.CONSENT, max_amount=Money.of(100, "USD")),
        PeriodLimit(period=Period.DAY, alignment=Alignment.CONSENT, max_count=5),
        lifetime_amounts=(krw(1000),),
    )
    assert reserve(terms, 100, "KRW", NOW, {}) == Reserved(
        (WindowKey("lifetime/KRW", NOW), WindowKey("day/consent/KRW", NOW), WindowKey("day/consent/count", NOW))
    )
    assert reserve(terms, 100, "USD", NOW, {}) == Reserved(
        (WindowKey("day/consent/USD", NOW), WindowKey("day/consent/count", NOW))
    )


# One limit each, as used before a payment of 30.00 USD; the answer and what it must say.
REFUSALS = """
  limit                         taken     answer  words
  month/consent/USD=100.00      70.00x9   passes  -
  month/consent/USD=100.00      70.00x2   passes  -
  month/consent/USD=100.00      70.01x2   SL14    month/consent/USD|100.00_USD|29.99_USD_left
  month/consent/USD=100.00      70.01x2   SL14    until_2025-06-17T12:04:05+09:00
  month/consent/USD=100.00      150.00x1  SL14    100.00_USD|:_0.00_USD_left
  month/consent/count=3         1.00x2    passes  -
  month/consent/count=3         2.00x3    SL13    month/consent/count|3_payments|:_0_left|2025-06-17T12
  lifetime/USD=100.00           70.01x2   TKVE    lifetime/USD|100.00_USD|29.99_USD_left
  lifetime/count=3              2.00x3    TKVE    lifetime/count|3_payments|:_0_left
  single-use                    0.00x0    passes  -
  single-use                    1.00x1    TKSG    single-use|0_left
"""


def one_limit(spec: str) -> ConsentTerms:
    name, _, most = spec.partition("=")
    usd = {"max_per_payment": (Money(currency="USD", value="1000.00"),)}
    if name == "single-use":
        return terms_from(NOW, single_use=True, **usd)
    amount = None if name.endswith("count") else Money(currency="USD", value=most)
    count = int(most) if amount is None else None
    if name.startswith("lifetime"):
        return terms_from(NOW, lifetime_count=count, lifetime_amounts=(amount,) if amount else (), **usd)
    period, alignment, _ = name.split("/")
    limit = PeriodLimit(period=Period(period), alignment=Alignment(alignment), max_amount=amount, max_count=count)
    return terms_from(NOW, limit, **usd)


@pytest.mark.parametrize("row", REFUSALS.strip().splitlines()[1:])
def test_a_refusal_names_the_limit_its_value_and_what_is_left(row: str) -> None:
    spec, taken, answer, words = row.split()
    terms = one_limit(spec)
    total, _, count = taken.partition("x")
    (window,) = windows_at(terms, NOW)
    result = reserve(terms, 3000, "USD", NOW, {window.key: Usage(int(total.replace(".", "")), int(count))})
    if answer == "passes":
        assert result == Reserved((window.key,))
        return
    assert isinstance(result, Reason)
    assert result.code == answer
    for word in words.split("|"):
        assert word.replace("_", " ") in result.text
    # Nothing follows what is left but when there will be more.
    rest = result.text.rpartition(" left")[2]
    assert spec == "single-use" or (rest == "" if window.ends_at is None else rest.startswith(" until 20"))


def test_the_first_limit_in_order_is_told() -> None:
    limits = (
        PeriodLimit(period=Period.DAY, alignment=Alignment.CONSENT, max_count=1),
        PeriodLimit(period=Period.DAY, alignment=Alignment.CONSENT, max_amount=krw(1)),
    )
    strict: dict[str, Any] = {"single_use": True, "lifetime_count": 1, "lifetime_amounts": (krw(1),)}
    told = []
    for keep in range(5):
        endless = dict(list(strict.items())[keep:])
        terms = terms_from(NOW, *limits[max(0, keep - 3) :], **endless)
        full = {window.key: Usage(1, 1) for window in windows_at(terms, NOW)}
        result = reserve(terms, 1, "KRW", NOW, full)
        assert isinstance(result, Reason)
        told.append(result.text.split()[1])
    assert told == ["single-use", "lifetime/count", "lifetime/KRW", "day/consent/count", "day/consent/KRW"]


@pytest.mark.parametrize("amount", [0, -1])
def test_nothing_and_less_is_not_an_amount(amount: int) -> None:
    with pytest.raises(ValueError, match="above zero"):
        reserve(sample.terms(), amount, "KRW", NOW, {})
    for account in (with_taken, with_given_back):
        with pytest.raises(LimitAccountingError):
            account(Usage(100, 10), amount)


def test_usage_is_taken_and_given_back() -> None:
    assert with_taken(Usage(10, 1), 5) == Usage(15, 2)
    assert with_given_back(Usage(15, 2), 5) == Usage(10, 1)
    assert with_given_back(Usage(5, 1), 5) == Usage()


@pytest.mark.parametrize("usage", [Usage(4, 1), Usage(5, 0)])
def test_what_was_not_taken_cannot_be_given_back(usage: Usage) -> None:
    with pytest.raises(LimitAccountingError):
        with_given_back(usage, 5)


def test_keys_sort_into_one_order_of_locking() -> None:
    keys = [WindowKey("b", NOW), WindowKey("a", NOW + timedelta(days=1)), WindowKey("a", NOW)]
    assert sorted(keys) == [keys[2], keys[1], keys[0]]
