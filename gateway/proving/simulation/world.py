"""One world: put together from its seed, and brought from the first order to rest."""

import asyncio
import random
from collections import Counter
from contextlib import suppress
from hashlib import blake2b
from random import Random
from typing import Any, Final

import stamina.instrumentation

from gateway.consents.rules.consent import Consent
from gateway.directory.funding import OwnedToken
from gateway.marketing.rules.campaign import CampaignRow
from gateway.messaging.records import Record
from gateway.network.exchange import CardData
from gateway.network.matching import MatchBy
from gateway.payments.dispatch import Dispatch
from gateway.portability.rules.records import Export, ExportState
from gateway.proving.memory import Database, MemoryHost, MemoryVerifier
from gateway.proving.simulation.affiliates import Affiliates
from gateway.proving.simulation.checks.at_rest import check_at_rest
from gateway.proving.simulation.checks.audit import Auditor
from gateway.proving.simulation.checks.rest import unfinished, unread
from gateway.proving.simulation.checks.told import Remains
from gateway.proving.simulation.crew.broker import Broker
from gateway.proving.simulation.crew.crew import DATA_WORKERS, WORKERS, Crew
from gateway.proving.simulation.crew.parts import Surroundings
from gateway.proving.simulation.crew.stages import ANSWER_TIMEOUT_S, INTENT_TO_WIRE_S, Assembly
from gateway.proving.simulation.cycles import ClearingCycles
from gateway.proving.simulation.faults import Fault, Faults
from gateway.proving.simulation.loop import NothingLeftError, SkewedClock, VirtualLoop
from gateway.proving.simulation.outcome import UNEXPECTED, CountingObserver, Findings, Outcome
from gateway.proving.simulation.plans import FAULTS_END_S, Plans
from gateway.proving.simulation.script.commands import hands_data_over, merchant, write_script
from gateway.proving.simulation.script.proofs import IDENTITIES, trusted
from gateway.proving.simulation.script.recipient import KIDS, recipient
from gateway.proving.simulation.script.scene import (
    CUSTOMER,
    FOREIGN_PAN,
    FOREIGN_TOKEN,
    OTHER_CUSTOMER,
    OTHER_PAN,
    OTHER_RECIPIENT,
    OTHER_TOKEN,
    PAN,
    PARTITIONS,
    PARTNER,
    RECIPIENT,
    SHARED_WITH,
    TAMPERED,
    TOKEN,
    VICTIM,
    DataScript,
    Script,
)
from gateway.proving.simulation.wire.wire import Wire
from gateway.sealing.mac import HmacMarks
from gateway.sealing.sealing import MasterKeys, Purpose
from gateway.sharing.rules.records import Approval
from schemas.consents import ConsentStatus
from schemas.events import EventType
from schemas.portability import EXPORT_CHUNK_TYPE, EXPORT_COMPLETE_TYPE
from schemas.reasons import Reason, ReasonCode
from schemas.sharing import SharingUse
from schemas.topics import events_topic

REST_WITHIN_S: Final = 180.0
"""By then everything has ended: recovery, leases, repeats and their polls take less than a third of it."""

GRANTED_WITHIN_S: Final = 9.0
"""After a payment was settled: three looks at who may have an offer, and time to read what was told of it."""

INTERNAL_KEYS: Final = MasterKeys({"20260101": bytes(range(32))})
"""The same in every world, so that a seed tells everything; whoever forges records in a world does not have them."""

EVENTS: Final = events_topic(PARTNER)
_FORGED: Final = Reason(code=ReasonCode.DS17, text="signature does not match the body")
_CARDS: Final = {
    OwnedToken(TOKEN, CUSTOMER): CardData(PAN, "2912"),
    OwnedToken(FOREIGN_TOKEN, VICTIM): CardData(FOREIGN_PAN, "2912"),
    OwnedToken(OTHER_TOKEN, OTHER_CUSTOMER): CardData(OTHER_PAN, "2912"),
}


