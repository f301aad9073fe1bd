"""The one place where parts are put together: settings in, use cases on real adapters out; one module a process."""

from gateway.bootstrap.consents import consent_service
from gateway.bootstrap.errors import NotConfiguredError
from gateway.bootstrap.events import SettlementParts, clearing_seals, relay_service, settlement_parts
from gateway.bootstrap.execution import ExecutionParts, execution_parts
from gateway.bootstrap.initiation import InitiationParts, initiation_parts
from gateway.bootstrap.kafka import kafka_settings, password_file
from gateway.bootstrap.process import (
    Parts,
    SystemClock,
    process_parts,
    watch_consumer,
)
from gateway.bootstrap.schedule import ScheduleParts, schedule_parts

__all__ = [
    "ExecutionParts",
    "InitiationParts",
    "NotConfiguredError",
    "Parts",
    "ScheduleParts",
    "SettlementParts",
    "SystemClock",
    "clearing_seals",
    "consent_service",
    "execution_parts",
    "initiation_parts",
    "kafka_settings",
    "password_file",
    "process_parts",
    "relay_service",
    "schedule_parts",
    "settlement_parts",
    "watch_consumer",
]
