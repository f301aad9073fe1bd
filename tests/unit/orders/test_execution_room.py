"""How far execution is behind is known without waiting for it, and what was handed on meanwhile is not forgotten."""

import asyncio

import pytest

from gateway.orders.room import BESIDE_OTHERS, ExecutionRoom


class Execution:
    """Answers when it is let: ``behind`` as it stood when it was asked."""

    def __init__(self) -> None:
        self.behind = 0
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def backlog(self) -> int:
        self.asked += 1
        behind = self.behind
        await self.may_answer.wait()
        return behind


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_first_look_is_waited_for_and_no_other() -> None:
    execution = Execution()
    execution.behind = 30
    room = ExecutionRoom(execution.backlog, ahead_max=100, look_s=0.0)
    assert await room.free() == 70
    execution.may_answer.clear()
    execution.behind = 90
    assert [await room.free(), await room.free()] == [70, 70]
    await settle()
    assert execution.asked == 2
    room.use(5)
    execution.may_answer.set()
    await settle()
    assert await room.free() == 5


async def test_who_cannot_see_others_leaves_them_nearly_all_of_the_room() -> None:
    execution = Execution()
    room = ExecutionRoom(execution.backlog, ahead_max=80, look_s=1000.0)
    assert await room.free_beside_others() == 80 // BESIDE_OTHERS
    room.use(4)
    assert await room.free_beside_others() == 80 // BESIDE_OTHERS - 4
    execution.behind = 40
    assert await ExecutionRoom(execution.backlog, ahead_max=80).free_beside_others() == 80 // BESIDE_OTHERS - 40


async def test_what_was_handed_on_since_the_last_look_counts() -> None:
    room = ExecutionRoom(Execution().backlog, ahead_max=100, look_s=1000.0)
    assert await room.free() == 100
    room.use(60)
    assert (await room.free(), await room.free_for_patient()) == (40, 15)


@pytest.mark.parametrize(
    ("behind", "used", "looks"),
    [
        pytest.param(0, 0, 0, id="nobody is behind, and nothing was handed on"),
        pytest.param(0, 20, 0, id="what was handed on since is known, and leaves plenty"),
        pytest.param(0, 60, 1, id="little is left"),
        pytest.param(60, 0, 1, id="little was left"),
    ],
)
async def test_it_is_looked_often_where_it_matters_alone(behind: int, used: int, looks: int) -> None:
    execution = Execution()
    execution.behind = behind
    room = ExecutionRoom(execution.backlog, ahead_max=100, look_s=1000.0)
    await room.free()
    assert room._looked_at is not None
    room._looked_at -= 1001.0
    room.use(used)
    await room.free()
    await settle()
    assert execution.asked == 1 + looks


async def test_the_patient_leave_some_of_it_to_whoever_comes_next() -> None:
    execution = Execution()
    execution.behind = 80
    room = ExecutionRoom(execution.backlog, ahead_max=100, look_s=0.001)
    waiting = asyncio.create_task(room.wait_for_patient())
    await settle()
    assert not waiting.done()
    execution.behind = 20
    assert await asyncio.wait_for(waiting, 30) == 55


async def test_who_waits_for_room_is_told_of_what_the_next_look_finds() -> None:
    execution = Execution()
    execution.behind = 80
    room = ExecutionRoom(execution.backlog, ahead_max=100, look_s=0.001)
    assert await room.free_for_patient() == -5
    execution.behind = 20
    await room.pause()
    assert (await room.free_for_patient(), execution.asked) == (55, 2)


async def test_beside_others_nobody_looks_for_who_waits_for_room() -> None:
    execution = Execution()
    execution.behind = 80
    room = ExecutionRoom(execution.backlog, ahead_max=100, look_s=0.001)
    await room.free_for_patient()
    room.use(0, beside_others=["shop"])
    await room.pause()
    assert execution.asked == 1


def test_two_turns_of_the_patient_have_room_at_once() -> None:
    room = ExecutionRoom(Execution().backlog, ahead_max=100)
    assert 1 <= 2 * room.turn_max <= 75


async def test_what_waits_has_room_for_a_whole_turn_or_for_none_where_there_are_no_others() -> None:
    room = ExecutionRoom(Execution().backlog, ahead_max=100, look_s=1000.0)
    assert await room.free_for_turn() == 75
    room.use(75 - room.turn_max)
    assert await room.free_for_turn() == room.turn_max
    room.use(1)
    assert (await room.free_for_patient(), await room.free_for_turn()) == (room.turn_max - 1, 0)
    room.use(room.turn_max)
    assert await room.free_for_turn() == -1


async def test_beside_others_what_waits_begins_turns_of_any_size() -> None:
    room = ExecutionRoom(Execution().backlog, ahead_max=100, look_s=1000.0)
    await room.free()
    room.use(5, beside_others=["shop"])
    assert await room.free_for_turn() == 100 // BESIDE_OTHERS - 5


async def test_beside_others_the_patient_wait_for_nearly_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    room = ExecutionRoom(Execution().backlog, ahead_max=100, look_s=1000.0)
    assert await room.free_for_patient() == 75
    room.use(1, beside_others=["shop"])
    assert room.is_shared()
    assert (await room.free(), await room.free_for_patient()) == (99, 100 // BESIDE_OTHERS - 1)
    monkeypatch.setattr("gateway.orders.room.OTHERS_S", 0.0)
    assert await room.free_for_patient() == 74


async def test_beside_whoever_is_beyond_their_share_too_the_patient_wait_for_no_more() -> None:
    room = ExecutionRoom(Execution().backlog, ahead_max=100, look_s=1000.0)
    await room.free()
    room.use(0, beside_others=["shop", "flood"])
    room.wait_too(["flood", "another"])
    assert room.is_shared()
    room.wait_too(["shop"])
    assert not room.is_shared()
    assert await room.free_for_patient() == 75


async def test_beside_others_the_patient_have_some_of_the_smallest_room_too() -> None:
    room = ExecutionRoom(Execution().backlog, ahead_max=2, look_s=1000.0)
    await room.free()
    room.use(0, beside_others=["shop"])
    assert await room.free_for_patient() == 1
