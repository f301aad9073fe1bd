"""The record that execution reads: the partner's own bytes, what was judged of them, and the gateway's mark over both.

Initiation writes it for what is paid at once, the schedule for what was accepted for its day, which has come. Whoever
else writes to a dispatch topic is not believed: execution takes a record only with a mark (HMAC) under the internal key
over the network, the record's key, its exact bytes and every header. What is marked need not be decoded or verified a
second time: header ``mypay-judged`` holds

- the message's type, the digest of its bytes, and where and when the partner's record came
- what an order says, so that its bytes are not read again: they travel as what the partner signed, for whoever asks
- the partner's signature, which was verified and whose key is looked at again; the customer's proof as far as it was
  verified: whose it is, under which provider and key, how strong and how old. It was made for exactly this order
- whether the order waited for its day, and when all this was written down

Records of the version before, whose order is read from its bytes, are understood as well: they may wait on the topic
while the gateway is brought up to date. Execution is brought up to date first, for it reads what the others write.

A record that comes again does nothing: payments are known by their ids, and orders end with their ``expires_at``. The
rest of the partner's headers stays behind: what execution does not need goes no further into the gateway.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import ClassVar, Final, Literal
from uuid import UUID

from msgspec import Struct, convert, structs
from msgspec.json import Decoder, Encoder

from gateway.base.discreet import Discreet
from gateway.identity.assurance import Assertion
from gateway.messaging.records import Outgoing, Record
from gateway.payments.refunds.rules import ReceivedRefund
from gateway.payments.rules.purchase import ReceivedOrder
from gateway.payments.rules.waiting import ScheduledOrder
from gateway.sealing.marks import MarkProblem, RecordMarks
from schemas.codec import decode
from schemas.envelope import Envelope, EnvelopeError, write_envelope
from schemas.orders import OCCURRENCE_TYPE, ORDER_TYPE, OccurrenceOrder, PaymentOrder
from schemas.plain import built
from schemas.primitives import Money, NetworkId
from schemas.reasons import Reason
from schemas.refunds import REFUND_TYPE, PaymentRefund
from schemas.topics import dispatch_topic

JUDGED_HEADER: Final = "mypay-judged"
MARK_HEADER: Final = "mypay-mark"
"""The two last headers, in this order."""

SOURCE: Final = "/mypay/initiation"
SCHEDULE_SOURCE: Final = "/mypay/schedule"

_TYPES: Final = frozenset((ORDER_TYPE, OCCURRENCE_TYPE, REFUND_TYPE))
_PROBLEMS: Final = {
    None: "is missing",
    MarkProblem.UNKNOWN_KEY: "is made with a key that is not in MYPAY_INTERNAL_KEYS_DIR",
    MarkProblem.WRONG: "does not match the record",
}


class UntrustedRecordError(EnvelopeError):
    """Nobody of the gateway wrote this record, or somebody changed it, or it was written for another network.

    Attributes:
        why: a word for metrics.
    """

    def __init__(self, problem: MarkProblem | None) -> None:
        """Take what is wrong with the mark."""
        super().__init__(MARK_HEADER, _PROBLEMS[problem])
        self.why = problem.value if problem else "no_mark"


Due = Literal["proven", "unproven"]
"""Of an order that waited for its day, which has come: whether its proof was used when it was accepted."""


class JudgedProof(Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """A customer's proof, verified and made for exactly its order: all but its link."""

    issuer: str
    kid: str
    subject: str
    audience: tuple[str, ...]
    jti: str
    level_name: str
    methods: tuple[str, ...]
    issued_at: datetime
    not_before: datetime | None
    expires_at: datetime
    authenticated_at: datetime

    def assertion(self, order: PaymentOrder) -> Assertion:
        """The proof of its order."""
        return Assertion(
            self.issuer,
            self.subject,
            self.audience,
            self.issued_at,
            self.not_before,
            self.expires_at,
            self.authenticated_at,
            self.jti,
            self.level_name,
            self.methods,
            order,
            self.kid,
        )


