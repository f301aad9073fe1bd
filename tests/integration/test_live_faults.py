"""Faults of every part of the gateway, seen by a real Prometheus: each alert fires, and ends as its page says.

A world of its own, with every stage: what is done to it here no books should have to explain. Where a page names a
command, the command is what ends the alert.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from aiokafka import AIOKafkaProducer

from gateway.client import signed
from gateway.proving.stack.certificates import Authority
from gateway.proving.traffic.cast import Role, make_cast, make_partners
from gateway.proving.traffic.receivers import make_receivers
from gateway.proving.world.opening import open_world
from gateway.proving.world.starting import start_gateway
from gateway.proving.world.world import WorldPlan
from schemas.topics import ORDERS, events_topic, exports_topic
from tests.integration.test_outages import light_load
from tests.integration.test_strangers_batches import raw_bomb
from tests.support.batches import SNAPPY, send_raw
from tests.support.causing import (
    JUMPED,
    SLIP,
    cleared,
    correct,
    delete_topic,
    dropped,
    due_in,
    export_of,
    hurried,
    is_ready,
    is_there,
    locked,
    mypay,
    narrowed,
    paid,
    planted,
    receivers_of,
    revoked,
    started,
    stop,
)
from tests.support.entries import BCARD, KCARD
from tests.support.keeper import SETTINGS
from tests.support.live_alerts import short_rules
from tests.support.prometheus import WITH_PROMETHEUS, Prometheus, running_prometheus, tried
from tests.support.scene import WAIT_S, Scene, open_scene
from tests.support.stack import HOME

pytestmark = WITH_PROMETHEUS

MIB: Final = 1 << 20
BURNING: Final = [f"{o}BudgetBurning{how}" for o in ("Latency", "Told", "Availability") for how in ("Fast", "Slowly")]
MANY: Final = 60
"""More than the events below which nobody is woken."""


SMALL_DISK: Final = Path("/dev/shm")
"""A file system of its own, which others hardly fill meanwhile."""


def filling() -> int:
    """Bytes that take so much of it that nobody else's do the same: in a container it may be small."""
    return 192 * MIB if shutil.disk_usage(SMALL_DISK).total >= 1024 * MIB else 48 * MIB


