"""What people write of affiliates: who they are, the keys they sign with, and who approved which use for them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from gateway.database.queries import load
from gateway.database.statements import OnConnection
from gateway.directory.partners import HomeGroup, PartnerKey
from gateway.directory.public_keys import KEYS_LOCK
from schemas.sharing import SharingUse

_SQL = load(__name__, "affiliate_registry")


class UnknownAffiliateError(Exception):
    """What was to be written names an affiliate that is not registered."""


@dataclass(frozen=True, slots=True)
class Approval:
    """On what an affiliate is given data for a use. ``withdrawn_at``: None while it is."""

    legal_basis: str
    approved_at: datetime
    withdrawn_at: datetime | None


class PostgresAffiliateRegistry(OnConnection):
    """Affiliates, on one connection. Each call is a transaction of its own unless the caller holds one open.

    Every method raises StoreUnavailableError or StoreConflictError as the stores do.
    """

    async def add(self, affiliate_id: str, name: str, home_group: HomeGroup) -> bool:
        """Register an affiliate; False where it is registered already."""
        return bool(await self._fetch(_SQL.add, affiliate_id, name, home_group))

    async def set_active(self, affiliate_id: str, *, active: bool) -> bool:
        """Give an affiliate shares, or none; False if there is no such affiliate.

        Once it is none, and this has returned, nothing more is shared with it, and no offer is made that is its own:
        what is being decided is waited for. An offer of a campaign that is activated meanwhile may be:
        see :func:`gateway.app.registries.disable_affiliate`.
        """
        async with self.transaction():
            await self._fetch(_SQL.take_turn)
            await self._hold_campaigns()
            return bool(await self._fetch(_SQL.set_active, affiliate_id, active))

    async def await_offers(self) -> None:
        """Wait for the offers that are being decided, of every campaign that makes offers by now."""
        async with self.transaction():
            await self._hold_campaigns()

    async def _hold_campaigns(self) -> None:
        campaigns = [r["campaign_id"] for r in await self._fetch(_SQL.active_campaigns)]
        await self._fetch(_SQL.hold_campaigns, campaigns)

    async def add_keys(self, keys: Sequence[PartnerKey]) -> frozenset[str]:
        """Register public keys whose ids are free, each of the affiliate in ``partner_id``; return the ids of these.

        Raises:
            UnknownAffiliateError: one of the affiliates is not registered; nothing was written.
        """
        rows = await self._fetch(
            _SQL.add_keys,
            [k.kid for k in keys],
            [k.partner_id for k in keys],
            [k.algorithm for k in keys],
            [json.dumps(dict(k.jwk)) for k in keys],
            [k.valid_from for k in keys],
            [k.valid_until for k in keys],
        )
        return frozenset(r["kid"] for r in rows)

    async def disable_key(self, affiliate_id: str, kid: str, *, now: datetime) -> datetime | None:
        """Disable a key for ever, under each id of it; return since when, or None where the affiliate has none such."""
        async with self.transaction():
            await self._hold(KEYS_LOCK)
            rows = await self._fetch(_SQL.disable_key, affiliate_id, kid, now)
        return next((r["disabled_at"] for r in rows if r["kid"] == kid), None)

    async def retire(self) -> bool:
        """Keep no events for sharing until the stage runs again; False where none were."""
        return bool(await self._fetch(_SQL.retire))

    async def note_erased(self, notice_id: UUID, by: str, *, now: datetime) -> tuple[str, datetime] | None:
        """Take an affiliate's erasure as confirmed on somebody's word; return the affiliate and since when it is.

        None where there is no such notice. ``by``: whose word it is.
        """
        rows = await self._fetch(_SQL.note_erased, notice_id, now, f"operator {by}")
        return (rows[0]["affiliate_id"], rows[0]["confirmed_at"]) if rows else None

    async def approve(
        self, affiliate_id: str, use: SharingUse, legal_basis: str, *, approved_by: str, now: datetime
    ) -> None:
        """Let an affiliate be given data for a use, on this basis; what was approved before is replaced.

        Raises:
            UnknownAffiliateError: it is not registered.
        """
        await self._fetch(_SQL.approve, affiliate_id, use.value, legal_basis, approved_by, now)

    async def lock_approval(self, affiliate_id: str, use: SharingUse) -> Approval | None:
        """How the use was approved for the affiliate last, locked; None if it never was."""
        # There before the first approval, so that of two approvals one waits: and looks once the other is there.
        await self._fetch(_SQL.lock_affiliate, affiliate_id)
        rows = await self._fetch(_SQL.lock_approval, affiliate_id, use.value)
        return Approval(**dict(rows[0])) if rows else None

    async def withdraw(self, affiliate_id: str, use: SharingUse, *, now: datetime) -> bool:
        """Give nothing for this use any more, once this has returned; False where it was not approved.

        What is being shared is waited for: it may have been decided by the approval.
        """
        async with self.transaction():
            await self._fetch(_SQL.take_turn)
            return bool(await self._fetch(_SQL.withdraw, affiliate_id, use.value, now))

    def _nothing_named(self) -> Exception:
        # The only foreign key of these tables.
        return UnknownAffiliateError("the affiliate is not registered")
