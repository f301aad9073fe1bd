"""Moments as PostgreSQL takes them, each worked out once.

asyncpg (pinned) works a moment out anew each time that it is written, which takes several times as long as any other
value does. A payment has some sixteen of them, six in arrays, most of which are those of its whole batch,
or of a window that all payments count in.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from asyncpg import Connection

KEPT: Final = 4096
"""Moments that are remembered as they are written, and as they were read: of several batches, and of windows that run.

One that was read before is the same object, whose hash is known: who writes what it has read looks it up at once.
"""

_TYPE: Final = 1184
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


async def write_moments_once(connection: "Connection[Any]") -> None:
    """Let a connection write and read ``timestamptz`` so, before it is used. What has no time zone is refused."""
    # As set_type_codec does, which would ask the server what type it is.
    settings = connection._protocol.get_settings()  # type: ignore[attr-defined]  # noqa: SLF001 - see above
    settings.add_python_codec(_TYPE, "timestamptz", "pg_catalog", [], "scalar", _written, _read, "tuple")


@lru_cache(maxsize=KEPT)
def _written(moment: datetime) -> tuple[int]:
    """Microseconds since the server's epoch. Any error is told by asyncpg as one of the value that it was given."""
    return ((moment - _EPOCH) // _MICROSECOND,)


@lru_cache(maxsize=KEPT)
def _read(written: tuple[int]) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=written[0])
    except OverflowError:
        # PostgreSQL's infinity, as asyncpg tells it: it has no time zone.
        return datetime.max if written[0] > 0 else datetime.min  # noqa: DTZ901
