"""Gathers the evidence for the check of the books from where it stands: PostgreSQL, Kafka, the networks' ledgers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway.proving.books.evidence import Evidence, Produced
from gateway.proving.collect.ledgers import collect_networks
from gateway.proving.collect.postgres import collect_postgres
from gateway.proving.collect.topics import collect_topics
from gateway.sealing.sealing import MasterKeys

__all__ = ["collect"]


async def collect(
    produced: Sequence[Produced],
    *,
    postgres_dsn: str,
    kafka_bootstrap_servers: str,
    partners: Sequence[str],
    ledgers: Mapping[str, Path],
    dead_letter_keys: MasterKeys,
) -> Evidence:
    """Read all three sides. Call it when nothing moves any more: the sides are not one snapshot.

    Args:
        produced: what the sender sent, in the order of the topic's partitions.
        postgres_dsn: the gateway's database.
        kafka_bootstrap_servers: where the gateway tells partners.
        partners: whose event topics are read.
        ledgers: network id → its ledger file.
        dead_letter_keys: open sealed dead letters, so that their bytes can be compared.
    """
    evidence = Evidence(produced=sorted(produced, key=lambda p: (p.partition, p.offset)))
    await collect_postgres(postgres_dsn, evidence)
    await collect_topics(kafka_bootstrap_servers, partners, dead_letter_keys, evidence)
    collect_networks(ledgers, evidence)
    return evidence
