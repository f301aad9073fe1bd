"""One world: its parts, its adversary's plans, and its way from the first order to rest."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from random import Random
from typing import Any, Final

import stamina.instrumentation

from gateway.consents.changing import ConsentCommandRefusedError, ConsentUnknownError, change_consent_status
from gateway.consents.rules.consent import Consent, ConsentCommand
from gateway.directory.funding import OwnedToken
from gateway.identity.no_providers import NoIdentityProviders
from gateway.network.exchange import CardData
from gateway.network.matching import MatchBy
from gateway.payments.dispatch import Dispatch
from gateway.proving.memory import Database, MemoryHost, MemoryStore, MemoryVerifier
from gateway.proving.memory.host import EntryState
from gateway.proving.memory.kafka import Parked
from gateway.proving.simulation.adversary import Chances
from gateway.proving.simulation.asking import AskingForProofs
from gateway.proving.simulation.audit import UNEXPECTED, Auditor
from gateway.proving.simulation.broker import Broker, Member
from gateway.proving.simulation.clearing import clearing_messages
from gateway.proving.simulation.faults import Fault, Faults
from gateway.proving.simulation.forging import forge
from gateway.proving.simulation.invariants import check_at_rest
from gateway.proving.simulation.links import Wire
from gateway.proving.simulation.loop import NothingLeftError, SkewedClock, VirtualLoop
from gateway.proving.simulation.outcome import CountingObserver, Outcome, Violation
from gateway.proving.simulation.rest import left_to_do
from gateway.proving.simulation.scene import (
    CUSTOMER,
    DISABLED_CODE,
    FOREIGN_PAN,
    FOREIGN_TOKEN,
    NETWORK,
    PAN,
    PARTNER,
    SIGNED,
    TAMPERED,
    TOKEN,
    VICTIM,
    Act,
    Command,
    Produced,
)
from gateway.proving.simulation.script import merchant, write_script
from gateway.proving.simulation.workers import (
    ANSWER_TIMEOUT_S,
    INTENT_TO_WIRE_S,
    PARTITIONS,
    SKEW_MAX_S,
    WAITING_GROUP,
    WORKERS,
    Stage,
    Worker,
)
from gateway.sealing.mac import HmacMarks
from gateway.sealing.sealing import MasterKeys, Purpose
from schemas.consents import ConsentStatus, ConsentTerms
from schemas.primitives import ConsentId
from schemas.reasons import Reason, ReasonCode
from schemas.topics import WAITING_ORDERS, dispatch_topic, events_topic

FAULTS_END_S: Final = 14.0
"""Past the traffic, so that recoveries are disturbed too."""

REST_WITHIN_S: Final = 180.0
"""By then everything has ended: recovery, leases, repeats and their polls take less than a third of it."""

INTERNAL_KEYS: Final = MasterKeys({"20260101": bytes(range(32))})
"""The same in every world, so that a seed tells everything; whoever forges records in a world does not have them."""

FREEZE_NOTICED_S: Final = 3.0
"""A worker that is frozen for longer loses its partitions to another."""


class World:
    """Everything that one seed determines."""

    def __init__(self, seed: int, *, traced: bool = False) -> None:
        self.seed = seed
        self.rng = Random(seed)  # noqa: S311 - repeatable is what it must be
        # The network's own: how it clears changes nothing of what else happens in a world.
        self._network_rng = Random(~seed)  # noqa: S311
        self.violations: list[Violation] = []
        self.trace: list[str] | None = [] if traced else None
        self.steps = 0
        self.outage: Fault | None = None
        self.loop = VirtualLoop(self._uncaught)  # type: ignore[abstract]  # no sockets, no signals
        self.faults = Faults(self.rng, journal=self.trace)
        self.chances: dict[str, Chances] = {}
        self.script = write_script(self.rng)
        self.clock = SkewedClock(self.loop, self.script.epoch)
        self.observer = CountingObserver()
        self.database = Database()
        self.database.put_token(TOKEN, CUSTOMER, PARTNER)
        self.database.put_token(FOREIGN_TOKEN, VICTIM, PARTNER)
        self.cards = {
            OwnedToken(TOKEN, CUSTOMER): CardData(PAN, "2912"),
            OwnedToken(FOREIGN_TOKEN, VICTIM): CardData(FOREIGN_PAN, "2912"),
        }
        self.kafka = Broker(self.clock, partitions=PARTITIONS)
        self.host = MemoryHost()
        self.cut_overs = {NETWORK: self.script.cut_over} if self.script.cut_over else {}
        self.auditor = Auditor(self.database, self.host, self.violated, self.loop.time, wire_bound_s=INTENT_TO_WIRE_S)
        self.auditor.journal = self.trace
        self.database.on_commit = self.auditor.committed
        self.wire = Wire(
            self.host,
            self.faults,
            self.rng,
            ANSWER_TIMEOUT_S,
            self.script.decline_amounts,
            self.rng.choice((MatchBy.STRICT, MatchBy.REFERENCE)),
            on_leave=self.auditor.left,
            violated=self.violated,
        )
        self.verifier = MemoryVerifier({TAMPERED: _FORGED})
        self.trust = AskingForProofs() if self.rng.random() < 0.12 else NoIdentityProviders()
        self.dispatch = Dispatch(HmacMarks(INTERNAL_KEYS, Purpose.DISPATCH_MARK))
        self.waiting_marks = HmacMarks(INTERNAL_KEYS, Purpose.WAITING_MARK)
        self.parked: list[Parked] = []
        self.written: list[tuple[Produced, str]] = []
        self.forged: set[str] = set()
        self.workers: list[Worker] = []
        self._numbers: Counter[Stage] = Counter()
        self._cleared: set[str] = set()
        self._cycles = 0

    # --- what happens ---

    def violated(self, invariant: str, text: str) -> None:
        """Note a broken promise."""
        self.violations.append(Violation(invariant, text, self.loop.time()))

    def _uncaught(self, context: dict[str, Any]) -> None:
        if self.loop.is_closed():
            # What still waited when the world ended is thrown away with it.
            return
        error = context.get("exception")
        self.violated(UNEXPECTED, f"{context.get('message')}: {type(error).__name__}: {error}")

    def start(self, stage: Stage) -> None:
        """Start another worker of a stage, with a name that none had before."""
        self._numbers[stage] += 1
        worker = Worker(self, stage, f"{stage}-{self._numbers[stage]}")
        if self.faults.on and self.rng.random() < 0.2:
            worker.clock.skew_s = self.rng.choice((-1, 1)) * self.rng.choice((0.1, 1.0, SKEW_MAX_S))
            self.faults.note(self.loop.time(), Fault.CLOCK_SKEWED, f"{worker.name} {worker.clock.skew_s:+} s")
        self.workers.append(worker)
        worker.start()

    def crash(self, worker: Worker) -> None:
        """End a worker; another is started after a while."""
        if worker.dead:
            return
        worker.crash()
        self.workers.remove(worker)
        self.rebalance(worker.stage)
        self.loop.call_later(self.rng.uniform(0.1, 4.0), self.start, worker.stage)

    def freeze(self, worker: Worker, seconds: float) -> None:
        """Stop a worker for a while, as SIGSTOP does: its group goes on without it, and it does not know."""
        worker.frozen_until = max(worker.frozen_until, self.loop.time() + seconds)
        if seconds > FREEZE_NOTICED_S:
            self.loop.call_later(FREEZE_NOTICED_S, self.rebalance, worker.stage)
        # Somebody may have noticed it sooner: then it comes back to its partitions.
        self.loop.call_later(seconds + 0.01, self.rebalance, worker.stage)

    def rebalance(self, stage: Stage) -> None:
        """Deal a stage's partitions out to its workers that live and move."""
        workers = [w for w in self.workers if w.stage is stage]
        for members in ([(w, w.member) for w in workers], [(w, w.waiting) for w in workers]):
            self._deal([(worker, member) for worker, member in members if member is not None])

    def _deal(self, members: Sequence[tuple[Worker, Member]]) -> None:
        now = self.loop.time()
        moving = [m for w, m in members if w.frozen_until <= now]
        for _, member in members:
            if member not in moving:
                member.assign([])
        shift = self.rng.randrange(len(moving)) if moving else 0
        for place, member in enumerate(moving):
            member.assign(range((place + shift) % len(moving), PARTITIONS, len(moving)))

    async def backlog(self) -> int:
        """Records that execution has not taken yet."""
        topic = dispatch_topic(NETWORK)
        return sum(
            len(self.kafka.log(topic, n)) - self.kafka.committed(Stage.EXECUTION, (topic, n)) for n in range(PARTITIONS)
        )

    async def busy(self) -> frozenset[int]:
        """Partitions with records that wait for their turn."""
        kafka, topic = self.kafka, WAITING_ORDERS
        return frozenset(
            n for n in range(PARTITIONS) if kafka.committed(WAITING_GROUP, (topic, n)) < len(kafka.log(topic, n))
        )

    def redeliver(self, worker: Worker) -> None:
        """Set a group back by some records that it had committed, where this worker reads."""
        for member in (worker.member, worker.waiting):
            if member is None:
                continue
            for partition in member.assigned:
                place = (member.topic, partition)
                back = self.kafka.committed(member.group, place) - self.rng.randrange(4)
                self.kafka.commit(member.group, place, max(0, back))
            member.rewind()

    def depose_relay(self) -> None:
        """End the session of the relay that leads."""
        leader = self.database.outbox_leader
        for worker in self.workers:
            if worker.reader is not None and worker.reader is leader:
                worker.reader.lose_session()

    def is_closed(self, topic: str) -> bool:
        """True for the partner's topic while it is closed."""
        return self.outage == Fault.TOPIC_CLOSED and topic == EVENTS

    # --- plans ---

    def _plan(self) -> None:
        loop, rng, faults = self.loop, self.rng, self.faults
        for produced in self.script.produced:
            loop.call_at(produced.at, self._produce, produced)
        for command in self.script.commands:
            loop.call_at(command.at, self._command, command)
        for terms in self.script.consents:
            ends_at = (terms.valid_until - self.script.epoch).total_seconds()
            if ends_at < FAULTS_END_S:
                loop.call_at(ends_at, faults.note, ends_at, Fault.CONSENT_EXPIRED, terms.consent_id)
        for times, cause in (
            ((0, 0, 1, 1, 2, 4), self._crash_any),
            ((0, 0, 1, 2), self._cut_any),
            ((0, 0, 0, 1, 2), self._go_down),
            ((0, 0, 1), self._clear_early),
            ((0, 0, 0, 1), self._rebalance_any),
            ((0,) * 15 + (1,), self._disable_key),
            ((0,) * 5 + (1,), self._withdraw_token),
            ((0, 0, 0, 1, 3), self._forge),
        ):
            for _ in range(rng.choice(times)):
                loop.call_at(rng.uniform(0.0, FAULTS_END_S), cause)
        loop.call_at(FAULTS_END_S, faults.stop)

    def _produce(self, produced: Produced) -> None:
        if produced.again:
            self.faults.note(self.loop.time(), Fault.DUPLICATED, f"{produced.kind} {produced.order_id}")
        record = self.kafka.write(produced.record)
        self.written.append((produced, record.reference))

    def _command(self, command: Command) -> None:
        self.faults.note(self.loop.time(), _FAULT_OF[command.act], command.consent_id)
        if command.record is not None:
            self.kafka.write(command.record)
            return
        self.loop.create_task(self._operate(command))

    async def _operate(self, command: Command) -> None:
        key = (PARTNER, ConsentId(command.consent_id))
        store = MemoryStore(self.database)
        try:
            await change_consent_status(store, self.clock, key, ConsentCommand(command.act.value))
        except (ConsentCommandRefusedError, ConsentUnknownError):
            self.observer.count("consents", "operator_refused")

    def _withdraw_token(self) -> None:
        self.loop.create_task(self._withdrawn_for_a_while())

    async def _withdrawn_for_a_while(self) -> None:
        """As an operator does it: the permission is withdrawn, then the locks of all consents are waited for."""
        self.faults.note(self.loop.time(), Fault.TOKEN_WITHDRAWN, TOKEN)
        self.database.put_token(TOKEN, CUSTOMER)
        async with MemoryStore(self.database).transaction() as uow:
            await uow.consents.lock(sorted(self.database.consents.rows))
        self.auditor.withdrawn = True
        await asyncio.sleep(self.rng.uniform(0.1, 4.0))
        self.faults.note(self.loop.time(), Fault.TOKEN_ALLOWED, TOKEN)
        self.auditor.withdrawn = False
        self.database.put_token(TOKEN, CUSTOMER, PARTNER)

    def _crash_any(self) -> None:
        worker = self.rng.choice(self.workers)
        self.faults.note(self.loop.time(), Fault.CRASH, worker.name)
        self.crash(worker)

    def _cut_any(self) -> None:
        linked = [w for w in self.workers if w.links is not None]
        if not linked:
            return
        links = (worker := self.rng.choice(linked)).links
        self.faults.note(self.loop.time(), Fault.LINK_CUT, worker.name)
        if links is not None:
            links.cut()
            self.loop.call_later(self.rng.uniform(0.1, 5.0), links.open)

    def _go_down(self) -> None:
        outage = self.rng.choice((Fault.STORE_DOWN, Fault.KAFKA_DOWN, Fault.TOPIC_CLOSED))
        seconds = self.rng.uniform(0.2, 8.0)
        self.outage = outage
        self.faults.note(self.loop.time(), outage, f"{seconds:.1f} s")
        if outage is Fault.STORE_DOWN:
            self.depose_relay()
        self.loop.call_later(seconds, setattr, self, "outage", None)

    def _rebalance_any(self) -> None:
        stage = self.rng.choice((Stage.INITIATION, Stage.EXECUTION))
        self.faults.note(self.loop.time(), Fault.REBALANCED, stage)
        self.rebalance(stage)

    def _disable_key(self) -> None:
        self.faults.note(self.loop.time(), Fault.KEY_DISABLED, PARTNER)
        self.verifier.refused[SIGNED] = _DISABLED
        # Whoever had looked at the key before is gone: what is sent from now on was looked at after it.
        for worker in [w for w in self.workers if w.stage is Stage.EXECUTION]:
            self.crash(worker)
        self.auditor.key_gone = True

    def _forge(self) -> None:
        self.faults.note(self.loop.time(), Fault.DISPATCH_FORGED, NETWORK)
        self.forged.add(self.kafka.write(forge(self, self.rng, len(self.forged))).reference)

    # --- clearing ---

    def _clear_early(self) -> None:
        self._clear(early=True)

    def _clear(self, *, early: bool) -> bool:
        """The network clears what stands in its books and was not cleared before; False: there is nothing.

        Early: also what the gateway does not know of yet.
        """
        standing = [
            e
            for e in self.host.entries.values()
            if e.state is EntryState.APPROVED
            and e.trace.rrn not in self._cleared
            and e.trace.rrn in self.auditor.intents
        ]
        if not standing:
            return False
        self._cycles += 1
        if early:
            self.faults.note(self.loop.time(), Fault.CLEARED_EARLY, f"{len(standing)} entries")
        self._cleared.update(e.trace.rrn for e in standing)
        now = self.clock.now()
        for record in clearing_messages(standing, self._cycles, now, self._network_rng, self._corrected):
            self.kafka.write(record)
        return True

    def _corrected(self, text: str) -> None:
        self.faults.note(self.loop.time(), Fault.CLEARING_CORRECTED, text)

    def awaiting_match(self) -> Iterator[str]:
        """Orders that are approved, and whose clearing came before that and was told as a break."""
        broken = {row.record.rrn for row in self.database.clearing.rows.values() if row.found is not None}
        for payment in self.database.payments.rows.values():
            if payment.state.value == "approved" and payment.trace is not None and payment.trace.rrn in broken:
                yield payment.order_id

    # --- coming to rest ---

    def put_consent(self, terms: ConsentTerms) -> None:
        """Store a consent that the customer has authorised."""
        self.database.put_consent(Consent(terms, 1, ConsentStatus.AUTH))

    async def live(self) -> None:
        """From the first order to rest; then every invariant is checked."""
        for stage, count in WORKERS.items():
            for _ in range(count):
                self.start(stage)
        self._plan()
        await asyncio.sleep(FAULTS_END_S)
        while await self._come_to_rest() and self._clear(early=False):
            pass
        for worker in self.workers:
            worker.crash()
        check_at_rest(self)

    async def _come_to_rest(self) -> bool:
        deadline = self.loop.time() + REST_WITHIN_S
        while self.loop.time() < deadline:
            await asyncio.sleep(1.0)
            if not (left := left_to_do(self)):
                return True
        self.violated("everything ends", f"after {REST_WITHIN_S:.0f} quiet seconds there is still: {', '.join(left)}")
        return False

    # --- what became of it ---

    def endings(self) -> Counter[str]:
        """Payments by final state, refused orders, dead letters."""
        ends = Counter(p.state.value for p in self.database.payments.rows.values())
        ends["refused"] += len(self.database.refusals.rows)
        ends["parked"] += len({p.record.reference for p in self.parked})
        return +ends

    def seen(self) -> Counter[str]:
        """Steps of payments, and what stages counted."""
        return self.auditor.steps + self.observer.counts + Counter({"answers to no exchange": self.wire.unmatched})

    def digest(self) -> str:
        """Of every fault, commit, published record and message sent."""
        told = blake2b(digest_size=16)
        for at, fault, where in self.faults.log:
            told.update(f"{at:.9f} {fault} {where}".encode())
        for line in self.auditor.commits:
            told.update(line.encode())
        for sent in self.wire.sent:
            told.update(f"{sent.at:.9f} {sent.worker} {sent.request.trace}".encode())
        for topic in self.kafka.topics():
            for record in self.kafka.records(topic):
                told.update(record.value)
        told.update(f"{self.steps} {self.rng.random()}".encode())
        return told.hexdigest()


