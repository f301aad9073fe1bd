"""Partners and their registered keys."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from schemas.primitives import PartnerId

HomeGroup = Literal["financial", "telecom"]


class UnknownPartnerError(Exception):
    """What was to be written names a partner that is not registered."""


@dataclass(frozen=True, slots=True)
class NewPartner:
    """A partner to register, with the group it belongs to."""

    partner_id: PartnerId
    name: str
    home_group: HomeGroup


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
