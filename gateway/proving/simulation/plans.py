"""What happens to a world at times that are drawn before: partners write, operators act, and things break."""

import asyncio
from typing import Final

from gateway.consents.changing import ConsentCommandRefusedError, ConsentUnknownError, change_consent_status
from gateway.consents.rules.consent import ConsentCommand
from gateway.proving.memory import MemoryStore
from gateway.proving.simulation.checks.audit import Auditor
from gateway.proving.simulation.crew.crew import Crew
from gateway.proving.simulation.crew.parts import Surroundings
from gateway.proving.simulation.crew.worker import Worker
from gateway.proving.simulation.cycles import ClearingCycles
from gateway.proving.simulation.faults import Fault, Faults
from gateway.proving.simulation.loop import SkewedClock, VirtualLoop
from gateway.proving.simulation.script.commands import amended
from gateway.proving.simulation.script.forging import forge
from gateway.proving.simulation.script.recipient import KIDS, recipient
from gateway.proving.simulation.script.scene import (
    CUSTOMER,
    DISABLED_CODE,
    NETWORK,
    PARTNER,
    RECIPIENT,
    SIGNED,
    TOKEN,
    Act,
    Command,
    DataRequest,
    DataScript,
    Produced,
    Stage,
)
from schemas.consents import Purpose
from schemas.primitives import ConsentId
from schemas.reasons import Reason

FAULTS_END_S: Final = 14.0
"""Past the traffic, so that recoveries are disturbed too."""

MEANWHILES_MAX: Final = 3

_DISABLED: Final = Reason(code=DISABLED_CODE, text="signing key is disabled")
_FAULT_OF: Final = {
    Act.REVOKE: Fault.CONSENT_REVOKED,
    Act.SUSPEND: Fault.CONSENT_SUSPENDED,
    Act.RESUME: Fault.CONSENT_RESUMED,
    Act.AMEND: Fault.CONSENT_AMENDED,
    Act.STEAL: Fault.FOREIGN_TOKEN,
}


