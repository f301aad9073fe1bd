"""Who sends commands on consents, and what of them cannot be read: who is told, and who is not."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from msgspec import structs

from gateway.messaging.records import Record
from schemas.consents import ConsentStatus
from tests.support.builders import NOW
from tests.support.consents import ConsentRig, document, put
from tests.support.domain_samples import terms


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
