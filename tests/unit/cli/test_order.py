"""`mypay order send`: everything is checked before anything is sent."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import order as order_cli
from gateway.client import default_kid
from gateway.directory.partners import PartnerKey
from gateway.identity.jose.jwk import generate_key, public_jwk, read_private_key, write_private_key
from gateway.identity.jose.signature import JwsVerifier
from gateway.identity.signing import Signed
from gateway.messaging.records import Outgoing
from gateway.sealing.redaction import contains_secret
from schemas.codec import decode, encode
from schemas.envelope import read_envelope
from schemas.orders import ORDER_TYPE, PaymentOrder
from schemas.reasons import Reason
from tests.support.cli import mypay
from tests.support.messages import NOW, ORDER

BARE = {"partner_id": "acme", "consent_id": "c-1", "merchant_id": "m-1", "amount": {"currency": "KRW", "value": "100"}}


@pytest.fixture
def key(tmp_path: Path) -> Path:
    private, _ = generate_key("Ed25519")
    write_private_key(tmp_path / "key.pem", private)
    return tmp_path / "key.pem"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Outgoing]:
    """What would have been produced."""
    records: list[Outgoing] = []

    async def send(settings: object, outgoing: list[Outgoing], *rest: object) -> None:
        records.extend(outgoing)

    monkeypatch.setattr(order_cli, "_send", send)
    return records


def given(*orders: dict[str, Any]) -> str:
    return "".join(json.dumps(o) + "\n" for o in orders)


def test_an_order_goes_out_signed_under_its_consent(key: Path, sent: list[Outgoing]) -> None:
    mypay("order", "send", "-", "--key", key, given=encode(ORDER)).expect()
    [record] = sent
    envelope = read_envelope(record.headers)
    assert (record.topic, record.key, envelope.type) == ("mypay.orders", b"consent-1", ORDER_TYPE)
    assert decode(PaymentOrder, record.value) == ORDER
    private = read_private_key(key)
    public = public_jwk(private)

    class Keys:
        def partner_exists(self, _partner_id: str) -> bool:
            return True

        def key(self, kid: str) -> PartnerKey | None:
            assert kid == default_kid("acme", public, "Ed25519")
            return PartnerKey(kid, ORDER.partner_id, "Ed25519", public, NOW - timedelta(days=1), None, None)

    verifier = JwsVerifier(Keys())  # type: ignore[arg-type]
    checked = {"signature": envelope.signature, "type_": ORDER_TYPE, "now": NOW}
    assert verifier.authenticate(body=record.value, **checked) == Signed(ORDER.partner_id)  # type: ignore[arg-type]
    assert isinstance(verifier.authenticate(body=record.value + b" ", **checked), Reason)  # type: ignore[arg-type]


def test_fill_gives_what_is_missing_and_changes_nothing(key: Path, sent: list[Outgoing]) -> None:
    mine = {**BARE, "order_id": "mine", "issued_at": "2026-03-02T00:00:00Z", "expires_at": "2026-03-02T01:00:00Z"}
    ran = mypay("order", "send", "-", "--key", key, "--fill", "--json", given=given(BARE, BARE, mine)).expect()
    first, second, third = (decode(PaymentOrder, r.value) for r in sent)
    assert first.order_id != second.order_id
    assert third.order_id == "mine"
    assert third.issued_at == datetime.fromisoformat("2026-03-02T00:00:00Z")
    assert timedelta(0) < first.expires_at - first.issued_at <= order_cli.FILLED_VALIDITY
    assert [o["payment_id"] for o in ran.json] == [str(o.payment_id) for o in (first, second, third)]


@pytest.mark.parametrize("on", [(), ("--on", "2031-12-24")])
def test_the_times_that_fill_gives_look_like_no_card_number(
    on: tuple[str, ...], key: Path, sent: list[Outgoing]
) -> None:
    mypay("order", "send", "-", "--key", key, "--fill", *on, given=given({**BARE, "order_id": "o-1"})).expect()
    order = decode(PaymentOrder, sent[0].value)
    assert (order.issued_at.microsecond, order.expires_at.microsecond) == (0, 0)
    assert not contains_secret(sent[0].value)


@pytest.mark.parametrize(
    ("orders", "told"),
    [
        ([BARE], "line 1: order_id: field is missing; nothing was sent."),
        ([json.loads(encode(ORDER)), {**json.loads(encode(ORDER)), "memo": 1}], "line 2: memo: unknown field"),
    ],
)
def test_one_wrong_order_holds_back_all(
    orders: list[dict[str, Any]], told: str, key: Path, sent: list[Outgoing]
) -> None:
    assert told in mypay("order", "send", "-", "--key", key, given=given(*orders)).expect(1).err
    assert sent == []


def test_one_key_signs_for_one_partner(key: Path, sent: list[Outgoing]) -> None:
    text = given(BARE, {**BARE, "partner_id": "other"})
    assert "several" in mypay("order", "send", "-", "--key", key, "--fill", given=text).expect(2).err
    assert sent == []


def test_keys_that_cannot_sign_are_refused(key: Path, tmp_path: Path, sent: list[Outgoing]) -> None:
    (tmp_path / "not.pem").write_text("secret")
    (tmp_path / "not.pem").chmod(0o600)
    for path in (tmp_path / "none.pem", tmp_path / "not.pem"):
        ran = mypay("order", "send", "-", "--key", path, given=encode(ORDER)).expect(2)
        assert path.name in ran.err
        assert "secret" not in ran.err
    key.chmod(0o644)
    assert "chmod 600" in mypay("order", "send", "-", "--key", key, given=encode(ORDER)).expect(2).err
    assert sent == []


def test_an_order_for_a_later_day_has_that_whole_day_in_seoul(key: Path, sent: list[Outgoing]) -> None:
    mypay("order", "send", "-", "--key", key, "--fill", "--on", "2031-12-24", given=given(BARE)).expect()
    [record] = sent
    order = decode(PaymentOrder, record.value)
    assert order.requested_execution_date == date(2031, 12, 24)
    assert order.expires_at == datetime(2031, 12, 24, 15, tzinfo=UTC)
    mypay("order", "send", "-", "--key", key, "--on", "2031-12-24", given=encode(ORDER)).expect()
    assert decode(PaymentOrder, sent[1].value) == ORDER.model_copy(
        update={"requested_execution_date": date(2031, 12, 24)}
    )
    mypay("order", "send", "-", "--key", key, "--on", "24.12.2031", given=encode(ORDER)).expect(2)
