"""After a restore: what is believed of the orders' topic, and of execution's topics."""

import hashlib
from typing import Any

import pytest
from msgspec import structs

from gateway.app.restored_orders import ends_of, keys_in
from gateway.app.restoring import FOLLOW_UPS_PASSED, NUMBERS_PASSED, NotYetError, handed_on_of
from gateway.identity.door import Door
from gateway.messaging.records import Record
from gateway.network.trace import FOLLOW_UP_STANS, PAYMENT_STANS, follow_up_stan, payment_trace
from gateway.payments.dispatch import JUDGED_HEADER, Dispatch
from gateway.payments.restoring.rules import Told
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment, PaymentKey, event_fields
from gateway.proving.memory.keys import MemoryVerifier
from gateway.sealing.mac import HmacMarks
from gateway.sealing.sealing import MasterKeys, Purpose
from schemas.bulk import BULK_TYPE, Acceptance, BulkItem, ControlSum, PaymentBulk
from schemas.codec import encode
from schemas.events import PaymentEvent
from schemas.orders import ORDER_TYPE, PaymentOrder
from schemas.primitives import NetworkId
from tests.support.builders import DISPATCH, NETWORK, dispatched_record, numbered_order, order_record, payment
from tests.support.domain_samples import NOW, krw

DOOR: Door[Any] = Door(
    verifier=MemoryVerifier(owners={"stranger": "partner-9"}),
    models={ORDER_TYPE: PaymentOrder, BULK_TYPE: PaymentBulk},
)


def told(number: int, state: PaymentState = PaymentState.REJECTED) -> dict[PaymentKey, Told]:
    row = payment(number, state=state, version=2, trace=None, network_id=None)
    one = Told(PaymentEvent.model_validate(event_fields(row)))
    return {one.key: one}


def ends(record: Record, wanted: dict[PaymentKey, Told]) -> list[Payment]:
    return list(ends_of(record, DOOR, wanted.get, NOW))


@pytest.mark.parametrize("state", [PaymentState.REJECTED, PaymentState.REVERSED])
def test_what_ended_unsent_stands_with_what_its_partner_signed(state: PaymentState) -> None:
    record = order_record(numbered_order(1))
    (row,) = ends(record, told(1, state))
    assert (row.state, row.version, row.order_digest) == (state, 2, hashlib.sha256(record.value).digest())
    assert ends(record, told(1, PaymentState.SCHEDULED)) == []
    assert ends(record, told(2)) == []


@pytest.mark.parametrize(
    "record",
    [
        order_record(numbered_order(1), signature="stranger"),
        order_record(numbered_order(1), signature=None),
        # Signed, and not what was told of: the one that was refused for its id.
        order_record(numbered_order(1, amount=krw(1))),
        order_record(numbered_order(1, merchant_id="merchant-2")),
    ],
)
def test_a_record_of_a_stranger_or_of_another_order_gives_it_nothing(record: Record) -> None:
    assert ends(record, told(1)) == []


def bulk(*numbers: int) -> PaymentBulk:
    first = numbered_order(numbers[0])
    orders = [numbered_order(n) for n in numbers]
    return PaymentBulk(
        partner_id=first.partner_id,
        bulk_id="bulk-1",
        acceptance=Acceptance.PARTIAL,
        number_of_transactions=len(orders),
        control_sum=ControlSum(currency="KRW", value=str(sum(o.amount.minor for o in orders))),
        items=tuple(
            BulkItem(order_id=o.order_id, consent_id=o.consent_id, merchant_id=o.merchant_id, amount=o.amount)
            for o in orders
        ),
        issued_at=first.issued_at,
        expires_at=first.expires_at,
    )


def test_an_item_of_a_bulk_that_ended_unsent_stands_with_its_own_bytes() -> None:
    message = bulk(1, 2)
    record = order_record(encode(message), key=b"bulk-1", type_=BULK_TYPE)
    assert keys_in(record.value) == [payment(1).key, payment(2).key]
    (row,) = ends(record, told(2))
    assert row.order_digest == hashlib.sha256(encode(message.order(message.items[1]))).digest()


@pytest.mark.parametrize("body", [b"", b"{}", b'{"partner_id":1}', b'{"partner_id":"p","items":[1]}', b"\xff"])
def test_what_names_no_order_is_nobody_s(body: bytes) -> None:
    assert keys_in(body) == []


# --- execution's topics ---


def marks_of(**keys: bytes) -> Dispatch:
    return Dispatch(HmacMarks(MasterKeys({k.removeprefix("k"): v for k, v in keys.items()}), Purpose.DISPATCH_MARK))


def test_a_record_under_a_key_that_is_not_here_is_never_passed_over() -> None:
    record = dispatched_record(numbered_order(1))
    one = handed_on_of(record, DISPATCH, NetworkId(NETWORK))
    assert one is not None
    assert (one.key, one.place) == (payment(1).key, record.reference)
    with pytest.raises(NotYetError, match=record.reference):
        handed_on_of(record, marks_of(k20270101=bytes(range(32))), NetworkId(NETWORK))


def test_a_record_that_another_release_wrote_is_never_passed_over() -> None:
    record = dispatched_record(numbered_order(1))
    headers = [(n, b"[9]" if n == JUDGED_HEADER else v) for n, v in record.headers[:-1]]
    remarked = HmacMarks(MasterKeys({"20260101": bytes(32)}), Purpose.DISPATCH_MARK)
    parts: list[bytes | None] = [NETWORK.encode(), record.key, record.value]
    for name, value in headers:
        parts += (name.encode(), value)
    other = structs.replace(record, headers=(*headers, (record.headers[-1][0], remarked.mark(parts))))
    with pytest.raises(NotYetError, match="this release"):
        handed_on_of(other, DISPATCH, NetworkId(NETWORK))


def test_what_nobody_of_the_gateway_wrote_is_passed_over_as_execution_parks_it() -> None:
    record = dispatched_record(numbered_order(1))
    unmarked = structs.replace(record, headers=record.headers[:-1])
    changed = structs.replace(record, value=record.value + b" ")
    for other in (unmarked, changed):
        assert handed_on_of(other, DISPATCH, NetworkId(NETWORK)) is None


# --- numbers ---


@pytest.mark.parametrize("terminals", [1, 2, 3, 8, 1_000])
def test_numbers_that_are_left_out_give_no_terminal_a_stan_again(terminals: int) -> None:
    names = [f"GW{n:06d}" for n in range(terminals)]
    for number in (1, PAYMENT_STANS, 7 * PAYMENT_STANS + 3):
        before = payment_trace(number, names, NOW)
        after = payment_trace(number + NUMBERS_PASSED, names, NOW)
        assert (before.terminal_id, before.stan) != (after.terminal_id, after.stan)
    assert follow_up_stan(1) != follow_up_stan(1 + FOLLOW_UPS_PASSED)
    assert FOLLOW_UPS_PASSED % FOLLOW_UP_STANS
