"""Partners' commands on consents, on fakes: every state and command, terms, repetitions, races and outages."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from gateway.base.errors import StoreConflictError, StoreUnavailableError
from gateway.consents.rules.records import CommandOutcome
from gateway.identity.no_providers import NoIdentityProviders
from gateway.messaging.records import Record
from gateway.payments.rules.lifecycle import PaymentState
from gateway.proving.memory import MemoryStore
from schemas.codec import decode
from schemas.consents import ConsentStatus, LowValueExemption, Period, PeriodLimit
from schemas.events import ConsentEvent
from schemas.topics import events_topic
from tests.support.builders import NOW, later, payment
from tests.support.consents import ISSUER, OTHER, SUBJECT, ConsentRig, digest, document, put
from tests.support.domain_samples import consent, krw, purpose, terms

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


async def test_what_gave_a_permission_gives_it_once_whoever_sends_its_bytes_again(rig: ConsentRig) -> None:
    """No proof is asked for, and a command has no age: it is remembered by its id for as long as its consent is."""
    rig.service._trust = rig.service._assertions = NoIdentityProviders()
    wider = terms(valid_until=later(3600 * 24 * 365 * 9))
    grant, early, resume = rig.record("grant"), rig.record("resume"), rig.record("resume")
    amend, back = (rig.record("amend", terms=document(t)) for t in (wider, terms()))
    # What was refused as it came first stays so, too.
    await rig.take(rig.request(), early, grant, rig.record("suspend"), resume, amend, back, rig.record("suspend"))
    before = rig.consent()
    assert (before.status, before.terms, before.version) == (ConsentStatus.SUSP, terms(), 3)
    rig.clock.advance(3600 * 24 * 30)
    await rig.take(*(structs.replace(r, offset=900 + n) for n, r in enumerate((grant, early, resume, amend))))
    assert rig.consent() == before
    assert sorted(kind for kind, _ in rig.told()[-4:]) == ["refused", "reported", "reported", "reported"]


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
