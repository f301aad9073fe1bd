"""Partners' registered keys."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.primitives import PartnerId


@dataclass(frozen=True, slots=True)
class PartnerKey:
    """A partner's registered public key. ``jwk`` holds public members only."""

    kid: str
    partner_id: PartnerId
    algorithm: str
    jwk: Mapping[str, Any]
    valid_from: datetime
    valid_until: datetime | None
    disabled_at: datetime | None
