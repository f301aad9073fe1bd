"""The loop that whoever reads a topic runs: offsets are committed when the work is done, and never when it failed."""

from collections.abc import Sequence

import pytest

from gateway.messaging.consuming import consume
from gateway.messaging.records import Record
from tests.support.stages import RecordedBatches


def record(offset: int) -> Record:
    return Record("t", 0, offset, 1_000, b"k", b"v", ())


async def test_a_batch_is_committed_after_it_was_handled() -> None:
    batches = RecordedBatches([record(1), record(2)], [], [record(3)])
    committed_before: list[int] = []
    progress: list[str] = []

    async def handle(_: Sequence[Record]) -> None:
        committed_before.append(len(batches.committed))

    await consume(batches, handle, progress=lambda: progress.append("told"))
    assert committed_before == [0, 2]
    assert [r.offset for r in batches.committed] == [1, 2, 3]
    assert progress == ["told", "told"]


async def test_a_batch_that_fails_ends_the_loop_and_is_not_committed() -> None:
    batches = RecordedBatches([record(1)], [record(2)], [record(3)])

    async def handle(records: Sequence[Record]) -> None:
        if records[0].offset == 2:
            raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await consume(batches, handle, progress=lambda: None)
    assert [r.offset for r in batches.committed] == [1]


async def test_each_assignment_is_told_before_its_first_batch() -> None:
    batches = RecordedBatches([record(1)], [record(2)], [record(3)])
    seen: list[object] = []

    async def assigned() -> None:
        seen.append("assigned")

    async def handle(records: Sequence[Record]) -> None:
        seen.append(records[0].offset)
        if records[0].offset == 2:
            batches.generation = "another"

    await consume(batches, handle, progress=lambda: None, on_assigned=assigned)
    assert seen == ["assigned", 1, 2, "assigned", 3]
