"""Who speaks to Kafka: one principal a stage, one an execution network, one a partner or affiliate, and people's own.

A principal has the same name however it proves itself: the user of SASL/SCRAM, or the common name of its certificate.
It is also the name of the consumer group and the transactional id that are the principal's own, with all that begin
with it and a colon. No id has a colon in it (:data:`schemas.primitives.PartnerIdField`), so that what is partner
``shop``'s never holds what is ``shop-pay``'s.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

PREFIX: Final = "mypay-"
"""How every principal's name begins."""

NAME_PART: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""An id in the name of a principal or a topic."""

ADMIN: Final = "mypay-admin"
"""Makes users and access rules; in the brokers' ``super.users``, and in no rule of ours."""


@unique
class Role(StrEnum):
    """What a principal is there for. A role in :data:`FAMILIES` has a principal a member, every other has one."""

    PARTNER = "partner"
    INITIATION = "initiation"
    CONSENTS = "consents"
    EXECUTION = "execution"
    RELAY = "relay"
    SETTLEMENT = "settlement"
    SCHEDULE = "schedule"
    DISCLOSURE = "disclosure"
    PORTABILITY = "portability"
    PORTABILITY_API = "portability_api"
    RECIPIENT = "recipient"
    SHARING = "sharing"
    MARKETING = "marketing"
    AFFILIATE = "affiliate"
    CLEARING_IMPORT = "clearing-import"
    FINANCE = "finance"
    OPS = "ops"


FAMILIES: Final = {
    Role.PARTNER: "partner",
    Role.EXECUTION: "network",
    Role.RECIPIENT: "recipient",
    Role.AFFILIATE: "affiliate",
}
"""Role → whose id tells its principals apart: the name part in braces of a topic."""


@dataclass(frozen=True, slots=True)
class Principal:
    """One party to the brokers.

    Attributes:
        member: of a role in :data:`FAMILIES` the partner's, network's or affiliate's id, else empty.
    """

    role: Role
    member: str = ""

    def __post_init__(self) -> None:
        """Refuse a role without its member, and a member that could be taken for more than an id.

        Raises:
            ValueError: as said.
        """
        if self.member and not NAME_PART.fullmatch(self.member):
            raise ValueError("an id has letters, digits, dots, underscores and hyphens only")
        if (self.role in FAMILIES) is not bool(self.member):
            raise ValueError(f"a principal of role {self.role} has {'no' if self.member else 'an'} id of its own")

    @property
    def name(self) -> str:
        """``mypay-relay``, ``mypay-execution-bcard``, ``mypay-partner-shop-pay``."""
        return f"{PREFIX}{self.role}" + (f"-{self.member}" if self.member else "")

    @property
    def user(self) -> str:
        """As access rules name it."""
        return f"User:{self.name}"


def principals(
    *,
    partners: Iterable[str],
    networks: Iterable[str],
    recipients: Iterable[str] = (),
    affiliates: Iterable[str] = (),
) -> list[Principal]:
    """Everybody, for the partners, networks, recipients and affiliates that exist."""
    members = {
        "partner": sorted(partners),
        "network": sorted(networks),
        "recipient": sorted(recipients),
        "affiliate": sorted(affiliates),
    }
    return [
        Principal(role, member) for role in Role for member in (members[FAMILIES[role]] if role in FAMILIES else [""])
    ]
