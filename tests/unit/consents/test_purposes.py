"""A consent's purposes: asked for together, granted in part, amended, revoked and ended by time one by one."""

from datetime import date, datetime, timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.consents.changing import ConsentCommandRefusedError, change_consent_status
from gateway.consents.rules.consent import Consent, ConsentCommand, refuse_order, refuse_use
from gateway.consents.rules.purposes import amended_from, end_of, next_end
from gateway.messaging.records import Record
from gateway.orders.standing.rules import consent_has_ended
from schemas.consents import ConsentStatus, ConsentTerms, NamedPurposes, Purpose
from schemas.reasons import ReasonCode
from tests.support.builders import NOW
from tests.support.consents import ConsentRig, digest, document
from tests.support.domain_samples import merchant, order, terms
from tests.support.messages import MARKETING, PORTABILITY, SHARING

P, S, M, D = Purpose.PAYMENT, Purpose.SHARING, Purpose.MARKETING, Purpose.PORTABILITY
LETTERS = {"P": P, "D": D, "S": S, "M": M}


def of(letters: str) -> tuple[Purpose, ...] | None:
    """``PS``: these purposes; ``*``: none are named; ``-``: there are none."""
    return None if letters == "*" else tuple(LETTERS[c] for c in letters if c != "-")


def with_purposes(letters: str, **fields: Any) -> ConsentTerms:
    named = of(letters) or ()
    more: dict[str, Any] = {} if P in named else {"payment": None}
    found = {D: PORTABILITY, S: SHARING, M: MARKETING}
    return terms(**more, **{p.value: found[p] for p in named if p in found}, **fields)


def command(rig: ConsentRig, what: str, named: str, new: ConsentTerms | None = None) -> Record:
    purposes = of(named)
    fields: dict[str, Any] = {} if purposes is None else {"purposes": [p.value for p in purposes]}
    if what == "amend":
        assert new is not None
        proof = rig.proof("amend", digest(document(new)), purposes=purposes)
        return rig.amendment(new, authentication=proof, proven=False, **fields)
    proof = rig.proof(what, rig.digest_in_force(), purposes=purposes)
    return rig.instruction(what, proven=False, authentication=proof, **fields)


# What is asked for; the commands, each with the purposes that it names and what is in force after it.
LIVES = """
    PDSM  grant *   PDSM AUTH   revoke *   -    CANC
    PDSM  grant PS  PS   AUTH   revoke S   P    AUTH   revoke P  -   CANC
    PDSM  grant M   M    AUTH   revoke DM  -    CANC
    PDS   revoke D  PS   AWAU   grant *    PS   AUTH   revoke PS -   CANC
    PS    revoke *  -    CANC
    PS    reject *  -    RJCT
    PSM   grant PSM PSM  AUTH   suspend *  PSM  SUSP   revoke M  PS  SUSP   resume * PS AUTH
    S     grant S   S    AUTH   revoke S   -    CANC
"""


@pytest.mark.parametrize("life", [line.split() for line in LIVES.strip().splitlines()], ids=" ".join)
async def test_what_is_in_force_after_each_command(rig: ConsentRig, life: list[str]) -> None:
    asked, *steps = life
    await rig.take(rig.request(with_purposes(asked)))
    assert rig.told()[-1][1]["purposes"] == [p.value for p in of(asked) or ()]
    before = set(of(asked) or ())
    for what, named, left, status in zip(*[iter(steps)] * 4, strict=True):
        await rig.take(command(rig, what, named))
        kind, told = rig.told()[-1]
        assert (kind, told["status"], told["actor"]) == ("changed", status, "customer")
        assert told["purposes"] == [p.value for p in of(left) or ()]
        assert {e["purpose"] for e in told["ended"]} == {p.value for p in before - set(of(left) or ())}
        assert rig.consent().purposes == (of(left) or ())
        before = set(of(left) or ())
    ends = list(rig.database.purpose_ends.rows.values())
    assert len(ends) == len(set(of(asked) or ()) - before)
    assert all((e.version, e.ended_at) == (1, rig.clock.now()) for e in ends)


