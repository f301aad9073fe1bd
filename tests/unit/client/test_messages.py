"""A partner's messages: what is signed is what is sent, on the topic and under the key that the contract asks for."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from gateway import client
from gateway.client import (
    AffiliateMessage,
    AmbiguousMessageError,
    Message,
    Signer,
    default_kid,
    read_signer,
    record_of,
    signed,
    type_of,
)
from gateway.directory.partners import PartnerKey
from gateway.identity.jose.jwk import generate_key, write_private_key
from gateway.identity.jose.signature import JwsVerifier
from gateway.identity.signing import Signed
from schemas.codec import decode, encode
from schemas.consent_commands import CONSENT_MESSAGES, CONSENT_REVOKE_TYPE, ConsentInstruction
from schemas.envelope import read_envelope
from schemas.orders import ORDER_TYPE, PaymentOrder
from schemas.topics import TOPICS
from tests.support.messages import EXAMPLES, NOW, ORDER

PRIVATE, PUBLIC = generate_key("ES256")
SIGNER = Signer(PRIVATE, "k-1")
SENT: list[Any] = [m for m in EXAMPLES if type(m) in get_args(Message)]
SENT_BY_AFFILIATES: list[Any] = [m for m in EXAMPLES if type(m) in get_args(AffiliateMessage)]
REVOCATION = next(m for m in SENT if isinstance(m, ConsentInstruction))


class Keys:
    """Implements :class:`gateway.identity.signing.KeySource` with the one key."""

    def partner_exists(self, _partner_id: str) -> bool:
        return True

    def key(self, kid: str) -> PartnerKey | None:
        return PartnerKey(kid, ORDER.partner_id, "ES256", PUBLIC, NOW - timedelta(days=1), None, None)

    async def refresh_if_stale(self) -> bool:
        return False


def typed(message: Message) -> str | None:
    return CONSENT_REVOKE_TYPE if message is REVOCATION else None


def test_there_is_an_example_of_every_message_of_a_partner() -> None:
    assert {type(m) for m in SENT} == set(get_args(Message))
    assert {type(m) for m in SENT_BY_AFFILIATES} == set(get_args(AffiliateMessage))


@pytest.mark.parametrize("message", SENT, ids=lambda m: type(m).__name__)
def test_every_message_goes_out_as_the_table_of_topics_has_it(message: Message) -> None:
    record = signed(SIGNER, message, type_=typed(message))
    envelope = read_envelope(record.headers)
    [topic] = [t for t in TOPICS if t.name == record.topic and "PARTNER" in {w.name for w in t.writers}]
    assert topic.messages[envelope.type] is type(message)
    assert (record.key, record.value) == (message.record_key.encode(), encode(message))
    assert (envelope.source, envelope.time) == ("/partners/acme", message.issued_at)
    told = JwsVerifier(Keys()).authenticate(
        body=record.value, signature=envelope.signature, type_=envelope.type, now=NOW
    )
    assert told == Signed(ORDER.partner_id)


@pytest.mark.parametrize("message", SENT_BY_AFFILIATES, ids=lambda m: type(m).__name__)
def test_every_message_of_an_affiliate_goes_out_as_the_table_of_topics_has_it(message: AffiliateMessage) -> None:
    record = signed(SIGNER, message)
    envelope = read_envelope(record.headers)
    [topic] = [t for t in TOPICS if t.name == record.topic and "AFFILIATE" in {w.name for w in t.writers}]
    assert topic.messages[envelope.type] is type(message)
    assert (record.key, record.value) == (message.record_key.encode(), encode(message))
    assert (envelope.source, envelope.time) == (f"/affiliates/{message.affiliate_id}", NOW)
    signature, verifier = envelope.signature, JwsVerifier(Keys())
    told = verifier.authenticate(body=record.value, signature=signature, type_=envelope.type, now=NOW)
    assert told == Signed(ORDER.partner_id)
    other = verifier.authenticate(body=record.value, signature=signature, type_=ORDER_TYPE, now=NOW)
    assert not isinstance(other, Signed)


def test_bytes_that_were_written_elsewhere_are_what_is_signed() -> None:
    body = encode(ORDER).replace(b'":', b'" : ')
    record = signed(SIGNER, ORDER, body=body, event_id="mine")
    assert (record.value, read_envelope(record.headers).id) == (body, "mine")
    assert decode(PaymentOrder, record.value) == ORDER


def test_commands_of_two_consents_have_ids_of_their_own() -> None:
    other = REVOCATION.model_copy(update={"consent_id": "consent-2"})
    records = [signed(SIGNER, m, type_=CONSENT_REVOKE_TYPE) for m in (REVOCATION, other)]
    assert len({read_envelope(r.headers).id for r in records}) == 2


def test_a_body_of_several_types_is_not_sent_as_any() -> None:
    with pytest.raises(AmbiguousMessageError, match="several types"):
        type_of(REVOCATION)
    with pytest.raises(AmbiguousMessageError):
        signed(SIGNER, REVOCATION)
    with pytest.raises(AmbiguousMessageError, match="not the body of"):
        signed(SIGNER, REVOCATION, type_=ORDER_TYPE)
    with pytest.raises(AmbiguousMessageError, match="not the body of"):
        signed(SIGNER, ORDER, type_=CONSENT_REVOKE_TYPE)


@pytest.mark.parametrize(
    ("type_", "topic"), [("x.v1", "mypay.orders"), *((t, "mypay.consents.commands") for t in CONSENT_MESSAGES)]
)
def test_any_bytes_can_be_put_on_a_record(type_: str, topic: str) -> None:
    record = record_of(type_, "k", b"\x00", event_id="e", at=NOW, signature=None)
    assert (record.topic, record.key, record.value) == (topic, b"k", b"\x00")
    assert read_envelope(record.headers).signature is None


def test_a_key_has_the_id_that_it_is_registered_with_by_default(tmp_path: Path) -> None:
    write_private_key(tmp_path / "key.pem", PRIVATE)
    assert read_signer(tmp_path / "key.pem", "acme").kid == default_kid("acme", PUBLIC, "ES256")
    assert read_signer(tmp_path / "key.pem", "acme", "mine").kid == "mine"
    assert "PRIVATE" not in repr(read_signer(tmp_path / "key.pem", "acme"))
    assert "private_key" not in repr(SIGNER)


def test_every_error_that_the_client_tells_of_can_be_imported_from_it() -> None:
    folder = Path(client.__file__).parent
    sections = [s for p in folder.glob("*.py") for s in re.findall(r'Raises:\n(.+?)"""', p.read_text(), re.DOTALL)]
    told = {name for section in sections for name in re.findall(r"\b[A-Z]\w+Error\b", section)}
    assert told
    assert told <= set(client.__all__)
