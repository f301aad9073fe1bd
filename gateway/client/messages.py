"""A partner's or affiliate's messages as Kafka records: CloudEvents headers, detached signature, topic and key."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from gateway.identity.jose.jwk import PrivateKey, algorithm_of, import_public, public_jwk, read_private_key
from gateway.identity.jose.signing import sign_detached
from gateway.messaging.records import Outgoing
from schemas.bulk import PaymentBulk
from schemas.cancellation import PaymentCancellation
from schemas.codec import encode
from schemas.consent_commands import (
    CONSENT_MESSAGES,
    ConsentAmendment,
    ConsentInstruction,
    ConsentMessage,
    ConsentRequest,
)
from schemas.envelope import Envelope, write_envelope
from schemas.marketing import OFFER_USE_TYPE, OfferUse
from schemas.orders import PaymentOrder
from schemas.portability import PORTABILITY_REQUEST_TYPE, PortabilityRequest
from schemas.refunds import PaymentRefund
from schemas.sharing import ERASURE_TYPE, ErasureConfirmed
from schemas.standing import StandingOrderCancel, StandingOrderCreate
from schemas.topics import CONSENT_COMMANDS, ERASURES, OFFER_USES, ORDERS, PORTABILITY_REQUESTS, TOPICS

OrderMessage = (
    PaymentOrder | PaymentCancellation | PaymentRefund | PaymentBulk | StandingOrderCreate | StandingOrderCancel
)
"""What goes to ``mypay.orders``."""

AffiliateMessage = OfferUse | ErasureConfirmed
"""Everything that an affiliate sends."""

Message = OrderMessage | ConsentMessage | PortabilityRequest
"""Everything that a partner sends."""

_MODELS: Final[Mapping[str, type[BaseModel]]] = {
    type_: model
    for topic in TOPICS
    if topic.name in (ORDERS, CONSENT_COMMANDS, PORTABILITY_REQUESTS, OFFER_USES, ERASURES)
    for type_, model in topic.messages.items()
}
_TYPES: Final[Mapping[type[BaseModel], str]] = {
    model: type_ for type_, model in _MODELS.items() if list(_MODELS.values()).count(model) == 1
}


_TOPICS: Final[Mapping[str, str]] = {
    **dict.fromkeys(CONSENT_MESSAGES, CONSENT_COMMANDS),
    PORTABILITY_REQUEST_TYPE: PORTABILITY_REQUESTS,
    OFFER_USE_TYPE: OFFER_USES,
    ERASURE_TYPE: ERASURES,
}
"""CloudEvents type → topic, of what does not go to :data:`schemas.topics.ORDERS`."""


class AmbiguousMessageError(ValueError):
    """The body alone does not tell which message it is: its CloudEvents type must be given, and be one of its own."""


@dataclass(frozen=True, slots=True)
class Signer:
    """A partner's or affiliate's signing key (ES256 or Ed25519) and the id under which the gateway knows it."""

    private_key: PrivateKey = field(repr=False)
    kid: str

    def sign(self, body: bytes, type_: str) -> str:
        """The detached signature over exactly these bytes as this CloudEvents type: the header ``signature``.

        Raises:
            KeyFormatError: the key is none that partners sign with.
        """
        algorithm = algorithm_of(self.private_key)
        return sign_detached(body, self.private_key, kid=self.kid, algorithm=algorithm, typ=type_)


def read_signer(path: Path, partner_id: str, kid: str | None = None) -> Signer:
    """Read a private key (PEM, unencrypted, readable by its owner alone). ``kid``: the default one where None.

    Raises:
        SecretFileError: missing, too large, or readable by everybody.
        KeyFormatError: not a P-256 or Ed25519 private key.
    """
    private = read_private_key(path)
    return Signer(private, kid or default_kid(partner_id, public_jwk(private), algorithm_of(private)))


def default_kid(partner_id: str, public: Mapping[str, Any], algorithm: str) -> str:
    """The id of a key unless it was registered with another: partner and RFC 7638 thumbprint of the public JWK.

    Raises:
        KeyFormatError: not a public key for this algorithm.
    """
    return f"{partner_id}-{import_public(public, algorithm).thumbprint()[:16]}"


def type_of(message: Message | AffiliateMessage) -> str:
    """The CloudEvents type of a message.

    Raises:
        AmbiguousMessageError: the body is that of several types (:class:`schemas.consent_commands.ConsentInstruction`).
    """
    if (type_ := _TYPES.get(type(message))) is None:
        raise AmbiguousMessageError(f"{type(message).__name__} is the body of several types, or none of a partner's")
    return type_


def signed(
    signer: Signer,
    message: Message | AffiliateMessage,
    *,
    type_: str | None = None,
    body: bytes | None = None,
    event_id: str | None = None,
    at: datetime | None = None,
) -> Outgoing:
    """A message as its partner or affiliate sends it.

    Args:
        signer: the key of the message's partner or affiliate.
        message: what to send.
        type_: its CloudEvents type, where the body is that of several.
        body: its bytes where they were written elsewhere; they are what is signed.
        event_id: the record's CloudEvents id; None: the message's own id.
        at: its CloudEvents time; None: when the message says that it was issued, or that what it tells was done.

    Raises:
        AmbiguousMessageError: ``type_`` is left out where it is needed, or not one of this body.
        KeyFormatError: the key is none that partners sign with.
    """
    type_ = type_ or type_of(message)
    if _MODELS.get(type_) is not type(message):
        raise AmbiguousMessageError(f"{type(message).__name__} is not the body of {type_}")
    value = encode(message) if body is None else body
    return record_of(
        type_,
        message.record_key,
        value,
        event_id=event_id or _id_of(message),
        at=at or _time_of(message),
        signature=signer.sign(value, type_),
        source=f"/{'affiliates' if isinstance(message, AffiliateMessage) else 'partners'}/{message.partner_id}",
    )


def record_of(
    type_: str,
    key: str,
    body: bytes,
    *,
    event_id: str,
    at: datetime,
    signature: str | None,
    source: str = "/partners",
) -> Outgoing:
    """Any bytes under any signature, as a record of the topic where this type goes: nothing of them is checked.

    Args:
        type_: CloudEvents type; an unknown one goes to ``mypay.orders``.
        key: the record's key (:attr:`schemas.topics.Topic.key`): what has one key keeps its order.
        body: the record's value.
        event_id: unique together with ``source`` (CloudEvents).
        at: when it was made.
        signature: the header ``signature``; None: there is none.
        source: who made it, as a URI reference: ``/partners/<partner id>``.
    """
    envelope = Envelope(id=event_id, source=source, type=type_, time=at, signature=signature)
    topic = _TOPICS.get(type_, ORDERS)
    return Outgoing(topic, key.encode(), body, write_envelope(envelope))


def _id_of(message: Message | AffiliateMessage) -> str:
    match message:
        case ConsentRequest() | ConsentAmendment() | ConsentInstruction():
            # A command's id is unique within its consent alone.
            return f"{message.consent_id}-{message.command_id}"
        case PortabilityRequest():
            return message.request_id
        case OfferUse():
            return message.use_id
        case ErasureConfirmed():
            return str(message.notice_id)
        case _:
            return message.instruction_id


def _time_of(message: Message | AffiliateMessage) -> datetime:
    match message:
        case OfferUse():
            return message.used_at
        case ErasureConfirmed():
            return message.erased_at
        case _:
            return message.issued_at
