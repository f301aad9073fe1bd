"""Sending originals of dead letters again, step by step: what was sent is noted on the topic after each.

So whatever cuts it off leaves an account, and the next attempt passes over what was sent. Of one part of a step at most
nobody knows: its originals may be on their topic, and its notes are not yet. That part is sent again. Stages handle a
record once, whatever they are sent.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from gateway.app.dead_letters import (
    FOREIGN,
    HELD_BYTES_MAX,
    NOT_THERE,
    bytes_of,
    letter_keys,
    operators_kafka,
)
from gateway.app.errors import OperationRefusedError
from gateway.app.letter_survey import GoOn, Survey, fate_of, paced, survey
from gateway.app.settings import Settings
from gateway.base.errors import TooLargeForTopicError, TopicClosedError, UnansweredError
from gateway.base.process import SilentObserver
from gateway.messaging.dead_letters import (
    DeadLetterError,
    Fate,
    LetterKeys,
    Note,
    looks_like_note,
    replay_note,
    restore,
)
from gateway.messaging.producer import KafkaPublisher
from gateway.messaging.reader import open_reader
from gateway.messaging.records import Outgoing, Record
from gateway.messaging.settings import KafkaSettings
from gateway.sealing.sealing import NoMasterKeyError, UnsealError
from gateway.settlement.files import FILE_TOPIC_PREFIX
from schemas.topics import DEAD_LETTER

KAFKA_DEADLINE_S: Final = 10.0
"""A person is told of an outage after this; a leader election takes less."""

STEP_LETTERS: Final = 100
"""Originals of a step, at most. They are up to 1 MiB: of large ones a step has fewer."""


class CutOffError(UnansweredError):
    """Sending again was cut off; the text is the account of it, and its cause is chained.

    Attributes:
        replayed: references of what was sent, and is noted. in_doubt: of what may have been. left: how many were not.
    """

    what_next = "The next attempt passes over what was sent"

    def __init__(self, cause: Exception, replayed: Sequence[str], in_doubt: Sequence[str], left: int) -> None:
        why = str(cause).rstrip(".")
        super().__init__(
            f"{why}. Sent again: {len(replayed)}. Perhaps sent: {len(in_doubt)}. Not sent: {left}. {self.what_next}"
        )
        self.replayed = replayed
        self.in_doubt = in_doubt
        self.left = left


class StoppedError(CutOffError):
    """Sending again was stopped: what let it happen counts no more, so no other attempt may send the rest either."""

    what_next = "The rest may be proposed anew"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for.

    Attributes:
        references: where the originals stood.
        only_open: pass over what somebody has sent again already; it is in no answer.
        proposal_id: what two people let happen: pass over what was sent for it, though it was parked anew since.
        go_on: see there.
    """

    references: Sequence[str]
    only_open: bool = False
    proposal_id: str | None = None
    go_on: GoOn | None = None

    def passes_over(self, reference: str, found: Survey) -> bool:
        """True if this original was sent again already, as far as that is asked."""
        letters = [letter_id for _, letter_id in found.letters[reference]]
        if self.only_open and all(i in found.replayed for i in letters):
            return True
        return self.proposal_id is not None and any(Note(i, self.proposal_id) in found.sent_for for i in letters)


@dataclass(slots=True)
class _Sending:
    """Originals on their way: a step of them is held at a time.

    Attributes:
        replayed, refused: what became of them, by reference.
        step: topic → reference → the original, and the notes that it was sent.
        in_doubt: what is being sent.
    """

    publisher: KafkaPublisher
    go_on: GoOn
    refused: dict[str, str]
    replayed: list[str] = field(default_factory=list)
    step: dict[str, dict[str, tuple[Outgoing, list[Outgoing]]]] = field(default_factory=dict)
    letters: int = 0
    held: int = 0
    in_doubt: Sequence[str] = ()

    async def add(self, reference: str, original: Outgoing, notes: list[Outgoing], held: int) -> None:
        self.step.setdefault(original.topic, {})[reference] = original, notes
        self.letters += 1
        self.held += held
        if self.letters >= STEP_LETTERS or self.held > HELD_BYTES_MAX:
            await self.send()

    async def send(self) -> None:
        """Send what is held, topic by topic: one that is closed, or an original too large, holds up no other."""
        singly = False
        while self.step:
            await self.go_on()
            topic, part = next(iter(self.step.items()))
            self.in_doubt = list(part)[:1] if singly else list(part)
            singly = await self._send_part(topic, part)
            self.in_doubt = ()
            if not part:
                del self.step[topic]
                singly = False
        self.letters = self.held = 0

    async def _send_part(self, topic: str, part: dict[str, tuple[Outgoing, list[Outgoing]]]) -> bool:
        """Send what is in doubt, and take it out of the part; True where the rest has to be sent one by one."""
        sent, refusal = self.in_doubt, None
        try:
            await self.publisher.publish([part[reference][0] for reference in sent])
        except (TopicClosedError, TooLargeForTopicError) as error:
            if error.topic != topic:
                raise
            sent, refusal = [sent[n] for n in sorted(error.confirmed)], error
        await self.publisher.publish([note for reference in sent for note in part[reference][1]])
        self.replayed.extend(sent)
        ended = list(part) if isinstance(refusal, TopicClosedError) else self.in_doubt
        if isinstance(refusal, TooLargeForTopicError) and len(self.in_doubt) > 1:
            # Which of them it was is known once they are sent one by one.
            ended = sent
        for reference in ended:
            del part[reference]
            if reference not in sent:
                self.refused[reference] = str(refusal)
        return len(part) > 0