class World:
    """Everything that one seed determines. Its parts are given what they need of each other, and none of it."""

    def __init__(self, seed: int, *, traced: bool = False) -> None:
        self.seed = seed
        self.loop = VirtualLoop(self._uncaught)  # type: ignore[abstract]  # no sockets, no signals
        self.rng = rng = Random(seed)  # noqa: S311 - repeatable is what it must be
        self.findings = findings = Findings(self.loop.time, [] if traced else None)
        self.faults = faults = Faults(rng, journal=findings.trace)
        script = write_script(rng)
        self.clock = clock = SkewedClock(self.loop, script.epoch)
        self.observer = CountingObserver()
        self.database = database = _database()
        self.kafka = Broker(clock, partitions=PARTITIONS)
        self.host = MemoryHost()
        self.auditor = Auditor(
            database, self.host, findings.violated, self.loop.time, script=script, wire_bound_s=INTENT_TO_WIRE_S
        )
        self.auditor.journal = findings.trace
        database.on_commit = self.auditor.committed
        self.wire = Wire(
            self.host,
            faults,
            rng,
            ANSWER_TIMEOUT_S,
            script.decline_amounts,
            rng.choice((MatchBy.STRICT, MatchBy.REFERENCE)),
            on_leave=self.auditor.left,
            violated=findings.violated,
        )
        self.affiliates = Affiliates(
            self.kafka,
            clock,
            loop=self.loop,
            rng=Random(f"affiliates {seed}"),  # noqa: S311
            caused=lambda fault, where: faults.note(self.loop.time(), fault, where),
        )
        self.kafka.on_write = self._written
        self.around = around = self._surroundings(script)
        self.crew = Crew(
            Assembly(around),
            database,
            epoch=script.epoch,
            loop=self.loop,
            rng=rng,
            faults=faults,
            findings=findings,
            workers=WORKERS if script.data is None else WORKERS | DATA_WORKERS,
        )
        self.cycles = ClearingCycles(
            self.host,
            self.kafka,
            clock,
            known=lambda: self.auditor.intents,
            rng=Random(~seed),  # noqa: S311
            caused=lambda fault, where: faults.note(self.loop.time(), fault, where),
        )
        self.plans = Plans(around, self.crew, self.auditor, self.cycles, faults, loop=self.loop, clock=clock)
        for terms in script.consents:
            # The customer has authorised them.
            database.put_consent(Consent(terms, 1, ConsentStatus.AUTH))
        if script.data is not None:
            _put_data(database, script.data)

    def _surroundings(self, script: Script) -> Surroundings:
        trust, assertions = trusted(script.asked)
        return Surroundings(
            script=script,
            database=self.database,
            kafka=self.kafka,
            wire=self.wire,
            observer=self.observer,
            cards=dict(_CARDS),
            verifier=MemoryVerifier({TAMPERED: _FORGED}),
            affiliates=MemoryVerifier({TAMPERED: _FORGED}, owners={a: a for a in SHARED_WITH}),
            trust=trust,
            assertions=assertions,
            dispatch=Dispatch(HmacMarks(INTERNAL_KEYS, Purpose.DISPATCH_MARK)),
            waiting_marks=HmacMarks(INTERNAL_KEYS, Purpose.WAITING_MARK),
            is_closed=self._is_closed,
            parked=[],
        )

    def _uncaught(self, context: dict[str, Any]) -> None:
        if self.loop.is_closed():
            # What still waited when the world ended is thrown away with it.
            return
        error = context.get("exception")
        self.findings.violated(UNEXPECTED, f"{context.get('message')}: {type(error).__name__}: {error}")

    def _written(self, record: Record) -> None:
        self.auditor.exports.left(record)
        self.affiliates.read(record)

    def _is_closed(self, topic: str) -> bool:
        """True for the partner's topic while it is closed."""
        return self.faults.outage == Fault.TOPIC_CLOSED and topic == EVENTS

    # --- its life ---

    async def live(self) -> None:
        """From the first order to rest; then every invariant is checked."""
        self.crew.start_all()
        self.plans.begin()
        await asyncio.sleep(FAULTS_END_S)
        while await self._come_to_rest() and self.cycles.clear():
            await self.plans.revoke_some()
        self.crew.end_all()
        check_at_rest(self._remains())

    async def _come_to_rest(self) -> bool:
        deadline = self.loop.time() + REST_WITHIN_S
        while self.loop.time() < deadline:
            await asyncio.sleep(1.0)
            if not (left := self._left_to_do()):
                return True
        text = f"after {REST_WITHIN_S:.0f} quiet seconds there is still: {', '.join(left)}"
        self.findings.violated("everything ends", text)
        return False

    def _left_to_do(self) -> list[str]:
        """Name everything that a world at rest does not have."""
        left = unread(self.kafka, self.around.script.data) + unfinished(self.database, self.clock.now())
        if self.affiliates.pending:
            left.append("what affiliates are about to write")
        if self.around.script.data is not None and self.loop.time() < self.auditor.paid_at + GRANTED_WITHIN_S:
            left.append("offers to whoever has paid")
        if self.wire.travelling:
            left.append("messages on the wire")
        left.extend(f"{w.name}, frozen" for w in self.crew.workers if w.frozen_until > self.loop.time())
        return left

    # --- what became of it ---

    def _remains(self) -> Remains:
        return Remains(
            database=self.database,
            kafka=self.kafka,
            host=self.host,
            written=self.plans.written,
            forged=frozenset(self.plans.forged),
            affiliates=self.affiliates,
            exports=self.auditor.exports,
            data=self.around.script.data,
            key_gone=self.auditor.key_gone,
            parked=self.around.parked,
            states=self.auditor.states,
            sent=self.wire.sent,
            notes=self.observer.notes,
            asked=self.around.script.asked,
            violated=self.findings.violated,
        )

    def outcome(self) -> Outcome:
        """What is told of it."""
        return Outcome(
            seed=self.seed,
            violations=self.findings.violations,
            faults=self.faults.counts(),
            endings=self._endings(),
            seen=self.auditor.steps + self.observer.counts + Counter({"answers to no exchange": self.wire.unmatched}),
            digest=self._digest(),
            fault_log=self.faults.log,
            trace=self.findings.trace,
        )

    def _endings(self) -> Counter[str]:
        """Payments by final state, refused orders, dead letters."""
        outcomes = Counter(p.state.value for p in self.database.payments.rows.values())
        outcomes["refused"] += len(self.database.refusals.rows)
        outcomes["parked"] += len({p.record.reference for p in self.around.parked})
        return +outcomes

    def _digest(self) -> str:
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
                # What is sealed, and what signs it, is another's each time.
                told.update(record.key or b"" if _is_sealed(record) else record.value)
        told.update(f"{self.faults.steps} {self.rng.random()}".encode())
        return told.hexdigest()


