"""Answers of the API on fakes: what permits them, what they hold, and what is written of them."""

import base64
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.app.portability_api import pull_service
from gateway.app.runtime import Runtime
from gateway.base.errors import StoreUnavailableError
from gateway.consents.rules.consent import Consent
from gateway.disclosure.rules.uses import USES
from gateway.payments.rules.lifecycle import PaymentState
from gateway.portability.api.answering import CERTIFICATES_KEPT, Answer, PullSettings
from gateway.portability.api.rules.calls import Call
from gateway.portability.rules.records import Recipient
from gateway.portability.rules.rows import card_id
from gateway.proving.memory.pulls import MemoryPullStore
from gateway.sealing.mac import HmacMarks
from gateway.sealing.sealing import MasterKeys
from gateway.sealing.sealing import Purpose as KeyPurpose
from schemas.consents import ConsentStatus, PortabilityScope, Purpose
from schemas.events import EventType
from tests.support.builders import NOW
from tests.support.domain_samples import terms
from tests.support.portability import GATEWAY, LAST, ORG, PURPOSE, PortabilityRig

SHOWN = "ab" * 32
HEADERS = {
    "x-api-tran-id": "A1AAAA0000M00000000000001",
    "x-api-type": "user-search",
    "x-user-ci": base64.b64encode(b"customer-1").decode(),
    "x-mypay-consent": "partner-1/consent-1",
}
PAID = "/v1/efin/paid/transactions"
APPROVALS = f"/v1/card/cards/{card_id('token-1', ORG)}/approval-domestic"


class Rig(PortabilityRig):
    def __init__(self, **bounds: int) -> None:
        super().__init__()
        self.database.certificates.rows[SHOWN] = ORG
        self.database.put_token("token-1", "customer-1", "partner-1")
        runtime = Runtime(store=self.store, observer=self.observer, clock=self.clock, worker="api")
        marks = HmacMarks(MasterKeys({"page": bytes(32)}), KeyPurpose.NEXT_PAGE)
        settings = PullSettings(GATEWAY, **({"per_second": 1000, "burst": 1000} | bounds))
        self.api = pull_service(runtime, marks, settings)

    async def ask(self, path: str = PAID, *, shown: str = SHOWN, type_: str = "user-search", **query: str) -> Answer:
        span = {"from_date": "20250501", "to_date": "20270531"} if "transactions" in path or "approval" in path else {}
        headers = HEADERS | {"x-api-type": type_}
        asked = Call("GET", path, list(({"org_code": GATEWAY} | span | query).items()), list(headers.items()))
        return await self.api.answer(shown, asked)

    async def code(self, path: str = PAID, **more: Any) -> str:
        answer = await self.ask(path, **more)
        assert answer.body["rsp_code"] == answer.code.value
        return answer.code.value


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.pay(1, 2, 3)
    return rig


async def test_rows_are_those_of_exports_cut_to_the_flags(rig: Rig) -> None:
    [full] = [(await rig.ask()).body]
    assert full["trans_cnt"] == 3
    assert all({"merchant_name", "trans_category"} <= row.keys() for row in full["trans_list"])  # type: ignore[attr-defined]
    assert "next_page" not in full
    bare = PURPOSE.model_copy(update={"is_consent_merchant_name_regno": False, "is_consent_trans_category": False})
    rig.put(bare)
    for row in (await rig.ask()).body["trans_list"]:  # type: ignore[attr-defined]
        assert not {"merchant_name", "trans_category", "trans_memo"} & row.keys()
    [approval, *_] = (await rig.ask(APPROVALS)).body["approved_list"]  # type: ignore[misc]
    assert approval["card_id"] == card_id("token-1", ORG)


async def test_each_answer_is_a_use_that_is_written_before_it_leaves(rig: Rig) -> None:
    await rig.ask()
    [(_, told)] = rig.told()
    assert (told["status"], told["rcv_org_code"], told["records"], told["consent_version"]) == ("pulled", ORG, 3, 1)
    assert told["x_api_type"] == "user-search"
    assert EventType.PORTABILITY_PULLED in USES
    rig.faults.plan("store.commit", StoreUnavailableError("away"))
    answer = await rig.ask()
    assert answer.body == {"rsp_code": "50001", "rsp_msg": "system failure"}
    assert len(rig.told()) == 1


async def test_no_card_number_in_a_recipient_s_own_id_of_a_call_is_told_to_others(rig: Rig) -> None:
    rig.pay(1)
    number = "A1AAAAM4111111111111111XX"
    headers = HEADERS | {"x-api-tran-id": number}
    answer = await rig.api.answer(SHOWN, Call("GET", "/v1/consents", [("org_code", GATEWAY)], list(headers.items())))
    # It comes back as it came: they know it.
    assert (answer.code.value, answer.tran_id) == ("00000", number)
    [event] = [row.event for row in rig.database.outbox]
    assert b"4111111111111111" not in event.body
    assert event.body.count(b'"A1AAAAM411111XXXXXX1111XX"') == 2


@pytest.mark.parametrize("status", list(ConsentStatus))
async def test_a_consent_permits_while_it_is_in_force(rig: Rig, status: ConsentStatus) -> None:
    rig.database.put_consent(Consent(terms(portability=PURPOSE), 1, status))
    never = {ConsentStatus.AWAU: "40403", ConsentStatus.RJCT: "40403", ConsentStatus.AUTH: "00000"}
    for path in (PAID, APPROVALS, "/v1/consents", "/v1/card/cards"):
        assert await rig.code(path) == never.get(status, "40106")
    assert len(rig.told()) == (4 if status is ConsentStatus.AUTH else 0)


