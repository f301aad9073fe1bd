"""Gauges of what stands in the database, told by `schedule`: it lives on while the relay, say, stands still."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

from gateway.app.postgres import PostgresStore
from gateway.base.process import Observer
from gateway.base.retrying import until_done
from gateway.views.operating_state import OperatingState

STATE_LABELS: Final[Mapping[str, tuple[str, ...]]] = {
    "outbox_rows": (),
    "outbox_oldest_seconds": (),
    "outbox_parked_rows": (),
    "breaks_open": ("network", "kind", "age"),
    "clearing_age_seconds": ("network",),
    "follow_ups_open": ("network", "kind"),
    "exports_open": (),
    "export_oldest_seconds": (),
    "scheduled_overdue_seconds": (),
    "partners_keys_ending": ("within",),
}
"""By gauge, the labels that a row of the view has values for; ``network`` and ``kind`` of a break are one value."""

Row = tuple[str, str, str, float]


class StateGauges:
    """Tells the gauges of the view ``operating_state``.

    Args:
        read: the view's rows.
        networks: those of which it is told that there is nothing.
    """

    def __init__(
        self, read: Callable[[], Awaitable[Sequence[Row]]], observer: Observer, networks: Collection[str] = ()
    ) -> None:
        self._read = read
        self._observer = observer
        # What there was once and is not now is told to be 0.
        self._known: set[tuple[str, tuple[tuple[str, str], ...]]] = {
            *(("follow_ups_open", (("network", n), ("kind", k))) for n in networks for k in ("reversal", "inquiry")),
            *(("partners_keys_ending", (("within", within),)) for within in ("7d", "30d")),
        }

    async def look(self) -> int:
        """Look once. Returns 0: there is never more to do at once."""
        found = {
            (gauge, _labels(gauge, label, other)): value for gauge, label, other, value in await until_done(self._read)
        }
        self._known |= {one for one in found if one[0] in _COUNTED}
        for gauge, labels in self._known - found.keys():
            self._tell(gauge, 0.0, dict(labels))
        for (gauge, labels), value in found.items():
            self._tell(gauge, value, dict(labels))
        return 0

    def _tell(self, gauge: str, value: float, labels: Mapping[str, str]) -> None:
        self._observer.level(gauge, value, **labels)


_COUNTED: Final = frozenset({"breaks_open", "follow_ups_open", "partners_keys_ending"})


def _labels(gauge: str, label: str, other: str) -> tuple[tuple[str, str], ...]:
    values = (*label.split("/", 1), other) if gauge == "breaks_open" else (label, other)
    names = STATE_LABELS[gauge]
    return tuple(zip(names, values[: len(names)], strict=True))


def state_of(store: PostgresStore) -> Callable[[], Awaitable[Sequence[Row]]]:
    """Read the view over a process's own connections."""

    async def read() -> Sequence[Row]:
        async with store.connection() as connection:
            return await OperatingState(connection).rows()

    return read
