"""Funding tokens in a real database."""

from gateway.app.registries import open_registries
from gateway.directory.funding import NewToken, Sealed, SealedToken
from gateway.directory.partners import NewPartner
from schemas.primitives import CustomerId, FundingToken, PartnerId
from tests.support.builders import NOW  # type: ignore[attr-defined]


async def put_token(dsn: str, token: str, customer_id: str, *partners: str, sealed: Sealed | None = None) -> None:
    """Store a token that these partners, registered on the way, may use; without ``sealed`` it opens for nobody."""
    named = FundingToken(token), CustomerId(customer_id), tuple(map(PartnerId, partners))
    async with open_registries(dsn) as registries:
        await registries.directory.add_partners([NewPartner(PartnerId(p), p, "telecom") for p in partners])
        await registries.tokens.put(
            [NewToken(*named, sealed or SealedToken(named[0], None, "no key", b"", b""))], now=NOW
        )