EVENTS: Final = events_topic(PARTNER)
_FORGED: Final = Reason(code=ReasonCode.DS17, text="signature does not match the body")
_DISABLED: Final = Reason(code=DISABLED_CODE, text="signing key is disabled")
_FAULT_OF: Final = {
    Act.REVOKE: Fault.CONSENT_REVOKED,
    Act.SUSPEND: Fault.CONSENT_SUSPENDED,
    Act.RESUME: Fault.CONSENT_RESUMED,
    Act.AMEND: Fault.CONSENT_AMENDED,
    Act.STEAL: Fault.FOREIGN_TOKEN,
}


def simulate(seed: int, *, traced: bool = False) -> Outcome:
    """Run one world to its end. Nothing outside of it is touched but Python's global random numbers."""
    stamina.instrumentation.set_on_retry_hooks(())
    # The retries' jitter comes from there.
    random.seed(seed)
    world = World(seed, traced=traced)
    for terms in world.script.consents:
        world.put_consent(terms)
    world.database.put_merchant(merchant())
    try:
        world.loop.run(world.live())
    except NothingLeftError:
        world.violated("everything ends", "somebody waits for what can never come")
    finally:
        world.loop.close()
    return Outcome(
        seed=seed,
        violations=world.violations,
        faults=world.faults.counts(),
        endings=world.endings(),
        seen=world.seen(),
        digest=world.digest(),
        fault_log=world.faults.log,
        trace=world.trace,
    )
