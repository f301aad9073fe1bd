"""Dead letters as the console shows them: read by one look at a time, for the topic may be long; counted on and on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from gateway.app.dead_letters import NewestLetters, letter_keys, operators_kafka, read_newest
from gateway.app.errors import NotConfiguredError
from gateway.app.open_letters import OpenLetters
from gateway.app.settings import Settings
from gateway.base.process import Clock
from gateway.messaging.reader import KafkaUnavailableError, TopicMissingError, open_reader
from gateway.sealing.files import SecretFileError
from schemas.topics import DEAD_LETTER

FRESH: Final = timedelta(seconds=5)
SHOWN_MAX: Final = 200

EVERY_S: Final = 5.0
"""How often what came is counted."""

ANEW_AFTER: Final = timedelta(hours=1)
"""Then the topic is read from its beginning: what it has forgotten is open no more, and keys may be others."""


class Counting(Protocol):
    """As :class:`gateway.app.open_letters.OpenLetters`."""

    async def count(self) -> int:
        """How many letters are open by now."""


@asynccontextmanager
async def open_letters(settings: Settings) -> AsyncIterator[Counting]:
    """What counts open letters on the configured cluster.

    Raises:
        KafkaUnavailableError, TopicMissingError, NotConfiguredError, SecretFileError: the topic, or what its letters
            are known by, cannot be read.
    """
    kafka = operators_kafka(settings, client_id="mypay-console-letters")
    async with open_reader(kafka, DEAD_LETTER) as reader:
        yield OpenLetters(reader, letter_keys(settings))


@dataclass(slots=True)
class Letters:
    """What was last found; looked for again once that is some seconds old, by one request for all.

    Attributes:
        open: how many letters nobody has sent again; None where that is not known.
    """

    settings: Settings
    clock: Clock
    open: int | None = None
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

    async def keep_counting(
        self,
        opened: Callable[[Settings], AbstractAsyncContextManager[Counting]] = open_letters,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Count what is open for as long as the process lives; while it cannot be read, it is not known."""
        try:
            while True:
                try:
                    async with opened(self.settings) as letters:
                        began = self.clock.now()
                        while self.clock.now() - began < ANEW_AFTER:
                            self.open = await letters.count()
                            await pause(EVERY_S)
                except (KafkaUnavailableError, TopicMissingError, NotConfiguredError, SecretFileError):
                    self.open = None
                    await pause(EVERY_S)
        finally:
            self.open = None
