"""What the network keeps: one row a transaction, one a reversal, one a clearing cycle.

A key is terminal (8 characters), STAN (6 digits) and DE7 (10 digits) in one string of 24: by it a message and its
repeats are one. Times are microseconds since 1970 UTC; amounts are minor units of the ISO 4217 alphabetic currency.
"""

from enum import StrEnum, unique
from typing import NamedTuple

from gateway.proving.counterparts.config import MessageClass


@unique
class State(StrEnum):
    """What has become of a transaction on the network's side; only APPROVED moves money."""

    APPROVED = "approved"
    DECLINED = "declined"
    REVERSED = "reversed"


@unique
class Operation(StrEnum):
    """What a 0200 does, by its processing code (DE3)."""

    PURCHASE = "purchase"
    REFUND = "refund"


class Request(NamedTuple):
    """One decoded request, with nothing left of the card but its last four digits and a keyed hash.

    Attributes:
        key: the message's own key.
        original_key: of the 0200 that a reversal or inquiry asks about; a 0200's own key.
        pan_last4: "" where the message carries no card.
        pan_hash: 32 hex digits, or None without a hash key.
    """

    message_class: MessageClass
    key: str
    original_key: str
    operation: Operation
    amount_minor: int
    currency: str
    rrn: str
    acceptor_id: str
    pan_last4: str
    pan_hash: str | None


class Transaction(NamedTuple):
    """A row of ``transactions``, in the order of its columns.

    Attributes:
        seq: place in the ledger, 1, 2, 3 … in order of booking.
        times_seen: how often this very 0200 arrived.
        reversal_key: of the 0420 that reversed it; its own key when it was reversed by itself on late arrival.
    """

    seq: int
    key: str
    rrn: str
    operation: Operation
    amount_minor: int
    currency: str
    acceptor_id: str
    response_code: str
    approval_code: str | None
    state: State
    pan_last4: str
    pan_hash: str | None
    received_at_us: int
    times_seen: int = 1
    reversed_at_us: int | None = None
    reversal_key: str | None = None


class Reversal(NamedTuple):
    """A row of ``reversals``, in the order of its columns; one per 0420, however often repeated."""

    key: str
    original_key: str
    rrn: str
    amount_minor: int
    response_code: str
    received_at_us: int
    times_seen: int = 1


class Cycle(NamedTuple):
    """A row of ``cycles``: what one clearing file holds, so that it can be written again exactly.

    Attributes:
        cycle_id: ``YYYYMMDD-NNNN``.
        after_seq, through_seq: the transactions that it decides about, the first bound exclusive.
        after_contra, through_contra: likewise the reversals of what earlier files held.
        faults: :class:`gateway.proving.counterparts.config.ClearingFaults` as JSON.
    """

    cycle_id: str
    business_date: str
    created_at: str
    after_seq: int
    through_seq: int
    after_contra: int
    through_contra: int
    faults: str
