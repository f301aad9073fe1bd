"""The network's own judgement: a request and what the ledger knows → an answer and what to book.

Pure: no clock, no I/O, no randomness but what a seed and a key determine. Rules of each message class are one function;
the first rule that applies, in the order written, wins.
"""

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, NamedTuple, assert_never
from zlib import crc32

from gateway.proving.counterparts.config import (
    Declines,
    MessageClass,
    OnClearedReversal,
    OnDuplicate,
    OnLateOriginal,
    Policy,
)
from gateway.proving.counterparts.records import Request, Reversal, State, Transaction

APPROVED: Final = "00"
UNKNOWN_ORIGINAL: Final = "25"
DUPLICATE: Final = "94"
INVALID_AMOUNT: Final = "13"
INVALID_TRANSACTION: Final = "12"
NOT_SUPPORTED: Final = "40"


@dataclass(slots=True)
class Book:
    """The part of the ledger that a batch touches, kept up to date while the batch is judged.

    Attributes:
        transactions: by key, those that the batch's messages are or ask about.
        reversals: by the reversal's own key.
        tombstones: keys of originals that a reversal asked for before they arrived.
        next_seq: the place of the next new transaction.
        cleared_through: the last place that a closed clearing cycle decided about.
    """

    transactions: dict[str, Transaction] = field(default_factory=dict)
    reversals: dict[str, Reversal] = field(default_factory=dict)
    tombstones: set[str] = field(default_factory=set)
    next_seq: int = 1
    cleared_through: int = 0


class Ruling(NamedTuple):
    """The answer to one request, and the rows that must be durable before it leaves.

    Attributes:
        counted: the counter that this ruling adds to.
        transaction: to be inserted or, where its key exists, replaced.
        reversal: likewise.
        contra: the reversal undoes what an earlier clearing file holds, so the next file must carry the opposite.
    """

    response_code: str
    approval_code: str | None
    counted: str
    transaction: Transaction | None = None
    reversal: Reversal | None = None
    contra: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """Judges requests by one configuration."""

    declines: Declines
    policy: Policy
    seed: int
    _suffixes: tuple[tuple[str, str], ...] = field(init=False)

    def __post_init__(self) -> None:
        by_length = sorted(self.declines.amount_suffixes.items(), key=lambda item: -len(item[0]))
        object.__setattr__(self, "_suffixes", tuple(by_length))

    def judge(self, request: Request, book: Book, now_us: int) -> Ruling:
        """Judge one request against the book; the caller applies the ruling to it before the next one."""
        match request.message_class:
            case MessageClass.FINANCIAL:
                return self._financial(request, book, now_us)
            case MessageClass.REVERSAL:
                return self._reversal(request, book, now_us)
            case MessageClass.INQUIRY:
                return self._inquiry(request, book)
            case _ as never:
                assert_never(never)

    def _financial(self, request: Request, book: Book, now_us: int) -> Ruling:
        known = book.transactions.get(request.key)
        if known is not None:
            return self._duplicate(request, known)
        if request.key in book.tombstones:
            late = self._late_original(request, book, now_us)
            if late is not None:
                return late
        code = self.decline_code(request)
        if code is not None:
            return Ruling(code, None, "declined", _booked(request, book, now_us, code, None, State.DECLINED))
        approval = approval_code(request.key)
        booked = _booked(request, book, now_us, APPROVED, approval, State.APPROVED)
        return Ruling(APPROVED, approval, "approved", booked)

    def _duplicate(self, request: Request, known: Transaction) -> Ruling:
        again = known._replace(times_seen=known.times_seen + 1)
        if _terms(request) != _terms(known):
            return Ruling(DUPLICATE, None, "duplicates_that_differ", again)
        match self.policy.on_duplicate:
            case OnDuplicate.REPLAY:
                return Ruling(known.response_code, known.approval_code, "duplicates_seen", again)
            case OnDuplicate.REFUSE_94:
                return Ruling(DUPLICATE, None, "duplicates_seen", again)
            case _ as never:
                assert_never(never)

    def _late_original(self, request: Request, book: Book, now_us: int) -> Ruling | None:
        match self.policy.on_late_original:
            case OnLateOriginal.DECLINE:
                code = self.policy.late_original_code
                return Ruling(code, None, "late_originals", _booked(request, book, now_us, code, None, State.DECLINED))
            case OnLateOriginal.REVERSE:
                approval = approval_code(request.key)
                booked = _booked(request, book, now_us, APPROVED, approval, State.REVERSED)
                undone = booked._replace(reversed_at_us=now_us, reversal_key=request.key)
                return Ruling(APPROVED, approval, "late_originals", undone)
            case OnLateOriginal.APPLY:
                return None
            case _ as never:
                assert_never(never)

    def decline_code(self, request: Request) -> str | None:
        """Return the DE39 by which a new 0200 is refused, or None."""
        if request.amount_minor <= 0:
            return INVALID_AMOUNT
        if not request.currency:
            return INVALID_TRANSACTION
        by_card = self.declines.last4.get(request.pan_last4) or self.declines.pan_hashes.get(request.pan_hash or "")
        if by_card:
            return by_card
        if self._suffixes:
            amount = str(request.amount_minor)
            for suffix, code in self._suffixes:
                if amount.endswith(suffix):
                    return code
        if self.declines.random_rate and _draw(self.seed, request.key) < self.declines.random_rate:
            return self.declines.random_code
        return None

    def _reversal(self, request: Request, book: Book, now_us: int) -> Ruling:
        earlier = book.reversals.get(request.key)
        original = book.transactions.get(request.original_key)
        if earlier is not None and not (
            # A host that books late originals must undo them when the same reversal is repeated.
            earlier.response_code == UNKNOWN_ORIGINAL and original is not None and original.state is State.APPROVED
        ):
            again = earlier._replace(times_seen=earlier.times_seen + 1)
            return Ruling(earlier.response_code, None, "reversal_repeats", reversal=again)
        code, counted, undone, contra = self._reversal_outcome(request, original, book, now_us)
        seen = earlier.times_seen + 1 if earlier else 1
        row = Reversal(request.key, request.original_key, request.rrn, request.amount_minor, code, now_us, seen)
        return Ruling(code, None, counted, undone, row, contra)

    def _reversal_outcome(
        self, request: Request, original: Transaction | None, book: Book, now_us: int
    ) -> tuple[str, str, Transaction | None, bool]:
        if original is None:
            return UNKNOWN_ORIGINAL, "reversals_of_unknown", None, False
        if _terms(request) != _terms(original):
            return INVALID_TRANSACTION, "reversals_refused", None, False
        if original.state is not State.APPROVED:
            return APPROVED, "reversals_without_effect", None, False
        contra = original.seq <= book.cleared_through
        if contra and self.policy.on_cleared_reversal is OnClearedReversal.REFUSE:
            return INVALID_TRANSACTION, "reversals_refused", None, False
        undone = original._replace(state=State.REVERSED, reversed_at_us=now_us, reversal_key=request.key)
        return APPROVED, "reversed", undone, contra

    def _inquiry(self, request: Request, book: Book) -> Ruling:
        if not self.policy.answers_inquiry:
            return Ruling(NOT_SUPPORTED, None, "inquiries_not_supported")
        original = book.transactions.get(request.original_key)
        # A reversed original no longer stands: answering its 00 would have it taken for a capture.
        if original is None or original.state is State.REVERSED:
            return Ruling(UNKNOWN_ORIGINAL, None, "inquiries_of_unknown")
        return Ruling(original.response_code, original.approval_code, "inquiries")


