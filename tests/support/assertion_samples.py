"""A simulated provider, a trust table that holds its keys, and links, for the tests of assertions."""

import json
from datetime import datetime
from typing import Any

from gateway.identity.assurance import AssurancePolicy, Issuer
from gateway.identity.jose.jwks import parse_jwks
from gateway.identity.store import IssuerKey
from gateway.proving.counterparts.idp.provider import LEVELS, Algorithm, Group, IdentityProvider
from schemas.assertions import ConsentLink, LinkedCommand, PaymentLink
from schemas.primitives import Money
from tests.support.domain_samples import NOW

PAYMENT_LINK = PaymentLink(
    partner_id="partner-1",
    order_id="order-1",
    consent_id="consent-1",
    merchant_id="merchant-1",
    amount=Money(currency="KRW", value="10000"),
)
CONSENT_LINK = ConsentLink(
    partner_id="partner-1", consent_id="consent-1", command=LinkedCommand.GRANT, terms_digest="ab" * 32
)


def provider(group: Group = "financial", algorithm: Algorithm = "ES256", now: datetime = NOW) -> IdentityProvider:
    return IdentityProvider(group, algorithm=algorithm, clock=lambda: now)


class Trust:
    """Implements the port TrustTable over providers in this process."""

    def __init__(self, *providers: IdentityProvider, **entry: Any) -> None:
        self.policy = AssurancePolicy(())
        self.misses: list[tuple[str, str]] = []
        self._issuers = {p.issuer: Issuer(**({**_entry(p), **entry})) for p in providers}  # type: dict[str, Issuer]
        self.keys: dict[tuple[str, str], IssuerKey] = {}
        for p in providers:
            found = parse_jwks(json.dumps(p.jwks()).encode(), p.issuer).keys
            self.keys |= {(p.issuer, kid): key for kid, key in found.items()}

    def issuer(self, issuer: str) -> Issuer | None:
        return self._issuers.get(issuer)

    def key(self, issuer: str, kid: str) -> IssuerKey | None:
        found = self.keys.get((issuer, kid))
        if found is None:
            self.misses.append((issuer, kid))
        return found

    async def refresh_unknown(self) -> bool:
        return False


def _entry(p: IdentityProvider) -> dict[str, Any]:
    return {"issuer": p.issuer, "home_group": p.group, "audience": p.audience, "levels": LEVELS[p.group]}
