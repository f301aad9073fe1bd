"""Sending dead letters again, cut off at every step: what was sent is known, and the next attempt sends the rest."""

from collections import Counter
from collections.abc import Sequence
from itertools import count
from typing import Any, Final

import pytest
from msgspec.structs import replace

from gateway.app import sending_again as module
from gateway.app.dead_letters import read_newest
from gateway.app.errors import OperationRefusedError
from gateway.app.letter_survey import open_references
from gateway.app.sending_again import Asked, CutOffError, StoppedError, replay
from gateway.base.errors import PublisherUnavailableError, TooLargeForTopicError, TopicClosedError
from gateway.messaging.dead_letters import looks_like_note
from gateway.messaging.records import Outgoing, Record
from schemas.topics import DEAD_LETTER
from tests.unit.app.test_dead_letters import KEYS, RECORD, Topic, topic

__all__ = ["topic"]

LETTERS: Final = 12
STEP: Final = 3
CALLS: Final = 16
"""Four steps, in each of which originals of two topics are published, and their notes."""

PROPOSAL: Final = "01970000-0000-7000-8000-000000000001"
KAFKA: Final[Any] = None
RECORDS: Final[dict[str, Record]] = {
    r.reference: r
    for n in range(LETTERS)
    for r in [replace(RECORD, topic=f"mypay.orders-{n % 2}", offset=n, value=b"%d" % n)]
}
REFERENCES: Final = list(RECORDS)


