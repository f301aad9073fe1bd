"""Faults to be caused in a running world: planted triggers, locks, slips in the code, files and certificates."""

import asyncio
import hashlib
import hmac
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from gateway.app.registries import open_consent_changes, open_registries
from gateway.base.calendar import day_start
from gateway.base.validity import ORDER_VALIDITY_MAX
from gateway.client import Signer, signed
from gateway.consents.changing import change_consent_status
from gateway.consents.rules.consent import ConsentCommand
from gateway.directory.partners import NewPartner, PartnerKey
from gateway.identity.jose.jwk import generate_key
from gateway.messaging.administration import administration
from gateway.messaging.records import Outgoing
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.wire import set_topic_configs
from gateway.proving.stack.ports import free_ports
from gateway.proving.traffic.cast import Customer
from gateway.proving.traffic.receivers import SENDER, Receivers
from gateway.proving.world.children import Child
from gateway.proving.world.world import make_child
from schemas.assertions import PortabilityLink
from schemas.codec import encode
from schemas.portability import PortabilityRequest, TargetInfo, request_digest
from schemas.primitives import PartnerId
from tests.support.entries import Entry
from tests.support.prometheus import Prometheus
from tests.support.scene import WAIT_S, Scene

SLIP: Final = """
import sys
from gateway.payments.open_watch import OpenPaymentsWatch
from streams.__main__ import main

look = OpenPaymentsWatch.look

async def slipped(self):
    self._observer.count("schedule", "no_such_outcome")
    return await look(self)

OpenPaymentsWatch.look = slipped
sys.exit(main())
"""
"""A stage with a slip in its code: it reports under a name that is in no table."""

JUMPED: Final = """
import sys
import time
import gateway.app.process as process
from gateway.app.clock import SteadyClock
from streams.__main__ import main

began = time.monotonic()
process.SteadyClock = lambda: SteadyClock(machine=lambda: time.time() + 3600 * (time.monotonic() > began + 3))
sys.exit(main())
"""
"""A stage on a machine whose clock is set an hour ahead, three seconds after it began."""


@dataclass(frozen=True)
class Behind:
    """Implements :class:`gateway.base.process.Clock`: of a machine so many seconds behind."""

    seconds: float

    def now(self) -> datetime:
        return datetime.now(UTC) - timedelta(seconds=self.seconds)


async def revoked(scene: Scene, customer: Customer, *, behind_s: float = 0.0) -> None:
    async with open_consent_changes(scene.world.postgres_dsn) as store:
        key = (customer.terms.partner_id, customer.terms.consent_id)
        await change_consent_status(store, Behind(behind_s), key, ConsentCommand.REVOKE)


def started(
    scene: Scene,
    prometheus: Prometheus,
    name: str,
    arguments: Sequence[str],
    *,
    code: str = "from streams.__main__ import main; raise SystemExit(main())",
    **more: str | None,
) -> Child:
    """One more process of the gateway, with these settings besides (None: without that one), watched too."""
    [port] = free_ports(1)
    settings = {**scene.world.environment, "MYPAY_HTTP_PORT": str(port), "MYPAY_WORKER": name.replace(" ", "-"), **more}
    given = {k: v for k, v in settings.items() if v is not None}
    child = make_child(scene.world, name, ["-c", code, *arguments], given)
    child.start()
    scene.world.stages.append(child)
    scene.world.http[name] = f"http://127.0.0.1:{port}"
    prometheus.watch(scene.world.http)
    return child


async def is_ready(scene: Scene, child: Child) -> bool:
    return (await scene.readyz(child.name))[0] == 200


async def stop(scene: Scene, prometheus: Prometheus, child: Child) -> None:
    """Stop such a process; it is not watched any more."""
    del scene.world.http[child.name]
    prometheus.watch(scene.world.http)
    scene.world.stages.remove(child)
    await child.stop(WAIT_S)


async def mypay(scene: Scene, *arguments: str, **more: str | None) -> None:
    """Run a command, with these settings besides."""
    settings = {**scene.world.environment, **more}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from gateway.cli import main; main()", *arguments),
        cwd=scene.world.directory,
        env={k: v for k, v in settings.items() if v is not None},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()


@asynccontextmanager
async def planted(scene: Scene, what: str, when: str, error: str | None) -> AsyncIterator[None]:
    """A trigger that raises this error, or takes two seconds, for as long as the block lasts."""
    table = what.split(" ON ")[1].split(maxsplit=1)[0]
    body = f"RAISE EXCEPTION 'planted' USING ERRCODE = '{error}';" if error else "PERFORM pg_sleep(2); RETURN NULL;"
    await scene.fetch(f"CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$")
    try:
        await scene.fetch(f"CREATE TRIGGER planted {what} {when} EXECUTE FUNCTION planted()")
        yield
    finally:
        await scene.fetch(f"DROP TRIGGER IF EXISTS planted ON {table}")
        await scene.fetch("DROP FUNCTION planted")


@asynccontextmanager
async def locked(scene: Scene, *statements: str) -> AsyncIterator[None]:
    """A session that stands still with these locks in hand, until somebody ends it."""
    connection = await asyncpg.connect(scene.world.postgres_dsn)
    pid = connection.get_server_pid()
    try:
        await connection.execute("BEGIN; " + "; ".join(statements))
        yield
        await scene.fetch("SELECT pg_terminate_backend($1)", pid)
    finally:
        connection.terminate()


