"""The ledger's postings. It holds obligations, not money: what a network owes, and what a merchant is owed.

Every transfer is one row with one amount, a debit account and a credit account, so all accounts together sum to zero
by construction. A settled payment leaves both of its accounts where they were before it, and so does an undone one.

====================== ============================== ==============================
purchase               debit                          credit
====================== ============================== ==============================
authorised             ``network:<n>:receivable``     ``merchant:<m>:payable``
authorisation undone   ``merchant:<m>:payable``       ``network:<n>:receivable``
settled                ``merchant:<m>:payable``       ``network:<n>:receivable``
settlement undone      ``network:<n>:receivable``     ``merchant:<m>:payable``
====================== ============================== ==============================

A refund's transfers are the same with debit and credit exchanged.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum, unique
from typing import Final

from msgspec import Struct

from gateway.network.exchange import Operation


@unique
class TransferKind(StrEnum):
    """Why obligations change."""

    AUTHORISED = "authorised"
    AUTHORISATION_UNDONE = "authorisation_undone"
    SETTLED = "settled"
    SETTLEMENT_UNDONE = "settlement_undone"  # the network corrected its clearing


class Transfer(Struct, frozen=True, gc=False):
    """One row of the ledger: ``amount_minor`` (above zero) moves from the credit to the debit account.

    Attributes:
        repeated: the payment may have one of its kind already: the ledger counts which one this is.
    """

    kind: TransferKind
    debit: str
    credit: str
    amount_minor: int
    currency: str
    repeated: bool = False


SETTLED_AGAIN_FROM: Final = 5
"""Sent, approved, settled, undone, settled: no payment is settled for a second time in an earlier version of it."""

RECEIVABLE_GROWS: Final[Mapping[tuple[Operation, TransferKind], bool]] = {
    (Operation.PURCHASE, TransferKind.AUTHORISED): True,
    (Operation.PURCHASE, TransferKind.AUTHORISATION_UNDONE): False,
    (Operation.PURCHASE, TransferKind.SETTLED): False,
    (Operation.PURCHASE, TransferKind.SETTLEMENT_UNDONE): True,
    (Operation.REFUND, TransferKind.AUTHORISED): False,
    (Operation.REFUND, TransferKind.AUTHORISATION_UNDONE): True,
    (Operation.REFUND, TransferKind.SETTLED): True,
    (Operation.REFUND, TransferKind.SETTLEMENT_UNDONE): False,
}
"""True: the network's receivable is debited; False: it is credited."""


def network_receivable(network_id: str) -> str:
    """Account of what a network owes. Ids hold no colon, so no two accounts share a name."""
    return f"network:{network_id}:receivable"


def merchant_payable(merchant_id: str) -> str:
    """Account of what a merchant is owed."""
    return f"merchant:{merchant_id}:payable"


def transfers_of(
    kinds: Iterable[TransferKind],
    *,
    operation: Operation,
    network_id: str,
    merchant_id: str,
    amount_minor: int,
    currency: str,
    version: int,
) -> tuple[Transfer, ...]:
    """Write out the transfers of one payment, in the order of ``kinds``; ``version``: the one that they lead to.

    Raises:
        ValueError: the amount is not above zero.
    """
    if amount_minor <= 0:
        raise ValueError("amount_minor must be above zero")
    receivable, payable = network_receivable(network_id), merchant_payable(merchant_id)
    repeated = version >= SETTLED_AGAIN_FROM
    return tuple(
        Transfer(kind, receivable, payable, amount_minor, currency, repeated)
        if RECEIVABLE_GROWS[operation, kind]
        else Transfer(kind, payable, receivable, amount_minor, currency, repeated)
        for kind in kinds
    )
