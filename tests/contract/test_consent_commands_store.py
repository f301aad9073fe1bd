"""ConsentStore: new consents, versions, proofs, the memory of commands, and ends."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.base.errors import StoreIntegrityError
from gateway.base.keys import ConsentKey
from gateway.consents.rules.consent import Consent, ConsentCommand
from gateway.consents.rules.purposes import PurposeEnd
from gateway.consents.rules.records import (
    Actor,
    CommandKey,
    CommandOutcome,
    ConsentRecord,
    ConsentVersion,
    HandledCommand,
    Proof,
)
from gateway.consents.store import PurposeEndRow
from gateway.database.unit import Store
from schemas.codec import encode
from schemas.consent_commands import canonical_terms, terms_digest
from schemas.consents import ConsentStatus, ConsentTerms, Purpose
from schemas.reasons import Reason, ReasonCode
from tests.contract.conftest import Backend, ended, rolled_back
from tests.support.builders import NOW, later
from tests.support.domain_samples import consent, krw, purpose, terms
from tests.support.messages import MARKETING, SHARING

KEY: ConsentKey = ("partner-1", "consent-1")  # type: ignore[assignment]
PROOF = Proof("https://id", "subject", "jti", 2, NOW)


def version_of(of: ConsentTerms, number: int = 1, proof: Proof | None = None) -> ConsentVersion:
    text = canonical_terms(encode(of))
    return ConsentVersion((of.partner_id, of.consent_id), number, text, terms_digest(text), NOW, proof)


def record(status: ConsentStatus = ConsentStatus.AWAU, *, changes: int = 1, **fields: object) -> ConsentRecord:
    stored = consent(status, **fields)
    return ConsentRecord(stored, version_of(stored.terms).digest, changes)


async def store_new(store: Store, *records: ConsentRecord) -> frozenset[ConsentKey]:
    async with store.transaction() as uow:
        new = await uow.consents.insert(records, now=NOW)
        await uow.consents.add_versions([version_of(r.consent.terms) for r in records if r.key in new])
    return new


async def locked(store: Store, key: ConsentKey = KEY) -> ConsentRecord:
    async with store.transaction() as uow:
        return (await uow.consents.lock_records([key]))[key]


async def test_a_new_consent_is_read_back_as_it_was_stored(store: Store) -> None:
    new = record(payment=purpose(single_use=True))
    assert await store_new(store, new) == {KEY}
    assert await locked(store) == new
    async with store.reading() as uow:
        assert await uow.consents.read([KEY]) == {KEY: new.consent}
        assert await uow.consents.versions(KEY) == [version_of(new.consent.terms)]
        assert await uow.consents.versions(("partner-2", "consent-1")) == []  # type: ignore[arg-type]


async def test_a_consent_that_exists_is_left_as_it_is(store: Store) -> None:
    first = record()
    await store_new(store, first)
    other = record(consent_id="other")
    assert await store_new(store, record(payment=purpose(single_use=True)), other) == {other.key}
    assert await locked(store) == first


async def test_of_two_that_store_one_consent_the_second_waits_and_finds_it(backend: Backend) -> None:
    async def second() -> frozenset[ConsentKey]:
        async with backend.store.transaction() as uow:
            return await uow.consents.insert([record()], now=NOW)

    async with backend.store.transaction() as uow:
        assert await uow.consents.insert([record()], now=NOW) == {KEY}
        waiter = asyncio.create_task(second())
        try:
            await backend.until_blocked(waiter)
        except BaseException:
            await ended([waiter])
            raise
    assert await waiter == frozenset()


async def test_nothing_is_fine(store: Store) -> None:
    async with store.transaction() as uow:
        assert await uow.consents.insert([], now=NOW) == frozenset()
        assert await uow.consents.remember([]) == frozenset()
        assert await uow.consents.handled([]) == {}
        assert await uow.consents.lock_records([]) == {}
        await uow.consents.update([], now=NOW)
        await uow.consents.add_versions([])
        await uow.consents.add_proofs([])
        assert list(await uow.consents.lock_past_end(now=NOW, limit=5)) == []
        assert await uow.consents.ended_since(NOW) == {}


async def test_an_amendment_makes_the_next_version_and_the_first_stays(store: Store) -> None:
    await store_new(store, record(ConsentStatus.AUTH))
    new = terms(payment=purpose(max_per_payment=(krw(7),)), valid_until=later(99))
    async with store.transaction() as uow:
        before = (await uow.consents.lock_records([KEY]))[KEY]
        after = ConsentRecord(Consent(new, 2, before.status), version_of(new).digest, before.changes + 1)
        await uow.consents.update([after], now=later(1))
        await uow.consents.add_versions([version_of(new, 2, PROOF)])
    assert await locked(store) == after
    async with store.reading() as uow:
        assert (await uow.consents.read([KEY]))[KEY] == after.consent
        assert await uow.consents.versions(KEY) == [version_of(terms()), version_of(new, 2, PROOF)]
    # The end is the new version's.
    async with store.transaction() as uow:
        assert [r.key for r in await uow.consents.lock_past_end(now=later(99), limit=5)] == [KEY]


async def test_who_waits_for_an_amendment_finds_the_amended_consent(backend: Backend) -> None:
    await store_new(backend.store, record(ConsentStatus.AUTH))
    new = terms(payment=purpose(max_per_payment=(krw(7),)))
    async with backend.store.transaction() as uow:
        before = (await uow.consents.lock_records([KEY]))[KEY]
        after = ConsentRecord(Consent(new, 2, before.status), version_of(new).digest, before.changes + 1)
        await uow.consents.update([after], now=later(1))
        await uow.consents.add_versions([version_of(new, 2, PROOF)])
        waiter = asyncio.create_task(locked(backend.store))
        try:
            await backend.until_blocked(waiter)
        except BaseException:
            await ended([waiter])
            raise
    assert await waiter == after


async def test_a_version_cannot_be_added_twice(store: Store) -> None:
    await store_new(store, record())
    with pytest.raises(StoreIntegrityError):
        async with store.transaction() as uow:
            await uow.consents.add_versions([version_of(terms(payment=purpose(single_use=True)))])


async def test_a_proof_is_noted_once(store: Store) -> None:
    await store_new(store, record(), record(consent_id="other"))
    for proof in (PROOF, replace(PROOF, jti="second")):
        async with store.transaction() as uow:
            await uow.consents.add_proofs([(KEY, 1, proof), (KEY, 2, proof)])
    async with store.reading() as uow:
        assert [v.proof for v in await uow.consents.versions(KEY)] == [PROOF]
        other = await uow.consents.versions(("partner-1", "other"))  # type: ignore[arg-type]
        assert [v.proof for v in other] == [None]


def handled(name: str = "c-1", **fields: object) -> HandledCommand:
    values: dict[str, object] = {
        "key": (*KEY, name),
        "command": ConsentCommand.REVOKE,
        "body_digest": b"\x00" * 32,
        "outcome": CommandOutcome.DONE,
        "change": 2,
        "status": ConsentStatus.CANC,
        "version": 1,
        "reason": None,
        "actor": Actor.CUSTOMER,
        "reference": "mypay.consents.commands/0/1",
        "handled_at": NOW,
    }
    return HandledCommand(**(values | fields))  # type: ignore[arg-type]


async def test_commands_are_remembered_once(store: Store) -> None:
    refused = handled(
        "c-2",
        outcome=CommandOutcome.REFUSED,
        change=None,
        status=None,
        version=None,
        reason=Reason(code=ReasonCode.MD01, text="no consent"),
        actor=Actor.PARTNER,
    )
    async with store.transaction() as uow:
        assert await uow.consents.remember([handled(), refused]) == {handled().key, refused.key}
    async with store.transaction() as uow:
        assert await uow.consents.remember([handled(reference="x/0/2"), handled("c-3")]) == {handled("c-3").key}
    missing: CommandKey = (*KEY, "c-9")
    async with store.reading() as uow:
        assert await uow.consents.handled([handled().key, refused.key, missing]) == {
            handled().key: handled(),
            refused.key: refused,
        }


async def test_open_consents_past_their_ends_come_earliest_first(store: Store) -> None:
    ends = {"a": -3, "b": -1, "c": -2, "now": 0, "later": 1}
    await store_new(
        store,
        *(record(ConsentStatus.AUTH, consent_id=name, valid_until=later(s)) for name, s in ends.items()),
        *(record(s, consent_id=f"is-{s}", valid_until=later(-9)) for s in ConsentStatus),
    )
    async with store.transaction() as uow:
        found = await uow.consents.lock_past_end(now=NOW, limit=100)
        assert [r.key[1] for r in found if not r.key[1].startswith("is-")] == ["a", "c", "b", "now"]
        assert sorted(r.key[1] for r in found if r.key[1].startswith("is-")) == ["is-AUTH", "is-AWAU", "is-SUSP"]
    async with store.transaction() as uow:
        assert len(await uow.consents.lock_past_end(now=NOW, limit=2)) == 2


async def test_ends_that_another_holds_are_left_to_it(store: Store) -> None:
    await store_new(store, *(record(consent_id=str(n), valid_until=later(n - 9)) for n in range(4)))
    async with store.transaction() as uow, asyncio.timeout(60), store.transaction() as other:
        first = await uow.consents.lock_past_end(now=NOW, limit=2)
        second = await other.consents.lock_past_end(now=NOW, limit=9)
    assert ([r.key[1] for r in first], [r.key[1] for r in second]) == (["0", "1"], ["2", "3"])


async def test_only_ends_of_the_purpose_and_only_the_newest_are_told(store: Store) -> None:
    ends = [
        PurposeEndRow(("partner-1", how.value), 1, Purpose.PAYMENT, how, 1, later(5))  # type: ignore[arg-type]
        for how in PurposeEnd
    ]
    again = [replace(ends[1], change=3, ended_at=later(7)), replace(ends[2], purpose=Purpose.SHARING)]
    async with store.transaction() as uow:
        await uow.consents.add_purpose_ends([*ends, *again])
    async with store.reading() as uow:
        found = await uow.consents.ended_since(later(5))
        assert {key[1]: at for key, at in found.items()} == {"revoked": later(7), "expired": later(5)}
        assert [k[1] for k in await uow.consents.ended_since(later(5), Purpose.SHARING)] == ["expired"]
        assert await uow.consents.ended_since(later(7) + timedelta(microseconds=1)) == {}
        assert list(await uow.consents.purpose_ends(ends[1].key)) == [ends[1], again[0]]
        assert list(await uow.consents.purpose_ends(KEY)) == []


async def test_the_last_version_under_which_a_purpose_was_over_is_told_of_those_asked_for(store: Store) -> None:
    ends = [
        PurposeEndRow(("partner-1", name), change, purpose, PurposeEnd.REVOKED, version, NOW)  # type: ignore[arg-type]
        for name, change, purpose, version in [
            ("a", 2, Purpose.PAYMENT, 1),
            ("a", 4, Purpose.PAYMENT, 3),
            ("a", 6, Purpose.SHARING, 5),
            ("b", 1, Purpose.SHARING, 1),
            ("c", 1, Purpose.PAYMENT, 1),
        ]
    ]
    asked = [("partner-1", name) for name in ("a", "b", "nobodys")] + [("partner-2", "a")]
    async with store.transaction() as uow:
        await uow.consents.add_purpose_ends(ends)
        assert await uow.consents.last_ends(asked, Purpose.PAYMENT) == {("partner-1", "a"): 3}  # type: ignore[arg-type]


async def test_a_change_ends_a_purpose_once(store: Store) -> None:
    row = PurposeEndRow(KEY, 1, Purpose.PAYMENT, PurposeEnd.REVOKED, 1, NOW)
    async with store.transaction() as uow:
        await uow.consents.add_purpose_ends([row])
    with pytest.raises(StoreIntegrityError):
        async with store.transaction() as uow:
            await uow.consents.add_purpose_ends([row])


async def test_what_is_over_of_a_consent_stands_in_its_row(store: Store) -> None:
    several = record(ConsentStatus.AUTH, sharing=SHARING, marketing=MARKETING)
    await store_new(store, several)
    over = frozenset({Purpose.PAYMENT, Purpose.MARKETING})
    async with store.transaction() as uow:
        before = (await uow.consents.lock_records([KEY]))[KEY]
        await uow.consents.update([replace(before, consent=replace(before.consent, ended=over))], now=later(5))
    async with store.transaction() as uow:
        assert (await uow.consents.lock([KEY]))[KEY].ended == over
        assert (await uow.consents.read([KEY]))[KEY].purposes == (Purpose.SHARING,)
        assert (await uow.consents.lock_records([KEY]))[KEY].consent.ended == over


async def test_a_purpose_with_an_end_of_its_own_is_found_by_it(store: Store) -> None:
    share = SHARING.model_copy(update={"use_until": later(9)})
    offer = MARKETING.model_copy(update={"until": later(5)})
    await store_new(store, record(ConsentStatus.AUTH, sharing=share, marketing=offer))
    async with store.transaction() as uow:
        assert not await uow.consents.lock_past_end(now=later(4), limit=5)
        [found] = await uow.consents.lock_past_end(now=later(5), limit=5)
        left = replace(found.consent, ended=frozenset({Purpose.MARKETING}))
        await uow.consents.update([replace(found, consent=left)], now=later(5))
    async with store.transaction() as uow:
        assert not await uow.consents.lock_past_end(now=later(8), limit=5)
        assert [r.key for r in await uow.consents.lock_past_end(now=later(9), limit=5)] == [KEY]


async def test_what_is_rolled_back_was_never_there(store: Store) -> None:
    async with rolled_back(store) as uow:
        await uow.consents.insert([record()], now=NOW)
        await uow.consents.add_versions([version_of(terms())])
        await uow.consents.remember([handled()])
    async with store.reading() as uow:
        assert await uow.consents.read([KEY]) == {}
        assert await uow.consents.versions(KEY) == []
        assert await uow.consents.handled([handled().key]) == {}
