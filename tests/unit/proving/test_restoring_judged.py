"""What the restore drill counts as reconciled: the payment stands, has ended, and its network has it once, ended so."""

from uuid import UUID

import pytest

from gateway.proving.books.evidence import NetworkEntry, PaymentRow
from gateway.proving.restoring.run import is_reconciled


def row(state: str, rrn: str | None = "6001", network: str | None = "bcard") -> PaymentRow:
    return PaymentRow(
        *("partner-1", UUID(int=1), "order-1", "consent-1", 1, "merchant-1", "purchase", 1_000, "KRW", b"", state, 1),
        *(None, network, rrn, "", 0, 0.0, 0.0),
    )


def entry(state: str, rrn: str = "6001", network: str = "bcard") -> NetworkEntry:
    return NetworkEntry(network, rrn, 1_000, "KRW", state, 1, cleared=True)


@pytest.mark.parametrize(
    ("payment", "network", "reconciled"),
    [
        (row("settled"), [entry("approved")], True),
        (row("declined"), [entry("declined")], True),
        (row("reversed"), [entry("reversed")], True),
        (row("settled"), [entry("reversed")], False),
        (row("reversed"), [entry("approved")], False),
        (row("settled"), [entry("approved", network="acard")], False),
        (row("settled"), [entry("approved"), entry("approved")], False),
        (row("approved"), [entry("approved")], False),
        (None, [entry("approved")], False),
        # Nothing here and nothing there is no payment that stands again.
        (row("unknown"), [], False),
        (row("unknown", None), [], False),
        (row("rejected", None, None), [], False),
        (row("reversed", None), [], False),
    ],
)
def test_a_forgotten_payment_is_reconciled_where_both_sides_have_its_end(
    payment: PaymentRow | None, network: list[NetworkEntry], *, reconciled: bool
) -> None:
    assert is_reconciled(payment, network) is reconciled
