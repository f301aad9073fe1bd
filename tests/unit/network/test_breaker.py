"""The circuit breaker as a table of steps."""

import pytest

from gateway.network.iso8583.breaker import BreakerState, CircuitBreaker
from gateway.network.iso8583.config import Breaker

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


def breaker() -> CircuitBreaker:
    return CircuitBreaker(Breaker(open_after_failures=3, open_s=5, open_max_s=15))


# f: failure · a: answer · P: probe answered · p: probe not answered; all of the current generation
@pytest.mark.parametrize(
    ("steps", "state"),
    [
        ("", CLOSED),
        ("ff", CLOSED),
        ("fff", OPEN),
        ("ffaff", CLOSED),
        ("ffafff", OPEN),
        ("fffa", OPEN),
        ("fffp", OPEN),
        ("fffP", HALF_OPEN),
        ("fffPa", CLOSED),
        ("fffPf", OPEN),
        ("fffPaff", CLOSED),
        ("fffPafff", OPEN),
        ("P", CLOSED),
    ],
)
def test_steps(steps: str, state: BreakerState) -> None:
    b = breaker()
    for step in steps:
        before = b.state
        if step == "f":
            changed = b.failed(b.generation, 100)
        elif step == "a":
            changed = b.answered(b.generation)
        else:
            changed = b.probed(100, answered=step == "P")
        assert changed == (b.state is not before)
    assert b.state is state


def test_the_pause_doubles_to_its_ceiling_and_an_answer_resets_it() -> None:
    b = breaker()
    for _ in range(3):
        b.failed(b.generation, 100)
    pauses = [b.probe_at - 100]
    b.probed(100, answered=False)
    pauses.append(b.probe_at - 100)
    b.probed(100, answered=True)
    b.failed(b.generation, 100)
    pauses.append(b.probe_at - 100)
    assert pauses == [5, 10, 15]
    b.probed(100, answered=True)
    b.answered(b.generation)
    for _ in range(3):
        b.failed(b.generation, 100)
    assert b.probe_at == 105


def test_what_was_submitted_before_a_change_counts_no_more() -> None:
    b = breaker()
    old = b.generation
    for _ in range(3):
        b.failed(old, 100)
    b.probed(105, answered=True)
    assert not b.failed(old, 106)
    assert not b.answered(old)
    assert b.state is HALF_OPEN


def test_an_answer_that_cannot_be_read_ends_a_run_of_silence_and_opens_nothing() -> None:
    breaker = CircuitBreaker(Breaker(open_after_failures=3))
    for _ in range(10):
        assert not breaker.failed(0, 1.0)
        assert not breaker.failed(0, 1.0)
        breaker.unreadable(0)
    assert breaker.state is BreakerState.CLOSED
    # In the trial it decides nothing: the network may still not authorise.
    on_trial = half_open()
    on_trial.unreadable(on_trial.generation)
    assert on_trial.state is BreakerState.HALF_OPEN


def half_open() -> CircuitBreaker:
    breaker = CircuitBreaker(Breaker(open_after_failures=1))
    assert breaker.failed(0, 1.0)
    assert breaker.probed(9.0, answered=True)
    assert breaker.state is BreakerState.HALF_OPEN
    return breaker


def test_in_the_trial_follow_ups_neither_close_nor_open() -> None:
    breaker = half_open()
    assert not breaker.answered(breaker.generation, is_order=False)
    assert not breaker.failed(breaker.generation, 10.0, is_order=False)
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.answered(breaker.generation)
    assert breaker.state is BreakerState.CLOSED
    # While it is closed their silence counts as any other.
    assert breaker.failed(breaker.generation, 11.0, is_order=False)