async def replay(kafka: KafkaSettings, keys: LetterKeys, asked: Asked) -> tuple[list[str], dict[str, str]]:
    """Send originals again to where they came from: same bytes, key and headers.

    However many they are, a bounded part of them is held at a time. A record that was parked twice is sent again once,
    and all its letters are noted. One whose topic is closed is refused, and holds up no other.

    Returns:
        References of what was sent, and of what was not with the reason.

    Raises:
        KafkaUnavailableError, TopicMissingError: the letters cannot be read; nothing was sent.
        CutOffError: something was sent, or may have been; StoppedError where it was refused to go on.
        Whatever ``asked.go_on`` raises, where nothing was sent.
    """
    go_on = asked.go_on or _always
    found = await survey(kafka, lambda: keys, frozenset(asked.references), go_on=go_on)
    refused = {r: NOT_THERE for r in asked.references if r not in found.letters}
    refused |= dict.fromkeys(found.strange & refused.keys(), f"it was {FOREIGN}, and is not sent anywhere")
    wanted = [r for r in asked.references if r in found.letters and not asked.passes_over(r, found)]
    chosen = {found.newest(r): r for r in wanted}
    async with _publisher(kafka) as publisher:
        sending = _Sending(publisher, go_on, refused)
        try:
            await _send_all(kafka, keys, found, chosen, sending, asked.proposal_id)
        except Exception as error:
            if not (sending.replayed or sending.in_doubt):
                raise
            left = len(chosen) + sum(map(len, sending.step.values())) - len(sending.in_doubt)
            kind = StoppedError if isinstance(error, OperationRefusedError) else CutOffError
            raise kind(error, sending.replayed, sending.in_doubt, left) from error
    sending.refused |= dict.fromkeys(chosen.values(), NOT_THERE)
    return sending.replayed, sending.refused


async def _send_all(
    kafka: KafkaSettings,
    keys: LetterKeys,
    found: Survey,
    chosen: dict[str | None, str],
    sending: _Sending,
    proposal_id: str | None,
) -> None:
    """Send the originals of the chosen letters, each of which is taken out of ``chosen`` as it is met."""
    async with open_reader(kafka, DEAD_LETTER) as reader:
        async for record in paced(reader.read_all(), sending.go_on):
            if looks_like_note(record) or (fate := fate_of(record, keys)) is None or fate.letter_id not in chosen:
                continue
            # The same letter copied by somebody is sent again once.
            reference = chosen.pop(fate.letter_id)
            original = _original(record, fate, keys)
            if isinstance(original, str):
                sending.refused[reference] = original
                continue
            notes = [replay_note(Note(i, proposal_id), reference, keys) for _, i in found.letters[reference]]
            await sending.add(reference, original, notes, bytes_of(record))
        await sending.send()


async def replay_references(settings: Settings, asked: Asked) -> tuple[list[str], dict[str, str]]:
    """Send them again on the configured cluster; as :func:`replay`."""
    kafka = operators_kafka(settings, client_id="mypay-replay")
    return await replay(kafka, letter_keys(settings), asked)


async def _always() -> None:
    """Nothing stands in the way."""


@asynccontextmanager
async def _publisher(kafka: KafkaSettings) -> AsyncIterator[KafkaPublisher]:
    publisher = KafkaPublisher(kafka, SilentObserver(), deadline_seconds=KAFKA_DEADLINE_S)
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.stop()


def _original(record: Record, fate: Fate, keys: LetterKeys) -> Outgoing | str:
    """The original as it came, or why it cannot be sent again."""
    if fate.topic.startswith(FILE_TOPIC_PREFIX):
        return "it is a line of a file: correct the file and import it again"
    try:
        original = restore(record, keys)
    except (DeadLetterError, NoMasterKeyError, UnsealError) as error:
        return str(error)
    return Outgoing(topic=fate.topic, key=original.key, value=original.value, headers=original.headers)
