"""`mypay top`: a network stands there as in `mypay network list` and in the console."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.app.networks import NETWORK_REPORT_FRESH_S
from gateway.cli import top
from gateway.views.attention import Waiting
from gateway.views.networks import NetworkPause, WorkerReport
from tests.support.cli import mypay

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
OLD = NOW - timedelta(seconds=NETWORK_REPORT_FRESH_S + 1)
PAUSED = (NetworkPause("bcard", NOW, "kim", "maintenance"),)


@pytest.mark.parametrize(
    ("reports", "pauses", "told"),
    [
        ([("w-1", True, NOW), ("w-2", False, NOW)], (), ["open", "2"]),
        ([("w-1", False, NOW)], (), ["closed", "1"]),
        ([("w-1", True, OLD)], (), ["no", "worker", "0"]),
        ([("w-1", True, NOW)], PAUSED, ["paused", "1"]),
    ],
)
def test_a_network_stands_as_its_workers_said_lately(
    monkeypatch: pytest.MonkeyPatch,
    reports: list[tuple[str, bool, datetime]],
    pauses: tuple[NetworkPause, ...],
    told: list[str],
) -> None:
    async def look(_: str) -> top.Standing:
        said = [WorkerReport("bcard", *report) for report in reports]
        return top.Standing(NOW, 7, None, {}, said, pauses, (), (), Waiting(0, None, 0))

    monkeypatch.setattr(top, "look", look)
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", "postgresql://127.0.0.1:1/nothing")
    [line] = [x for x in mypay("top", "--once").expect().out.splitlines() if x.startswith("bcard")]
    assert line.split()[1:] == told
