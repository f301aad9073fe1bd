"""The machine's clock. Apart from the processes: whoever only wants to know the time imports none of what they are."""

from datetime import UTC, datetime


class SystemClock:
    """Implements :class:`gateway.base.process.Clock`."""

    def now(self) -> datetime:
        """Aware UTC."""
        return datetime.now(UTC)