@pytest.fixture(scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """A world with every stage, in which operators' gauges are told twice a second."""
    receivers = make_receivers()
    cast = make_cast(
        {Role.PLAIN: 40, Role.LEAVER: 2}, partners=make_partners(), now=datetime.now(UTC), seed=11, receivers=receivers
    )
    plan = WorldPlan(
        name="test-alerts",
        home=HOME,
        networks=2,
        with_gateway=False,
        with_proofs=True,
        with_disclosure=True,
        with_receivers=True,
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            **SETTINGS,
            "MYPAY_OPEN_PAYMENTS_INTERVAL_S": "0.5",
            "MYPAY_PORTABILITY_LEASE_S": "2",
        }.items():
            patch.setenv(name, value)
        async with open_world(plan, cast, steps=lambda _: nullcontext()) as world:
            of_bcard = world.directory / "networks" / f"{BCARD}.toml"
            of_bcard.write_text(
                "reversal_alert_after_s = 1.0\n" + of_bcard.read_text(encoding="utf-8"), encoding="utf-8"
            )
            await start_gateway(world, lambda _: nullcontext())
            async with open_scene(world) as one:
                yield one
            world.succeeded = True


@pytest.fixture(scope="module")
async def looking(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    free = shutil.disk_usage(SMALL_DISK).free
    more = {
        "DiskFilling": f"< {free - filling() // 2}",
        "PaymentSentTooLong": "> 2",
        "ClearingLate": "> 10",
        "ScheduledOrdersLate": "> 1",
        "KeyTableOld": "> 2",
        "TrustTableOld": "> 3",
        "DisclosureLate": "> 1",
        "ExportsLate": "> 1",
    }
    folder = tmp_path_factory.mktemp("prometheus")
    async with running_prometheus(folder, scene.world.http, short_rules(more)) as one:
        yield one


@pytest.fixture
async def prometheus(looking: Prometheus, request: pytest.FixtureRequest) -> AsyncIterator[Prometheus]:
    async with tried(looking, request):
        yield looking


# --- payments ---------------------------------------------------------------------------------------------------------


@pytest.mark.alerts("NetworkAnswersBadly", "ReversalUnconfirmed", "PaymentUnwritable", "ClearingLate", *BURNING)
async def test_a_silent_network_a_slow_one_a_row_that_is_refused_and_a_relay_that_is_held_up(
    scene: Scene, prometheus: Prometheus
) -> None:
    silent, slow = scene.network(BCARD), scene.network(KCARD)
    await cleared(scene, await paid(scene, BCARD, KCARD))
    lost, late, stuck = scene.payments(MANY), scene.payments(MANY, KCARD), scene.payments(1, KCARD)
    await silent.set_faults(silence="ignore", classes=["financial", "reversal"])
    await slow.set_faults(late=1.0, late_ms=1500, classes=["financial"])
    refused = f"WHEN (OLD.payment_id = '{stuck[0].payment_id}' AND NEW.state = 'approved')"
    async with (
        locked(scene, "LOCK TABLE outbox_cursor IN EXCLUSIVE MODE"),
        planted(scene, "BEFORE UPDATE ON payment FOR EACH ROW", refused, "check_violation"),
    ):
        await scene.send([*lost, *late, *stuck])
        await scene.until_states(late, "approved")
        await prometheus.until_fired("PaymentUnwritable", "NetworkAnswersBadly", "ReversalUnconfirmed")
    await prometheus.until_fired(*BURNING)
    await asyncio.gather(silent.clear_faults(), slow.clear_faults())
    await scene.until_states(lost, "reversed")
    await scene.until_states(stuck, "approved", "reversed")
    await prometheus.until_fired("ClearingLate")
    await cleared(scene, await paid(scene, BCARD, KCARD))
    await prometheus.until_quiet("ClearingLate")


@pytest.mark.alerts("UseAfterConsentEnd", "PaymentSentTooLong", "ProcessMissing", "ProcessDown")
async def test_a_clock_that_is_behind_and_processes_that_are_gone(scene: Scene, prometheus: Prometheus) -> None:
    customer = scene.world.cast.of(Role.LEAVER)[0]
    used = [scene.entry(scene.order(customer=customer))]
    await scene.send(used)
    await scene.until_states(used, "approved", poll_s=0.02)
    await revoked(scene, customer, behind_s=2)
    await scene.stop("settlement")
    await prometheus.until_fired("UseAfterConsentEnd", "ProcessMissing", "ProcessDown")
    await scene.network(BCARD).set_faults(silence="apply", classes=["financial"])
    sent = scene.payments(1)
    await scene.send(sent)
    await scene.until_states(sent, "sent", poll_s=0.02)
    await scene.kill(f"execution {BCARD}")
    await prometheus.until_fired("PaymentSentTooLong")
    await scene.network(BCARD).clear_faults()
    scene.start(f"execution {BCARD}", "settlement")
    await prometheus.until_quiet("UseAfterConsentEnd", "PaymentSentTooLong", "ProcessMissing", "ProcessDown")
    await scene.until_states(sent, "reversed", "approved")


@pytest.fixture
def full() -> Iterator[Path]:
    """Where a file may lie that fills the small disk, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(dir=SMALL_DISK))
    yield folder / "full"
    shutil.rmtree(folder)


# --- records ----------------------------------------------------------------------------------------------------------


@pytest.mark.alerts(
    *("BatchUnread", "StageFailing", "ReportsUntold", "ClearingFileRefused", "BreaksOpen", "DiskFilling")
)
async def test_records_and_files_that_are_wrong_a_slip_in_the_code_and_a_full_disk(
    scene: Scene, prometheus: Prometheus, full: Path
) -> None:
    payments = await paid(scene, BCARD, KCARD)
    slip = started(scene, prometheus, "schedule with a slip", ["schedule"], code=SLIP, MYPAY_HOME=str(full.parent))
    with full.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, filling())
    async with AIOKafkaProducer(bootstrap_servers=scene.world.kafka_bootstrap_servers) as producer:
        await send_raw(producer, raw_bomb(SNAPPY), ORDERS, 0)
    refused = await scene.close_cycle(BCARD, wrong_trailer=True)
    wrong = await scene.close_cycle(KCARD, wrong_amount=1)
    stranger = scene.order(consent_id="c-nobodys")
    its = f"WHEN (NEW.order_id = '{stranger.order_id}')"
    async with planted(scene, "BEFORE INSERT ON payment FOR EACH ROW", its, "check_violation"):
        [at] = await scene.client.send([scene.entry(stranger).record])
        await prometheus.until_fired("StageFailing")
    await mypay(scene, "dead-letter", "replay", f"{ORDERS}/{at.partition}/{at.offset}", "--why", "mended")
    ended = "SELECT 1 FROM payment WHERE order_id = $1 AND state = 'rejected'"
    await scene.until(lambda: is_there(scene, ended, stranger.order_id), "what was parked is rejected")
    broken = "SELECT 1 FROM clearing_record WHERE break_kind IS NOT NULL"
    await scene.until(lambda: is_there(scene, broken), "a record fits no payment")
    # A day passes.
    await scene.fetch(
        "UPDATE clearing_record SET imported_at = imported_at - interval '25 hours' WHERE break_kind <> ''"
    )
    await prometheus.until_fired("BatchUnread", "ReportsUntold", "ClearingFileRefused", "BreaksOpen", "DiskFilling")
    await asyncio.to_thread(full.unlink)
    await prometheus.until_quiet("DiskFilling")
    await stop(scene, prometheus, slip)
    await correct(scene, BCARD, refused)
    await correct(scene, KCARD, wrong, less=1)
    await scene.until_states(payments, "settled")
    await prometheus.until_quiet("BreaksOpen", "StageFailing", "ReportsUntold")


# --- servers and machines ---------------------------------------------------------------------------------------------


NARROW: Final = """
import gateway.app.process as process
made = process.PostgresStore
process.PostgresStore = lambda dsn, **given: made(dsn, **{**given, "pool_size": 1})
from streams.__main__ import main
raise SystemExit(main())
"""
"""It has one connection, as no setting permits."""


@pytest.mark.alerts(
    *("EventsParked", "PartnerKeysEnding", "KeyTableOld", "DatabasePoolExhausted", "ScheduledOrdersLate")
)
async def test_locks_and_a_partner_that_was_added_in_a_hurry(scene: Scene, prometheus: Prometheus) -> None:
    later = await due_in(scene, seconds=10)
    async with locked(scene, f"SELECT FROM scheduled_order WHERE payment_id = '{later}' FOR UPDATE"):
        partner, signer = await hurried(scene)
        narrow = started(scene, prometheus, "narrow execution", ["execution", "--network", KCARD], code=NARROW)
        await prometheus.until_fired("PartnerKeysEnding")
        await scene.client.send([signed(signer, scene.order().model_copy(update={"partner_id": partner}))])
        await scene.until(lambda: is_ready(scene, narrow), "the narrow execution is ready")
        async with locked(scene, "LOCK TABLE partner_key IN ACCESS EXCLUSIVE MODE"):
            await prometheus.until_fired("KeyTableOld", "DatabasePoolExhausted")
        await prometheus.until_fired("ScheduledOrdersLate", "EventsParked")
    await stop(scene, prometheus, narrow)
    await mypay(scene, "topics", "apply")
    out = str(scene.world.directory / "another.pem")
    await mypay(scene, "partner", "key", "add", partner, "--generate-key", "ES256", "--key-out", out)
    # Else it tries again within a minute.
    await scene.stop("relay")
    scene.start("relay")
    await prometheus.until_quiet("EventsParked", "PartnerKeysEnding", "KeyTableOld", "DatabasePoolExhausted")
    await prometheus.until_quiet("ScheduledOrdersLate")


@pytest.mark.alerts("RecordsGone", "RecordTooLarge", "ClockWrong")
async def test_topics_that_keep_or_take_too_little_and_a_clock_that_jumps(scene: Scene, prometheus: Prometheus) -> None:
    jumped = started(scene, prometheus, "schedule with a clock that jumps", ["schedule"], code=JUMPED)
    customer = scene.world.cast.of(Role.PLAIN)[0]
    first, second = (scene.entry(scene.order(customer=customer)) for _ in range(2))
    [at] = await scene.client.send([first.record])
    await scene.until_states([first], "approved")
    # As it stops it commits how far it has read.
    await scene.stop("initiation")
    async with AIOKafkaProducer(bootstrap_servers=scene.world.kafka_bootstrap_servers) as producer:
        await producer.send_and_wait(ORDERS, b"{}", partition=at.partition)
    await dropped(scene, ORDERS, at.partition)
    scene.start("initiation")
    await prometheus.until_fired("RecordsGone")
    await narrowed(scene, events_topic(first.facts.partner_id))
    await scene.send([second])
    await prometheus.until_fired("RecordTooLarge", "ClockWrong")
    await stop(scene, prometheus, jumped)
    await mypay(scene, "topics", "apply")
    # Else it tries again within a minute.
    await scene.stop("relay")
    scene.start("relay")
    await prometheus.until_quiet("RecordsGone", "RecordTooLarge", "ClockWrong", "EventsParked")


OVERDUE: Final = "SELECT notice_id::text FROM share_holder WHERE erase_by < now() AND confirmed_at IS NULL"


# --- customers' data --------------------------------------------------------------------------------------------------


@pytest.mark.alerts("DisclosureLate", "DisclosureLeaderless", "ErasureOverdue", "ExportsLate")
async def test_a_log_that_stands_still_an_export_that_waits_and_an_erasure_that_nobody_confirms(
    scene: Scene, prometheus: Prometheus
) -> None:
    customer = scene.world.cast.of(Role.LEAVER)[1]
    payments = [scene.entry(scene.order(customer=customer))]
    await scene.send(payments)
    await scene.until_states(payments, "approved")
    await scene.network(BCARD).close_cycle()
    await delete_topic(scene, exports_topic(receivers_of(scene).recipient.org_code))
    await scene.client.send([export_of(scene, customer)])
    async with planted(scene, "BEFORE UPDATE ON disclosure_head FOR EACH STATEMENT", "", None), light_load(scene):
        await prometheus.until_fired("DisclosureLate", "ExportsLate")
    await scene.kill("disclosure")
    await mypay(scene, "topics", "apply")
    await prometheus.until_quiet("ExportsLate")
    await scene.until(lambda: is_there(scene, "SELECT 1 FROM share_holder"), "it is shared")
    await revoked(scene, customer)
    await scene.until(lambda: is_there(scene, "SELECT 1 FROM share_holder WHERE notice_id IS NOT NULL"), "a notice")
    # The week passes in which its affiliate should have erased.
    await scene.fetch("UPDATE share_holder SET erase_by = now() - interval '1 minute' WHERE notice_id IS NOT NULL")
    await prometheus.until_fired("ErasureOverdue", "DisclosureLeaderless")
    for row in await scene.fetch(OVERDUE):
        await mypay(scene, "sharing", "erased", row["notice_id"], "--why", "told by letter")
    scene.start("disclosure")
    await prometheus.until_quiet("ErasureOverdue", "DisclosureLeaderless", "DisclosureLate")


# --- trust ------------------------------------------------------------------------------------------------------------


@pytest.mark.alerts("TrustTableOld", "TrustPolicyDiffers", "NoProofAsked", "CertificateEnding")
async def test_trust_that_is_old_or_other_than_agreed_and_a_certificate_that_ends(
    scene: Scene, prometheus: Prometheus, tmp_path: Path
) -> None:
    keys = scene.world.issuers / "financial.json"
    keys.rename(keys.with_suffix(".away"))
    without: dict[str, Any] = {"MYPAY_ISSUERS_DIR": None, "MYPAY_ALLOW_NO_PROOF": "1"}
    await mypay(scene, "auth", "policy", "apply", "--why", "by mistake", **without)
    bare = started(scene, prometheus, "consents without proofs", ["consents"], **without)
    authority = Authority()
    soon = datetime.now(UTC) + timedelta(days=3)
    paper = authority.issue(tmp_path, "api", names=["127.0.0.1"], valid_until=soon)
    files = {"CERTIFICATE": paper.certificate, "KEY": paper.key, "CLIENTS": paper.ca}
    given = {f"MYPAY_PORTABILITY_API_{name}_FILE": str(path) for name, path in files.items()}
    api = started(scene, prometheus, "portability-api", ["portability_api"], MYPAY_PORTABILITY_API_PORT="0", **given)
    await prometheus.until_fired("TrustTableOld", "TrustPolicyDiffers", "NoProofAsked", "CertificateEnding")
    keys.with_suffix(".away").rename(keys)
    await mypay(scene, "auth", "policy", "apply", "--why", "the right one")
    authority.issue(tmp_path, "api", names=["127.0.0.1"])
    await stop(scene, prometheus, bare)
    await prometheus.until_quiet("TrustTableOld", "TrustPolicyDiffers", "NoProofAsked")
    # What it shows is what it read when it began: a new file alone changes nothing.
    assert "CertificateEnding" in await prometheus.firing()
    await api.stop(WAIT_S)
    api.start()
    await prometheus.until_quiet("CertificateEnding")
    await stop(scene, prometheus, api)