@pytest.fixture
def parked(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> Topic:
    monkeypatch.setattr(module, "STEP_LETTERS", STEP)
    topic.park(*RECORDS.values())
    return topic


async def noted(topic: Topic) -> set[str]:
    found = await read_newest(KAFKA, lambda: KEYS, limit=100)
    return {x.reference for x in found.letters if x.replayed}


def sent(topic: Topic) -> Counter[str]:
    """How often each original was sent."""
    names = {r.value: reference for reference, r in RECORDS.items()}
    return Counter(names[o.value] for o in topic.published if o.topic != DEAD_LETTER)


def cut(topic: Topic, monkeypatch: pytest.MonkeyPatch, at: int, *, taken: bool) -> list[int]:
    """Let the publication of that number fail; ``taken``: Kafka has it all the same."""
    publish, calls = topic.publish, [0]

    async def failing(outgoing: Sequence[Outgoing]) -> None:
        number, calls[0] = calls[0], calls[0] + 1
        if number != at or taken:
            await publish(outgoing)
        if number == at:
            raise PublisherUnavailableError("Kafka did not confirm a batch in time")

    monkeypatch.setattr(topic, "publish", failing)
    return calls


async def test_it_is_sent_in_steps_of_bounded_length(parked: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = cut(parked, monkeypatch, CALLS, taken=True)
    assert (await replay(KAFKA, KEYS, Asked(REFERENCES)))[1] == {}
    assert calls == [CALLS]
    assert sent(parked) == Counter(REFERENCES)


@pytest.mark.parametrize("taken", [False, True], ids=["not taken", "taken"])
@pytest.mark.parametrize("at", range(CALLS))
async def test_wherever_it_is_cut_off_what_was_sent_is_known_and_the_next_attempt_sends_the_rest(
    parked: Topic, monkeypatch: pytest.MonkeyPatch, at: int, taken: bool
) -> None:
    with monkeypatch.context() as patched:
        cut(parked, patched, at, taken=taken)
        with pytest.raises(CutOffError) as told:
            await replay(KAFKA, KEYS, Asked(REFERENCES, only_open=True, proposal_id=PROPOSAL))
    account, before = told.value, await noted(parked)
    doubt = set(account.in_doubt)
    assert before - doubt == set(account.replayed)
    assert 0 < len(doubt) <= STEP
    assert len(account.replayed) + len(doubt) + account.left == LETTERS
    assert set(account.replayed) <= set(sent(parked)) <= {*account.replayed, *doubt}
    # The cause is not gone: what was sent is parked anew. It was not what was proposed.
    parked.park(*(RECORDS[reference] for reference in account.replayed))
    again, refused = await replay(KAFKA, KEYS, Asked(REFERENCES, only_open=True, proposal_id=PROPOSAL))
    assert (set(again), refused) == (set(REFERENCES) - before, {})
    assert {r for r, times in sent(parked).items() if times > 1} <= doubt
    assert set(sent(parked)) == set(REFERENCES)
    assert await replay(KAFKA, KEYS, Asked(REFERENCES, only_open=True, proposal_id=PROPOSAL)) == ([], {})


async def test_what_is_listed_as_open_is_sent_again_though_a_younger_letter_of_it_is_noted(parked: Topic) -> None:
    """Two workers parked it. The note of one letter is there, the other letter's is not."""
    first, *_ = REFERENCES
    parked.park(RECORDS[first])
    await replay(KAFKA, KEYS, Asked([first]))
    del parked.records[-2]  # the older letter's note
    assert (await open_references(KAFKA, lambda: KEYS))[0] == first
    again, _ = await replay(KAFKA, KEYS, Asked(REFERENCES, only_open=True))
    assert set(again) == set(REFERENCES)
    assert await open_references(KAFKA, lambda: KEYS) == []


async def test_of_one_proposal_what_was_sent_for_it_is_passed_over_and_nothing_else(topic: Topic) -> None:
    """Whoever copies notes, or a clock that is wrong, must hide nothing that two people want to be sent."""
    first = REFERENCES[0]
    other = "01970000-0000-7000-8000-000000000002"
    topic.park(RECORDS[first])

    async def again(proposal: str | None) -> bool:
        replayed, refused = await replay(KAFKA, KEYS, Asked([first], proposal_id=proposal))
        assert refused == {}
        return replayed == [first]

    assert await again(None)
    assert await again(PROPOSAL)
    topic.park(RECORDS[first])  # its cause is not gone
    notes = [r for r in topic.records if looks_like_note(r)]
    topic.records += [replace(r, offset=1_000 + n, timestamp_ms=2**42) for n, r in enumerate(notes)]
    assert not await again(PROPOSAL)
    assert await again(other)
    assert not await again(other)
    assert await again(None)


async def test_what_was_sent_for_another_and_is_open_anew_is_sent(topic: Topic) -> None:
    both = REFERENCES[:2]
    topic.park(*(RECORDS[r] for r in both))
    await replay(KAFKA, KEYS, Asked(both[:1]))
    topic.park(RECORDS[both[0]])
    assert set((await replay(KAFKA, KEYS, Asked(both, only_open=True, proposal_id=PROPOSAL)))[0]) == set(both)


class ClosedError(Exception):
    """Somebody says that no more may be sent."""


@pytest.mark.parametrize(
    ("cause", "told"),
    [(OperationRefusedError("it has been decided before"), StoppedError), (ClosedError("away"), CutOffError)],
)
async def test_of_what_may_not_go_on_nobody_is_told_that_another_attempt_would(
    parked: Topic, cause: Exception, told: type[CutOffError]
) -> None:
    asked = count()

    async def go_on() -> None:
        if next(asked) == 3:
            raise cause

    with pytest.raises(CutOffError) as raised:
        await replay(KAFKA, KEYS, Asked(REFERENCES, go_on=go_on))
    assert type(raised.value) is told
    assert ("The next attempt" in str(raised.value)) == (told is CutOffError)


async def test_before_each_step_it_is_asked_whether_to_go_on(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the topic is looked at, where it is read, and before each of eight parts."""
    monkeypatch.setattr(module, "STEP_LETTERS", STEP)
    questions = 2 + CALLS // 2
    for number in range(questions + 1):
        topic.records.clear()
        topic.published.clear()
        topic.park(*RECORDS.values())
        asked = [0]

        async def go_on(asked: list[int] = asked, number: int = number) -> None:
            asked[0] += 1
            if asked[0] > number:
                raise ClosedError("its time is over")

        if number == questions:
            await replay(KAFKA, KEYS, Asked(REFERENCES, go_on=go_on))
            assert sent(topic) == Counter(REFERENCES)
            continue
        with pytest.raises((ClosedError, CutOffError)) as told:
            await replay(KAFKA, KEYS, Asked(REFERENCES, go_on=go_on))
        if number <= 2:
            assert (type(told.value), topic.published) == (ClosedError, [])
            continue
        assert isinstance(told.value, CutOffError)
        assert told.value.in_doubt == ()
        assert set(sent(topic)) == set(told.value.replayed) == await noted(topic)
        assert len(told.value.replayed) + told.value.left == LETTERS
        assert str(told.value).startswith("its time is over. ")


MIXED: Final = [REFERENCES[0], REFERENCES[2], REFERENCES[4], REFERENCES[6]]
"""Of one topic."""


@pytest.mark.parametrize("step", [1, 2, 3, 100])
@pytest.mark.parametrize("confirms", [False, True], ids=["nothing of it is there", "what came before it is there"])
@pytest.mark.parametrize(
    "large", [set(), {0}, {1}, {3}, {1, 2}, {0, 1, 2, 3}], ids=lambda large: "".join(map(str, sorted(large))) or "none"
)
async def test_one_that_its_topic_does_not_take_is_told_and_holds_up_no_other(
    topic: Topic, monkeypatch: pytest.MonkeyPatch, step: int, confirms: bool, large: set[int]
) -> None:
    """It came compressed better than it is packed here: each attempt would end with it, and all behind it wait."""
    monkeypatch.setattr(module, "STEP_LETTERS", step)
    topic.park(*(RECORDS[reference] for reference in MIXED))
    too_large = {RECORDS[MIXED[n]].value for n in large}
    publish = topic.publish

    async def bounded(outgoing: Sequence[Outgoing]) -> None:
        for n, o in enumerate(outgoing):
            if o.topic != DEAD_LETTER and o.value in too_large:
                error = TooLargeForTopicError(o.topic)
                if confirms:
                    await publish(outgoing[:n])
                    error.confirmed = frozenset(range(n))
                raise error
        await publish(outgoing)

    monkeypatch.setattr(topic, "publish", bounded)
    replayed, refused = await replay(KAFKA, KEYS, Asked(MIXED))
    assert set(refused) == {MIXED[n] for n in large}
    assert set(refused.values()) <= {"larger than topic mypay.orders-0 takes, as it is packed here"}
    assert Counter(replayed) == Counter(sent(topic)) == Counter(r for n, r in enumerate(MIXED) if n not in large)
    assert await noted(topic) == set(replayed)
    assert set(await open_references(KAFKA, lambda: KEYS)) == set(refused)


async def test_what_a_topic_took_before_it_was_closed_was_sent(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    topic.park(*(RECORDS[reference] for reference in MIXED))
    publish = topic.publish

    async def closing(outgoing: Sequence[Outgoing]) -> None:
        if outgoing[0].topic == DEAD_LETTER:
            await publish(outgoing)
            return
        await publish([outgoing[0], outgoing[2]])
        error = TopicClosedError(outgoing[0].topic)
        error.confirmed = frozenset({2, 0})
        raise error

    monkeypatch.setattr(topic, "publish", closing)
    replayed, refused = await replay(KAFKA, KEYS, Asked(MIXED))
    assert (replayed, set(refused)) == ([MIXED[0], MIXED[2]], {MIXED[1], MIXED[3]})
    assert await noted(topic) == set(replayed)
