"""What all links to the card network share: the wire outlives the workers.

What has left goes on to the host when its sender has crashed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final, Protocol

from gateway.network.exchange import (
    Answered,
    FinancialRequest,
    InquiryRequest,
    NetworkRequest,
    ReversalRequest,
)
from gateway.network.matching import MatchBy
from gateway.proving.memory.host import APPROVED, MemoryHost
from gateway.proving.simulation.faults import Fault, Faults

DECLINED: Final = "51"

OTHER_DAY: Final = "0101000000"
"""DE7 of no message in a world."""

UNLISTED: Final = ("06", "20", "76", "78", "98", "N7")
"""Codes that no table lists, whatever the host has booked."""

MTI: Final = {FinancialRequest: "0200", ReversalRequest: "0420", InquiryRequest: "0100"}
RESPONSE_MTI: Final = {"0200": "0210", "0420": "0430", "0100": "0110"}


@dataclass(frozen=True, slots=True)
class Sent:
    """One message that left: when, from whom, and what."""

    at: float
    worker: str
    request: NetworkRequest


class Arrivals(Protocol):
    """A worker's links, as far as answers arrive on them that belong to nothing that they sent."""

    @property
    def is_open(self) -> bool:
        """True while signed on."""

    def arrived(self, request: NetworkRequest, answer: Answered, terminal_id: str, time: str) -> None:
        """Take an answer to another's request."""


@dataclass
class Wire:
    """Host, adversary, and what was seen.

    Attributes:
        sent: every message that left, in order.
        decline_amounts: amounts (minor units) that the host declines.
        match_by: what the host echoes; STRICT is all of it, and there answers of another day may come as well.
        on_leave: told of every message that leaves, at that moment.
        violated: told of a promise that the links themselves break: its name, and what happened.
        travelling: messages on their way, in either direction.
        links: of workers that live.
        unmatched: answers that came to no exchange.
    """

    host: MemoryHost
    faults: Faults
    rng: Random
    answer_timeout_s: float
    decline_amounts: frozenset[int]
    match_by: MatchBy
    on_leave: Callable[[NetworkRequest], None]
    violated: Callable[[str, str], None]
    sent: list[Sent] = field(default_factory=list)
    travelling: int = 0
    links: list[Arrivals] = field(default_factory=list)
    unmatched: int = 0

    def answer(self, request: NetworkRequest) -> Answered:
        """What the host books and says."""
        declined = isinstance(request, FinancialRequest) and request.amount_minor in self.decline_amounts
        return self.host.handle(request, DECLINED if declined else APPROVED)

    def altered(self, answer: Answered, request: NetworkRequest, note: Callable[[Fault], None]) -> Answered:
        """What the wire or the host's front end does to an answer; the books stay as they are."""
        faults = self.faults
        if faults.chance(Fault.UNCLEAR_CODE):
            note(Fault.UNCLEAR_CODE)
            return replace(answer, response_code=self.rng.choice(("09", "68")))
        if faults.chance(Fault.UNLISTED_CODE):
            note(Fault.UNLISTED_CODE)
            return replace(answer, response_code=self.rng.choice(UNLISTED))
        if isinstance(request, ReversalRequest):
            return answer
        if faults.chance(Fault.OTHER_AMOUNT):
            note(Fault.OTHER_AMOUNT)
            return replace(answer, amount_minor=answer.amount_minor + 1)
        if faults.chance(Fault.OTHER_RRN):
            note(Fault.OTHER_RRN)
            return replace(answer, rrn="000000000000")
        return answer

    def arrive_elsewhere(self, request: NetworkRequest, answer: Answered, note: Callable[[Fault], None]) -> None:
        """An answer belongs to no exchange of the link that it came on; it may come on any other."""
        self.unmatched += 1
        if (links := self._any_open()) is None:
            return
        terminal_id, time = request.trace.terminal_id, f"{request.trace.transmitted_at:%m%d%H%M%S}"
        if self.match_by is not MatchBy.STRICT and self.faults.chance(Fault.OWN_TIME):
            note(Fault.OWN_TIME)
            terminal_id, time = self.rng.choice((("", time), (terminal_id, OTHER_DAY), ("", OTHER_DAY)))
        links.arrived(request, answer, terminal_id, time)

    def arrive_of_another_day(self, request: NetworkRequest, answer: Answered) -> None:
        """An answer under a request's numbers and another day's time comes on any link."""
        self.unmatched += 1
        if (links := self._any_open()) is not None:
            links.arrived(request, answer, request.trace.terminal_id, OTHER_DAY)

    def _any_open(self) -> Arrivals | None:
        links = [links for links in self.links if links.is_open]
        return self.rng.choice(links) if links else None
