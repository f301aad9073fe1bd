"""Parking: records that no stage could read go to the dead-letter topic, and what is searched of them stays bounded.

What a dead letter looks like: :mod:`gateway.messaging.dead_letters`.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.base.errors import PublisherUnavailableError, TooLargeForTopicError
from gateway.messaging.dead_letters import SCAN_BYTES_MAX, LetterKeys, dead_letters, place_alone, size_of
from gateway.messaging.records import Outgoing, Publisher, Record
from gateway.sealing.sealing import MasterKeys

SCAN_BYTES_A_SECOND: Final = 64 * 1024
"""And of what comes steadily: some fifty orders, in a fiftieth of a second. A flood's are searched no more, for those
who share the process with it would wait: sealing takes a fifth of that time."""

ON_LOOP_BYTES_MAX: Final = 4 * 1024
"""More is searched and sealed on a thread, so that it holds nobody up."""


@dataclass(frozen=True, slots=True)
class _Unconfirmed:
    """Letters that were built and not confirmed yet. It keeps the records, so that their identities stay theirs."""

    batch: tuple[object, ...]
    records: Sequence[tuple[Record, Exception]] = field(repr=False)
    letters: list[Outgoing] = field(repr=False)


class KafkaDeadLetters:
    """Implements :class:`gateway.messaging.records.DeadLetters`.

    Args:
        keys: the ring of dead letters.
    """

    def __init__(self, publisher: Publisher, keys: MasterKeys) -> None:
        self._publisher = publisher
        self._keys = LetterKeys(keys)
        self._unconfirmed: _Unconfirmed | None = None
        self._searchable = float(SCAN_BYTES_MAX)
        self._searchable_at = float("-inf")

    async def park(self, stage: str, records: Sequence[tuple[Record, Exception]]) -> None:
        """Publish each record to the dead-letter topic with the reason; return when all are durably there.

        Each is searched for secrets once, however often this is repeated with the same records after a failure. Of one
        that the topic does not take as large as it is, the place alone is told.

        Raises:
            PublisherUnavailableError: not all were confirmed.
        """
        batch = (stage, *((id(record), id(error)) for record, error in records))
        if self._unconfirmed is None or self._unconfirmed.batch != batch:
            size = sum(size_of(record) for record, _ in records)
            searched_max = self._search(size)
            if size > ON_LOOP_BYTES_MAX:
                letters = await asyncio.to_thread(dead_letters, stage, records, self._keys, searched_max)
            else:
                letters = dead_letters(stage, records, self._keys, searched_max)
            self._unconfirmed = _Unconfirmed(batch, records, letters)
        unconfirmed = self._unconfirmed
        await self._publish(stage, unconfirmed)
        if self._unconfirmed is unconfirmed:
            self._unconfirmed = None

    async def _publish(self, stage: str, unconfirmed: _Unconfirmed) -> None:
        letters, short = unconfirmed.letters, set[int]()
        while True:
            try:
                await self._publisher.publish(letters)
            except TooLargeForTopicError as error:
                if not error.numbers - short:
                    # No letter at all fits: then it is as if the topic were away.
                    raise PublisherUnavailableError(str(error)) from error
                short |= error.numbers
                for n in error.numbers:
                    letters[n] = place_alone(stage, *unconfirmed.records[n], self._keys)
            else:
                return

    def _search(self, size: int) -> int:
        """How many bytes may be searched now, of records of so many; they count as searched."""
        now = asyncio.get_running_loop().time()
        gained = (now - self._searchable_at) * SCAN_BYTES_A_SECOND
        self._searchable = min(SCAN_BYTES_MAX, self._searchable + gained)
        self._searchable_at = now
        allowed = int(self._searchable)
        self._searchable -= min(size, allowed)
        return allowed
