"""Dead letters as the console shows them: read by one look at a time, for the topic may be long."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from gateway.app.dead_letters import Letter, content_of, letter_keys, operators_kafka, read_letters
from gateway.app.settings import Settings
from gateway.base.process import Clock

FRESH: Final = timedelta(seconds=5)
SHOWN_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Found:
    """The latest letters with what people may see of them, and how many records the gateway did not write."""

    at: datetime
    letters: tuple[tuple[Letter, dict[str, Any]], ...]
    strange: int


@dataclass(slots=True)
class Letters:
    """What was last found; looked for again once that is some seconds old, by one request for all."""

    settings: Settings
    clock: Clock
    _found: Found | None = None
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def latest(self) -> Found:
        """The latest letters, the youngest first.

        Raises:
            KafkaUnavailableError, TopicMissingError: they cannot be read.
        """
        async with self._looking:
            if self._found is None or self.clock.now() - self._found.at > FRESH:
                self._found = await self._look()
            return self._found

    async def _look(self) -> Found:
        kafka = operators_kafka(self.settings, client_id="mypay-console")
        everything = await read_letters(kafka, lambda: letter_keys(self.settings))
        own = [x for x in everything if x.fate is not None]
        told = tuple((x, content_of(x)) for x in reversed(own[-SHOWN_MAX:]))
        return Found(self.clock.now(), told, len(everything) - len(own))