_SEALED: Final = frozenset({EXPORT_CHUNK_TYPE, EXPORT_COMPLETE_TYPE, EventType.PORTABILITY_DELIVERED.value})


def _is_sealed(record: Record) -> bool:
    return any(name == "ce_type" and value.decode() in _SEALED for name, value in record.headers)


def _put_data(database: Database, data: DataScript) -> None:
    """Recipients, campaigns, and requests of which the first export was whole a week ago."""
    for org_code in (RECIPIENT, OTHER_RECIPIENT):
        database.recipients.rows[org_code] = recipient(org_code, KIDS[0])
    for campaign in data.campaigns:
        database.marketing.campaigns.rows[campaign.campaign_id] = CampaignRow(campaign)
    for stored in data.scheduled:
        request, begun = stored.request, stored.created_at
        database.transmissions.rows[stored.key] = stored
        first = Export(
            partner_id=request.partner_id,
            request_id=request.request_id,
            number=1,
            consent_id=request.consent_id,
            state=ExportState.COMPLETE,
            attempt=1,
            search_from=None,
            created_at=begun,
            changed_at=begun,
            snapshot_at=begun,
            receipt="",
        )
        database.exports.rows[first.key] = first


def _database() -> Database:
    database = Database()
    database.put_token(TOKEN, CUSTOMER, PARTNER)
    database.put_token(FOREIGN_TOKEN, VICTIM, PARTNER)
    database.put_token(OTHER_TOKEN, OTHER_CUSTOMER, PARTNER)
    database.put_merchant(merchant())
    for affiliate in SHARED_WITH:
        # Whoever asks for more than the customer agreed to is given no more.
        use = SharingUse.LOYALTY
        database.sharing.approvals.rows[affiliate, use] = Approval(affiliate, use, "consent", "operator-1")
    database.identity_links.rows.update(IDENTITIES)
    return database


def hands_over(seed: int) -> bool:
    """True of a world that hands customers' data over: nothing of it is run."""
    rng = Random(seed)  # noqa: S311 - as the world's own
    Faults(rng)
    return hands_data_over(rng)


def simulate(seed: int, *, traced: bool = False) -> Outcome:
    """Run one world to its end. Nothing outside of it is touched but Python's global random numbers."""
    stamina.instrumentation.set_on_retry_hooks(())
    # The retries' jitter comes from there.
    random.seed(seed)
    world = World(seed, traced=traced)
    try:
        world.loop.run(world.live())
    except NothingLeftError:
        world.findings.violated("everything ends", "somebody waits for what can never come")
    finally:
        with suppress(NothingLeftError):
            world.loop.run(world.crew.gone())
        world.loop.close()
    return world.outcome()