REFUSED = """
    grant   PM  PD  AG01  names marketing
    grant   PD  PS  AG01  names portability
    revoke  PS  PM  AG01  names sharing
    suspend PS  P   FF01  go with grant, amend and revoke alone
"""


async def granted(rig: ConsentRig, asked: str, named: str = "*") -> None:
    await rig.take(rig.request(with_purposes(asked)))
    await rig.take(command(rig, "grant", named))
    assert rig.consent().status is ConsentStatus.AUTH


@pytest.mark.parametrize("row", [line.split(None, 4) for line in REFUSED.strip().splitlines()], ids=" ".join)
async def test_purposes_that_are_none_to_choose_from_are_refused_by_name(rig: ConsentRig, row: list[str]) -> None:
    what, named, asked, code, text = row
    await rig.take(rig.request(with_purposes(asked)))
    if what == "suspend":
        await rig.take(command(rig, "grant", "*"))
    before = rig.consent()
    await rig.take(command(rig, what, named))
    kind, told = rig.told()[-1]
    assert (kind, told["reason"]["code"]) == ("refused", code)
    assert text in told["reason"]["text"]
    assert rig.consent() == before


@pytest.mark.parametrize(("shown", "named"), [(None, (P,)), ((P, S), (P,)), ((P,), None), ((S,), (P,))])
async def test_a_proof_is_for_the_purposes_that_were_granted(
    rig: ConsentRig, shown: tuple[Purpose, ...] | None, named: tuple[Purpose, ...] | None
) -> None:
    await rig.take(rig.request(with_purposes("PS")))
    proof = rig.proof("grant", rig.digest_in_force(), purposes=shown)
    fields = {} if named is None else {"purposes": [p.value for p in named]}
    await rig.take(rig.instruction("grant", proven=False, authentication=proof, **fields))
    assert rig.told()[-1][1]["reason"]["code"] == "DS17"
    assert rig.consent().status is ConsentStatus.AWAU


async def test_what_is_taken_away_needs_no_proof_and_a_wrong_one_stops_nothing(rig: ConsentRig) -> None:
    await granted(rig, "PSM")
    wrong = rig.proof("revoke", rig.digest_in_force(), purposes=(M,))
    await rig.take(rig.instruction("revoke", proven=False, authentication=wrong, purposes=["sharing"]))
    assert (rig.told()[-1][1]["actor"], rig.consent().purposes) == ("partner", (P, M))
    await rig.take(rig.instruction("revoke", proven=False, purposes=["marketing"]))
    assert rig.consent().purposes == (P,)


async def test_what_is_over_already_is_told_so(rig: ConsentRig) -> None:
    await granted(rig, "PSM", "PM")
    await rig.take(command(rig, "revoke", "S"))
    kind, told = rig.told()[-1]
    assert (kind, told["purposes"]) == ("reported", ["payment", "marketing"])
    assert "ended" not in told or not told["ended"]


async def test_a_grant_gives_no_more_than_the_one_before(rig: ConsentRig) -> None:
    await granted(rig, "PS", "P")
    await rig.take(command(rig, "grant", "PS"))
    assert rig.told()[-1][1]["reason"]["code"] == "AG01"
    await rig.take(command(rig, "grant", "P"))
    assert rig.told()[-1][0] == "reported"
    assert rig.consent().purposes == (P,)


# In force before, of the terms before; the new terms; what the amendment names; what is in force after it.
AMENDED = """
    PS   PS   PSM  *    PSM
    PS   S    PSM  *    SM
    PS   S    PS   *    S
    PS   S    PS   PS   PS
    PS   PS   PSM  PM   PM
    PS   PS   P    *    P
    P    P    PSM  P    P
"""


