"""What links report: exchanges that end together are told together, and every one of them."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from gateway.network.iso8583.breaker import BreakerState
from gateway.network.iso8583.observer import LinkState
from gateway.network.iso8583.reporting import LINES_MAX, LINES_SECONDS, LinkMetrics
from gateway.observability.observer import StageObserver
from gateway.observability.recording import RecordingObserver


@dataclass(slots=True)
class Calls(RecordingObserver):
    """Remembers also how often it was called."""

    calls: list[int] = field(default_factory=list)

    def spans(self, span: str, seconds: Sequence[float], *, network: str = "") -> None:
        self.calls.append(len(seconds))
        RecordingObserver.spans(self, span, seconds, network=network)


async def test_exchanges_that_end_together_are_told_together() -> None:
    observer = Calls()
    metrics = LinkMetrics(observer, "bcard")
    for outcome, seconds in (("answered", 0.25), ("timeout", 2.0), ("answered", 0.5)):
        metrics.exchange_ended("bcard", outcome, seconds)
    await asyncio.sleep(0)
    metrics.exchange_ended("bcard", "answered", 0.125)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert observer.calls == [2, 1, 1]
    assert observer.counts == {("exchange", "answered", ""): 3, ("exchange", "timeout", ""): 1}
    assert observer.delays == [("network_exchange", s) for s in (0.25, 0.5, 2.0, 0.125)]


def test_each_link_and_the_breaker_are_told_by_name() -> None:
    registry = CollectorRegistry()
    metrics = LinkMetrics(StageObserver(registry, stage="execution", network="bcard"), "bcard")
    for link, state in (("127.0.0.1:8583#0", LinkState.UP), ("[::1]:8583#1", LinkState.DOWN)):
        metrics.link_state("bcard", link, state, "stopped")
        told = registry.get_sample_value("mypay_network_link_up", {"network": "bcard", "link": link})
        assert told == float(state is LinkState.UP)
    for now in (BreakerState.CLOSED, BreakerState.OPEN):
        if now is not BreakerState.CLOSED:
            metrics.breaker_state("bcard", now)
        for state in BreakerState:
            told = registry.get_sample_value("mypay_network_breaker", {"network": "bcard", "state": state.value})
            assert told == float(state is now)


def test_a_host_that_sends_junk_without_end_is_counted_and_does_not_fill_the_log() -> None:
    observer, now = RecordingObserver(), [0.0]
    metrics = LinkMetrics(observer, "bcard", monotonic=lambda: now[0])
    for _ in range(LINES_MAX + 5):
        metrics.undecodable("bcard", "a#0", "39", "is missing in 0210")
        metrics.unexpected("bcard", "a#0", "0810")
        metrics.host_asked("bcard", "a#0", "0600", "00")
    # Another link's, and what needs a person, are not behind them.
    metrics.undecodable("bcard", "a#1", "39", "is missing in 0210")
    metrics.host_asked("bcard", "a#0", "0200", "40")
    lines = Counter((n.event, n.fields["link"], n.fields.get("mti")) for n in observer.notes)
    assert lines == {
        ("undecodable_response", "a#0", None): LINES_MAX,
        ("unexpected_message", "a#0", "0810"): LINES_MAX,
        ("host_request", "a#0", "0600"): LINES_MAX,
        ("undecodable_response", "a#1", None): 1,
        ("host_request", "a#0", "0200"): 1,
    }
    assert observer.counts["link", "undecodable", ""] == LINES_MAX + 6
    now[0] = LINES_SECONDS
    for _ in range(2):
        metrics.undecodable("bcard", "a#0", "39", "is missing in 0210")
    assert [n.fields["missed"] for n in observer.notes[-2:]] == [5, None]
