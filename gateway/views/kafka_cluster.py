"""Which Kafka the database belongs to, for people who look."""

from datetime import datetime

from gateway.database.queries import load
from gateway.views.view import View

_SQL = load(__name__, "kafka_cluster")


class KafkaClusterView(View):
    """What was noted."""

    async def noted(self) -> tuple[str, datetime] | None:
        """The cluster's id, and since when; None where nobody has noted one."""
        return next(((row["cluster_id"], row["noted_at"]) for row in await self._fetch(_SQL.noted)), None)
