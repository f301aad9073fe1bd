"""Which Kafka cluster a database belongs to: one row, noted by whoever comes first and changed by operators alone."""

from gateway.database.queries import load
from gateway.database.statements import OnConnection

_SQL = load(__name__, "belonging")


class PostgresBelonging(OnConnection):
    """The row, on a connection that others open."""

    async def noted(self) -> str | None:
        """The cluster's id; None where nobody has noted one."""
        return next((row["cluster_id"] for row in await self._fetch(_SQL.known)), None)

    async def note(self, cluster_id: str) -> str:
        """Note it where none is; return the one that is noted."""
        if (found := await self.noted()) is None:
            await self._fetch(_SQL.note, cluster_id)
            found = await self.noted()
        return found or cluster_id

    async def move(self, cluster_id: str) -> str | None:
        """Let the database belong to this cluster from now on; return the one that it belonged to."""
        before = await self.noted()
        await self._fetch(_SQL.move, cluster_id)
        return before
