"""What executes one card network, with its vault."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.app.errors import NotConfiguredError
from gateway.app.keys import Ring, dispatch, load_ring
from gateway.app.process import Parts, dead_letters, publisher
from gateway.app.settings import Settings
from gateway.app.trust import proving
from gateway.consents.ended_watch import EndedConsentWatch
from gateway.directory.cards import MasterKeyRing
from gateway.directory.store import TokenVault
from gateway.directory.vault import PostgresTokenVault
from gateway.messaging.consumer import BatchConsumer
from gateway.messaging.isolation import IsolatedBatch
from gateway.network.iso8583.config import NetworkConfig, load_networks
from gateway.network.iso8583.pool import Iso8583Network
from gateway.network.iso8583.reporting import LinkMetrics
from gateway.network.port import CardNetwork
from gateway.payments.execution import ExecutionService, ExecutionSettings
from gateway.payments.results import ResultSettings
from gateway.payments.unknown.follow_ups import FollowUpKind, FollowUpService, FollowUpSettings
from gateway.payments.unknown.inquiry import Inquiry
from gateway.payments.unknown.late_answers import LateAnswerService
from gateway.payments.unknown.recovery import RecoveryService, RecoverySettings
from gateway.payments.unknown.reversal import Reversal
from gateway.payments.unknown.verdicts import UnknownPolicy
from schemas.primitives import NetworkId
from schemas.topics import dispatch_topic


@dataclass(frozen=True, slots=True)
class ExecutionParts:
    """What executes one network: its links are being made, and its consumer is not started yet."""

    network: Iso8583Network
    consumer: BatchConsumer
    service: ExecutionService
    inquiries: FollowUpService
    reversals: FollowUpService
    late_answers: LateAnswerService
    recovery: RecoveryService
    isolated: IsolatedBatch
    watch: EndedConsentWatch

    async def waiting(self) -> int:
        """Orders that could be executed now: none while the network is closed, for then they are meant to wait."""
        return await self.consumer.lag() if self.network.is_open else 0


@asynccontextmanager
async def execution_parts(parts: Parts, network_id: NetworkId) -> AsyncIterator[ExecutionParts]:
    """Everything that executes one network.

    Raises:
        NotConfiguredError: there is no file for this network, or a ring of keys is empty.
    """
    settings = parts.settings
    config = load_networks(settings.networks_dir).get(network_id)
    if config is None:
        raise NotConfiguredError(f"no network {network_id} in {settings.networks_dir}")
    vault = token_vault(parts)
    handed_on = dispatch(settings)
    late_answers = LateAnswerService(
        network_id=network_id,
        store=parts.store,
        observer=parts.observer,
        clock=parts.clock,
        codes=config.codes,
        match_by=config.matching,
    )
    network = Iso8583Network(config, on_unmatched=late_answers.take, observer=LinkMetrics(parts.observer))
    consumer = BatchConsumer(
        parts.kafka, parts.observer, topics=[dispatch_topic(network_id)], group_id=f"mypay-execution-{network_id}"
    )
    watch = EndedConsentWatch(
        store=parts.store,
        observer=parts.observer,
        clock=parts.clock,
        settle_s=settings.execution_intent_to_wire_s + config.answer_timeout_s,
    )
    async with proving(parts) as proofs, publisher(parts) as producer:
        parked = dead_letters(parts, producer)
        service = ExecutionService(
            network_id=network_id,
            worker=parts.worker,
            terminals=config.terminals.ids,
            store=parts.store,
            vault=vault,
            network=network,
            dead_letters=parked,
            observer=parts.observer,
            clock=parts.clock,
            settings=_execution_settings(settings, config),
            dispatch=handed_on,
            signatures=proofs.signatures,
            keys=proofs.keys,
            trust=proofs.trust,
            assertions=proofs.assertions,
            watch=watch,
        )
        await network.start()
        try:
            isolated = IsolatedBatch("execution", dead_letters=parked, observer=parts.observer)
            yield ExecutionParts(
                network=network,
                consumer=consumer,
                service=service,
                inquiries=_inquiries(parts, config, network),
                reversals=_reversals(parts, config, vault, network),
                late_answers=late_answers,
                recovery=_recovery(parts, config),
                isolated=isolated,
                watch=watch,
            )
        finally:
            await consumer.stop()
            await network.stop(drain_seconds=0)


def _execution_settings(settings: Settings, config: NetworkConfig) -> ExecutionSettings:
    return ExecutionSettings(
        intent_to_wire_s=settings.execution_intent_to_wire_s,
        results=ResultSettings(
            batch_max=settings.execution_results_max,
            wait_s=settings.execution_results_wait_s,
            policy=UnknownPolicy(config.unknown_policy),
            codes=config.codes,
        ),
    )


def _recovery(parts: Parts, config: NetworkConfig) -> RecoveryService:
    # The longest that a live worker can hold a payment in SENT: from intent to wire, then the answer's time.
    held_s = parts.settings.execution_intent_to_wire_s + config.answer_timeout_s
    return RecoveryService(
        network_id=config.network_id,
        worker=parts.worker,
        store=parts.store,
        observer=parts.observer,
        clock=parts.clock,
        policy=UnknownPolicy(config.unknown_policy),
        settings=RecoverySettings(
            lease_s=parts.settings.recovery_lease_s,
            held_s=held_s + parts.settings.recovery_margin_s,
        ),
    )


def _inquiries(parts: Parts, config: NetworkConfig, network: CardNetwork) -> FollowUpService:
    kind = Inquiry(deadline_s=config.inquiry_deadline_s, codes=config.codes)
    interval_s = config.inquiry_interval_s
    return _follow_ups(parts, config, network, kind, interval_s=interval_s, interval_max_s=4 * interval_s)


def _reversals(parts: Parts, config: NetworkConfig, vault: TokenVault, network: CardNetwork) -> FollowUpService:
    return _follow_ups(
        parts,
        config,
        network,
        Reversal(alert_after_s=config.reversal_alert_after_s, codes=config.codes),
        interval_s=config.reversal_repeat_interval_s,
        interval_max_s=config.reversal_repeat_max_s,
        vault=vault,
    )


def _follow_ups(
    parts: Parts,
    config: NetworkConfig,
    network: CardNetwork,
    kind: FollowUpKind,
    *,
    interval_s: float,
    interval_max_s: float,
    vault: TokenVault | None = None,
) -> FollowUpService:
    return FollowUpService(
        kind=kind,
        network_id=config.network_id,
        worker=parts.worker,
        store=parts.store,
        network=network,
        observer=parts.observer,
        clock=parts.clock,
        settings=FollowUpSettings(
            batch=parts.settings.follow_up_batch,
            interval_s=interval_s,
            interval_max_s=interval_max_s,
            # Waiting for the socket takes at most a quarter of it, the answer its time-out: twice that is never lost
            # alive.
            lease_s=4 * config.answer_timeout_s,
            in_order=config.follow_ups_in_order,
        ),
        vault=vault,
    )


def token_vault(parts: Parts) -> PostgresTokenVault:
    """The vault over the keys that seal cards.

    Raises:
        NotConfiguredError: there is none.
    """
    keys = load_ring(parts.settings, Ring.CARDS)
    return PostgresTokenVault(parts.store, MasterKeyRing(parts.settings.master_keys_dir, keys))
