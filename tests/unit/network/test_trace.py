"""Trace numbers from a running number: STANs walk through terminals, the RRN tells the day and the number."""

from datetime import UTC, datetime

import pytest

from gateway.network.trace import FOLLOW_UP_STANS, PAYMENT_STANS, follow_up_stan, payment_trace

NOON = datetime(2026, 2, 1, 12, 0, 0, 999_999, tzinfo=UTC)
TERMINALS = ("A", "B", "C")


@pytest.mark.parametrize("number", [1, 35, 36, 36**2 - 1, 36**2, 36**3, 123_456_789, 36**8 - 1])
def test_the_rrn_holds_the_day_and_the_number_in_base_36(number: int) -> None:
    rrn = payment_trace(number, TERMINALS, NOON).rrn
    assert (len(rrn), rrn[:4], int(rrn[4:], 36), rrn) == (12, "6032", number, rrn.upper())


def test_a_number_beyond_eight_digits_begins_anew() -> None:
    assert payment_trace(36**8 + 7, TERMINALS, NOON).rrn == "603200000007"


def test_moments_of_two_days_do_not_mix() -> None:
    later = datetime(2027, 12, 31, 23, 59, 59, 5, tzinfo=UTC)
    traces = [payment_trace(1, TERMINALS, at) for at in (NOON, later, NOON)]
    assert [t.rrn[:4] for t in traces] == ["6032", "7365", "6032"]
    assert [t.transmitted_at for t in traces] == [at.replace(microsecond=0) for at in (NOON, later, NOON)]


def test_stans_walk_through_one_terminal_after_the_other() -> None:
    ends = (1, PAYMENT_STANS, PAYMENT_STANS + 1, 3 * PAYMENT_STANS + 1)
    traces = [payment_trace(n, TERMINALS, NOON) for n in ends]
    assert [(t.terminal_id, t.stan) for t in traces] == [("A", 1), ("A", PAYMENT_STANS), ("B", 1), ("A", 1)]


def test_follow_ups_walk_through_stans_of_their_own() -> None:
    """Never a payment's: the network would take the one for the other."""
    numbers = (1, 2, FOLLOW_UP_STANS, FOLLOW_UP_STANS + 1)
    assert [follow_up_stan(n) for n in numbers] == [PAYMENT_STANS + 1, PAYMENT_STANS + 2, 999_999, PAYMENT_STANS + 1]
