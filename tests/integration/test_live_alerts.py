"""Faults on a running gateway, seen by a real Prometheus: the alert fires, and ends when the fault is over.

The rules are the deployed ones with nothing but their times made short.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.proving import stack as local
from schemas.topics import ORDERS, dispatch_topic
from tests.integration.test_strangers_batches import send_all, send_to, transactional
from tests.support.entries import BCARD
from tests.support.live_alerts import short_rules
from tests.support.prometheus import WITH_PROMETHEUS, Prometheus, running_prometheus, tried, watched
from tests.support.scene import Scene

pytestmark = WITH_PROMETHEUS

NETWORK = f"network {BCARD}"


@pytest.fixture
async def prometheus(scene: Scene, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Prometheus]:
    async with (
        watched(scene) as targets,
        running_prometheus(tmp_path / "prometheus", targets, short_rules()) as one,
        tried(one, request),
    ):
        yield one


@pytest.mark.alerts("NetworkClosed", "NetworkLinkDown", "PaymentUnknownTooLong", "ConsumerLate")
async def test_a_network_that_is_away_and_payments_without_an_outcome(scene: Scene, prometheus: Prometheus) -> None:
    network = scene.network(BCARD)
    await network.set_faults(silence="apply", classes=["financial"])
    entries = scene.payments(3, expected=frozenset({"reversed"}))
    await scene.send(entries)
    await scene.until_states(entries, "sent", poll_s=0.02)
    await scene.kill(NETWORK)
    await scene.until_states(entries, "unknown")
    await prometheus.until_firing("NetworkClosed", "NetworkLinkDown")
    # Not before: execution could have taken it as the network went.
    later = [scene.entry(scene.order(valid_for=timedelta(minutes=5)))]
    await scene.send(later)
    await prometheus.until_firing("PaymentUnknownTooLong", "ConsumerLate")
    scene.start(NETWORK)
    await scene.until_states(entries, "reversed")
    await scene.until_states(later, "approved")
    await prometheus.until_quiet("NetworkClosed", "NetworkLinkDown", "PaymentUnknownTooLong", "ConsumerLate")
    await scene.settle()
    await scene.check_books()


@pytest.mark.alerts("ProcessDown", "RelayLeaderless", "EventsLate")
async def test_a_relay_that_is_gone(scene: Scene, prometheus: Prometheus) -> None:
    relays = [name for name in scene.world.http if name.startswith("relay")]
    names = ("ProcessDown", "RelayLeaderless", "EventsLate")
    await scene.kill(*relays)
    entries = scene.payments(2)
    await scene.send(entries)
    await prometheus.until_firing(*names)
    scene.start(*relays)
    await prometheus.until_quiet(*names)
    await scene.settle()
    await scene.check_books()


@pytest.mark.alerts("DependencyDown")
async def test_a_broker_that_is_away(scene: Scene, prometheus: Prometheus) -> None:
    scene.disturbed = True
    await asyncio.to_thread(local.stop_kafka, scene.stack.name, home=scene.stack.home)
    try:
        await prometheus.until_firing("DependencyDown")
    finally:
        await asyncio.to_thread(local.start_kafka, scene.stack.name, home=scene.stack.home)
    await prometheus.until_quiet("DependencyDown")
    await scene.until_ready()
    await scene.settle()
    await scene.check_books()


@pytest.mark.alerts("Incident", "UntrustedRecord", "DeadLetters")
async def test_records_that_the_gateway_did_not_write(scene: Scene, prometheus: Prometheus) -> None:
    names = ("Incident", "UntrustedRecord", "DeadLetters")
    for topic, records in ((dispatch_topic(BCARD), 1), (ORDERS, 4)):
        for _ in range(records):
            at = await scene.producer.send_and_wait(topic, value=b"{}", key=b"junk", headers=[("ce_id", b"1")])
            scene.planted.add((topic, at.partition, at.offset))
    await prometheus.until_firing(*names)
    await prometheus.until_quiet(*names)
    await scene.settle()
    await scene.check_books()


@pytest.mark.alerts("OpenTransaction")
async def test_a_transaction_that_is_left_open(scene: Scene, prometheus: Prometheus) -> None:
    kept, behind = scene.payments(1), scene.payments(1)
    async with transactional(scene) as producer:
        await producer.begin_transaction()
        places = await send_all(producer, kept, 1)
        await producer.flush()
        await send_to(scene, 1, behind)
        await prometheus.until_firing("OpenTransaction")
        await producer.commit_transaction()
        scene.sent(kept, [(at.partition, at.offset, at.timestamp) for at in places])
    await prometheus.until_quiet("OpenTransaction")
    await scene.until_states([*kept, *behind], "approved")
    # Past the mark that ends a transaction nothing is committed before the next order.
    await scene.until_states(await send_to(scene, 1, scene.payments(1)), "approved")
    await scene.settle()
    await scene.check_books()


async def test_nothing_is_told_of_a_gateway_that_is_well(scene: Scene, prometheus: Prometheus) -> None:
    entries = scene.payments(20)
    await scene.send(entries)
    await scene.until_states(entries, "approved")
    await scene.settle()
    # This world asks for no proofs, and does not run every stage.
    await prometheus.until_alone("NoProofAsked", "ProcessMissing", "DisclosureLeaderless")
