"""The windows that a payment counts in, as its row's one column has them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.consents.rules.limits import WindowKey
from gateway.payments.postgres import _write_windows, read_windows

MONTH = WindowKey("month/calendar/KRW", datetime(2025, 10, 31, 15, tzinfo=UTC))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

windows = st.lists(
    st.builds(
        WindowKey,
        st.sampled_from(["month/calendar/KRW", "day/consent/count", "lifetime/KRW", "single-use"]),
        st.integers(0, 4_102_444_800_000_000).map(lambda n: EPOCH + n * MICROSECOND),
    ),
    max_size=4,
).map(tuple)


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ((), ""),
        ((MONTH,), "month/calendar/KRW@1761922800"),
        ((WindowKey("lifetime/KRW", MONTH.starts_at + 250 * MICROSECOND),), "lifetime/KRW@1761922800.000250"),
        ((MONTH, WindowKey("single-use", EPOCH)), "month/calendar/KRW@1761922800 single-use@0"),
    ],
)
def test_windows_are_written_as_they_always_were(told: tuple[WindowKey, ...], text: str) -> None:
    assert _write_windows(told) == text
    assert read_windows(text) == told


@given(told=windows)
def test_what_is_written_is_read_back(told: tuple[WindowKey, ...]) -> None:
    assert read_windows(_write_windows(told)) == told


def test_payments_of_one_window_share_it() -> None:
    (first,), (second, _) = read_windows("day/calendar/KRW@7"), read_windows("day/calendar/KRW@7 lifetime/count@8")
    assert first is second
