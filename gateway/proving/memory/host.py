"""A card network's host in memory, with books of its own: what it captured and what it undid, by trace numbers."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import assert_never

from gateway.network.exchange import (
    Answered,
    FinancialRequest,
    InquiryRequest,
    NetworkRequest,
    Operation,
    ReversalRequest,
    TraceNumbers,
)
from schemas.primitives import NUMERIC_CODES

APPROVED = "00"
UNKNOWN_ORIGINAL = "25"
DUPLICATE = "94"
INVALID_TRANSACTION = "12"

TraceKey = tuple[str, int, datetime]
"""Terminal, STAN and transmission time: what a network knows a message by."""


def trace_key(trace: TraceNumbers) -> TraceKey:
    """The key of a message with these numbers."""
    return (trace.terminal_id, trace.stan, trace.transmitted_at)


@unique
class EntryState(StrEnum):
    """What stands at the network."""

    APPROVED = "approved"
    DECLINED = "declined"
    REVERSED = "reversed"


@dataclass(slots=True)
class Entry:
    """One 0200 as the network booked it. ``times_seen``: how often the very same message arrived."""

    trace: TraceNumbers
    operation: Operation
    amount_minor: int
    currency: str
    state: EntryState
    response_code: str
    approval_code: str | None
    times_seen: int = 1


class MemoryHost:
    """Judges requests and books them.

    A 0200 with the numbers of an earlier one books nothing (94). A reversal of an approved 0200 undoes it; of an
    unknown one it is answered 25 and remembered, so that the original is declined should it still arrive.

    Attributes:
        entries: the books.
        received: every request that arrived, in order.
    """

    def __init__(self) -> None:
        self.entries: dict[TraceKey, Entry] = {}
        self.received: list[NetworkRequest] = []
        self._reversed_before_arrival: set[TraceKey] = set()

    def by_rrn(self, rrn: str) -> list[Entry]:
        """Entries with this RRN; more than one is a payment that was sent twice."""
        return [e for e in self.entries.values() if e.trace.rrn == rrn]

    def standing_minor(self) -> dict[str, int]:
        """What stands captured, by currency: purchases less refunds."""
        totals: dict[str, int] = {}
        for entry in self.entries.values():
            if entry.state is EntryState.APPROVED:
                signed = entry.amount_minor if entry.operation is Operation.PURCHASE else -entry.amount_minor
                totals[entry.currency] = totals.get(entry.currency, 0) + signed
        return totals

    def handle(self, request: NetworkRequest, code: str = APPROVED) -> Answered:
        """Judge one request that arrived; ``code`` is the answer to one that nothing else speaks against."""
        self.received.append(request)
        match request:
            case FinancialRequest():
                return self._financial(request, code)
            case ReversalRequest():
                return _answer(request, self._reverse(request, code), request.original.rrn)
            case InquiryRequest():
                entry = self.entries.get(trace_key(request.original))
                if entry is None or entry.state is EntryState.REVERSED:
                    return _answer(request, UNKNOWN_ORIGINAL, request.original.rrn)
                return _answer(request, entry.response_code, request.original.rrn, entry.approval_code)
            case _:
                assert_never(request)

    def _financial(self, request: FinancialRequest, code: str) -> Answered:
        key = trace_key(request.trace)
        known = self.entries.get(key)
        if known is not None:
            known.times_seen += 1
            return _answer(request, DUPLICATE, request.trace.rrn)
        if key in self._reversed_before_arrival:
            code = INVALID_TRANSACTION
        approved = code == APPROVED
        entry = Entry(
            trace=request.trace,
            operation=request.operation,
            amount_minor=request.amount_minor,
            currency=request.currency,
            state=EntryState.APPROVED if approved else EntryState.DECLINED,
            response_code=code,
            approval_code=f"{request.trace.stan:06d}" if approved else None,
        )
        self.entries[key] = entry
        return _answer(request, code, request.trace.rrn, entry.approval_code)

    def _reverse(self, request: ReversalRequest, code: str) -> str:
        if code != APPROVED:
            return code
        key = trace_key(request.original)
        entry = self.entries.get(key)
        if entry is None:
            self._reversed_before_arrival.add(key)
            return UNKNOWN_ORIGINAL
        if entry.state is EntryState.APPROVED:
            entry.state = EntryState.REVERSED
        return APPROVED


def _answer(request: NetworkRequest, code: str, rrn: str, approval_code: str | None = None) -> Answered:
    return Answered(code, approval_code, request.amount_minor, NUMERIC_CODES[request.currency], rrn)
