"""Looking through the topic of dead letters: which letters there are, which were sent again, what others wrote.

Of what a letter holds nothing is kept here: :mod:`gateway.app.dead_letters` shows letters,
:mod:`gateway.app.sending_again` sends their originals.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Container
from dataclasses import dataclass, field
from typing import Final

from gateway.messaging.dead_letters import (
    DeadLetterError,
    Fate,
    LetterKeys,
    Note,
    looks_like_note,
    read_fate,
    read_note,
)
from gateway.messaging.reader import TopicReader, open_reader
from gateway.messaging.records import Record
from gateway.messaging.settings import KafkaSettings
from schemas.topics import DEAD_LETTER

LOOKED_AT: Final = 1_000
"""After so many records that are read it is asked whether to go on: whoever waits for that waits for seconds."""

GoOn = Callable[[], Awaitable[None]]
"""Asked while the topic is read, and before anything is sent: raises where it must not go on."""


def fate_of(record: Record, keys: LetterKeys) -> Fate | None:
    """Why a record is a dead letter; None where the gateway did not write it."""
    try:
        return read_fate(record, keys)
    except DeadLetterError:
        return None


async def letters_once(
    reader: TopicReader, keys: LetterKeys, replayed: set[str]
) -> AsyncIterator[tuple[Record, Fate | None]]:
    """Each letter of the topic once, however often it was copied, and each record of somebody else's, without a fate.

    Ids of letters that were sent again are put into ``replayed``.
    """
    met = set[str]()
    async for record in reader.read_all():
        if looks_like_note(record) and (noted := read_note(record, keys)) is not None:
            replayed.add(noted.letter_id)
            continue
        fate = fate_of(record, keys)
        if fate is not None and fate.letter_id in met:
            continue
        if fate is not None:
            met.add(fate.letter_id)
        yield record, fate


async def paced(records: AsyncIterator[Record], go_on: GoOn) -> AsyncIterator[Record]:
    """The records; before the first of them, and now and then, it is asked whether to go on."""
    looked_at = 0
    async for record in records:
        if looked_at % LOOKED_AT == 0:
            await go_on()
        looked_at += 1
        yield record


@dataclass(slots=True)
class Survey:
    """What there is, without what is in it.

    Attributes:
        letters: reference → (when it was parked, its id), of each of its letters; ``stages``: of each letter.
        replayed: ids of letters whose originals were sent again.
        sent_for: these and the proposal for which they were, where two people let it happen.
        strange: references of what the gateway did not write.
    """

    letters: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    stages: dict[str, str] = field(default_factory=dict)
    replayed: set[str] = field(default_factory=set)
    sent_for: set[Note] = field(default_factory=set)
    strange: set[str] = field(default_factory=set)

    def newest(self, reference: str) -> str | None:
        """Id of the newest letter of an original."""
        return max(self.letters[reference])[1] if reference in self.letters else None


async def survey(
    kafka: KafkaSettings,
    load_keys: Callable[[], LetterKeys],
    references: Container[str] | None = None,
    *,
    go_on: GoOn | None = None,
) -> Survey:
    """Look at the whole topic once; ``references``: remember the letters of these originals alone.

    Raises:
        KafkaUnavailableError, TopicMissingError: it cannot be read. What ``go_on`` raises.
    """
    found = Survey()
    async with open_reader(kafka, DEAD_LETTER) as reader:
        keys = load_keys()
        records = reader.read_all()
        async for record in records if go_on is None else paced(records, go_on):
            if looks_like_note(record) and (noted := read_note(record, keys)) is not None:
                found.replayed.add(noted.letter_id)
                if noted.proposal_id is not None:
                    found.sent_for.add(noted)
            elif (fate := fate_of(record, keys)) is None:
                if references is not None and record.reference in references:
                    found.strange.add(record.reference)
            elif (references is None or fate.reference in references) and fate.letter_id not in found.stages:
                found.stages[fate.letter_id] = fate.stage
                found.letters.setdefault(fate.reference, []).append((record.timestamp_ms, fate.letter_id))
    return found


async def open_references(
    kafka: KafkaSettings, load_keys: Callable[[], LetterKeys], stage: str | None = None
) -> list[str]:
    """References of the originals that a letter, of this stage, is open of.

    Raises:
        KafkaUnavailableError, TopicMissingError: they cannot be read.
    """
    found = await survey(kafka, load_keys)
    return [
        reference
        for reference, letters in found.letters.items()
        if any(i not in found.replayed and stage in {None, found.stages[i]} for _, i in letters)
    ]
