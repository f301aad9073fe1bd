"""Proofs that come with commands: what gives a permission needs one that holds, what takes it away needs none."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from schemas.consents import ConsentStatus
from schemas.primitives import CustomerId
from tests.support.builders import NOW
from tests.support.consents import ISSUER, OTHER, SUBJECT, ConsentRig, digest, document, policy, put
from tests.support.domain_samples import consent


def other_link(rig: ConsentRig, command: str, **fields: Any) -> str:
    made = rig.proof(command, rig.digest_in_force())
    number = int(made.split(".")[1])
    shown = rig.identities.made[number]
    rig.identities.made[number] = structs.replace(shown, link=shown.link.model_copy(update=fields))
    return made


# fmt: off
BAD_PROOFS: dict[str, tuple[Any, str]] = {
    "none":                  (lambda rig: None,                                                         "DS0A"),
    "not signed":            (lambda rig: "a.x.z",                                                      "DS17"),
    "for another command":   (lambda rig: rig.proof("revoke", rig.digest_in_force()),                   "DS17"),
    "for other terms":       (lambda rig: rig.proof("{}", "0" * 64),                                    "DS17"),
    "for another consent":   (lambda rig: rig.proof("{}", rig.digest_in_force(), consent_id="x"),       "DS17"),
    "for another partner":   (lambda rig: other_link(rig, "{}", partner_id="partner-2"),                "DS17"),
    "too weak":              (lambda rig: rig.proof("{}", rig.digest_in_force(), level_name="low"),     "DS19"),
    "unknown level":         (lambda rig: rig.proof("{}", rig.digest_in_force(), level_name="x"),       "DS19"),
    "too old":               (lambda rig: rig.proof("{}", rig.digest_in_force(),
                                                    authenticated_at=NOW - timedelta(hours=2)),         "DS24"),
    "expired":               (lambda rig: rig.proof("{}", rig.digest_in_force(),
                                                    expires_at=NOW - timedelta(minutes=2)),             "DS24"),
    "for another gateway":   (lambda rig: rig.proof("{}", rig.digest_in_force(), audience=("x",)),      "DS19"),
    "an unknown issuer's":   (lambda rig: rig.proof("{}", rig.digest_in_force(), issuer="https://x"),   "DS0F"),
    "another customer's":    (lambda rig: rig.proof("{}", rig.digest_in_force(), subject="subject-2"),  "DS0H"),
}
# fmt: on


def made_for(rig: ConsentRig, command: str, case: str) -> str | None:
    """The bad proof of a case, for a command."""
    proof = rig.proof
    rig.proof = lambda c, d, **more: proof(c.format(command), d, **more)  # type: ignore[method-assign]
    token: str | None = BAD_PROOFS[case][0](rig)
    rig.proof = proof  # type: ignore[method-assign]
    return token


@pytest.mark.parametrize("case", BAD_PROOFS)
@pytest.mark.parametrize(("before", "command"), [("AWAU", "grant"), ("SUSP", "resume"), ("AUTH", "amend")])
async def test_what_gives_a_permission_needs_a_proof_that_holds(
    rig: ConsentRig, case: str, before: str, command: str
) -> None:
    put(rig, before)
    if command == "amend":
        # The amendment's own terms are what its proof is about.
        rig.digest_in_force = lambda consent_id="consent-1": digest(document(OTHER))  # type: ignore[method-assign]
    token = made_for(rig, command, case)
    fields = {} if token is None else {"authentication": token}
    await rig.take(
        rig.amendment(OTHER, proven=False, **fields)
        if command == "amend"
        else rig.instruction(command, proven=False, **fields)
    )
    [(kind, told)] = rig.told()
    assert (kind, told["reason"]["code"], told["status"]) == ("refused", BAD_PROOFS[case][1], before)
    assert rig.consent() == consent(ConsentStatus(before))
    assert rig.database.used_assertions.rows == {}


# The level that is too weak to give a permission is enough to take it away.
@pytest.mark.parametrize("case", [c for c in BAD_PROOFS if c != "too weak"])
@pytest.mark.parametrize(
    ("before", "command", "after"),
    [("AWAU", "reject", "RJCT"), ("AUTH", "suspend", "SUSP"), ("SUSP", "revoke", "CANC")],
)
async def test_what_takes_a_permission_away_works_on_the_partners_word(
    rig: ConsentRig, case: str, before: str, command: str, after: str
) -> None:
    put(rig, before)
    token = made_for(rig, command, case)
    if case == "for another command" and command == "revoke":
        token = rig.proof("grant", rig.digest_in_force())
    await rig.take(rig.instruction(command, proven=False, **({} if token is None else {"authentication": token})))
    [(kind, told)] = rig.told()
    assert (kind, told["status"], told["actor"]) == ("changed", after, "partner")
    assert rig.database.used_assertions.rows == {}


async def test_a_proof_is_used_once(rig: ConsentRig) -> None:
    put(rig, "SUSP")
    token = rig.proof("resume", rig.digest_in_force())
    await rig.take(rig.instruction("resume", proven=False, authentication=token))
    await rig.take(rig.instruction("suspend", proven=False))
    await rig.take(rig.instruction("resume", proven=False, authentication=token))
    assert [(kind, body["status"]) for kind, body in rig.told()] == [
        ("changed", "AUTH"),
        ("changed", "SUSP"),
        ("refused", "SUSP"),
    ]
    assert rig.told()[-1][1]["reason"]["code"] == "DS15"


async def test_a_proof_that_is_used_twice_in_one_batch_counts_once(rig: ConsentRig) -> None:
    put(rig, "SUSP")
    token = rig.proof("resume", rig.digest_in_force())
    await rig.take(
        rig.instruction("resume", proven=False, authentication=token),
        rig.instruction("suspend", proven=False),
        rig.instruction("resume", proven=False, authentication=token),
        rig.instruction("revoke", proven=False),
    )
    assert [(kind, body["status"]) for kind, body in rig.told()] == [
        ("changed", "AUTH"),
        ("changed", "SUSP"),
        ("refused", "SUSP"),
        ("changed", "CANC"),
    ]


async def test_a_replayed_proof_of_a_revocation_does_not_stop_it(rig: ConsentRig) -> None:
    put(rig, "AUTH")
    token = rig.proof("revoke", rig.digest_in_force())
    use = rig.identities.made[0]
    await rig.take(rig.instruction("suspend"))
    rig.identities.made.append(structs.replace(use, jti=rig.identities.made[1].jti))
    await rig.take(rig.instruction("revoke", proven=False, authentication=f"a.{len(rig.identities.made) - 1}.z"))
    assert [(body["status"], body["actor"]) for _, body in rig.told()] == [("SUSP", "customer"), ("CANC", "partner")]
    assert token


async def test_a_provider_key_of_a_moment_ago_is_looked_up_once_more(rig: ConsentRig) -> None:
    put(rig, "AWAU")
    record = rig.instruction("grant")
    rig.identities.hidden = {"a.0.z"}
    await rig.take(record)
    assert rig.consent().status is ConsentStatus.AUTH
    assert rig.identities.refreshed == 1


async def test_no_proof_is_asked_for_where_the_policy_asks_for_none(rig: ConsentRig) -> None:
    put(rig, "AWAU")
    rig.identities.policy = policy(level=0)
    await rig.take(rig.instruction("grant", proven=False))
    [(_, told)] = rig.told()
    assert (told["status"], told["actor"]) == ("AUTH", "partner")


async def test_an_unlinked_customer_cannot_grant(rig: ConsentRig) -> None:
    put(rig, "AWAU")
    rig.database.identity_links.rows.clear()
    await rig.take(rig.instruction("grant"))
    assert rig.told()[0][1]["reason"]["code"] == "DS0H"
    rig.database.identity_links.rows[ISSUER, SUBJECT] = CustomerId("customer-2")
    await rig.take(rig.instruction("grant"))
    assert rig.told()[1][1]["reason"]["code"] == "DS0H"
