import pytest

from gateway.network.exchange import Operation
from gateway.payments.rules.ledger import RECEIVABLE_GROWS, Transfer, TransferKind, transfers_of

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


def purchase(*kinds: TransferKind, version: int = 3) -> tuple[Transfer, ...]:
    return transfers_of(
        kinds,
        operation=Operation.PURCHASE,
        network_id="net-a",
        merchant_id="shop-1",
        amount_minor=1,
        currency="KRW",
        version=version,
    )


def test_each_transfer_debits_and_credits_what_the_table_says() -> None:
    told = {
        (op, kind): (debit, credit) for op, kind, debit, credit in map(str.split, POSTINGS.strip().splitlines()[1:])
    }
    assert {(o.value, k.value) for o in Operation for k in TransferKind} == set(told)
    assert set(RECEIVABLE_GROWS) == {(o, k) for o in Operation for k in TransferKind}
    for operation in Operation:
        for kind in TransferKind:
            (transfer,) = transfers_of(
                (kind,),
                operation=operation,
                network_id="net-a",
                merchant_id="shop-1",
                amount_minor=700,
                currency="KRW",
                version=2,
            )
            assert (transfer.debit, transfer.credit) == told[operation.value, kind.value]
            assert (transfer.kind, transfer.amount_minor, transfer.currency) == (kind, 700, "KRW")


def test_several_transfers_keep_their_order() -> None:
    kinds = (TransferKind.AUTHORISED, TransferKind.SETTLED)
    assert tuple(row.kind for row in purchase(*kinds)) == kinds
    assert purchase() == ()


def test_a_transfer_may_be_a_repetition_once_a_settlement_can_have_been_undone() -> None:
    told = [purchase(TransferKind.SETTLED, version=version)[0].repeated for version in range(1, 7)]
    assert told == [False] * 4 + [True] * 2


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
            version=3,
        )
