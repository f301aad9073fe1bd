"""Where the time of payments' ways went: the gateway's own histograms of hops, between two moments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from gateway.observability.metrics import HOP_SECONDS, HOPS

Counts = Mapping[tuple[str, float], float]
"""(hop, upper bound of a bucket) → payments that took no longer."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop; ``p50_ms`` and ``p99_ms`` are as exact as the buckets are narrow."""

    name: str
    payments: int
    p50_ms: float
    p99_ms: float


async def read_hops(urls: Sequence[str]) -> Counts:
    """What processes tell under these base URLs, added up."""
    found: dict[tuple[str, float], float] = {}
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        for url in urls:
            async with session.get(f"{url}/metrics") as answer:
                text = await answer.text()
            for family in text_string_to_metric_families(text):
                if family.name != HOP_SECONDS.name:
                    continue
                for sample in family.samples:
                    if sample.name.endswith("_bucket"):
                        place = (sample.labels["hop"], float(sample.labels["le"]))
                        found[place] = found.get(place, 0.0) + sample.value
    return found


def hops_between(before: Counts, after: Counts) -> list[Hop]:
    """Each hop that any payment took between the two, in the order of the way."""
    told = []
    for name in HOPS:
        bounds = sorted(bound for hop, bound in after if hop == name)
        upto = [(bound, after[name, bound] - before.get((name, bound), 0.0)) for bound in bounds]
        if upto and upto[-1][1] > 0:
            told.append(Hop(name, int(upto[-1][1]), _quantile(upto, 0.5) * 1000, _quantile(upto, 0.99) * 1000))
    return told


def _quantile(upto: Sequence[tuple[float, float]], share: float) -> float:
    """In seconds, evenly spread within a bucket; of the last one its lower bound."""
    wanted = share * upto[-1][1]
    for (low, below), (high, count) in pairwise([(0.0, 0.0), *upto]):
        if count >= wanted:
            return low if high == float("inf") else low + (high - low) * (wanted - below) / (count - below)
    return upto[-1][0]
