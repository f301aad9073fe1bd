"""A place in Kafka (topic, partition, offset) that is used again, in words of SQL.

A place is another record's once its topic was made again, or the gateway has moved to another Kafka. What was written
of it before any record that can still come is not of this one: its row stays, and the next is written as ``PLACE@2``.
"""

from typing import Final

KEPT_DAYS: Final = 30
"""Longer ago than any topic keeps a record, none of that time can come again."""

RECORDS_MAX: Final = 5
"""Records at one place that are told from one another: each was read more than :data:`KEPT_DAYS` before the next."""

_NAMES: Final = [f"'@{n}'" for n in range(2, RECORDS_MAX + 1)]

WORDS: Final = {
    "place.since": f"greatest(now() - interval '{KEPT_DAYS} days', (SELECT moved_at FROM kafka_cluster))",  # noqa: S608 - ours
    "place.again": f"ARRAY[{', '.join(f'place || {_name}' for _name in _NAMES)}]",
}
"""For ``{…}`` in statements: from when on what was written is of a record that can still come; and under which names
the later records at the column ``place`` are written."""
