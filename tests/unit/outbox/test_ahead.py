"""What the relay has told, where transactions end in any order: every event once, the cursor never past one untold."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from gateway.outbox.rules.ahead import AHEAD_MAX, Look, Place, Progress


@dataclass
class Server:
    """Transactions that are numbered as they begin, and end in any order."""

    last: int = 0
    running: list[int] = field(default_factory=list)
    committed: list[Place] = field(default_factory=list)

    @property
    def bound(self) -> int:
        return min(self.running, default=self.last + 1)

    def begin(self) -> None:
        self.last += 1
        self.running.append(self.last)

    def end(self, which: int, events: int) -> None:
        if self.running:
            tx = self.running.pop(which % len(self.running))
            self.committed += [(tx, len(self.committed) + n) for n in range(events)]

    def look(self, progress: Progress, limit: int) -> Look:
        ahead = set(progress.ahead)
        there = sorted(p for p in self.committed if p > progress.cursor and p[1] not in ahead)
        if not progress.has_room:
            there = [p for p in there if p[0] < self.bound]
        return Look(there[:limit], self.bound, is_whole=len(there) < limit)


STEPS = st.lists(
    st.one_of(
        st.just(("begin", 0, 0)),
        st.tuples(st.just("end"), st.integers(0, 9), st.integers(0, 3)),
        # Up to how many rows, and how many of those are told.
        st.tuples(st.just("look"), st.integers(1, 5), st.integers(0, 5)),
    ),
    max_size=60,
)


@given(STEPS)
def test_every_event_is_told_once_and_the_cursor_passes_none(steps: list[tuple[str, int, int]]) -> None:
    server, progress, told = Server(), Progress((0, -1)), list[Place]()

    def relay(limit: int, share: int) -> None:
        look = server.look(progress, limit)
        if not look.places:
            progress.passed(look.bound)
        elif share:
            progress.looked(look)
            part = look.places[:share]
            told.extend(part)
            progress.told(part[-1])
        assert not [p for p in server.committed if p <= progress.cursor and p not in told]
        # Nothing can come to stand there any more.
        assert progress.cursor[0] < server.bound

    for step, first, second in steps:
        match step:
            case "begin":
                server.begin()
            case "end":
                server.end(first, second)
            case _:
                relay(first, second)
    while server.running:
        server.end(0, 1)
    for _ in range(len(server.committed) + 1):
        relay(5, 5)
    assert sorted(told) == sorted(server.committed)
    assert not server.committed or progress.cursor == max(server.committed)
    assert not progress.ahead


def test_there_is_an_end_to_what_is_told_ahead() -> None:
    progress = Progress((0, 0))
    progress.looked(Look([(5, n) for n in range(AHEAD_MAX)], bound=1, is_whole=True))
    assert not progress.told((5, AHEAD_MAX - 2))
    assert progress.has_room
    assert not progress.told((5, AHEAD_MAX - 1))
    assert not progress.has_room
    assert progress.passed(6)
    assert progress.has_room
    assert progress.cursor == (5, AHEAD_MAX - 1)
