"""How many dead letters are open, counted on and on."""

from msgspec.structs import replace

from gateway.app.open_letters import OpenLetters
from gateway.app.sending_again import Asked, replay
from gateway.messaging.dead_letters import looks_like_note
from tests.unit.app.test_dead_letters import FORGED, KEYS, RECORD, Topic, topic

__all__ = ["topic"]


async def test_what_is_parked_is_open_until_it_is_sent_again(topic: Topic) -> None:
    letters = OpenLetters(topic, KEYS)
    assert await letters.count() == 0
    topic.park(RECORD, replace(RECORD, offset=43))
    topic.park(RECORD)  # again, by another worker
    topic.records.append(FORGED)
    assert await letters.count() == 3
    await replay(None, KEYS, Asked([RECORD.reference]))  # type: ignore[arg-type]
    assert await letters.count() == 1
    topic.records.append(topic.records[0])  # copied by somebody after its note
    assert await letters.count() == 1
    topic.park(RECORD)
    assert await letters.count() == 2


async def test_a_note_may_come_before_its_letter(topic: Topic) -> None:
    topic.park(RECORD)
    await replay(None, KEYS, Asked([RECORD.reference]))  # type: ignore[arg-type]
    topic.records.sort(key=looks_like_note, reverse=True)
    assert looks_like_note(topic.records[0])
    assert await OpenLetters(topic, KEYS).count() == 0


async def test_what_was_read_is_not_needed_again(topic: Topic) -> None:
    topic.park(RECORD, replace(RECORD, offset=43))
    letters = OpenLetters(topic, KEYS)
    assert await letters.count() == 2
    topic.records.clear()
    topic.park(replace(RECORD, offset=44))
    assert await letters.count() == 3
