"""Orders for a later day: what refuses them, and when they are due."""

from datetime import UTC, date, datetime, timedelta

import pytest

from gateway.base.calendar import day_of, day_start
from gateway.consents.rules.consent import refuse_order
from gateway.orders.scheduled.rules import due_later, refuse_to_wait
from schemas.codec import DecodeError, decode, encode
from schemas.orders import PaymentOrder
from schemas.reasons import ReasonCode
from tests.support.domain_samples import NOW, consent, merchant, order

TODAY = date(2025, 5, 17)  # in Seoul, where NOW is a little past noon
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def on(day: date, **fields: object) -> PaymentOrder:
    return order(**({"requested_execution_date": day, "expires_at": max(day_start(day), NOW) + HOUR} | fields))


def test_a_day_begins_at_seoul_s_midnight() -> None:
    assert day_start(TODAY) == datetime(2025, 5, 16, 15, tzinfo=UTC)
    assert day_of(datetime(2025, 5, 16, 15, tzinfo=UTC)) == TODAY
    assert day_of(datetime(2025, 5, 16, 14, 59, 59, 999_999, tzinfo=UTC)) == TODAY - DAY


def test_an_order_is_due_later_only_while_its_day_has_not_begun() -> None:
    tomorrow = on(TODAY + DAY)
    assert due_later(tomorrow, NOW) == day_start(TODAY + DAY)
    assert due_later(tomorrow, day_start(TODAY + DAY)) is None
    assert due_later(on(TODAY), NOW) is None
    assert due_later(order(), NOW) is None


TOMORROW = TODAY + DAY
LONG = timedelta(hours=24)
TM01, DT01 = ReasonCode.TM01, ReasonCode.DT01
# fmt: off
CASES = {
    "today":                           (on(TODAY, expires_at=NOW + HOUR),                            None),
    "tomorrow":                        (on(TOMORROW),                                                None),
    "valid for the whole day":         (on(TOMORROW, expires_at=day_start(TOMORROW) + LONG),         None),
    "today, for a day from its issue": (on(TODAY, expires_at=NOW - timedelta(seconds=1) + LONG),     None),
    "today, for longer":               (on(TODAY, expires_at=NOW + LONG),                            DT01),
    "valid past its day":              (on(TOMORROW, expires_at=day_start(TOMORROW + DAY) + HOUR),   DT01),
    "expires before its day":          (on(TOMORROW, expires_at=day_start(TOMORROW)),                DT01),
    "the day before its issue":        (on(TODAY - DAY, expires_at=NOW + HOUR),                      DT01),
    "long before its issue":           (on(date(2000, 1, 1), expires_at=NOW + HOUR),                 DT01),
    "expired":                         (on(TODAY, expires_at=NOW),                                   TM01),
    # Issued for its own day, reached after midnight: paid at once, while it is valid.
    "its day has passed since":        (on(TODAY - DAY, issued_at=day_start(TODAY) - HOUR,
                                           expires_at=day_start(TODAY) + 13 * HOUR),                 None),
}
# fmt: on


@pytest.mark.parametrize("case", CASES)
def test_an_order_s_day_must_fit_its_times(case: str) -> None:
    placed, code = CASES[case]
    refused = refuse_order(placed, consent=consent(), merchant=merchant(), now=NOW)
    assert (refused and refused.code) is code


def test_an_order_may_be_so_many_days_ahead_and_no_more() -> None:
    def judged(ahead: int) -> ReasonCode | None:
        refused = refuse_to_wait(day_start(TODAY + ahead * DAY), consent(), now=NOW, ahead_days_max=30)
        return refused.code if refused else None

    assert judged(30) is None
    assert judged(31) is ReasonCode.DT04


def test_an_order_cannot_wait_past_the_end_of_its_consent() -> None:
    due_at = day_start(TODAY + 10 * DAY)
    ends = consent(valid_until=due_at)
    refused = refuse_to_wait(due_at, ends, now=NOW, ahead_days_max=30)
    assert refused is not None
    assert refused.code is ReasonCode.TKXP
    longer = consent(valid_until=due_at + timedelta(microseconds=1))
    assert refuse_to_wait(due_at, longer, now=NOW, ahead_days_max=30) is None


@pytest.mark.parametrize(
    "spelt",
    ['"2025-05-18T00:00:00Z"', "20225", '"20225"', '"18.05.2025"', '"2025-5-18"', '"1999-12-31"', '"2025-02-29"'],
)
def test_a_day_has_one_spelling(spelt: str) -> None:
    good = encode(on(date(2025, 5, 18)))
    assert decode(PaymentOrder, good).requested_execution_date == date(2025, 5, 18)
    assert good.count(b'"2025-05-18"') == 1
    with pytest.raises(DecodeError, match="requested_execution_date"):
        decode(PaymentOrder, good.replace(b'"2025-05-18"', spelt.encode()))
