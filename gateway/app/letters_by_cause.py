"""Dead letters by their cause, as the console shows them: a thousand of one cause are one line with a count.

A cause is what one mend ends: the topic of the originals, the stage that gave up, and the reason that it gave.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from gateway.app import dead_letters
from gateway.app.dead_letters import Letter, ShownLetter, bytes_of, shown_letter
from gateway.app.letter_survey import letters_once, survey
from gateway.messaging.dead_letters import LetterKeys
from gateway.messaging.reader import open_reader
from gateway.messaging.settings import KafkaSettings
from schemas.topics import DEAD_LETTER

CAUSES_MAX: Final = 50
"""So many are told apart: those of the youngest letters. A reason holds nothing of a record, so that there are few."""


class Cause(NamedTuple):
    """Why letters are there. ``reason``: as :attr:`gateway.app.dead_letters.Letter.reason`."""

    topic: str
    stage: str
    reason: str

    @property
    def key(self) -> str:
        """Names it in an address, and tells nothing of it: 16 hexadecimal digits."""
        return hashlib.sha256("\0".join(self).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class LettersOfCause:
    """Letters of one cause.

    Attributes:
        open, replayed: how many nobody has sent again, and how many somebody has.
        letters: those that were asked for; open ones before the others, of each the youngest first.
        newest_ms: when the youngest open one was parked, or the youngest of all where none is open.
    """

    cause: Cause
    open: int
    replayed: int
    letters: tuple[ShownLetter, ...]
    newest_ms: int

    @property
    def advice(self) -> str:
        """What to do about them; empty where none was asked for."""
        return self.letters[0].advice if self.letters else ""


@dataclass(frozen=True, slots=True)
class ByCause:
    """What there is: causes with open letters before the others, of each the one of the youngest letter first.

    Attributes:
        others: letters of causes beyond :data:`CAUSES_MAX`.
        strange: records that the gateway did not write.
    """

    causes: tuple[LettersOfCause, ...]
    others: int
    strange: int

    @property
    def open(self) -> int:
        """Letters that nobody has sent again, of the causes that are told."""
        return sum(c.open for c in self.causes)


@dataclass(slots=True)
class _Kept:
    """What is kept of one cause while the topic is read. ``waiting``: letters with their records."""

    each: int
    counts: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})
    newest_ms: dict[bool, int] = field(default_factory=dict)
    shown: list[ShownLetter] = field(default_factory=list)
    waiting: list[Letter] = field(default_factory=list)

    def add(self, letter: Letter) -> None:
        at, replayed = letter.record.timestamp_ms, letter.replayed
        self.counts[replayed] += 1
        self.newest_ms[replayed] = max(at, self.newest_ms.get(replayed, at))
        self.waiting.append(letter)

    def settle(self) -> None:
        """Keep what is among the first so far, without its record."""
        self.waiting.sort(key=lambda x: (x.replayed, -x.record.timestamp_ms))
        shown = [replace(shown_letter(x), replayed=x.replayed) for x in self.waiting[: self.each]]
        self.shown = sorted([*self.shown, *shown], key=lambda x: (x.replayed, -x.timestamp_ms))[: self.each]
        self.waiting.clear()

    @property
    def youngest(self) -> int:
        return self.newest_ms.get(False, self.newest_ms.get(True, 0))


async def read_by_cause(
    kafka: KafkaSettings, load_keys: Callable[[], LetterKeys], *, each: int, only: str | None = None
) -> ByCause:
    """All letters by their causes, however long the topic is; of each cause the first ``each`` are kept as shown.

    ``only``: the key of one cause; nothing is told of others then.

    Raises:
        KafkaUnavailableError, TopicMissingError: they cannot be read.
    """
    # What was sent again is told behind the letter: which ones come first must be known before.
    replayed = (await survey(kafka, load_keys, frozenset())).replayed
    kept = dict[Cause, _Kept]()
    others = strange = held = 0

    def settle() -> None:
        for of_cause in kept.values():
            of_cause.settle()

    async with open_reader(kafka, DEAD_LETTER) as reader:
        async for record, fate in letters_once(reader, load_keys(), replayed):
            if fate is None:
                strange += 1
                continue
            letter = Letter(record, fate, replayed=fate.letter_id in replayed)
            cause = Cause(fate.topic, fate.stage, letter.reason)
            if only is not None and cause.key != only:
                continue
            kept.setdefault(cause, _Kept(each)).add(letter)
            held += bytes_of(record)
            if len(kept) > CAUSES_MAX:
                oldest = kept.pop(min(kept, key=lambda c: kept[c].youngest))
                others += sum(oldest.counts.values())
            if held > dead_letters.HELD_BYTES_MAX:
                await asyncio.to_thread(settle)
                held = 0
    await asyncio.to_thread(settle)
    found = [LettersOfCause(c, k.counts[False], k.counts[True], tuple(k.shown), k.youngest) for c, k in kept.items()]
    found.sort(key=lambda x: (x.open == 0, -x.newest_ms))
    return ByCause(tuple(found), others, strange)
