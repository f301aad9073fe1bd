"""What the links of a card network report, as metrics and log lines."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Final

from gateway.base.process import Observer
from gateway.network.iso8583.breaker import BreakerState
from gateway.network.iso8583.observer import LinkState

LINES_MAX: Final = 10
LINES_SECONDS: Final = 10.0
"""Of what a host sends in any number so many lines are written in this time, of each kind and link; all is counted. A
host that sends junk as fast as it can would fill the log, and keep the process busy with writing it."""


class LinkMetrics:
    """Implements the ISO 8583 adapter's LinkObserver over the stages' observer."""

    def __init__(self, observer: Observer, network_id: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._observer = observer
        self._monotonic = monotonic
        # Event, level and link → since when, and how many since.
        self._said: dict[tuple[str, str, str], tuple[float, int]] = {}
        self._tell_breaker(network_id, BreakerState.CLOSED)
        # Outcome → seconds of the exchanges that ended since the event loop's last turn.
        self._ended: defaultdict[str, list[float]] = defaultdict(list)

    def link_state(self, network_id: str, link: str, state: LinkState, reason: str) -> None:
        self._observer.level("network_link_up", float(state is LinkState.UP), network=network_id, link=link)
        self._observer.count("link", state.value)
        # A link that we end ourselves is none that went down.
        level = "warning" if state is LinkState.DOWN and reason != "stopped" else "info"
        self._observer.note("link", level=level, network_id=network_id, link=link, state=state.value, reason=reason)

    def echo_missed(self, network_id: str, link: str, missed: int) -> None:
        self._observer.count("link", "echo_missed")
        self._observer.note("echo_missed", level="warning", network_id=network_id, link=link, missed=missed)

    def breaker_state(self, network_id: str, state: BreakerState) -> None:
        self._observer.count("link", f"breaker_{state.value}")
        self._tell_breaker(network_id, state)
        self._observer.note("breaker", level="warning", network_id=network_id, state=state.value)

    def _tell_breaker(self, network_id: str, state: BreakerState) -> None:
        for one in BreakerState:
            self._observer.level("network_breaker", float(one is state), network=network_id, state=one.value)

    def undecodable(self, network_id: str, link: str, field: str, reason: str) -> None:
        self._observer.count("link", "undecodable")
        self._say("undecodable_response", "error", network_id, link, field=field, reason=reason)

    def unexpected(self, network_id: str, link: str, mti: str) -> None:
        self._observer.count("link", "unexpected")
        self._say("unexpected_message", "warning", network_id, link, mti=mti)

    def host_asked(self, network_id: str, link: str, mti: str, answer: str) -> None:
        self._observer.count("link", "host_asked", reason=answer)
        # A host that books or undoes something by itself needs a person.
        level = "error" if mti[:2] in {"02", "04"} else "warning"
        self._say("host_request", level, network_id, link, mti=mti, code=answer)

    def _say(self, event: str, level: str, network_id: str, link: str, **fields: str) -> None:
        """Write a line, if it is one of the first; the first of the next while tells how many were not: ``missed``."""
        # By level, too: what needs a person is not hidden behind what does not.
        key, now = (event, level, link), self._monotonic()
        began, said = self._said.get(key, (now, 0))
        missed = 0
        if now - began >= LINES_SECONDS:
            began, said, missed = now, 0, max(0, said - LINES_MAX)
        self._said[key] = (began, said + 1)
        if said < LINES_MAX:
            self._observer.note(event, level=level, network_id=network_id, link=link, missed=missed or None, **fields)

    def bytes_moved(self, network_id: str, link: str, *, sent: int = 0, received: int = 0) -> None:
        del network_id, link
        self._observer.count("link_bytes", "sent", n=sent)
        self._observer.count("link_bytes", "received", n=received)

    def exchange_ended(self, network_id: str, outcome: str, seconds: float) -> None:
        del network_id
        if not self._ended:
            # Answers come many in one read: those are told together.
            asyncio.get_running_loop().call_soon(self._tell_ended)
        self._ended[outcome].append(seconds)

    def _tell_ended(self) -> None:
        ended, self._ended = self._ended, defaultdict(list)
        for outcome, seconds in ended.items():
            self._observer.count("exchange", outcome, n=len(seconds))
            self._observer.spans("network_exchange", seconds)
