"""Partners' commands on consents, on fakes: every state and command, every refusal, repetition and proof."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from gateway.base.errors import StoreConflictError, StoreUnavailableError
from gateway.consents.rules.records import CommandOutcome
from gateway.messaging.records import Record
from gateway.payments.rules.lifecycle import PaymentState
from gateway.proving.memory import MemoryStore
from schemas.codec import decode
from schemas.consents import ConsentStatus, ConsentTerms, LowValueExemption, Period, PeriodLimit
from schemas.events import ConsentEvent
from schemas.primitives import CustomerId
from schemas.topics import events_topic
from tests.support.builders import NOW, payment
from tests.support.consents import ISSUER, SUBJECT, ConsentRig, digest, document, policy
from tests.support.domain_samples import consent, krw, purpose, terms
from tests.support.stages import timers

OTHER = terms(payment=purpose(max_per_payment=(krw(99_000),)))


@pytest.fixture
def rig() -> ConsentRig:
    return ConsentRig()


def put(rig: ConsentRig, status: str, **fields: Any) -> None:
    """A consent in this status, whose terms are as :func:`document` sends them."""
    rig.database.put_consent(consent(ConsentStatus(status), **fields))
    key = ("partner-1", rig.consent().terms.consent_id)
    version = rig.database.consent_versions.rows[key, 1]  # type: ignore[index]
    sent = digest(document(rig.consent().terms))
    rig.database.consent_versions.rows[key, 1] = replace(version, digest=sent)  # type: ignore[index]


# --- every state, every command ---

# A status: the change that is made; "=": the consent is so already, and its partner is told; a code: refused.
LIFE = """
                none  AWAU  AUTH  SUSP  RJCT  CANC  EXPD
  request       AWAU  =     =     =     AM05  AM05  AM05
  request-other AWAU  AM05  AM05  AM05  AM05  AM05  AM05
  grant         MD01  AUTH  =     TKSP  MD01  MD01  TKXP
  reject        MD01  RJCT  AG01  TKSP  =     MD01  TKXP
  suspend       MD01  MD01  SUSP  =     MD01  MD01  TKXP
  resume        MD01  MD01  =     AUTH  MD01  MD01  TKXP
  revoke        MD01  CANC  CANC  CANC  MD01  =     TKXP
  amend         MD01  MD01  AUTH  SUSP  MD01  MD01  TKXP
  amend-same    MD01  MD01  =     =     MD01  MD01  TKXP
