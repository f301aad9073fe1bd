"""How many dead letters are open, for whoever looks again and again: what was read once is not read again."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from gateway.app.letter_survey import fate_of, paced
from gateway.messaging.dead_letters import LetterKeys, looks_like_note, read_note
from gateway.messaging.records import Record


class Reader(Protocol):
    """As :class:`gateway.messaging.reader.TopicReader`: each time it goes on from where it stands."""

    def read_all(self) -> AsyncIterator[Record]:
        """Yield every record from its place to what is the end now."""


@dataclass(slots=True)
class OpenLetters:
    """Letters as far as the topic has been read. Only what bears the gateway's mark counts, and each letter once.

    Attributes:
        letters, replayed: ids of letters, and of those whose originals were sent again. A note may come before its
            letter, for they stand in different partitions, and a letter again after its note, where somebody copies it.
    """

    reader: Reader
    keys: LetterKeys
    letters: set[str] = field(default_factory=set)
    replayed: set[str] = field(default_factory=set)

    async def count(self) -> int:
        """How many are open by now.

        Raises:
            KafkaUnavailableError, TopicMissingError: the topic cannot be read.
        """
        async for record in paced(self.reader.read_all(), _let_others):
            if looks_like_note(record) and (noted := read_note(record, self.keys)) is not None:
                self.replayed.add(noted.letter_id)
            elif (fate := fate_of(record, self.keys)) is not None:
                self.letters.add(fate.letter_id)
        return len(self.letters - self.replayed)


async def _let_others() -> None:
    """Much may be there at once: others of this process want to go on meanwhile."""
    await asyncio.sleep(0)
