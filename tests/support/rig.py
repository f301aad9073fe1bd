"""The use cases on fakes of every port, wired as a process wires them on real ones."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from gateway.app.execution import ExecutionStage
from gateway.app.initiation import InitiationConnections, InitiationStage, InitiationTerms, initiation
from gateway.app.relay import relay
from gateway.app.runtime import Runtime
from gateway.app.schedule import ScheduleStage
from gateway.app.settlement import SettlementConnections, SettlementTerms, settlement
from gateway.app.trust import Signers
from gateway.consents.rules.limits import Usage
from gateway.directory.funding import OwnedToken
from gateway.messaging.consuming import Consumer
from gateway.messaging.records import Record
from gateway.network.exchange import CardData, UnmatchedAnswer
from gateway.network.matching import MatchBy
from gateway.observability.recording import RecordingObserver
from gateway.orders.intake import OrderIntake
from gateway.outbox.relay import RelayService, RelaySettings
from gateway.outbox.store import OutboxEvent
from gateway.payments.cancellations.rules import CutOver
from gateway.payments.execution import ExecutionService
from gateway.payments.rules.payment import Payment
from gateway.payments.rules.routing import NetworkProfile
from gateway.payments.unknown.follow_ups import FollowUpService, FollowUpSettings
from gateway.payments.unknown.late_answers import LateAnswerService
from gateway.payments.unknown.recovery import RecoveryService
from gateway.payments.unknown.verdicts import UnknownPolicy
from gateway.proving.memory import (
    Database,
    MemoryCardNetwork,
    MemoryClock,
    MemoryConsumer,
    MemoryDeadLetters,
    MemoryHost,
    MemoryKafka,
    MemoryKeySource,
    MemoryOutboxReader,
    MemoryPublisher,
    MemoryStore,
    MemoryVault,
    MemoryVerifier,
)
from gateway.proving.memory.network import Script, answers
from gateway.sealing.mac import HmacMarks
from gateway.sealing.sealing import MasterKeys, Purpose
from gateway.settlement.matching import SettlementService, SettlementSettings
from schemas.primitives import CustomerId, FundingToken, NetworkId, payment_id_of
from schemas.reasons import Reason, ReasonCode
from tests.support.builders import DISPATCH, NETWORK, NOW
from tests.support.domain_samples import consent, merchant
from tests.support.faults import Faults
from tests.support.stages import NO_CONSUMER, NoSubscription, execution_stage, signers, timers

WAITING_MARKS = HmacMarks(MasterKeys({"20260101": bytes(32)}), Purpose.WAITING_MARK)
NO_LANE: Any = None
TAMPERED = "tampered"
FORGED = Reason(code=ReasonCode.DS17, text="signature does not match the body")
UNKNOWN_KEY = Reason(code=ReasonCode.DS0E, text="signing key is not registered")
PAN = "4111111111111111"


async def _nothing_waits() -> int:
    return 0


class Rig:
    """One database, one Kafka and one network host, and one worker of each stage over them.

    Partner ``partner-1`` is registered, with the consent, merchant and card that
    :mod:`tests.support.domain_samples` use.
    """

    def __init__(self, script: Script = answers, *, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.clock = MemoryClock(NOW)
        self.observer = RecordingObserver()
        self.database = Database()
        self.store = MemoryStore(self.database, self.faults)
        self.kafka = MemoryKafka(self.clock)
        self.publisher = MemoryPublisher(self.kafka, self.faults)
        self.dead_letters = MemoryDeadLetters(self.faults)
        self.keys = MemoryKeySource(["partner-1", "partner-2"], boundary=self.faults)
        self.verifier = MemoryVerifier({TAMPERED: FORGED, "unknown-key": UNKNOWN_KEY}, keys=self.keys)
        self.vault = MemoryVault({}, self.faults)
        self.put_card("token-1")
        self.host = MemoryHost()
        self.unmatched: list[UnmatchedAnswer] = []
        self.network = self.new_network(script)
        self.networks = [
            NetworkProfile(NetworkId(NETWORK), frozenset({"KRW"}), None, 10, 0, open=True),
        ]
        self.cut_overs: dict[NetworkId, CutOver] = {}
        self.initiation = self.new_initiation()
        self.schedule = self.new_schedule()
        self.waiting = self.schedule.cancellations
        self.execution = self.new_execution()
        self.reversals = self.new_reversals("worker-1")
        self.settlement = self.new_settlement()
        self.database.put_consent(consent())
        self.database.put_merchant(merchant())

    def put_card(self, token: str, *, customer: str = "customer-1", partners: Sequence[str] = ("partner-1",)) -> None:
        """Give a customer another card, which these partners may use."""
        self.database.put_token(token, customer, *partners)
        self.vault.cards[OwnedToken(FundingToken(token), CustomerId(customer))] = CardData(PAN, "2912")

    # --- workers ---

    def new_network(self, script: Script = answers, faults: Faults | None = None) -> MemoryCardNetwork:
        """Another worker's links to the same host."""
        return MemoryCardNetwork(
            NetworkId(NETWORK),
            self.host,
            script=script,
            on_unmatched=self.unmatched.append,
            boundary=faults or self.faults,
        )

    def runtime(self, worker: str = "worker-1", store: MemoryStore | None = None) -> Runtime:
        """What another stage stands on."""
        return Runtime(store=store or self.store, observer=self.observer, clock=self.clock, worker=worker)

    def signers(self, identities: Any = None) -> Signers:
        """Who may sign; ``identities``: a trust table that also verifies."""
        return signers(self.keys, self.verifier, identities)

    def new_intake(
        self,
        *,
        identities: Any = None,
        store: MemoryStore | None = None,
        publisher: MemoryPublisher | None = None,
        waiting: Consumer = NO_CONSUMER,
        **terms: Any,
    ) -> InitiationStage:
        """Another worker of the intake."""
        return initiation(
            self.runtime(store=store),
            InitiationConnections(
                orders=NoSubscription(),
                waiting=waiting,
                publisher=publisher or self.publisher,
                dead_letters=self.dead_letters,
                dispatch=DISPATCH,
                marks=WAITING_MARKS,
                signers=self.signers(identities),
                networks=lambda: self.networks,
                behind=_nothing_waits,
                lane=NO_LANE,
            ),
            InitiationTerms(cut_overs=self.cut_overs, waiting_partitions=self.kafka.partitions, **terms),
        )

    def new_initiation(self, **others: Any) -> OrderIntake:
        """Another worker's orders, as they come out of turns."""
        return self.new_intake(**others).service

    def new_schedule(
        self, *, store: MemoryStore | None = None, publisher: MemoryPublisher | None = None, **terms: Any
    ) -> ScheduleStage:
        """Another worker of the schedule."""
        return timers(
            store or self.store,
            self.clock,
            self.observer,
            publisher=publisher or self.publisher,
            networks=lambda: self.networks,
            **({"cut_overs": self.cut_overs} | terms),
        )

    def new_stage(
        self,
        network: MemoryCardNetwork | None = None,
        *,
        worker: str = "worker-1",
        identities: Any = None,
        **terms: Any,
    ) -> ExecutionStage:
        """Another execution worker, with all that it does beside taking orders."""
        return execution_stage(
            self.store,
            network or self.network,
            self.vault,
            clock=self.clock,
            worker=worker,
            observer=self.observer,
            dead_letters=self.dead_letters,
            signed=self.signers(identities),
            **terms,
        )

    def new_execution(
        self,
        network: MemoryCardNetwork | None = None,
        *,
        worker: str = "worker-1",
        policy: UnknownPolicy = UnknownPolicy.REVERSE,
    ) -> ExecutionService:
        """Another execution worker's orders and refunds."""
        return self.new_stage(network, worker=worker, policy=policy).service

    def new_reversals(
        self, worker: str, network: MemoryCardNetwork | None = None, *, settings: FollowUpSettings | None = None
    ) -> FollowUpService:
        """Another worker on the reversal queue."""
        return self.new_stage(network, worker=worker, reversals=settings or FollowUpSettings()).reversals

    def new_inquiries(self, worker: str, network: MemoryCardNetwork | None = None) -> FollowUpService:
        """Another worker on the inquiry queue."""
        settings = FollowUpSettings(interval_s=5.0, interval_max_s=20.0)
        return self.new_stage(network, worker=worker, inquiries=settings).inquiries

    def new_recovery(self, worker: str, *, policy: UnknownPolicy = UnknownPolicy.REVERSE) -> RecoveryService:
        """Another worker that reports, and settles what dead ones left."""
        return self.new_stage(worker=worker, policy=policy).recovery

    async def take_over(
        self, *, worker: str = "peer", after_s: int = 46, policy: UnknownPolicy = UnknownPolicy.REVERSE
    ) -> int:
        """Let a while pass in which only a peer reports; then it takes over what the others left."""
        recovery = self.new_recovery(worker, policy=policy)
        for _ in range(after_s):
            await recovery.report(is_open=True)
            self.clock.advance(1)
        return await recovery.take_over()

    def new_late_answers(
        self, match_by: MatchBy = MatchBy.REFERENCE, *, policy: UnknownPolicy = UnknownPolicy.REVERSE
    ) -> LateAnswerService:
        """Another worker's late answers."""
        return self.new_stage(match_by=match_by, policy=policy).late_answers

    def new_settlement(self, *, too_early_s: float = 90.0) -> SettlementService:
        """Settlement that waits this long (of the event loop's time) for outcomes that are open."""
        settings = SettlementSettings(too_early_s=too_early_s, too_early_poll_s=0.0)
        connections = SettlementConnections(consumer=NO_CONSUMER, dead_letters=self.dead_letters)
        terms = SettlementTerms(networks=frozenset({NETWORK}), settlement=settings)
        return settlement(self.runtime(), connections, terms).service

    def new_relay(self, *, batch: int = 2000, reader: MemoryOutboxReader | None = None) -> RelayService:
        """Another relay."""
        reading = reader or MemoryOutboxReader(self.database, self.faults)
        settings = RelaySettings(batch=batch, gather_s=0.0, idle_s=0.0, standby_s=0.0)
        return relay(self.runtime(), reading, self.publisher, settings).service

    def consumer(self, topic: str, group_id: str = "test") -> MemoryConsumer:
        """A member of a consumer group that reads one topic."""
        return MemoryConsumer(self.kafka, topics=[topic], group_id=group_id, boundary=self.faults)

    # --- stages, run to their end ---

    @asynccontextmanager
    async def results(self, execution: ExecutionService | None = None) -> AsyncIterator[None]:
        """Results are written as they come, as long as the block lasts."""
        task = asyncio.create_task((execution or self.execution).results.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def execute(self, records: Sequence[Record]) -> None:
        """Execute a batch and wait until every result is written."""
        async with self.results():
            await self.execution.take(records)
            await self.network.wait_idle()
            await self.execution.results.written()

    async def relay_all(self) -> int:
        """Relay until the outbox is empty; return how many events."""
        reader = MemoryOutboxReader(self.database, self.faults)
        assert await reader.acquire()
        relaying = self.new_relay(reader=reader)
        total = 0
        while relayed := await relaying.relay_once():
            total += relayed
        await reader.release()
        return total

    async def until_locked_out(self) -> None:
        """Return once some transaction waits for a lock."""
        while not self.database.locks.waiting:  # noqa: ASYNC110 - a lock's queue tells nobody
            await asyncio.sleep(0)

    # --- what became of it ---

    def payment(self, number: int = 1, *, partner_id: str = "partner-1") -> Payment:
        """The stored payment of an order."""
        return self.database.payments.rows[partner_id, payment_id_of(partner_id, f"order-{number}")]  # type: ignore[index]

    def states(self) -> dict[str, str]:
        """Order id → state of every payment."""
        return {p.order_id: p.state.value for p in self.database.payments.rows.values()}

    def events(self) -> list[OutboxEvent]:
        """Everything in the outbox, in order."""
        return [row.event for row in self.database.outbox]

    def told(self, key: str | None = None) -> list[str]:
        """Short types of the events in the outbox (of one key), in order: ``payment.sent``, ``order.refused`` …"""
        return [
            e.event_type.removeprefix("kr.mypay.").removesuffix(".v1") for e in self.events() if key in (None, e.key)
        ]

    def used(self) -> set[Usage]:
        """The different usages of all windows."""
        return set(self.database.usage.rows.values())

    def ledger_kinds(self) -> list[str]:
        """Kinds of the ledger's transfers, in order."""
        return [p.transfer.kind.value for p in self.database.transfers.rows.values()]

    def balances(self) -> dict[str, int]:
        """Every account of the ledger: debits less credits, minor units."""
        sums: dict[str, int] = {}
        for row in self.database.transfers.rows.values():
            sums[row.transfer.debit] = sums.get(row.transfer.debit, 0) + row.transfer.amount_minor
            sums[row.transfer.credit] = sums.get(row.transfer.credit, 0) - row.transfer.amount_minor
        return sums