"""
HEADER, *ROWS = [line.split() for line in LIFE.strip().splitlines()]
CASES = [(row[0], before, end) for row in ROWS for before, end in zip(HEADER, row[1:], strict=True)]


def record_of(rig: ConsentRig, command: str) -> Record:
    match command:
        case "request":
            return rig.request()
        case "request-other":
            return rig.request(OTHER)
        case "amend":
            return rig.amendment(OTHER)
        case "amend-same":
            return rig.amendment(terms())
        case _:
            return rig.instruction(command)


@pytest.mark.parametrize(("command", "before", "end"), CASES, ids=[f"{c}-{b}" for c, b, _ in CASES])
async def test_life_of_a_consent(rig: ConsentRig, command: str, before: str, end: str) -> None:
    if before != "none":
        put(rig, before)
    record = record_of(rig, command)
    await rig.take(record)
    [(kind, told)] = rig.told()
    assert rig.events()[0].key == "consent-1"
    assert rig.events()[0].topic == events_topic("partner-1")
    name = json.loads(record.value)["command_id"]
    handled = rig.handled(name)
    if end in set(ConsentStatus):
        assert (kind, told["status"], told["change"]) == ("changed", end, 1)
        assert rig.consent().status == end
        assert (handled.outcome, handled.change) == (CommandOutcome.DONE, 1)
        assert rig.consent().version == (2 if command == "amend" else 1)
    elif end == "=":
        assert (kind, told["status"], told["change"]) == ("reported", before, 0)
        assert rig.consent() == consent(ConsentStatus(before))
        assert handled.outcome is CommandOutcome.UNCHANGED
    else:
        assert (kind, told["reason"]["code"]) == ("refused", end)
        assert told.get("status") == (None if before == "none" else before)
        assert told["reference"] == record.reference
        assert (handled.outcome, handled.reason and handled.reason.code) == (CommandOutcome.REFUSED, end)
        assert before == "none" or rig.consent() == consent(ConsentStatus(before))
    assert told["command"] == command.partition("-")[0]
    assert told["command_id"] == name


async def test_a_whole_life_is_told_change_by_change(rig: ConsentRig) -> None:
    steps = ["request", "grant", "suspend", "resume", "amend", "revoke"]
    for step in steps:
        await rig.take(record_of(rig, step))
    told = [decode(ConsentEvent, e.body) for e in rig.events()]
    assert [(t.change, t.command, t.status, t.version, t.actor) for t in told] == [
        (1, "request", "AWAU", 1, "partner"),
        (2, "grant", "AUTH", 1, "customer"),
        (3, "suspend", "SUSP", 1, "customer"),
        (4, "resume", "AUTH", 1, "customer"),
        (5, "amend", "AUTH", 2, "customer"),
        (6, "revoke", "CANC", 2, "customer"),
    ]
    assert [t.terms_digest for t in told] == [digest(document(terms()))] * 4 + [digest(document(OTHER))] * 2
    assert len({e.event_id for e in rig.events()}) == len(steps)
    assert rig.observer.counts["consents", "revoke", "customer"] == 1


async def test_one_batch_may_hold_a_whole_life(rig: ConsentRig) -> None:
    of_terms = digest(document(terms()))
    records = [
        rig.request(),
        rig.record("grant", authentication=rig.proof("grant", of_terms)),
        rig.record("suspend"),
        rig.record("revoke"),
        rig.record("resume", authentication=rig.proof("resume", of_terms)),
    ]
    await rig.take(*records)
    assert [(kind, body["status"]) for kind, body in rig.told()] == [
        ("changed", "AWAU"),
        ("changed", "AUTH"),
        ("changed", "SUSP"),
        ("changed", "CANC"),
        ("refused", "CANC"),
    ]
    assert rig.consent().status is ConsentStatus.CANC
    [version] = rig.database.consent_versions.rows.values()
    assert version.proof is not None
    assert (version.proof.subject, version.proof.level) == (SUBJECT, 2)
    assert (version.proof.issuer, version.proof.authenticated_at) == (ISSUER, rig.identities.made[-1].authenticated_at)


async def test_terms_are_kept_as_they_were_sent_version_by_version(rig: ConsentRig) -> None:
    for step in ("request", "grant", "amend"):
        await rig.take(record_of(rig, step))
    async with rig.store.reading() as uow:
        first, second = await uow.consents.versions(("partner-1", "consent-1"))  # type: ignore[arg-type]
    assert json.loads(first.canonical) == document(terms())
    assert json.loads(second.canonical) == document(OTHER)
    assert (first.version, second.version) == (1, 2)
    assert first.proof is not None
    assert second.proof is not None
    assert first.proof.jti != second.proof.jti
    assert rig.consent().terms == OTHER


# --- terms ---

FOREVER = terms().valid_until + timedelta(days=1)

# fmt: off
WRONG_TERMS: dict[str, tuple[str, dict[str, Any], str]] = {
    "another partner's terms":   ("request", {"partner_id": "partner-2"},                      "FF01"),
    "another consent's terms":   ("request", {"consent_id": "consent-2"},                      "FF01"),
    "over already":              ("request", {"valid_until": NOW},                             "DT01"),
    "amended: another partner":  ("amend",   {"partner_id": "partner-2"},                      "FF01"),
    "amended: another consent":  ("amend",   {"consent_id": "consent-2"},                      "FF01"),
    "amended: another customer": ("amend",   {"customer_id": "customer-2"},                    "AG01"),
    "amended: another start":    ("amend",   {"valid_from": NOW - timedelta(days=39)},         "DT01"),
    "amended: over already":     ("amend",   {"valid_until": NOW},                             "DT01"),
}
# fmt: on


@pytest.mark.parametrize("case", WRONG_TERMS)
async def test_terms_that_cannot_be_agreed_to_are_refused_and_the_field_is_named(rig: ConsentRig, case: str) -> None:
    command, fields, code = WRONG_TERMS[case]
    if command == "amend":
        put(rig, "AUTH")
    asked = document(terms(**fields))
    proof = {"authentication": rig.proof("amend", digest(asked))} if command == "amend" else {}
    await rig.take(rig.record(command, terms=asked, **proof))
    [(kind, told)] = rig.told()
    assert (kind, told["reason"]["code"]) == ("refused", code)
    assert f"terms.{next(iter(fields))}" in told["reason"]["text"]
    assert rig.database.consents.rows == ({} if command == "request" else {("partner-1", "consent-1"): consent()})


BEYOND = LowValueExemption(max_amount=krw(900_000), max_count=5, max_sum=krw(9_000_000))
"""More than the trust policy lets pass without a proof."""


@pytest.mark.parametrize("command", ["request", "amend"])
async def test_terms_that_weaken_the_trust_policy_are_refused_by_name(rig: ConsentRig, command: str) -> None:
    if command == "amend":
        put(rig, "AUTH")
    asked = document(terms(payment=purpose(low_value_exemption=BEYOND)))
    proof = {"authentication": rig.proof("amend", digest(asked))} if command == "amend" else {}
    await rig.take(rig.record(command, terms=asked, **proof))
    [(kind, told)] = rig.told()
    assert (kind, told["reason"]["code"]) == ("refused", "AG01")
    assert "terms.payment.low_value_exemption.max_amount" in told["reason"]["text"]
    assert "50000 KRW at most" in told["reason"]["text"]


async def test_an_amendment_may_change_everything_else(rig: ConsentRig) -> None:
    put(rig, "SUSP")
    new = terms(
        valid_until=FOREVER,
        payment=purpose(funding_token="token-2", period_limits=(PeriodLimit(period=Period.DAY, max_count=1),)),
    )
    await rig.take(rig.amendment(new))
    assert rig.consent().terms == new
    assert (rig.consent().status, rig.consent().version) == (ConsentStatus.SUSP, 2)


# --- proofs ---


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


# --- the same again ---


async def test_a_redelivered_record_does_and_tells_nothing(rig: ConsentRig) -> None:
    put(rig, "AUTH")
    done, refused, unchanged = rig.record("suspend"), rig.record("grant"), rig.record("suspend")
    for _ in range(3):
        await rig.take(done, refused, unchanged)
    assert [kind for kind, _ in rig.told()] == ["changed", "refused", "reported"]
    assert len(rig.database.consent_commands.rows) == 3


async def test_a_command_that_is_sent_again_is_told_what_became_of_it(rig: ConsentRig) -> None:
    put(rig, "AUTH")
    await rig.take(rig.record("suspend", command_id="c-1", issued_at=NOW.isoformat()))
    await rig.take(rig.record("revoke", command_id="c-2", issued_at=NOW.isoformat()))
    await rig.take(rig.record("grant", command_id="c-3", issued_at=NOW.isoformat()))
    again = [
        rig.record(command, command_id=name, issued_at=NOW.isoformat())
        for command, name in [("suspend", "c-1"), ("grant", "c-3")]
    ]
    await rig.take(*again)
    await rig.take(*again)
    told = rig.told()[3:]
    # Where the consent stands now, and the refusal as it was; a redelivery of what was told again is told again too.
    assert [(kind, body["status"]) for kind, body in told] == [
        ("reported", "CANC"),
        ("refused", "CANC"),
        ("reported", "CANC"),
    ]
    ids = [e.event_id for e in rig.events()[3:]]
    assert ids[0] == ids[2]
    assert rig.database.consent_marks.rows["partner-1", "consent-1"].changes == 2  # type: ignore[index]


@pytest.mark.parametrize("change", ["another command", "other content"])
async def test_a_command_id_that_is_used_for_another_command_is_refused(rig: ConsentRig, change: str) -> None:
    put(rig, "AUTH")
    await rig.take(rig.record("suspend", command_id="c-1", issued_at=NOW.isoformat()))
    later = NOW + timedelta(seconds=1)
    other = (
        rig.record("revoke", command_id="c-1", issued_at=NOW.isoformat())
        if change == "another command"
        else rig.record("suspend", command_id="c-1", issued_at=later.isoformat())
    )
    await rig.take(other)
    await rig.take(other)
    [(_, _), (kind, told)] = rig.told()
    assert (kind, told["reason"]["code"], told["status"]) == ("refused", "AM05", "SUSP")
    text = told["reason"]["text"]
    assert text.startswith("command_id was used before with other")
    assert ("the command differs" in text) is (change == "another command")
    assert text.endswith("; terms may differ too; what the first one did stands")
    assert rig.handled("c-1").outcome is CommandOutcome.DONE
    assert rig.consent().status is ConsentStatus.SUSP


async def test_two_consents_may_use_one_command_id(rig: ConsentRig) -> None:
    rig.database.put_consent(consent())
    rig.database.put_consent(consent(consent_id="consent-2"))
    await rig.take(*(rig.record("revoke", command_id="c", consent_id=name) for name in ("consent-1", "consent-2")))
    assert [body["status"] for _, body in rig.told()] == ["CANC", "CANC"]


# --- who sends, and what cannot be read ---


async def test_a_forged_command_uses_no_id_up_and_is_told_to_nobody(rig: ConsentRig) -> None:
    put(rig, "AUTH")
    forged = rig.record("revoke", command_id="c-1", signature="forged")
    await rig.take(forged)
    assert rig.told() == []
    assert rig.database.refusals.rows == {}
    assert [(p.stage, p.record, str(p.error)) for p in rig.dead_letters.parked] == [
        ("consents", forged, "DS17: signature does not match the body")
    ]
    assert rig.observer.counts["consents", "dead_letter", "DS17"] == 1
    assert rig.consent().status is ConsentStatus.AUTH
    await rig.take(rig.record("revoke", command_id="c-1"))
    assert rig.consent().status is ConsentStatus.CANC


@pytest.mark.parametrize(("signature", "code"), [("stolen", "DS0C"), ("over", "DS0D"), ("theirs", "DS19")])
async def test_a_key_that_does_not_vouch_for_it_changes_and_tells_nothing(
    rig: ConsentRig, signature: str, code: str
) -> None:
    put(rig, "AUTH")
    await rig.take(rig.record("revoke", signature=signature), rig.record("revoke", signature=signature, because="x"))
    assert [str(p.error)[:4] for p in rig.dead_letters.parked] == [code, code]
    assert rig.told() == []
    assert rig.consent().status is ConsentStatus.AUTH


async def test_a_partner_that_was_registered_a_moment_ago_is_looked_up_once_more(rig: ConsentRig) -> None:
    rig.keys.register(["partner-3"])
    rig.database.put_token("token-1", "customer-1", "partner-3")
    asked = terms(partner_id="partner-3")
    await rig.take(rig.request(asked, partner_id="partner-3"))
    assert [body["status"] for _, body in rig.told()] == ["AWAU"]
    assert rig.dead_letters.parked == []


async def test_another_partner_s_consent_is_no_consent(rig: ConsentRig) -> None:
    put(rig, "AUTH")
    await rig.take(rig.record("revoke", partner_id="partner-2"))
    [(kind, told)] = rig.told()
    assert (kind, told["partner_id"], told["reason"]["code"]) == ("refused", "partner-2", "MD01")
    assert rig.events()[0].topic == "mypay.events.partner-2"
    assert rig.consent().status is ConsentStatus.AUTH


Spoil = Callable[[ConsentRig, Record], Record]


def other_type(record: Record, type_: bytes | None) -> Record:
    headers = ((n, type_ if n == "ce_type" else v) for n, v in record.headers)
    return structs.replace(record, headers=tuple((n, v) for n, v in headers if v is not None))


# fmt: off
FAULTY: dict[str, tuple[Spoil, tuple[str, str, str], str]] = {
    # What it is: the record; consent, command and id that it is told under, "" for its place; how the reason begins.
    "not JSON": (lambda _, good: structs.replace(good, value=b"{"), ("", "revoke", ""), "Invalid JSON"),
    "an unknown field": (
        lambda rig, _: rig.record("revoke", because="x"), ("consent-1", "revoke", "command-3"), "because: unknown field"
    ),
    "a field given twice": (
        lambda _, good: structs.replace(good, value=good.value[:-1] + b',"command_id":"x"}'),
        ("", "revoke", ""), "a field is given twice",
    ),
    "no command id": (
        lambda rig, _: rig.record("revoke", command_id=None), ("consent-1", "revoke", ""), "command_id: "
    ),
    "an id of the gateway's own": (
        lambda rig, _: rig.record("revoke", command_id="operator:1"), ("consent-1", "revoke", ""), "command_id: "
    ),
    "another key": (
        lambda _, good: structs.replace(good, key=b"consent-2"), ("consent-1", "revoke", "command-2"), "header key: "
    ),
    "no key": (lambda _, good: structs.replace(good, key=None), ("consent-1", "revoke", "command-2"), "header key: "),
    "another type": (
        lambda _, good: other_type(good, b"kr.mypay.payment.order.v1"),
        ("consent-1", "unknown", "command-2"), "header ce_type: ",
    ),
    "no type": (lambda _, good: other_type(good, None), ("consent-1", "unknown", "command-2"), "header ce_type: "),
    "terms without a purpose": (
        lambda rig, _: rig.record("request", terms={k: v for k, v in document(terms()).items() if k != "payment"}),
        ("consent-1", "request", "command-3"), "terms: a consent needs at least one purpose",
    ),
    "an assertion that is none": (
        lambda rig, _: rig.record("grant", authentication="x"), ("consent-1", "grant", "command-3"), "authentication: "
    ),
}
# fmt: on


@pytest.mark.parametrize("case", FAULTY)
async def test_a_partner_is_told_what_is_wrong_with_its_command_and_its_neighbours_go_on(
    rig: ConsentRig, case: str
) -> None:
    put(rig, "AUTH")
    spoil, ids, text = FAULTY[case]
    first, good = rig.record("suspend"), rig.record("revoke")
    bad = spoil(rig, good)
    await rig.take(first, bad, rig.record("revoke"))
    await rig.take(bad)
    assert rig.dead_letters.parked == []
    told = [body for kind, body in rig.told() if kind == "refused"]
    assert len(told) == 1
    assert (told[0]["consent_id"], told[0]["command"], told[0]["command_id"]) == tuple(i or bad.reference for i in ids)
    assert (told[0]["reference"], told[0]["reason"]["code"]) == (bad.reference, "FF01")
    assert told[0]["reason"]["text"].startswith(text)
    assert [body["status"] for kind, body in rig.told() if kind == "changed"] == ["SUSP", "CANC"]


NOBODYS: dict[str, Spoil] = {
    "no headers": lambda _, good: structs.replace(good, headers=()),
    "an unknown partner": lambda rig, _: rig.record("revoke", partner_id="nobody"),
    "not signed": lambda rig, _: rig.record("revoke", signature=None),
    "a key nobody registered": lambda rig, _: rig.record("revoke", signature="unknown-key"),
}


@pytest.mark.parametrize("case", NOBODYS)
async def test_what_nobody_is_known_to_have_sent_is_parked_and_its_neighbours_are_not(
    rig: ConsentRig, case: str
) -> None:
    put(rig, "AUTH")
    bad = NOBODYS[case](rig, rig.record("revoke"))
    await rig.take(rig.record("suspend"), bad, rig.record("revoke"))
    assert [(p.stage, p.record) for p in rig.dead_letters.parked] == [("consents", bad)]
    assert [body["status"] for _, body in rig.told()] == ["SUSP", "CANC"]


async def test_a_command_from_the_future_is_refused(rig: ConsentRig) -> None:
    put(rig, "AUTH")
    for seconds, end in ((60.001, "refused"), (60, "changed")):
        issued = NOW + timedelta(seconds=seconds)
        await rig.take(rig.record("suspend", issued_at=issued.isoformat()))
        assert rig.told()[-1][0] == end
    assert rig.told()[0][1]["reason"]["code"] == "DT04"


# --- time ---


async def test_a_consent_whose_time_is_up_expires_before_any_command_on_it(rig: ConsentRig) -> None:
    put(rig, "AUTH")
    rig.clock.set(terms().valid_until)
    await rig.take(rig.record("revoke"), rig.record("suspend"))
    assert [(kind, body["status"], body.get("actor")) for kind, body in rig.told()] == [
        ("changed", "EXPD", "time"),
        ("refused", "EXPD", None),
        ("refused", "EXPD", None),
    ]
    assert rig.consent().status is ConsentStatus.EXPD
    assert await rig.expiry.expire() == 0


async def test_the_timer_ends_what_is_over_and_nothing_else(rig: ConsentRig) -> None:
    soon = NOW + timedelta(seconds=5)
    for status in ConsentStatus:
        rig.database.put_consent(consent(status, consent_id=status.value, valid_until=soon))
    rig.database.put_consent(consent(consent_id="later", valid_until=soon + timedelta(microseconds=1)))
    rig.clock.set(soon - timedelta(microseconds=1))
    assert await rig.expiry.expire() == 0
    rig.clock.set(soon)
    assert await rig.expiry.expire() == 3
    assert await rig.expiry.expire() == 0
    told = [decode(ConsentEvent, e.body) for e in rig.events()]
    assert sorted(t.consent_id for t in told) == ["AUTH", "AWAU", "SUSP"]
    assert {(t.status, t.command, t.actor, t.command_id) for t in told} == {("EXPD", "expire", "time", None)}
    assert rig.observer.counted("schedule", "consent_expired") == 3


async def test_an_end_that_an_amendment_puts_off_is_no_end(rig: ConsentRig) -> None:
    put(rig, "AUTH", valid_until=NOW + timedelta(seconds=5))
    await rig.take(rig.amendment(terms(valid_until=NOW + timedelta(days=5))))
    rig.clock.advance(10)
    assert await rig.expiry.expire() == 0
    rig.clock.advance(5 * 86_400)
    assert await rig.expiry.expire() == 1


async def test_a_consent_from_before_todays_rules_for_ids_ends_and_stops_no_other(rig: ConsentRig) -> None:
    from_before = ConsentTerms.of_stored(**{**dict(terms()), "consent_id": "4111111111111111", "valid_until": NOW})
    rig.database.put_consent(replace(consent(valid_until=NOW), terms=from_before))
    rig.database.put_consent(consent(consent_id="c-2", valid_until=NOW))
    assert await rig.expiry.expire() == 2
    assert sorted(e.key for e in rig.events()) == ["4111111111111111", "c-2"]


async def test_two_timers_side_by_side_tell_each_end_once(rig: ConsentRig) -> None:
    for n in range(40):
        rig.database.put_consent(consent(consent_id=f"c-{n}", valid_until=NOW))
    rig.faults.hold("consents.update")
    first = asyncio.create_task(rig.expiry.expire())
    await rig.faults.reached("consents.update")
    other = timers(MemoryStore(rig.database), rig.clock, rig.observer).expiry
    assert await other.expire() == 0
    rig.faults.open("consents.update")
    assert await first == 40
    assert len({e.event_id for e in rig.events()}) == 40


# --- races ---


async def test_what_was_in_flight_is_named_when_a_permission_goes_away(rig: ConsentRig) -> None:
    put(rig, "AUTH")
    rows = [payment(n, state=s) for n, s in enumerate(PaymentState, 1)]
    async with rig.store.transaction() as uow:
        await uow.payments.insert(rows)
    open_ids = sorted(
        str(p.payment_id) for p in rows if p.state in (PaymentState.SENT, PaymentState.UNKNOWN, PaymentState.REVERSING)
    )
    for step in ("suspend", "resume", "amend", "revoke"):
        await rig.take(record_of(rig, step))
    assert [body["in_flight"] for _, body in rig.told()] == [open_ids, [], open_ids, open_ids]


async def test_a_command_waits_for_an_intent_and_reads_the_time_after_it(rig: ConsentRig) -> None:
    put(rig, "AWAU")
    record = rig.instruction("grant")
    async with rig.store.transaction() as uow:
        await uow.consents.lock([("partner-1", "consent-1")])  # type: ignore[list-item]
        granting = asyncio.create_task(rig.take(record))
        await rig.until_locked_out()
        rig.clock.advance(3600)
    await granting
    assert rig.told()[0][1]["reason"]["code"] == "DS24"


async def test_two_workers_on_one_new_consent_make_it_once(rig: ConsentRig) -> None:
    record, other = rig.request(), rig.request()
    rig.faults.hold("consents.add_versions")
    first = asyncio.create_task(rig.take(record))
    await rig.faults.reached("consents.add_versions")
    second = asyncio.create_task(rig.new_service(MemoryStore(rig.database)).take([record, other]))
    await rig.until_locked_out()
    rig.faults.open("consents.add_versions")
    await asyncio.gather(first, second)
    assert [kind for kind, _ in rig.told()] == ["changed", "reported"]
    assert len(rig.database.consent_versions.rows) == 1


AWAY = StoreUnavailableError("away")


@pytest.mark.parametrize(
    ("place", "errors"),
    [
        ("store.begin", (AWAY, AWAY)),
        ("consents.lock_records", (AWAY,)),
        ("authentication.use", (StoreConflictError("lost"),)),
        ("outbox.append", (AWAY,)),
        ("store.commit", (StoreConflictError("lost"), AWAY)),
        ("store.committed", (AWAY,)),
    ],
)
async def test_outages_are_waited_out_and_each_change_is_told_once(
    rig: ConsentRig, place: str, errors: tuple[Exception, ...]
) -> None:
    put(rig, "AWAU")
    rig.faults.plan(place, *errors)
    await rig.take(rig.instruction("grant"), rig.record("suspend"))
    assert [(kind, body["status"]) for kind, body in rig.told()] == [("changed", "AUTH"), ("changed", "SUSP")]
    assert rig.faults.pending == 0


async def test_a_trace_goes_on_in_the_event(rig: ConsentRig) -> None:
    put(rig, "AUTH")
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    record = rig.record("revoke")
    await rig.take(structs.replace(record, headers=(*record.headers, ("traceparent", trace.encode()))))
    assert rig.events()[0].traceparent == trace


def test_the_tables_cover_every_status_and_command() -> None:
    assert set(HEADER) == {"none", *ConsentStatus}
    assert {row[0].partition("-")[0] for row in ROWS} | {"expire"} == {
        "request",
        "grant",
        "reject",
        "suspend",
        "resume",
        "revoke",
        "amend",
        "expire",
    }
