"""Keys by which several rooms name a thing."""

from schemas.primitives import ConsentId, PartnerId

ConsentKey = tuple[PartnerId, ConsentId]