class Plans:
    """One world's.

    Attributes:
        written: what partners wrote, with each record's reference.
        forged: references of what others wrote for execution.
    """

    def __init__(
        self,
        around: Surroundings,
        crew: Crew,
        auditor: Auditor,
        cycles: ClearingCycles,
        faults: Faults,
        *,
        loop: VirtualLoop,
        clock: SkewedClock,
    ) -> None:
        self.written: list[tuple[Produced, str]] = []
        self.forged: set[str] = set()
        self._around = around
        self._crew = crew
        self._auditor = auditor
        self._cycles = cycles
        self._faults = faults
        self._loop = loop
        self._clock = clock
        self._rng = faults.rng
        self._meanwhiles = 0

    def begin(self) -> None:
        """Plan everything from now on."""
        self._crew.on_meanwhile = self._meanwhile
        loop, rng, script = self._loop, self._rng, self._around.script
        for produced in script.produced:
            loop.call_at(produced.at, self._produce, produced)
        for command in script.commands:
            loop.call_at(command.at, self._command, command)
        if script.data is not None:
            self._begin_data(script.data)
        for at, what in script.false_proofs:
            loop.call_at(max(0.0, at), self._caused, Fault.FALSE_PROOF, what)
        for terms in script.consents:
            ends_at = (terms.valid_until - script.epoch).total_seconds()
            if ends_at < FAULTS_END_S:
                loop.call_at(ends_at, self._caused, Fault.CONSENT_EXPIRED, terms.consent_id)
        for times, cause in (
            ((0, 0, 1, 1, 2, 4), self._crash_any),
            ((0, 0, 1, 2), self._cut_any),
            ((0, 0, 0, 1, 2), self._go_down),
            ((0, 0, 1), self._cycles.clear_early),
            ((0, 0, 0, 1), self._rebalance_any),
            ((0,) * 15 + (1,), self._disable_key),
            ((0,) * 5 + (1,), self._withdraw_token),
            ((0, 0, 0, 1, 3), self._forge),
            ((0, 0, 0, 1, 2), self._stop_any),
        ):
            for _ in range(rng.choice(times)):
                loop.call_at(rng.uniform(0.0, FAULTS_END_S), cause)
        loop.call_at(FAULTS_END_S, self._faults.stop)

    def _begin_data(self, data: DataScript) -> None:
        loop = self._loop
        for asked in data.requests:
            loop.call_at(asked.at, self._ask, asked)
        for number, at in enumerate(sorted(data.key_changes), 1):
            loop.call_at(at, self._change_key, KIDS[number % len(KIDS)])

    def _ask(self, asked: DataRequest) -> None:
        if not asked.right:
            self._caused(Fault.FALSE_REQUEST, asked.request.request_id)
        self._around.kafka.write(asked.record)

    def _change_key(self, kid: str) -> None:
        self._caused(Fault.RECIPIENT_KEY_CHANGED, kid)
        self._around.database.recipients.rows[RECIPIENT] = recipient(RECIPIENT, kid)
        self._auditor.exports.key_changed(kid)

    def _meanwhile(self, worker: Worker) -> None:
        """A few times in a world: while somebody uses a customer's data, what permits it ends, or is another."""
        rng, script = self._rng, self._around.script
        if self._meanwhiles == MEANWHILES_MAX:
            return
        self._meanwhiles += 1
        of = rng.choice(script.consents)
        what = rng.choice((Act.REVOKE, Act.SUSPEND, Act.AMEND, Act.AMEND, None))
        if what is Act.AMEND:
            record = amended(script, of, f"meanwhile-{self._meanwhiles}", rng)
            self._command(Command(self._loop.time(), what, of.consent_id, record))
        elif what is not None:
            self._command(Command(self._loop.time(), what, of.consent_id, None))
        elif worker.stage is Stage.PORTABILITY and rng.random() < 0.5:
            # For longer than its lease: another makes the export, and then it goes on.
            self._crew.freeze(worker, rng.uniform(8.0, 20.0))
        elif script.data is not None:
            self._change_key(rng.choice(KIDS))

    def _caused(self, fault: Fault, where: str) -> None:
        self._faults.note(self._loop.time(), fault, where)

    # --- partners, customers, operators ---

    def _produce(self, produced: Produced) -> None:
        if produced.again:
            self._caused(Fault.DUPLICATED, f"{produced.kind} {produced.order_id}")
        record = self._around.kafka.write(produced.record)
        self.written.append((produced, record.reference))

    def _command(self, command: Command) -> None:
        self._caused(_FAULT_OF[command.act], command.consent_id)
        if command.record is not None:
            self._around.kafka.write(command.record)
            return
        self._loop.create_task(self._operate(command))

    async def revoke_some(self) -> None:
        """Every second consent ends while what was paid under it is being settled and shared."""
        for terms in self._around.script.consents[::2]:
            await asyncio.sleep(self._rng.uniform(0.0, 1.5))
            # Where it has purposes for data, now and then one of them alone.
            alone = terms.portability is not None and self._rng.random() < 0.5
            purposes = (self._rng.choice((Purpose.MARKETING, Purpose.SHARING)),) if alone else None
            await self._operate(Command(self._loop.time(), Act.REVOKE, terms.consent_id, None), purposes)

    async def _operate(self, command: Command, purposes: tuple[Purpose, ...] | None = None) -> None:
        around, key = self._around, (PARTNER, ConsentId(command.consent_id))
        store = MemoryStore(around.database)
        try:
            await change_consent_status(store, self._clock, key, ConsentCommand(command.act.value), purposes=purposes)
        except (ConsentCommandRefusedError, ConsentUnknownError):
            around.observer.count("consents", "operator_refused")

    def _withdraw_token(self) -> None:
        self._loop.create_task(self._withdrawn_for_a_while())

    async def _withdrawn_for_a_while(self) -> None:
        """As an operator does it: the permission is withdrawn, then the locks of all consents are waited for."""
        database = self._around.database
        self._caused(Fault.TOKEN_WITHDRAWN, TOKEN)
        database.put_token(TOKEN, CUSTOMER)
        async with MemoryStore(database).transaction() as uow:
            await uow.consents.lock(sorted(database.consents.rows))
        self._auditor.withdrawn = True
        await asyncio.sleep(self._rng.uniform(0.1, 4.0))
        self._caused(Fault.TOKEN_ALLOWED, TOKEN)
        self._auditor.withdrawn = False
        database.put_token(TOKEN, CUSTOMER, PARTNER)

    def _disable_key(self) -> None:
        self._caused(Fault.KEY_DISABLED, PARTNER)
        self._around.verifier.refused[SIGNED] = _DISABLED
        # Whoever had looked at the key before is gone: what is sent from now on was looked at after it.
        for worker in self._crew.of(Stage.EXECUTION):
            self._crew.crash(worker)
        self._auditor.key_gone = True

    # --- what breaks ---

    def _crash_any(self) -> None:
        worker = self._rng.choice(self._crew.workers)
        self._caused(Fault.CRASH, worker.name)
        self._crew.crash(worker)

    def _stop_any(self) -> None:
        worker = self._rng.choice(self._crew.workers)
        self._caused(Fault.STOPPED, worker.name)
        self._crew.stop(worker)

    def _cut_any(self) -> None:
        linked = [w for w in self._crew.workers if w.links is not None]
        if not linked:
            return
        links = (worker := self._rng.choice(linked)).links
        self._caused(Fault.LINK_CUT, worker.name)
        if links is not None:
            links.cut()
            self._loop.call_later(self._rng.uniform(0.1, 5.0), links.open)

    def _go_down(self) -> None:
        outage = self._rng.choice((Fault.STORE_DOWN, Fault.KAFKA_DOWN, Fault.TOPIC_CLOSED))
        seconds = self._rng.uniform(0.2, 8.0)
        self._faults.outage = outage
        self._caused(outage, f"{seconds:.1f} s")
        if outage is Fault.STORE_DOWN:
            self._crew.depose_relay()
        self._loop.call_later(seconds, setattr, self._faults, "outage", None)

    def _rebalance_any(self) -> None:
        stage = self._rng.choice((Stage.INITIATION, Stage.EXECUTION))
        self._caused(Fault.REBALANCED, stage)
        self._crew.rebalance(stage)

    def _forge(self) -> None:
        self._caused(Fault.DISPATCH_FORGED, NETWORK)
        around = self._around
        record = forge(around.script, around.kafka, around.dispatch, self._rng, len(self.forged))
        self.forged.add(around.kafka.write(record).reference)
