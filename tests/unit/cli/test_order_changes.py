"""`mypay order cancel` and `mypay order refund`: signed as they are sent, and told what came of them."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import sending
from gateway.client import Event, Message, answers, default_kid
from gateway.directory.partners import PartnerKey
from gateway.identity.jose.jwk import generate_key, public_jwk, read_private_key, write_private_key
from gateway.identity.jose.signature import JwsVerifier
from gateway.identity.signing import Signed
from gateway.messaging.records import Outgoing
from gateway.payments.rules.lifecycle import STATUS, PaymentState
from schemas.cancellation import CANCEL_TYPE, PaymentCancellation
from schemas.codec import decode
from schemas.envelope import read_envelope
from schemas.primitives import Money, payment_id_of
from schemas.refunds import REFUND_TYPE, PaymentRefund
from tests.support.cli import mypay

NAMES = ("--partner", "acme", "--consent", "c-1")


class Network:
    """What was sent, and the events that answer it: the first that the command takes for its answer is it."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.events: list[tuple[str, dict[str, Any]]] = []

    async def ask(self, _settings: object, record: Outgoing, message: Message, seconds: float | None) -> Event | None:
        self.sent.append(record)
        events = [Event("e", type_, body) for type_, body in self.events] if seconds is not None else []
        return next((e for e in events if answers(message, e)), None)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr(sending, "_ask", network.ask)
    return network


@pytest.fixture
def key(tmp_path: Path) -> Path:
    private, _ = generate_key("Ed25519")
    write_private_key(tmp_path / "key.pem", private)
    return tmp_path / "key.pem"


def is_signed(record: Outgoing, key: Path, type_: str) -> bool:
    envelope = read_envelope(record.headers)
    public = public_jwk(read_private_key(key))

    class Keys:
        def partner_exists(self, _partner_id: str) -> bool:
            return True

        def key(self, kid: str) -> PartnerKey | None:
            assert kid == default_kid("acme", public, "Ed25519")
            since = envelope.time - timedelta(days=1)
            return PartnerKey(kid, "acme", "Ed25519", public, since, None, None)  # type: ignore[arg-type]

    checked = {"signature": envelope.signature, "type_": type_, "now": envelope.time}
    signed = JwsVerifier(Keys()).authenticate(body=record.value, **checked)  # type: ignore[arg-type]
    return envelope.type == type_ and signed == Signed("acme")  # type: ignore[arg-type]


def test_a_cancellation_goes_out_signed_under_its_consent(key: Path, network: Network) -> None:
    ran = mypay("order", "cancel", "o-1", *NAMES, "--key", key, "--reason", "ordered twice", "--json").expect()
    [record] = network.sent
    message = decode(PaymentCancellation, record.value)
    assert (record.topic, record.key) == ("mypay.orders", b"c-1")
    assert is_signed(record, key, CANCEL_TYPE)
    assert (message.partner_id, message.consent_id, message.order_id, message.reason_text) == (
        "acme",
        "c-1",
        "o-1",
        "ordered twice",
    )
    assert ran.json == {
        "cancellation_id": message.cancellation_id,
        "payment_id": str(payment_id_of("acme", "o-1")),
        "event": None,
    }


def test_a_refund_goes_out_signed_as_an_order_of_its_own(key: Path, network: Network) -> None:
    mypay("order", "refund", "o-1", "--amount", "12.50", "--currency", "USD", *NAMES, "--key", key).expect()
    mypay("order", "refund", "o-1", "--amount", "100", "--id", "r-1", *NAMES, "--key", key).expect()
    first, second = (decode(PaymentRefund, r.value) for r in network.sent)
    assert all(is_signed(r, key, REFUND_TYPE) for r in network.sent)
    assert (first.original_order_id, first.amount) == ("o-1", Money.of(1_250, "USD"))
    assert (second.order_id, second.amount) == ("r-1", Money.of(100, "KRW"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("refund", "o-1", "--amount", "1.5"), "KRW amounts have exactly 0 decimals"),
        (("refund", "o-1", "--amount", "-1"), "value must be a decimal number"),
        (("refund", "o-1", "--amount", "1", "--id", "o-1"), "order_id must be the refund's own"),
        (("cancel", "o 1"), "order_id"),
        (("cancel", "o-1", "--id", "a/b"), "cancellation_id"),
    ],
)
def test_what_is_wrong_is_not_sent(arguments: tuple[str, ...], told: str, key: Path, network: Network) -> None:
    ran = mypay("order", *arguments, *NAMES, "--key", key).expect(1)
    assert told in ran.err
    assert network.sent == []


ACCEPTED = ("kr.mypay.cancellation.accepted.v1", {"cancellation_id": "k-1", "effect": "reversing"})
OTHERS = ("kr.mypay.cancellation.refused.v1", {"cancellation_id": "k-2", "reason": {"code": "TM01", "text": "late"}})
REFUSED = ("kr.mypay.cancellation.refused.v1", {"cancellation_id": "k-1", "reason": {"code": "TM01", "text": "late"}})
UNSIGNED = ("kr.mypay.order.refused.v1", {"order_id": "k-1", "reason": {"code": "DS17", "text": "signature"}})


@pytest.mark.parametrize(
    ("events", "code", "told"),
    [
        ([OTHERS, ACCEPTED], 0, "Accepted: the payment is being reversed at the network."),
        ([REFUSED], 1, "Refused: TM01 late."),
        ([UNSIGNED], 1, "Refused: DS17 signature."),
    ],
)
def test_a_cancellation_is_followed_to_its_answer(
    events: list[Any], code: int, told: str, key: Path, network: Network
) -> None:
    network.events = events
    ran = mypay("order", "cancel", "o-1", "--id", "k-1", *NAMES, "--key", key, "--wait").expect(code)
    assert told in ran.err


def refund_event(state: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    payment_id = str(payment_id_of("acme", "r-1"))
    told = {"payment_id": payment_id, "state": state, "status": STATUS[PaymentState(state)], **fields}
    return f"kr.mypay.payment.{state}.v1", told


@pytest.mark.parametrize(
    ("events", "code", "told"),
    [
        ([refund_event("sent"), refund_event("approved")], 0, "Refunded 100 KRW as order r-1: approved."),
        (
            [refund_event("rejected", reason={"code": "AM02", "text": "0 KRW remain"})],
            1,
            "Rejected: AM02 0 KRW remain.",
        ),
        (
            [("kr.mypay.order.refused.v1", {"order_id": "r-1", "reason": {"code": "NOOR", "text": "none"}})],
            1,
            "Refused: NOOR none.",
        ),
    ],
)
def test_a_refund_is_followed_to_its_outcome(
    events: list[Any], code: int, told: str, key: Path, network: Network
) -> None:
    network.events = events
    command = ("order", "refund", "o-1", "--amount", "100", "--id", "r-1", *NAMES, "--key", key, "--wait")
    assert told in mypay(*command).expect(code).err
    assert mypay(*command, "--json").expect(code).json["order_id"] == "r-1"


@pytest.mark.parametrize("command", [("cancel", "o-1"), ("refund", "o-1", "--amount", "1")])
def test_an_answer_that_does_not_come_is_said(command: tuple[str, ...], key: Path, network: Network) -> None:
    ran = mypay("order", *command, *NAMES, "--key", key, "--wait", "--timeout", "0.5").expect(4)
    assert "Nothing was told within 0.5 s" in ran.err
    assert len(network.sent) == 1
