"""Writing a cast into the gateway's registries: five round trips, whatever its size."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.app.registries import Registries, open_registries
from gateway.directory.cards import CardSealer
from gateway.directory.funding import NewToken, token_use, token_uses
from gateway.directory.partners import NewPartner, PartnerKey
from gateway.proving.traffic.cast import STORY, Cast, Role
from gateway.proving.traffic.receivers import Receivers, campaigns
from gateway.proving.traffic.shops import merchants
from gateway.sealing.sealing import MasterKeys
from schemas.consents import ConsentStatus
from schemas.primitives import NetworkId, PartnerId

_KEY_AGE: Final = timedelta(hours=1)
"""Keys are valid since a while, so that no clock's skew matters."""

APPROVER: Final = "kim"
"""Who approved what affiliates are given."""


async def register(dsn: str, cast: Cast, *, networks: Sequence[str], master_keys: MasterKeys) -> None:
    """Register partners with their keys, shops, sealed cards, consents, and who customers are to identity providers.

    Consents that are made while the run goes on are left out. Receivers of the cast come with their keys, with what is
    approved for them, and with the campaigns of the affiliates.
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
        if cast.receivers is not None:
            await _register_receivers(registries, cast.receivers, now)


async def _register_receivers(registries: Registries, receivers: Receivers, now: datetime) -> None:
    recipient, known = receivers.recipient, registries.affiliates
    await registries.recipients.add(recipient.org_code, recipient.name)
    await registries.recipients.add_key(recipient.org_code, recipient.kid, recipient.jwk, now=now - _KEY_AGE)
    for a in receivers.affiliates:
        key = PartnerKey(a.kid, PartnerId(a.affiliate_id), "ES256", a.jwk, now - _KEY_AGE, None, None)
        await known.add(a.affiliate_id, a.name, a.home_group)
        await known.add_keys([key])
        await known.approve(a.affiliate_id, a.use, a.legal_basis, approved_by=APPROVER, now=now)
    for campaign in campaigns(now):
        await registries.campaigns.apply(campaign, now=now)
