"""The identity providers of both groups in a run, and what its gateway is told of them.

Their key sets are files, so that no further process runs; proofs are issued here, about 40 µs each. Every customer is
known to both providers.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key

from gateway.identity.store import IdentityLink
from gateway.proving.counterparts.idp.provider import LEVELS, Group, IdentityProvider
from schemas.assertions import Link
from schemas.primitives import CustomerId, decimal_of

GROUPS: Final[tuple[Group, ...]] = ("financial", "telecom")

PROOF_FREE: Final[Mapping[str, int]] = {"KRW": 50_000, "USD": 4_000}
"""Payments up to this much, in minor units, need no proof; in any other currency all do."""

EXEMPT_KRW: Final = 60_000
"""What an exempt payment of the mix is worth: above what is free of proof, and the most that the policy lets pass."""

EXEMPT_COUNT: Final = 2
"""Exempt payments between two proofs, where a consent has an exemption; the policy lets no more pass."""

LEVEL: Final = 2
"""What the run's policy asks for above that, and for giving a permission."""

PROOF_LIFE: Final = timedelta(hours=1)
"""Longer than any run, and the longest that the gateway takes."""

_ENDING: Final = ("reject", "suspend", "revoke")
_GIVING: Final = ("grant", "amend", "resume")


class Identities:
    """One simulated provider a group.

    Args:
        keys: the providers' ES256 keys; new ones if not told.
    """

    def __init__(self, keys: Mapping[Group, EllipticCurvePrivateKey] | None = None) -> None:
        self.keys: Mapping[Group, EllipticCurvePrivateKey] = keys or {
            g: generate_private_key(SECP256R1()) for g in GROUPS
        }
        self._providers = {g: IdentityProvider(g, signing=(f"{g}-2026-1", key)) for g, key in self.keys.items()}

    def prove(
        self,
        group: Group,
        customer_id: str,
        link: Link,
        *,
        jti: str | None = None,
        level: int = LEVEL,
        at: datetime | None = None,
    ) -> str:
        """Issue a proof that a customer authenticated, ``at`` a moment or now, for exactly what ``link`` says."""
        provider = self._providers[group]
        subject = subject_of(group, customer_id)
        acr = provider.acr(level)
        return provider.issue(subject, link, acr=acr, issued_at=at, lifetime=PROOF_LIFE, jti=jti)

    def links(self, customers: Iterable[CustomerId], now: datetime) -> list[IdentityLink]:
        """Who each customer is to each provider."""
        return [
            IdentityLink(self._providers[group].issuer, subject_of(group, customer), customer, now)
            for customer in customers
            for group in GROUPS
        ]

    def write(self, folder: Path) -> None:
        """Write the gateway's trust table: providers, their public keys, and the assurance policy."""
        folder.mkdir(parents=True, exist_ok=True)
        for group, provider in self._providers.items():
            (folder / f"{group}.json").write_text(json.dumps(provider.jwks()), encoding="utf-8")
            (folder / f"{group}.toml").write_text(_trust_file(provider), encoding="utf-8")
        (folder / "policy.toml").write_text(_policy_file(), encoding="utf-8")


def subject_of(group: Group, customer_id: str) -> str:
    """A customer's name at a group's provider: another one at each."""
    return f"{group}|{customer_id}"


def needs_proof(amount_minor: int, currency: str) -> bool:
    """True if a payment of this much needs a proof, unless its consent exempts it."""
    return amount_minor > PROOF_FREE.get(currency, 0)


def _trust_file(provider: IdentityProvider) -> str:
    levels = "".join(f"{json.dumps(word)} = {level}\n" for word, level in LEVELS[provider.group].items())
    return (
        f"issuer = {json.dumps(provider.issuer)}\n"
        f'group = "{provider.group}"\n'
        f"audience = {json.dumps(provider.audience)}\n"
        f'algorithms = ["{provider.algorithm}"]\n'
        f'jwks_file = "{provider.group}.json"\n\n[levels]\n{levels}'
    )


def _policy_file() -> str:
    free = ", ".join(f'{c} = "{decimal_of(minor, c)}"' for c, minor in PROOF_FREE.items())
    age = f"max_age_seconds = {PROOF_LIFE // timedelta(seconds=1)}"
    rules = [
        f'operation = "payment"\nup_to = {{ {free} }}\nlevel = 0\n{age}',
        f'operation = "payment"\nlevel = {LEVEL}\n{age}',
        *(f'operation = "consent.{c}"\nlevel = {LEVEL}\n{age}' for c in _GIVING),
        *(f'operation = "consent.{c}"\nlevel = 1\n{age}' for c in _ENDING),
    ]
    most = f'max_amount = "{EXEMPT_KRW}"\nmax_count = {EXEMPT_COUNT}\nmax_sum = "{EXEMPT_KRW * EXEMPT_COUNT}"'
    told = [f"[[rules]]\n{rule}\n\n" for rule in rules]
    return "".join([*told, f"[methods]\npin = 1\nhwk = {LEVEL}\n\n", f"[exemptions.KRW]\n{most}\n"])
