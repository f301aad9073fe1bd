"""Dead letters as the console shows them: read by one look at a time, for the topic may be long; counted on and on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from gateway.app.dead_letters import letter_keys, operators_kafka
from gateway.app.errors import NotConfiguredError
from gateway.app.letters_by_cause import ByCause, read_by_cause
from gateway.app.open_letters import OpenLetters
from gateway.app.settings import Settings
from gateway.base.process import Clock
from gateway.messaging.reader import KafkaUnavailableError, TopicMissingError, open_reader
from gateway.sealing.files import SecretFileError
from schemas.topics import DEAD_LETTER

FRESH: Final = timedelta(seconds=5)

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
    """What was last found; looked for again once that is some seconds old, by one request at a time.

    Attributes:
        open: how many letters nobody has sent again; None where that is not known.
    """

    settings: Settings
    clock: Clock
    open: int | None = None
    _found: dict[tuple[str | None, int], tuple[datetime, ByCause]] = field(default_factory=dict)
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def by_cause(self, *, each: int, only: str | None = None) -> ByCause:
        """Letters by their causes, the first ``each`` of each; ``only``: of the cause of this key alone.

        Raises:
            KafkaUnavailableError, TopicMissingError, NotConfiguredError, SecretFileError: they cannot be read.
        """
        async with self._looking:
            since = self.clock.now() - FRESH
            self._found = {asked: found for asked, found in self._found.items() if found[0] >= since}
            if (only, each) not in self._found:
                kafka = operators_kafka(self.settings, client_id="mypay-console")
                found = await read_by_cause(kafka, lambda: letter_keys(self.settings), each=each, only=only)
                self._found[only, each] = self.clock.now(), found
            return self._found[only, each][1]

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
