"""When fetches are sent, and how long they wait at their broker.

aiokafka 0.14 has one fetch a broker in flight (read). It asks for the partitions whose records have been taken, and not
for those of which some are still here. What comes to a partition that it asks for ends its wait at once, so a fetch
for all of a broker's partitions may wait for as long as it likes. What comes to another one waits for the fetch's
end: so a fetch for some of them waits shortly.

It fetches ahead while a batch is handled, and that fetch ends with the first record that comes. All that comes behind
it is then a batch late: it is fetched while the next batch is handled, and handled after that. So a stage that takes
less than it could holds fetches back while it works; the next one brings all that came meanwhile. Under full load it
fetches ahead, for then there is more than a batch anyway.

This reaches into aiokafka, whose version is pinned; tests on a real broker tell if an upgrade breaks it.
"""

import asyncio
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.consumer import fetcher

FETCH_WAIT_MS: Final = 250
"""Of a fetch that asks for everything: no record is later for it, and an idle consumer asks four times a second. What
the broker is asked beside it (offsets, after a rebalance) waits behind it."""

RARE_WAIT_MS: Final = 1000
"""Likewise, of a consumer to which little ever comes: it asks once a second, and can wait as long after a rebalance."""

PARTIAL_WAIT_MS: Final = 10
"""Of any other: how late a record can be for it. It is asked under load alone, with work at hand."""

HELD_S: Final = 0.2
"""For no longer are fetches held back: a stage that stands still must come to know what waits for it."""

SELDOM_S: Final = 0.05
"""Between fetches for some of a broker's partitions, of a consumer that takes a few records at a time of much that is
there: while it has records of one sender at hand, it would ask a hundred times a second for others'."""

GAPS_MAX: Final = 100
"""Remembered until they are asked for; each partition has one now and then, if any."""

MISSED_S: Final = 1.0
"""A topic that is read and not there is asked for so often: left to itself aiokafka asks every five minutes, and a
member without partitions seems to have nothing to do."""

Gap = tuple[TopicPartition, int, int]
"""A partition, and from which offset up to which (not included) there is nothing any more."""


class PatientFetcher(fetcher.Fetcher):  # type: ignore[misc]
    """aiokafka's fetcher, with waits of both kinds, that can hold fetches back.

    Attributes:
        holds_back: whether it does, from a batch that was not full until more is asked for.
        partial_every_s: a fetch for some of a broker's partitions is sent no sooner than this after the last one.
    """

    holds_back = False
    partial_every_s = 0.0
    _held_until = float("-inf")
    _partial_at = float("-inf")
    _looked_at = float("-inf")
    _asked_of: Any = None
    _gaps: tuple[Gap, ...] = ()
    _asked: dict[TopicPartition, int]
    _given_up: dict[TopicPartition, int]

    async def fetched_records(self, partitions: Any, timeout: float = 0, max_records: int | None = None) -> Any:  # noqa: ASYNC109 - aiokafka's signature
        """As aiokafka's, between which nothing is fetched: see the module's text."""
        if self._held_until > float("-inf"):
            self._held_until = float("-inf")
            self._notify(self._wait_consume_future)
        drained = await super().fetched_records(partitions, timeout, max_records)
        if self.holds_back and drained and (max_records is None or sum(map(len, drained.values())) < max_records):
            # One that is in flight ends as it would.
            self._held_until = asyncio.get_running_loop().time() + HELD_S
        return drained

    def _get_actions_per_node(self, assignment: Any) -> Any:
        fetches, resets, timeout, is_stale, *others = super()._get_actions_per_node(assignment)
        now = asyncio.get_running_loop().time()
        others = [is_stale or self._misses_topic(now), *others]
        self._note_gaps(assignment, fetches, resets)
        left = self._held_until - now
        if fetches and left > 0:
            return [], resets, min(timeout, left), *others
        whole: list[Any] = []
        partial: list[Any] = []
        for node, request in fetches:
            asked = sum(len(partitions) for _, partitions in request.topics)
            there = sum(self._select_read_replica(partition) == node for partition in assignment.tps)
            (partial if asked < there else whole).append((node, request))
        if partial and (rest := self._partial_at + self.partial_every_s - now) > 0:
            return whole, resets, min(timeout, rest), *others
        for _, request in partial:
            request._max_wait_ms = min(PARTIAL_WAIT_MS, request._max_wait_ms)  # noqa: SLF001
            self._partial_at = now
        return [*whole, *partial], resets, timeout, *others

    def _misses_topic(self, now: float) -> bool:
        """True where a topic is not there, as while an operator makes it again: then all are asked for."""
        if now - self._looked_at < MISSED_S:
            return False
        self._looked_at = now
        subscription, cluster = self._subscriptions.subscription, self._client.cluster
        return subscription is not None and not all(map(cluster.partitions_for_topic, subscription.topics))

    def take_gaps(self) -> tuple[Gap, ...]:
        """What was gone before anybody had read it, since it was asked last.

        Where a partition is assigned anew before anything of it is committed, its gap is found, and told, again.
        """
        gaps, self._gaps = self._gaps, ()
        return gaps

    def _note_gaps(self, assignment: Any, fetches: Any, resets: Any) -> None:
        """A place that a broker has no more is given up, and it is gone on with from the first that there is.

        aiokafka says so to nobody. Where that one lies behind the place, what stood between was dropped unread; where
        it lies before it, the topic was made again.
        """
        if self._asked_of is not assignment:
            self._asked_of, self._asked, self._given_up = assignment, {}, {}
        for partition in (p for partitions in resets.values() for p in partitions):
            if (asked := self._asked.pop(partition, None)) is not None:
                self._given_up[partition] = asked
        for _, request in fetches:
            for topic, partitions in request.topics:
                for number, offset, _ in partitions:
                    partition = TopicPartition(topic, number)
                    self._asked[partition] = offset
                    before = self._given_up.pop(partition, offset)
                    if before < offset and len(self._gaps) < GAPS_MAX:
                        self._gaps = (*self._gaps, (partition, before, offset))
