import pytest

from gateway.network.exchange import Operation
from gateway.payments.rules.ledger import RECEIVABLE_GROWS, TransferKind, transfers_of

NET, SHOP = "network:net-a:receivable", "merchant:shop-1:payable"

POSTINGS = """
  operation  kind                  debit                     credit
  purchase   authorised            network:net-a:receivable  merchant:shop-1:payable
  purchase   authorisation_undone  merchant:shop-1:payable   network:net-a:receivable
  purchase   settled               merchant:shop-1:payable   network:net-a:receivable
  purchase   settlement_undone     network:net-a:receivable  merchant:shop-1:payable
  refund     authorised            merchant:shop-1:payable   network:net-a:receivable
  refund     authorisation_undone  network:net-a:receivable  merchant:shop-1:payable
  refund     settled               network:net-a:receivable  merchant:shop-1:payable
  refund     settlement_undone     merchant:shop-1:payable   network:net-a:receivable
"""


def test_each_transfer_debits_and_credits_what_the_table_says() -> None:
    told = {
        (op, kind): (debit, credit) for op, kind, debit, credit in map(str.split, POSTINGS.strip().splitlines()[1:])
    }
    assert {(o.value, k.value) for o in Operation for k in TransferKind} == set(told)
    assert set(RECEIVABLE_GROWS) == {(o, k) for o in Operation for k in TransferKind}
    for operation in Operation:
        for kind in TransferKind:
            (transfer,) = transfers_of(
                (kind,), operation=operation, network_id="net-a", merchant_id="shop-1", amount_minor=700, currency="KRW"
            )
            assert (transfer.debit, transfer.credit) == told[operation.value, kind.value]
            assert (transfer.kind, transfer.amount_minor, transfer.currency) == (kind, 700, "KRW")


def test_several_transfers_keep_their_order() -> None:
    kinds = (TransferKind.AUTHORISED, TransferKind.SETTLED)
    rows = transfers_of(
        kinds, operation=Operation.PURCHASE, network_id="net-a", merchant_id="shop-1", amount_minor=1, currency="KRW"
    )
    assert tuple(row.kind for row in rows) == kinds
    assert (
        transfers_of((), operation=Operation.REFUND, network_id="n", merchant_id="m", amount_minor=1, currency="KRW")
        == ()
    )


@pytest.mark.parametrize("amount", [0, -1])
def test_a_transfer_moves_something(amount: int) -> None:
    with pytest.raises(ValueError, match="above zero"):
        transfers_of(
            (TransferKind.SETTLED,),
            operation=Operation.PURCHASE,
            network_id="n",
            merchant_id="m",
            amount_minor=amount,
            currency="KRW",
        )
