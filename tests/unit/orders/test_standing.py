"""What refuses a standing order and what ends it; the days of its occurrences have an oracle of their own."""

from datetime import date, datetime, timedelta

import pytest

from gateway.base.calendar import BusinessDays, day_start
from gateway.consents.rules.consent import Consent
from gateway.orders.standing.rules import Occurrence, consent_has_ended, occurrence, proof_used_by, refuse_schedule
from schemas.consents import ConsentStatus
from schemas.primitives import payment_id_of
from schemas.reasons import Reason
from schemas.standing import DayRule, Frequency, HolidayRule, StandingSchedule
from tests.support.domain_samples import NOW, consent

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
TODAY = date(2025, 5, 17)  # of NOW, in Seoul: a Saturday
DAYS = BusinessDays()
AHEAD_DAYS = 30


def schedule(first: date, **fields: object) -> StandingSchedule:
    return StandingSchedule.model_validate({"frequency": Frequency.DAILY, "first_date": first} | fields)


def refuse(
    given: StandingSchedule, under: Consent | None = None, *, issued_at: datetime = NOW, now: datetime = NOW
) -> Occurrence | Reason:
    return refuse_schedule(given, under or consent(), DAYS, issued_at=issued_at, now=now, ahead_days_max=AHEAD_DAYS)


def code(outcome: Occurrence | Reason) -> str:
    return outcome.code.value if isinstance(outcome, Reason) else f"{outcome.number} on {outcome.day}"


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (TODAY - DAY, "DT01"),
        (TODAY, "0 on 2025-05-17"),
        (TODAY + AHEAD_DAYS * DAY, "0 on 2025-06-16"),
        (TODAY + (AHEAD_DAYS + 1) * DAY, "DT04"),
    ],
)
def test_the_first_occurrence_lies_between_the_issue_and_how_far_ahead_one_may_order(
    first: date, expected: str
) -> None:
    assert code(refuse(schedule(first))) == expected


def test_each_end_counts_from_a_moment_of_its_own() -> None:
    """An order may come late: it must not begin before its issue, and not too long after today."""
    before = NOW - 10 * DAY
    assert code(refuse(schedule(TODAY - DAY), issued_at=before)) == "0 on 2025-05-16"
    assert code(refuse(schedule(TODAY - 11 * DAY), issued_at=before)) == "DT01"
    assert code(refuse(schedule(TODAY + AHEAD_DAYS * DAY), issued_at=before)) == "0 on 2025-06-16"
    assert code(refuse(schedule(TODAY + AHEAD_DAYS * DAY), issued_at=before, now=NOW - DAY)) == "DT04"


def test_a_first_occurrence_counts_on_the_day_to_which_the_holiday_rule_moves_it() -> None:
    assert code(refuse(schedule(TODAY, holiday_rule=HolidayRule.PREVIOUS))) == "DT01"
    assert code(refuse(schedule(TODAY, holiday_rule=HolidayRule.NEXT))) == "0 on 2025-05-19"


def test_a_schedule_that_is_over_before_it_begins() -> None:
    ends = schedule(TODAY, frequency=Frequency.MONTHLY, day_rule=DayRule.LAST_DAY, last_date=TODAY)
    refused = refuse(ends)
    assert isinstance(refused, Reason)
    assert (refused.code.value, refused.text) == ("DT01", "the schedule has no occurrence before its last_date")


def test_too_far_ahead_tells_how_far_one_may_order() -> None:
    refused = refuse(schedule(TODAY + 100 * DAY))
    assert isinstance(refused, Reason)
    assert refused.text == "the first occurrence is more than 30 days from today"


@pytest.mark.parametrize(
    ("after", "expected"), [(SECOND, "0 on 2025-05-20"), (timedelta(0), "TKXP"), (-SECOND, "TKXP")]
)
def test_the_consent_must_last_past_the_moment_at_which_the_first_occurrence_is_due(
    after: timedelta, expected: str
) -> None:
    first = TODAY + 3 * DAY
    assert code(refuse(schedule(first), consent(valid_until=day_start(first) + after))) == expected


@pytest.mark.parametrize("status", ConsentStatus)
def test_a_consent_is_over_for_ever_by_its_status_or_its_end(status: ConsentStatus) -> None:
    ended = status in {ConsentStatus.RJCT, ConsentStatus.CANC, ConsentStatus.EXPD}
    assert consent_has_ended(consent(status, valid_until=NOW + SECOND), NOW) is ended
    assert consent_has_ended(consent(status, valid_until=NOW), NOW)
    assert consent_has_ended(consent(status, valid_until=NOW - SECOND), NOW)


def test_no_consent_is_over() -> None:
    assert consent_has_ended(None, NOW)


def test_a_proof_is_used_under_an_id_that_only_its_standing_order_has() -> None:
    used = proof_used_by("partner-1", "standing-1")
    assert used == payment_id_of("partner-1", "standing-1+")
    assert used not in {proof_used_by("partner-2", "standing-1"), proof_used_by("partner-1", "standing-2")}


def nominal(given: StandingSchedule, number: int) -> date | None:
    found = occurrence(given, number, DAYS)
    return found and found.nominal


def test_occurrences_end_where_the_calendar_is_still_far_from_its_end() -> None:
    daily = schedule(date(2000, 1, 1))
    days = (date(9000, 1, 1) - daily.first_date).days
    assert [nominal(daily, days + n) for n in range(2)] == [date(9000, 1, 1), None]
    monthly = schedule(date(2000, 1, 31), frequency=Frequency.MONTHLY)
    months = 12 * 7000
    assert [nominal(monthly, months + n) for n in (-1, 0)] == [date(8999, 12, 31), None]
