"""A partner that leaves a Kafka transaction open holds up what stands behind it in the partition: that must be seen.

Records of a transaction that has not ended were not said yet, and Kafka keeps their order: what others wrote behind the
first of them waits, until the transaction ends or the broker ends it (``transaction.max.timeout.ms``).
"""

from collections.abc import Mapping
from typing import Final

from gateway.base.process import Observer

ALARM_S: Final = 10.0
"""An honest transaction lasts for as long as a batch takes to be confirmed."""

Place = tuple[str, int]


class OpenTransactions:
    """Tells how many records wait behind open transactions, and for how long the oldest has been seen open."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._since: dict[Place, tuple[int, float]] = {}
        self._told: set[Place] = set()

    def look(self, held_back: Mapping[Place, tuple[int, int]], now: float) -> None:
        """Look at (last stable offset, end) of each partition, at a monotonic time in seconds."""
        since: dict[Place, tuple[int, float]] = {}
        for place, (stable, end) in held_back.items():
            if stable < end:
                before = self._since.get(place)
                since[place] = before if before is not None and before[0] == stable else (stable, now)
        self._since = since
        age = max((now - began for _, began in since.values()), default=0.0)
        self._observer.level("open_transaction_seconds", age)
        self._observer.level("open_transaction_records", sum(e - s for s, e in held_back.values() if s < e))
        late = {place for place, (_, began) in since.items() if now - began >= ALARM_S}
        for topic, partition in sorted(late - self._told):
            stable, began = since[topic, partition]
            self._observer.count("consumer", "open_transaction")
            reference = f"{topic}/{partition}/{stable}"
            self._observer.note("open_transaction", level="warning", reference=reference, age_seconds=now - began)
        self._told = late