async def paid(scene: Scene, *networks: str) -> list[Entry]:
    """One payment over each network, approved."""
    entries = [entry for network in networks for entry in scene.payments(1, network)]
    await scene.send(entries)
    await scene.until_states(entries, "approved")
    return entries


async def cleared(scene: Scene, payments: Sequence[Entry]) -> None:
    """Close the networks' cycles, and wait until these payments are settled."""
    await asyncio.gather(*(network.close_cycle() for network in scene.world.networks))
    await scene.until_states(payments, "settled")


async def due_in(scene: Scene, *, seconds: int) -> UUID:
    """An order for the day after tomorrow, which the clock brings so near."""
    now = datetime.now(UTC)
    day = (now + timedelta(days=2)).date()
    fields = {"requested_execution_date": day, "expires_at": day_start(day) + ORDER_VALIDITY_MAX}
    [entry] = [scene.entry(scene.order().model_copy(update=fields))]
    await scene.client.send([entry.record])
    waits = "SELECT 1 FROM scheduled_order WHERE payment_id = $1"
    await scene.until(lambda: is_there(scene, waits, entry.payment_id), "the order waits for its day")
    near = "UPDATE scheduled_order SET look_at = now() + make_interval(secs => $2) WHERE payment_id = $1"
    await scene.fetch(near, entry.payment_id, float(seconds))
    return entry.payment_id


async def is_there(scene: Scene, sql: str, *arguments: Any) -> bool:
    return bool(await scene.fetch(sql, *arguments))


async def hurried(scene: Scene) -> tuple[PartnerId, Signer]:
    """A partner whose only key ends in three days, and that has no topic of its own."""
    partner = PartnerId("hurried")
    private, jwk = generate_key("ES256")
    now = datetime.now(UTC)
    key = PartnerKey("hurried-1", partner, "ES256", jwk, now - timedelta(days=1), now + timedelta(days=3), None)
    async with open_registries(scene.world.postgres_dsn) as registries:
        await registries.directory.add_partners([NewPartner(partner, "Hurried", "financial")])
        await registries.directory.add_keys([key])
    return partner, Signer(private, "hurried-1")


async def delete_topic(scene: Scene, topic: str) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=scene.world.kafka_bootstrap_servers)
    await client.start()
    try:
        await client.delete_topics([topic])
    finally:
        await client.close()


async def dropped(scene: Scene, topic: str, partition: int) -> None:
    """Drop all records of a partition, as its topic's retention does."""
    async with administration(KafkaSettings(scene.world.kafka_bootstrap_servers)) as client:
        await client.delete_records({TopicPartition(topic, partition): RecordsToDelete(-1)})


async def narrowed(scene: Scene, topic: str) -> None:
    """Let a topic take no record of more than 100 bytes."""
    async with administration(KafkaSettings(scene.world.kafka_bootstrap_servers)) as client:
        response = await client._send_request(set_topic_configs({topic: {"max.message.bytes": "100"}}))
        assert [code for code, *_ in response.responses] == [0]


def receivers_of(scene: Scene) -> Receivers:
    receivers = scene.world.cast.receivers
    assert receivers is not None
    return receivers


def export_of(scene: Scene, customer: Customer) -> Outgoing:
    """A transmission request for all that the customer lets the recipient have, with its proof."""
    cast, terms = scene.world.cast, customer.terms
    purpose = terms.portability
    assert purpose is not None
    partner = cast.partner(terms.partner_id)
    request = PortabilityRequest(
        partner_id=terms.partner_id,
        consent_id=terms.consent_id,
        request_id="t-1",
        issued_at=datetime.now(UTC),
        snd_org_code=SENDER,
        rcv_org_code=receivers_of(scene).recipient.org_code,
        end_date=purpose.end_date,
        purpose=purpose.purpose,
        period=purpose.period,
        target_info=tuple(TargetInfo(scope=s) for s in purpose.scopes),
    )
    link = PortabilityLink(
        partner_id=terms.partner_id,
        request_id=request.request_id,
        consent_id=terms.consent_id,
        rcv_org_code=request.rcv_org_code,
        request_digest=request_digest(encode(request)),
    )
    proof = cast.identities.prove(partner.home_group, terms.customer_id, link)
    return signed(partner.signer, request.model_copy(update={"authentication": proof}))


async def correct(scene: Scene, network_id: str, file: Path, *, less: int = 0) -> None:
    """Bring a file again as its network corrects it: later, its first amount less by so much, its trailer right."""
    await scene.until(lambda: kept(scene, file), f"{file.name} is taken")
    [taken] = scene.world.cleared.rglob(file.name)
    lines = [line.split(",") for line in taken.read_text(encoding="ascii").splitlines()]
    lines[0][4] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    records = [line for line in lines if line[0] == "D"]
    records[0][7] = str(int(records[0][7]) - less)
    total = sum(int(r[7]) if r[2] == "purchase" else -int(r[7]) for r in records)
    text = "".join(",".join(line) + "\n" for line in [lines[0], *records, ["T", str(len(records)), str(total)]])
    network = scene.network(network_id)
    secret = bytes.fromhex(network.seal_key.read_text(encoding="ascii").strip())
    again = network.inbox / file.name.replace(".csv", "-corrected.csv")
    seal = hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
    again.with_name(again.name + ".hmac").write_text(seal, encoding="ascii")
    unfinished = again.with_suffix(".tmp")
    unfinished.write_text(text, encoding="ascii")
    unfinished.replace(again)


async def kept(scene: Scene, file: Path) -> bool:
    return bool(list(scene.world.cleared.rglob(file.name)))