@pytest.mark.parametrize("row", [line.split() for line in AMENDED.strip().splitlines()], ids=" ".join)
async def test_an_amendment_brings_back_only_what_it_names(rig: ConsentRig, row: list[str]) -> None:
    asked, before, new, named, after = row
    await granted(rig, asked, before)
    amended = with_purposes(new, valid_until=NOW + timedelta(days=401))
    await rig.take(command(rig, "amend", named, amended))
    kind, told = rig.told()[-1]
    assert (kind, told["version"]) == ("changed", 2)
    assert told["purposes"] == [p.value for p in of(after) or ()]
    assert rig.consent().purposes == of(after)


# What is in force under PSM at first; then amendments: the new terms, what each names, and what is in force after it.
AMENDED_TWICE = """
    PM    PM   *   PM    PSM  *    PM     PSM  PSM  PSM
    PS    P    *   P     PSM  *    P      PSM  PS   PS
    PSM   PS   *   PS    PSM  *    PS     PM   PM   PM
    P     S    *   !     P    *    P      S    S    S
    P     PM   P   P     P    *    P      PM   *    P
"""


@pytest.mark.parametrize("row", [line.split() for line in AMENDED_TWICE.strip().splitlines()], ids=" ".join)
async def test_what_is_over_comes_back_by_name_alone_through_any_number_of_amendments(
    rig: ConsentRig, row: list[str]
) -> None:
    first, *steps = row
    await granted(rig, "PSM", first)
    for n, (new, named, after) in enumerate(zip(steps[::3], steps[1::3], steps[2::3], strict=True)):
        amended = with_purposes(new, valid_until=NOW + timedelta(days=401 + n))
        before = rig.consent()
        await rig.take(command(rig, "amend", named, amended))
        kind, told = rig.told()[-1]
        if after == "!":
            assert (kind, told["reason"]["code"]) == ("refused", "AG01")
            assert "leaves no purpose in force" in told["reason"]["text"]
            assert rig.consent() == before
        else:
            assert rig.consent().purposes == of(after)


def test_an_amendment_may_not_name_what_its_terms_do_not_have() -> None:
    refused = amended_from(with_purposes("PS"), frozenset(), with_purposes("P"), (P, S))
    assert getattr(refused, "code", None) is ReasonCode.AG01


async def test_who_grants_no_payment_needs_no_card(rig: ConsentRig) -> None:
    rig.database.tokens.rows.clear()
    await rig.take(rig.request(with_purposes("PS")))
    assert rig.told()[-1][1]["reason"]["code"] == "DS0H"
    rig.database.put_token("token-1", "customer-1", "partner-1")
    await rig.take(rig.request(with_purposes("PS"), command_id="again"))
    rig.database.tokens.rows.clear()
    await rig.take(command(rig, "grant", "*"))
    assert rig.told()[-1][1]["reason"]["code"] == "DS0H"
    await rig.take(command(rig, "grant", "S"))
    assert (rig.told()[-1][0], rig.consent().purposes) == ("changed", (S,))


async def test_time_ends_purposes_one_by_one(rig: ConsentRig) -> None:
    asked = with_purposes("PSM").model_copy(
        update={
            "valid_until": NOW + timedelta(days=30),
            "marketing": MARKETING.model_copy(update={"until": NOW + timedelta(days=10)}),
            "sharing": SHARING.model_copy(update={"use_until": NOW + timedelta(days=20)}),
        }
    )
    await rig.take(rig.request(asked))
    await rig.take(command(rig, "grant", "*"))
    seen = []
    for _ in range(3):
        assert await rig.expiry.expire() == 0
        rig.clock.advance(10 * 86_400)
        assert refuse_use(rig.consent(), M, rig.clock.now()) is not None
        assert await rig.expiry.expire() == 1
        told = rig.told()[-1][1]
        seen.append((told["status"], told["purposes"], told["actor"], [e["how"] for e in told["ended"]]))
    assert seen == [
        ("AUTH", ["payment", "sharing"], "time", ["expired"]),
        ("AUTH", ["payment"], "time", ["expired"]),
        ("EXPD", [], "time", ["expired"]),
    ]