def apply(ruling: Ruling, book: Book) -> None:
    """Bring the book up to date with a ruling, so that the next message of the batch is judged after it."""
    if ruling.transaction is not None:
        book.transactions[ruling.transaction.key] = ruling.transaction
        if ruling.transaction.seq == book.next_seq:
            book.next_seq += 1
    if ruling.reversal is not None:
        book.reversals[ruling.reversal.key] = ruling.reversal
        if ruling.reversal.response_code == UNKNOWN_ORIGINAL:
            book.tombstones.add(ruling.reversal.original_key)


def approval_code(key: str) -> str:
    """Return the six digits of DE38 for the transaction with that key."""
    return f"{crc32(key.encode()) % 1_000_000:06d}"


def _terms(record: Request | Transaction) -> tuple[str, int, str]:
    return record.rrn, record.amount_minor, record.currency


def _booked(request: Request, book: Book, now_us: int, code: str, approval: str | None, state: State) -> Transaction:
    return Transaction(
        book.next_seq,
        request.key,
        request.rrn,
        request.operation,
        request.amount_minor,
        request.currency,
        request.acceptor_id,
        code,
        approval,
        state,
        request.pan_last4,
        request.pan_hash,
        now_us,
    )


def _draw(seed: int, key: str) -> float:
    """Return a number in [0, 1) that depends on the seed and the key alone, whatever the order of arrival."""
    digest = blake2b(key.encode(), digest_size=7, key=seed.to_bytes(8, "big", signed=True)).digest()
    return int.from_bytes(digest, "big") / (1 << 56)
