"""How things stand in the database, for operators' gauges."""

from collections.abc import Sequence

from gateway.database.queries import load
from gateway.database.statements import OnConnection

_SQL = load(__name__, "operating_state")


class OperatingState(OnConnection):
    """The view ``operating_state``."""

    async def rows(self) -> Sequence[tuple[str, str, str, float]]:
        """(gauge, its first label's value, its second's, what it stands at).

        Raises:
            StoreUnavailableError: the server is away or too slow.
        """
        return [(r["gauge"], r["label"], r["other"], float(r["value"])) for r in await self._fetch(_SQL.rows)]
