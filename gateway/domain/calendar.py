"""Days of Asia/Seoul."""

from datetime import UTC, date, datetime, time

from gateway.domain.limits import SEOUL


def day_start(day: date) -> datetime:
    """The first moment of a day in Seoul, in UTC."""
    return datetime.combine(day, time(), SEOUL).astimezone(UTC)


def day_of(moment: datetime) -> date:
    """The day in Seoul that a moment lies in."""
    return moment.astimezone(SEOUL).date()