async def test_a_purpose_that_is_over_or_past_its_end_gives_nothing(rig: Rig) -> None:
    consent = Consent(terms(portability=PURPOSE), 1, ConsentStatus.AUTH)
    rig.database.put_consent(replace(consent, ended=frozenset({Purpose.PORTABILITY})))
    assert await rig.code() == "40106"
    rig.database.put_consent(consent)
    rig.clock.advance(timedelta(days=(LAST - NOW.date()).days + 1).total_seconds())
    assert await rig.code() == "40106"
    assert not rig.told()


async def test_a_scope_must_be_granted(rig: Rig) -> None:
    paths = {
        PortabilityScope.PAID_TRANSACTION: PAID,
        PortabilityScope.CARD_APPROVAL: APPROVALS,
        PortabilityScope.CARD_LIST: "/v1/card/cards",
    }
    for scope in PortabilityScope:
        rig.put(PURPOSE.model_copy(update={"scopes": (scope,)}))
        for needed, path in paths.items():
            assert await rig.code(path) == ("00000" if needed is scope else "40104")


async def test_others_see_nothing(rig: Rig) -> None:
    assert await rig.code(shown="cd" * 32) == "40103"
    rig.put(PURPOSE.model_copy(update={"recipients": ("B2BBBB0000",)}))
    assert await rig.code() == "40403"
    rig.put(PURPOSE)
    rig.use_key("key-1", active=False)
    assert await rig.code() == "40103"
    assert not rig.told()


async def test_a_schedule_goes_on_while_its_customer_asks(rig: Rig) -> None:
    def accessed() -> datetime:
        return rig.database.accesses.rows["partner-1", "consent-1", ORG]  # type: ignore[index]

    assert await rig.code() == "00000"
    rig.clock.advance(timedelta(days=170).total_seconds())
    assert await rig.code(type_="scheduled") == "00000"
    # What comes by itself is no access.
    assert accessed() == NOW
    rig.clock.advance(timedelta(days=20).total_seconds())
    assert await rig.code(type_="scheduled") == "40106"
    assert await rig.code() == "00000"
    assert await rig.code(type_="scheduled") == "00000"
    once = {"is_scheduled": False, "fnd_cycle": None, "add_cycle": None}
    rig.put(PURPOSE.model_copy(update=once))
    assert await rig.code(type_="scheduled") == "40301"


async def test_who_calls_too_often_is_told_when_to_come_again() -> None:
    rig = Rig(per_second=1, burst=2)
    answers = [await rig.ask("/v1/apis") for _ in range(3)]
    assert [(a.code.value, a.retry_after) for a in answers] == [("00000", 0), ("00000", 0), ("42901", 1)]
    assert await rig.code(shown="cd" * 32) == "40103"


@pytest.mark.parametrize("who", ["recipient", "disabled", "nobody"])
async def test_who_calls_too_often_costs_the_database_nothing_more(who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(per_second=1, burst=2)
    shown = "cd" * 32 if who == "nobody" else SHOWN
    if who == "disabled":
        rig.database.recipients.rows[ORG] = replace(rig.database.recipients.rows[ORG], active=False)
    looked = 0
    recipient = MemoryPullStore.recipient

    async def counted(store: MemoryPullStore, certificate: str) -> Recipient | None:
        nonlocal looked
        looked += 1
        return await recipient(store, certificate)

    monkeypatch.setattr(MemoryPullStore, "recipient", counted)
    answers = [await rig.ask("/v1/apis", shown=shown) for _ in range(10)]
    assert [(a.code.value, a.retry_after) for a in answers[2:]] == [("42901", 1)] * 8
    assert looked == 2


async def test_a_second_certificate_gives_no_second_rate() -> None:
    rig = Rig(per_second=1, burst=2)
    rig.database.certificates.rows["ef" * 32] = ORG
    answers = [await rig.ask("/v1/apis", shown=shown) for shown in (SHOWN, "ef" * 32, "ef" * 32)]
    assert [a.code.value for a in answers] == ["00000", "00000", "42901"]


async def test_no_bucket_is_kept_of_certificates_that_call_no_more() -> None:
    rig = Rig(per_second=1, burst=2)
    now = 0.0
    rig.api._monotonic = lambda: now
    for n in range(3 * CERTIFICATES_KEPT):
        now += 1.0
        await rig.code("/v1/apis", shown=f"{n:064x}")
    assert len(rig.api._shown) <= CERTIFICATES_KEPT


async def test_payments_without_effect_are_not_told(rig: Rig) -> None:
    rig.pay(11, state=PaymentState.DECLINED)
    rig.pay(12, state=PaymentState.SENT, approval_code=None)
    assert (await rig.ask()).body["trans_cnt"] == 3
    found = []
    cursor: dict[str, str] = {}
    while True:
        body = (await rig.ask(limit="1", **cursor)).body
        found.extend(body.get("trans_list", []))  # type: ignore[arg-type]
        if "next_page" not in body:
            break
        cursor = {"next_page": str(body["next_page"])}
    assert len(found) == 3
