"""Funding tokens in a real database."""

from gateway.directory.registry import NewPartner, open_registry
from gateway.directory.tokens import NewToken, Sealed, SealedToken, open_tokens
from schemas.primitives import CustomerId, FundingToken, PartnerId
from tests.support.builders import NOW  # type: ignore[attr-defined]


async def put_token(dsn: str, token: str, customer_id: str, *partners: str, sealed: Sealed | None = None) -> None:
    """Store a token that these partners, registered on the way, may use; without ``sealed`` it opens for nobody."""
    named = FundingToken(token), CustomerId(customer_id), tuple(map(PartnerId, partners))
    async with open_registry(dsn) as registry, open_tokens(dsn) as tokens:
        await registry.add_partners([NewPartner(PartnerId(p), p, "telecom") for p in partners])
        await tokens.put([NewToken(*named, sealed or SealedToken(named[0], None, "no key", b"", b""))], now=NOW)
