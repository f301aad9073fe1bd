"""Verifying the customers' proofs of a batch."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from gateway.identity.assurance import Assertion
from gateway.identity.store import AssertionVerifier, TrustTable
from schemas.reasons import Reason

AT_ONCE: Final = 50
"""Signatures verified before other work gets its turn: some milliseconds."""


async def verify_proofs(
    proofs: Sequence[str | None], assertions: AssertionVerifier, trust: TrustTable, now: datetime
) -> list[Assertion | Reason | None]:
    """What each proof says, or why it does not hold; None where there is none.

    A provider's key may be newer than what this process knows: before anybody is turned away, its keys are read again,
    and then those proofs alone are verified once more that did not hold.
    """
    verified = await _verify(proofs, assertions, now)
    refused = [n for n, found in enumerate(verified) if isinstance(found, Reason)]
    if refused and await trust.refresh_unknown():
        again = await _verify([proofs[n] for n in refused], assertions, now)
        for n, found in zip(refused, again, strict=True):
            verified[n] = found
    return verified


def lapsed_proof(assertions: AssertionVerifier, proof: Assertion | Reason | None) -> Reason | None:
    """Why a proof that held when it was verified counts no more: its provider's key was revoked meanwhile.

    None where it counts still, and where there is none that held.
    """
    return assertions.recheck(proof.issuer, proof.kid) if isinstance(proof, Assertion) else None


async def _verify(
    proofs: Sequence[str | None], assertions: AssertionVerifier, now: datetime
) -> list[Assertion | Reason | None]:
    verified: list[Assertion | Reason | None] = []
    for count, proof in enumerate(proofs, 1):
        verified.append(None if proof is None else assertions.verify(proof, now))
        if count % AT_ONCE == 0:
            await asyncio.sleep(0)
    return verified