class JudgedOrder(Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """What an order says, and the id of its payment: all but the proof's own bytes, which were read."""

    payment_id: UUID
    partner_id: str
    order_id: str
    consent_id: str
    merchant_id: str
    currency: str
    value: str
    minor: int
    issued_at: datetime
    expires_at: datetime
    requested_execution_date: date | None

    @classmethod
    def of(cls, order: PaymentOrder) -> "JudgedOrder":
        """What execution needs of an order."""
        amount = order.amount
        return cls(
            order.payment_id,
            order.partner_id,
            order.order_id,
            order.consent_id,
            order.merchant_id,
            amount.currency,
            amount.value,
            amount.minor,
            order.issued_at,
            order.expires_at,
            order.requested_execution_date,
        )

    def order(self) -> PaymentOrder:
        """The order, of values that were checked when it came in."""
        amount = built(Money, {"currency": self.currency, "value": self.value, "minor": self.minor}, _MONEY_GIVEN)
        values = {
            "partner_id": self.partner_id,
            "order_id": self.order_id,
            "consent_id": self.consent_id,
            "merchant_id": self.merchant_id,
            "amount": amount,
            "issued_at": self.issued_at,
            "expires_at": self.expires_at,
            "requested_execution_date": self.requested_execution_date,
            "authentication": None,
            # Where the property keeps it.
            "payment_id": self.payment_id,
        }
        return built(PaymentOrder, values, _ORDER_GIVEN)


class Judged(Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """A dispatched message as its mark vouches for it.

    Attributes:
        digest: SHA-256 of the partner's raw bytes.
        ordered_at: Kafka timestamp of the partner's record; reference: its topic/partition/offset.
        judged_at: when this was written down.
        signature: the partner's, verified.
        due: set where it waited for its day, which has come.
        proof: the customer's; order: None of a refund, and of an order that an earlier version wrote.
    """

    version: int
    type: str
    digest: bytes
    ordered_at: datetime
    judged_at: datetime
    reference: str
    signature: str | None
    traceparent: str | None
    due: Due | None
    proof: JudgedProof | None
    order: JudgedOrder | None


class Dispatched(Discreet, frozen=True, gc=False):
    """A dispatched message: what was judged of it, and the partner's own bytes."""

    judged: Judged
    body: bytes

    HIDDEN: ClassVar[frozenset[str]] = frozenset({"body"})

    @property
    def is_refund(self) -> bool:
        """True for a refund; else it is an order."""
        return self.judged.type == REFUND_TYPE

    def order(self) -> ReceivedOrder:
        """The order that it is.

        Raises:
            DecodeError: the marked bytes are none: a bug.
        """
        judged = self.judged
        order = decode_order(judged.type, self.body) if judged.order is None else judged.order.order()
        return ReceivedOrder(
            order=order,
            digest=judged.digest,
            ordered_at=judged.ordered_at,
            # Both stages name the partner's record, so that what they both tell has one id, which the partner knows.
            reference=judged.reference,
            traceparent=judged.traceparent,
            assertion=None if judged.proof is None else judged.proof.assertion(order),
            signature=judged.signature,
            is_due=judged.due is not None,
            proven=judged.due == "proven",
        )

    def refund(self) -> ReceivedRefund:
        """The refund that it is; raises as :meth:`order`."""
        judged = self.judged
        return ReceivedRefund(
            refund=decode(PaymentRefund, self.body, trusted=True),
            digest=judged.digest,
            ordered_at=judged.ordered_at,
            reference=judged.reference,
            traceparent=judged.traceparent,
            signature=judged.signature,
        )


class Dispatch:
    """Writes dispatched records, and reads those that it wrote.

    Args:
        marks: under the internal key.
    """

    def __init__(self, marks: RecordMarks) -> None:
        self._marks = marks

    def order(self, received: ReceivedOrder, body: bytes, network_id: NetworkId, now: datetime) -> Outgoing:
        """Forward an accepted order, or an item of a bulk, to one network.

        ``body`` are the partner's bytes, of an item those that the gateway made of it; ``now`` is when it was judged.
        """
        proof = received.assertion
        if isinstance(proof, Reason) or not received.proof_holds:
            raise AssertionError("an order whose proof does not hold is not dispatched")
        return self._outgoing(
            Judged(
                version=_VERSION,
                type=ORDER_TYPE,
                digest=received.digest,
                ordered_at=received.ordered_at,
                judged_at=now,
                reference=received.reference,
                signature=received.signature,
                traceparent=received.traceparent,
                due=None,
                proof=None if proof is None else _judged_proof(proof),
                order=JudgedOrder.of(received.order),
            ),
            received.order.consent_id,
            body,
            network_id,
        )

    def refund(self, received: ReceivedRefund, body: bytes, network_id: NetworkId, now: datetime) -> Outgoing:
        """Forward an accepted refund to the network of the payment that it refunds."""
        return self._outgoing(
            Judged(
                version=_VERSION,
                type=REFUND_TYPE,
                digest=received.digest,
                ordered_at=received.ordered_at,
                judged_at=now,
                reference=received.reference,
                signature=received.signature,
                traceparent=received.traceparent,
                due=None,
                proof=None,
                order=None,
            ),
            received.refund.consent_id,
            body,
            network_id,
        )

    def due(self, waited: ScheduledOrder, order: PaymentOrder, network_id: NetworkId, now: datetime) -> Outgoing:
        """Hand an order on whose day has come: as it came, with its mark that it waited."""
        return self._outgoing(
            Judged(
                version=_VERSION,
                type=waited.order_type,
                digest=hashlib.sha256(waited.body).digest(),
                ordered_at=waited.ordered_at,
                judged_at=now,
                reference=waited.reference,
                signature=waited.signature,
                traceparent=waited.traceparent,
                due="proven" if waited.proven else "unproven",
                proof=None,
                order=JudgedOrder.of(order),
            ),
            order.consent_id,
            waited.body,
            network_id,
        )

    def read(self, record: Record, network_id: NetworkId) -> Dispatched:
        """Read a record that is for this network. Nothing of one that is not marked is looked at.

        Raises:
            UntrustedRecordError: its mark is missing or does not match.
            EnvelopeError: it is marked, and made by a version of the gateway that writes otherwise.
        """
        if not record.headers or record.headers[-1][0] != MARK_HEADER:
            raise UntrustedRecordError(None)
        *headers, (_, mark) = record.headers
        problem = self._marks.check(mark or b"", _parts(network_id, record.key, record.value, headers))
        if problem is not None:
            raise UntrustedRecordError(problem)
        if not headers or headers[-1][0] != JUDGED_HEADER:
            raise EnvelopeError(JUDGED_HEADER, "is missing")
        return Dispatched(_read(headers[-1][1]), record.value)

    def _outgoing(self, facts: Judged, key: str, body: bytes, network_id: NetworkId) -> Outgoing:
        envelope = Envelope(
            id=facts.reference,
            source=SOURCE if facts.due is None else SCHEDULE_SOURCE,
            type=facts.type,
            time=facts.judged_at,
            traceparent=facts.traceparent,
        )
        headers = [*write_envelope(envelope), (JUDGED_HEADER, _written(facts))]
        record_key = key.encode()
        mark = self._marks.mark(_parts(network_id, record_key, body, headers))
        return Outgoing(dispatch_topic(network_id), record_key, body, [*headers, (MARK_HEADER, mark)])


def decode_order(type_: str, body: bytes) -> PaymentOrder:
    """Read an order that initiation has accepted, or that the gateway made.

    Raises:
        DecodeError: it is not one.
    """
    return decode(OccurrenceOrder if type_ == OCCURRENCE_TYPE else PaymentOrder, body, trusted=True)


_VERSION: Final = 2
_MONEY_GIVEN: Final = frozenset(Money.model_fields)
_ORDER_GIVEN: Final = frozenset(PaymentOrder.model_fields) - {"authentication"}

_written = Encoder().encode
_decode_judged = Decoder(Judged).decode


def _read(written: bytes) -> Judged:
    try:
        judged = _read_first(written) if written.startswith(b"[1,") else _decode_judged(written)
        if judged.version != _VERSION or judged.type not in _TYPES:
            raise ValueError("another version")
    except (ValueError, TypeError, OverflowError, OSError):
        raise EnvelopeError(JUDGED_HEADER, "is not in a form that is known here") from None
    return judged


def _read_first(written: bytes) -> Judged:
    """What the first version wrote: times in microseconds, the digest in hexadecimal, and nothing of the order."""
    _, type_, digest, ordered_at, judged_at, reference, signature, traceparent, due, proof = json.loads(written)
    times = _moment(ordered_at), _moment(judged_at)
    if proof is not None:
        *said, issued_at, not_before, expires_at, at = proof
        nbf = None if not_before is None else _moment(not_before)
        proof = [*said, _moment(issued_at), nbf, _moment(expires_at), _moment(at)]
    judged = convert([_VERSION, type_, "", *times, reference, signature, traceparent, due, proof, None], Judged)
    return structs.replace(judged, digest=bytes.fromhex(digest))


def _judged_proof(proof: Assertion) -> JudgedProof:
    return JudgedProof(
        proof.issuer,
        proof.kid,
        proof.subject,
        proof.audience,
        proof.jti,
        proof.level_name,
        proof.methods,
        proof.issued_at,
        proof.not_before,
        proof.expires_at,
        proof.authenticated_at,
    )


def _parts(
    network_id: NetworkId, key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes]]
) -> list[bytes | None]:
    parts: list[bytes | None] = [network_id.encode(), key, value]
    for name, content in headers:
        parts += (name.encode("utf-8", "surrogatepass"), content)
    return parts


def _moment(micros: int) -> datetime:
    return datetime.fromtimestamp(micros / 1_000_000, UTC)
