"""After a restore: what partners' and recipients' topics tell of exports since, and these as they stand again."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from gateway.app.postgres import PostgresUnitOfWork
from gateway.consents.postgres import TermsCache
from gateway.database.errors import translated
from gateway.database.queries import load
from gateway.messaging.rewinding import read_each_since
from gateway.messaging.settings import KafkaSettings
from gateway.portability.restoring import ExportsFound, ToldExports, exports_again
from gateway.portability.rules.records import Export, ExportState
from schemas.envelope import read_envelope
from schemas.portability import EXPORT_CHUNK_TYPE, PortabilityEvent
from schemas.topics import exports_topic

_SQL: Final = load(__name__, "restored_exports")
_EXPORTS: Final = exports_topic("x")[:-1]


async def read_exports(kafka: KafkaSettings, since: datetime, delivered: Mapping[str, PortabilityEvent]) -> ToldExports:
    """Read all of it; raises as :func:`gateway.messaging.reader.open_reader`. No chunk is opened."""
    told = ToldExports(dict(delivered))
    async for _, record in read_each_since(kafka, _EXPORTS, since):
        envelope = read_envelope(record.headers)
        if envelope.type == EXPORT_CHUNK_TYPE:
            export_id, attempt, chunk = envelope.id.rsplit(":", 2)
            told.send(export_id, int(attempt), int(chunk))
    return told


async def stand_again(connection: Any, told: ToldExports) -> ExportsFound:
    """Write it down, as the tables' owner, while no stage makes exports. It may be cut, and run again."""
    now = datetime.now(UTC)
    async with translated(), connection.transaction():
        rows = await connection.fetch(_SQL.open_exports)
        waiting = [Export(**row, state=ExportState.WAITING, attempt=0, search_from=None) for row in rows]
        return await exports_again(PostgresUnitOfWork(connection, TermsCache()), told, waiting, now)