async def test_a_consent_is_over_with_its_last_purpose(rig: ConsentRig) -> None:
    asked = with_purposes("PM").model_copy(
        update={"marketing": MARKETING.model_copy(update={"until": NOW + timedelta(days=10)})}
    )
    await rig.take(rig.request(asked))
    await rig.take(command(rig, "grant", "M"))
    rig.clock.advance(10 * 86_400)
    await rig.expiry.expire()
    assert (rig.consent().status, rig.consent().purposes) == (ConsentStatus.EXPD, ())


async def test_an_operator_revokes_one_purpose(rig: ConsentRig) -> None:
    await granted(rig, "PS")
    key = ("partner-1", "consent-1")
    changed = await change_consent_status(rig.store, rig.clock, key, ConsentCommand.REVOKE, purposes=(P,))  # type: ignore[arg-type]
    assert (changed.status, changed.purposes) == (ConsentStatus.AUTH, (S,))
    with pytest.raises(ConsentCommandRefusedError, match="names marketing"):
        await change_consent_status(rig.store, rig.clock, key, ConsentCommand.REVOKE, purposes=(M,))  # type: ignore[arg-type]


def code(of: Consent, purpose: Purpose, now: datetime) -> ReasonCode | None:
    refused = refuse_use(of, purpose, now)
    return refused.code if refused else None


@pytest.mark.parametrize("purpose", Purpose)
def test_each_purpose_permits_until_its_own_end_and_no_longer(purpose: Purpose) -> None:
    agreed = with_purposes("PDSM")
    consent = Consent(agreed, 1, ConsentStatus.AUTH)
    end = end_of(agreed, purpose)
    assert refuse_use(consent, purpose, end - timedelta(microseconds=1)) is None
    assert code(consent, purpose, end) is ReasonCode.TKXP
    over = Consent(agreed, 1, ConsentStatus.AUTH, frozenset({purpose}))
    assert code(over, purpose, NOW) is ReasonCode.MD01
    [letter] = [c for c, p in LETTERS.items() if p is purpose]
    without = Consent(with_purposes("PDSM".replace(letter, "")), 1, over.status)
    assert code(without, purpose, NOW) is ReasonCode.AG01
    assert next_end(agreed, frozenset(Purpose)) == agreed.valid_until


def test_nothing_is_paid_once_the_purpose_to_pay_is_over() -> None:
    agreed = with_purposes("PS")
    over = Consent(agreed, 1, ConsentStatus.AUTH, frozenset({P}))
    assert refuse_order(order(), consent=Consent(agreed, 1, over.status), merchant=merchant(), now=NOW) is None
    refused = refuse_order(order(), consent=over, merchant=merchant(), now=NOW)
    assert refused is not None
    assert refused.code is ReasonCode.MD01
    assert consent_has_ended(over, NOW)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"marketing": MARKETING.model_copy(update={"until": NOW})}, "terms.marketing.until lies in the past"),
        ({"sharing": SHARING.model_copy(update={"use_until": NOW})}, "terms.sharing.use_until lies in the past"),
        (
            {"portability": PORTABILITY.model_copy(update={"end_date": date(2020, 1, 1)})},
            "terms.portability.end_date lies in the past",
        ),
        (
            {"portability": PORTABILITY.model_copy(update={"end_date": date(2036, 1, 1), "period": date(2037, 1, 1)})},
            "terms.portability.end_date lies more than 5 years after valid_from",
        ),
    ],
)
async def test_a_purpose_must_have_time_left_and_end_in_time(
    rig: ConsentRig, fields: dict[str, Any], text: str
) -> None:
    await rig.take(rig.request(terms(**fields)))
    told = rig.told()[-1][1]
    assert (told["reason"]["code"], told["reason"]["text"]) == ("DT01", text)


def test_the_order_of_named_purposes_means_nothing() -> None:
    adapter: TypeAdapter[tuple[Purpose, ...]] = TypeAdapter(NamedPurposes)
    assert adapter.validate_json('["sharing","payment"]') == (P, S)
    for wrong in ("[]", '["payment","payment"]', '["pay"]'):
        with pytest.raises(ValidationError):
            adapter.validate_json(wrong)
