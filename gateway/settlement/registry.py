"""Breaks as operators resolve them, in PostgreSQL."""

from gateway.database.queries import load
from gateway.database.statements import OnConnection
from gateway.settlement.resolutions import OpenBreak, RecordPlace, Resolution

_SQL = load(__name__, "break_registry")


class PostgresBreaks(OnConnection):
    """Breaks as operators resolve them. Each call is a transaction of its own unless the caller holds one open."""

    async def open_break(self, place: RecordPlace) -> OpenBreak | None:
        """The break of a record; None where it has none, or one that is resolved."""
        rows = await self._fetch(_SQL.open_break, place.network_id, place.cycle_id, place.record_no)
        return OpenBreak(**dict(rows[0])) if rows else None

    async def resolve(self, place: RecordPlace, of: OpenBreak, how: Resolution, *, why: str, by: str) -> bool:
        """Note what was done about a break; False where the record stands otherwise, or somebody was faster."""
        named = (place.network_id, place.cycle_id, place.record_no, of.version, of.break_kind)
        return bool(await self._fetch(_SQL.resolve, *named, how.value, why, by))
