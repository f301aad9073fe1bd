"""What people write of recipients and their keys."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gateway.database.queries import load
from gateway.database.statements import OnConnection
from gateway.directory.public_keys import KEYS_LOCK
from schemas.primitives import PartnerId

_SQL = load(__name__, "recipient_registry")


class UnknownRecipientError(Exception):
    """What was to be written names a recipient, or for one a partner, that is not registered."""


class PostgresRecipientRegistry(OnConnection):
    """Recipients, on one connection. Each call is a transaction of its own unless the caller holds one open.

    Every method raises StoreUnavailableError or StoreConflictError as the stores do.
    """

    async def add(
        self, org_code: str, name: str, *, partner_id: PartnerId | None = None, certificate_sha256: str | None = None
    ) -> bool:
        """Register a recipient; False where it is registered already.

        Raises:
            UnknownRecipientError: the partner is not registered.
        """
        return bool(await self._fetch(_SQL.add_recipient, org_code, name, partner_id, certificate_sha256))

    async def set_active(self, org_code: str, *, active: bool) -> bool:
        """Hand a recipient data, or not; False if there is no such recipient."""
        return bool(await self._fetch(_SQL.set_active, org_code, active))

    async def set_certificate(self, org_code: str, certificate_sha256: str | None) -> bool:
        """Know a recipient by this certificate from now on, or by none; False if there is no such recipient."""
        return bool(await self._fetch(_SQL.set_certificate, org_code, certificate_sha256))

    async def lock_certificate(self, org_code: str) -> str | None:
        """The SHA-256 of the certificate that a recipient is known by, locked; None where it has none."""
        rows = await self._fetch(_SQL.lock_certificate, org_code)
        return rows[0]["certificate_sha256"] if rows else None

    async def add_key(self, org_code: str, kid: str, jwk: Mapping[str, Any], *, now: datetime) -> bool:
        """Register a key, which is encrypted to from now on; False where the id is taken.

        Raises:
            UnknownRecipientError: the recipient is not registered.
        """
        return bool(await self._fetch(_SQL.add_key, org_code, kid, json.dumps(dict(jwk)), now))

    async def disable_key(self, org_code: str, kid: str, *, now: datetime) -> datetime | None:
        """Disable a key for ever, under each id of it; return since when, or None where there is no such key."""
        async with self.transaction():
            await self._hold(KEYS_LOCK)
            rows = await self._fetch(_SQL.disable_key, org_code, kid, now)
        return next((r["disabled_at"] for r in rows if r["kid"] == kid), None)

    def _nothing_named(self) -> Exception:
        return UnknownRecipientError("the recipient, or the partner that acts for it, is not registered")
