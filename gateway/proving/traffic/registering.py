"""Writing a cast into the gateway's registries: five round trips, whatever its size."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.app.registries import open_registries
from gateway.directory.cards import CardSealer
from gateway.directory.funding import NewToken, token_use, token_uses
from gateway.directory.partners import NewPartner, PartnerKey
from gateway.proving.traffic.cast import STORY, Cast, Role
from gateway.proving.traffic.shops import merchants
from gateway.sealing.sealing import MasterKeys
from schemas.consents import ConsentStatus
from schemas.primitives import NetworkId

_KEY_AGE: Final = timedelta(hours=1)
"""Keys are valid since a while, so that no clock's skew matters."""


async def register(dsn: str, cast: Cast, *, networks: Sequence[str], master_keys: MasterKeys) -> None:
    """Register partners with their keys, shops, sealed cards, consents, and who customers are to identity providers.

    Consents that are made while the run goes on are left out.
    """
    now = datetime.now(UTC)
    sealer = CardSealer(master_keys)
    async with open_registries(dsn) as registries:
        registry, tokens = registries.directory, registries.tokens
        await registry.add_partners([NewPartner(p.partner_id, p.name, p.home_group) for p in cast.partners])
        await registry.add_keys(
            [PartnerKey(p.kid, p.partner_id, p.algorithm, p.jwk, now - _KEY_AGE, None, None) for p in cast.partners]
        )
        await registry.upsert_merchants(merchants(frozenset(map(NetworkId, networks))))
        await tokens.put(
            [
                NewToken(use.token, use.customer_id, (use.partner_id,), sealer.seal_card(use.owned, c.card))
                for c in cast.customers
                if c.role is not Role.THIEF and (use := token_use(c.terms)) is not None
            ],
            now=now,
        )
        for use in token_uses(c.terms for c in cast.of(Role.UNTRUSTED)):
            # No consent is there yet under which anybody could pay with it.
            await tokens.withdraw(use.token, use.partner_id, now=now)
        await registries.consents.add_consents(
            [
                (c.terms, ConsentStatus.SUSP if c.role is Role.SUSPENDED else ConsentStatus.AUTH)
                for c in cast.customers
                if c.role not in STORY
            ]
        )
        await registries.identities.link(cast.identities.links([c.terms.customer_id for c in cast.customers], now))
