"""Everybody's public keys in one look, for whoever adds one."""

import json

from gateway.database.queries import load
from gateway.database.statements import OnConnection
from gateway.directory.public_keys import KEYS_LOCK, HeldKey, Holder

_SQL = load(__name__, "public_keys")


class PostgresPublicKeys(OnConnection):
    """Every public key, on the connection of a transaction that may add one."""

    async def lock(self) -> list[HeldKey]:
        """All of them, whatever their state. Until the transaction ends nobody else adds or disables one.

        Raises:
            StoreUnavailableError: the server cannot be reached, or the lock was not free in time.
        """
        await self._hold(KEYS_LOCK)
        return [
            HeldKey(Holder(r["holder"]), r["owner"], r["kid"], json.loads(r["jwk"]), r["disabled_at"])
            for r in await self._fetch(_SQL.held)
        ]
