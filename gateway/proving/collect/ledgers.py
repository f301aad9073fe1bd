"""The networks' own books as evidence."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from gateway.proving.books.evidence import Evidence, NetworkEntry
from gateway.proving.counterparts.books import Books


def collect_networks(ledgers: Mapping[str, Path], evidence: Evidence) -> None:
    """Read every transaction of every network: about 5 µs each."""
    counters: Counter[str] = Counter()
    for network_id, path in ledgers.items():
        with Books(path) as books:
            evidence.network.extend(
                NetworkEntry(
                    network_id,
                    e.rrn,
                    e.amount_minor,
                    e.currency,
                    e.state,
                    e.times_seen,
                    e.cycle_id is not None,
                    e.operation,
                )
                for e in books.entries()
            )
            counters.update(books.totals().counters)
    evidence.network_counters = dict(counters)
