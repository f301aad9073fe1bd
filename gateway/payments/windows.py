"""The windows that a payment counts in, as text: one column of its row."""

from collections.abc import Sequence
from datetime import UTC, datetime

from gateway.consents.rules.limits import WindowKey


def write_windows(windows: Sequence[WindowKey]) -> str:
    """``month/calendar/KRW@1761922800 …``, seconds since the epoch; limit keys have no blank and no "@".

    A consent's own windows begin when it does, also within a second: ``lifetime/KRW@1761922800.000250``.
    """
    return " ".join(f"{w.limit_key}@{_write_second(w.starts_at)}" for w in windows)


def read_windows(text: str) -> tuple[WindowKey, ...]:
    """Inverse of :func:`write_windows`."""
    pairs = (item.rsplit("@", 1) for item in text.split())
    return tuple(WindowKey(key, _read_second(second)) for key, second in pairs)


def _write_second(moment: datetime) -> str:
    if not moment.microsecond:
        return str(int(moment.timestamp()))
    return f"{int(moment.replace(microsecond=0).timestamp())}.{moment.microsecond:06d}"


def _read_second(text: str) -> datetime:
    second, _, microsecond = text.partition(".")
    moment = datetime.fromtimestamp(int(second), UTC)
    return moment.replace(microsecond=int(microsecond)) if microsecond else moment
