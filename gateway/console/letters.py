"""Dead letters as the console shows them: read by one look at a time, for the topic may be long."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from gateway.app.dead_letters import NewestLetters, letter_keys, operators_kafka, read_newest
from gateway.app.settings import Settings
from gateway.base.process import Clock

FRESH: Final = timedelta(seconds=5)
SHOWN_MAX: Final = 200


@dataclass(slots=True)
class Letters:
    """What was last found; looked for again once that is some seconds old, by one request for all."""

    settings: Settings
    clock: Clock
    _found: NewestLetters | None = None
    _found_at: datetime | None = None
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def latest(self) -> NewestLetters:
        """The latest letters, the youngest first.

        Raises:
            KafkaUnavailableError, TopicMissingError: they cannot be read.
        """
        async with self._looking:
            if self._found is None or self._found_at is None or self.clock.now() - self._found_at > FRESH:
                kafka = operators_kafka(self.settings, client_id="mypay-console")
                self._found = await read_newest(kafka, lambda: letter_keys(self.settings), limit=SHOWN_MAX)
                self._found_at = self.clock.now()
            return self._found
