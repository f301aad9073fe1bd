"""A process's time: as the machine's clock has it, but for jumps."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.app.clock import SteadyClock

BEGUN = 1_800_000_000.0


class Machine:
    """A clock that can be set, and time that passes."""

    def __init__(self) -> None:
        self.set_to = BEGUN
        self.passed = 500.0
        self.clock = SteadyClock(machine=lambda: self.set_to, passing=lambda: self.passed)

    def go_on(self, seconds: float, *, drift: float = 0.0) -> None:
        self.passed += seconds
        self.set_to += seconds + drift

    @property
    def since(self) -> float:
        """Seconds that the process's time has gone on."""
        return (self.clock.now() - datetime.fromtimestamp(BEGUN, UTC)).total_seconds()


@pytest.mark.parametrize(
    ("set_by", "told"),
    [(0, 10), (1.5, 11.5), (-1.5, 8.5), (60, 70), (-60, -50), (61, 10), (-61, 10), (30 * 86_400, 10)],
)
def test_a_clock_that_is_set_is_followed_within_a_minute(set_by: float, told: float) -> None:
    machine = Machine()
    machine.go_on(10)
    machine.set_to += set_by
    assert machine.since == pytest.approx(told)


def test_time_goes_on_as_it_passes_after_a_jump_and_the_clock_is_followed_once_it_is_right_again() -> None:
    machine = Machine()
    machine.set_to += 3_600
    machine.go_on(20)
    assert machine.since == pytest.approx(20)
    machine.set_to -= 3_600
    machine.go_on(1, drift=0.25)
    assert machine.since == pytest.approx(21.25)


def test_a_clock_that_drifts_is_followed_however_far_it_drifts() -> None:
    machine = Machine()
    for _ in range(100):
        machine.go_on(10, drift=2)
        machine.clock.now()
    assert machine.since == pytest.approx(1_200)


def test_a_jump_that_somebody_knows_to_be_right_is_followed() -> None:
    machine = Machine()
    machine.set_to += 3_600
    assert machine.since == pytest.approx(0)
    assert machine.clock.machine_now() - machine.clock.now() == timedelta(hours=1)
    machine.clock.follow()
    machine.go_on(5)
    assert machine.since == pytest.approx(3_605)


def test_the_machine_s_own_clocks_are_what_it_is_made_of() -> None:
    before = datetime.now(UTC)
    told = SteadyClock().now()
    assert before - timedelta(milliseconds=1) <= told <= datetime.now(UTC) + timedelta(milliseconds=1)
    assert told.tzinfo is UTC
