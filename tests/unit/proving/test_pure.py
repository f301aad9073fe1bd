"""The bench's extra figures: orders as they are signed ahead, the decisions alone, one worker by its metrics."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec import structs

from gateway.base.process import SilentObserver
from gateway.identity.jose.issuers import CachedTrustTable
from gateway.messaging.records import Outgoing
from gateway.proving.bench.hot import PREFIX, Hot, one_customer
from gateway.proving.bench.intake import Intake, NotTakenError, Seen, intake_of, taken_of
from gateway.proving.bench.pure import BATCH, NotDecidedError, PurePath, measure, measure_pure
from gateway.proving.traffic.cast import Cast, Role, make_cast, make_partners
from gateway.proving.traffic.identities import Identities, needs_proof
from gateway.proving.traffic.presigning import Presigned, presign, read_presigned
from schemas.codec import decode
from schemas.orders import PaymentOrder


@pytest.fixture(scope="module")
def cast() -> Cast:
    return make_cast({Role.PLAIN: 50}, partners=make_partners(2), now=datetime.now(UTC), seed=3)


@pytest.fixture(scope="module")
def signed(cast: Cast, tmp_path_factory: pytest.TempPathFactory) -> list[Outgoing]:
    paths = presign(cast, 3 * BATCH, tmp_path_factory.mktemp("orders"), name="w", seed=1)
    return list(read_presigned(paths))


def table(cast: Cast, folder: Path) -> CachedTrustTable:
    cast.identities.write(folder)
    return CachedTrustTable(folder, SilentObserver())


def test_orders_that_are_signed_later_are_sent_after_those_that_were_there(cast: Cast, tmp_path: Path) -> None:
    source = Presigned(presign(cast, 3, tmp_path, name="a", seed=1, processes=1), more=(tmp_path, "more-"))
    assert [len(source.take(2)), len(source.take(2)), len(source.take(2))] == [2, 1, 0]
    assert not source.ends
    presign(cast, 3, tmp_path, name="more-0", seed=2, processes=1)
    (tmp_path / "more-1.part").write_bytes(b"unfinished")
    assert len(source.take(9)) == 3
    assert source.take(1) == []
    assert Presigned([]).ends


def test_half_of_the_orders_signed_ahead_have_a_proof_and_the_others_need_none(signed: list[Outgoing]) -> None:
    orders = [decode(PaymentOrder, r.value) for r in signed]
    without = [o for o in orders if o.authentication is None]
    assert len(without) == len(orders) // 2
    assert not any(needs_proof(o.amount.minor, o.amount.currency) for o in without)
    assert any(needs_proof(o.amount.minor, o.amount.currency) for o in orders)


async def test_every_order_signed_ahead_is_decided(cast: Cast, signed: list[Outgoing], tmp_path: Path) -> None:
    pure = await measure_pure(cast, table(cast, tmp_path), signed)
    # One batch of three fills caches.
    assert (pure.orders, pure.with_proof) == (2 * BATCH, BATCH)
    assert pure.per_second == pytest.approx(pure.orders / pure.seconds)


async def test_an_order_that_does_not_pass_ends_the_measurement(
    cast: Cast, signed: list[Outgoing], tmp_path: Path
) -> None:
    strange = replace(cast, identities=Identities())
    with pytest.raises(NotDecidedError, match="assertion"):
        await measure_pure(cast, table(strange, tmp_path), signed)


async def test_a_signature_that_does_not_hold_ends_the_measurement(
    cast: Cast, signed: list[Outgoing], tmp_path: Path
) -> None:
    spoilt = structs.replace(signed[0], value=signed[0].value.replace(b'"order_id":"w0', b'"order_id":"w9'))
    assert spoilt.value != signed[0].value
    with pytest.raises(NotDecidedError):
        await measure_pure(cast, table(cast, tmp_path), [spoilt, *signed[1:]])


async def test_too_few_orders_are_no_measurement(cast: Cast, signed: list[Outgoing], tmp_path: Path) -> None:
    trust = table(cast, tmp_path)
    await trust.load()
    await trust.stop()
    with pytest.raises(ValueError, match="at least"):
        measure(PurePath(cast, trust, datetime.now(UTC)), signed[: 2 * BATCH])


def test_a_workers_metrics_tell_what_it_took() -> None:
    page = (
        "# TYPE mypay_batch_size histogram\n"
        'mypay_batch_size_sum{stage="consents"} 7.0\nmypay_batch_size_sum{stage="initiation"} 12500.0\n'
    )
    assert taken_of(page) == 12_500
    assert taken_of("# nothing yet\n") == 0


def test_the_cold_start_and_the_time_after_the_end_are_not_counted() -> None:
    seen = [
        Seen(0.0, 0, 1.0),
        Seen(3.0, 40, 1.5),
        Seen(4.0, 200, 2.0),
        Seen(5.0, 700, 2.9),
        Seen(6.0, 1000, 3.5),
        Seen(9.0, 1000, 3.6),
    ]
    assert intake_of(seen, 1000) == Intake(800, 2.0, 1.5)
    assert intake_of(seen, 1000).per_second == 400
    assert intake_of(seen, 1000).cpu_us == 1875


def test_a_hot_consents_orders_are_all_one_customers(cast: Cast, tmp_path: Path) -> None:
    one = one_customer(cast)
    assert len(one.customers) == 1
    orders = [decode(PaymentOrder, r.value) for r in read_presigned(presign(one, 4, tmp_path, name=PREFIX, seed=1))]
    assert {o.consent_id for o in orders} == {one.customers[0].terms.consent_id}
    assert all(o.order_id.startswith(PREFIX) for o in orders)


def test_a_hot_consents_last_transaction_is_not_counted_for_its_time_is_not_known() -> None:
    assert Hot(orders=1_000, counted=900, seconds=4.5).per_second == 200
    assert Hot().per_second == 0


def test_a_backlog_that_is_gone_at_once_tells_nothing() -> None:
    with pytest.raises(NotTakenError):
        intake_of([Seen(0.0, 0, 1.0), Seen(1.0, 1000, 2.0)], 1000)
