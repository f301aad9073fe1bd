"""Proofs of a batch: each in its place, no more work than is needed, and other work gets its turn."""

import asyncio
from datetime import datetime

import pytest

from gateway.identity.assurance import Assertion
from gateway.identity.rules import UNKNOWN_ISSUER
from gateway.identity.verifying import AT_ONCE, verify_proofs
from schemas.reasons import Reason
from tests.support.consents import FakeIdentities
from tests.support.domain_samples import NOW


class Provider(FakeIdentities):
    """Knows a proof by what it is; remembers what it was asked."""

    def __init__(self, *, newer: bool = False) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.newer = newer

    def verify(self, token: str, now: datetime) -> Assertion | Reason:
        self.asked.append(token)
        return UNKNOWN_ISSUER if token.startswith("bad") else super().verify("a.0.z", now)

    async def refresh_unknown(self) -> bool:
        self.refreshed += 1
        return self.newer


def provider(*, newer: bool = False) -> Provider:
    made = Provider(newer=newer)
    made.issue(None, now=NOW)  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize(
    ("proofs", "newer", "asked", "refreshed"),
    [
        ([], True, [], 0),
        ([None, None], True, [], 0),
        (["a", None, "b"], True, ["a", "b"], 0),
        (["a", "bad", None, "worse"], False, ["a", "bad", "worse"], 1),
        (["bad-1", "a", None, "bad-2"], True, ["bad-1", "a", "bad-2", "bad-1", "bad-2"], 1),
    ],
)
async def test_proofs_stay_in_their_places_and_only_what_did_not_hold_is_verified_again(
    proofs: list[str | None], newer: bool, asked: list[str], refreshed: int
) -> None:
    identities = provider(newer=newer)
    found = await verify_proofs(proofs, identities, identities, NOW)
    assert [None if f is None else isinstance(f, Assertion) for f in found] == [
        None if p is None else not p.startswith("bad") for p in proofs
    ]
    assert (identities.asked, identities.refreshed) == (asked, refreshed)


async def test_other_work_gets_its_turn_while_many_proofs_are_verified() -> None:
    turns = 0

    async def other_work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    working = asyncio.create_task(other_work())
    try:
        identities = provider()
        await verify_proofs(["a"] * (4 * AT_ONCE), identities, identities, NOW)
        assert turns == 4
    finally:
        working.cancel()
