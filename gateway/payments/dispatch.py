"""The record that execution reads: the partner's own bytes, what was judged of them, and the gateway's mark over both.

Initiation writes it for what is paid at once, the schedule for what was accepted for its day, which has come. Whoever
else writes to a dispatch topic is not believed: execution takes a record only with a mark (HMAC) under the internal key
over the network, the record's key, its exact bytes and every header. What is marked need not be decoded or verified a
second time: header ``mypay-judged`` holds

- the message's type, the digest of its bytes, and where and when the partner's record came
- the partner's signature, which was verified and whose key is looked at again; the customer's proof as far as it was
  verified: whose it is, under which provider and key, how strong and how old. It was made for exactly this order
- whether the order waited for its day, and when all this was written down

A record that comes again does nothing: payments are known by their ids, and orders end with their ``expires_at``. The
rest of the partner's headers stays behind: what execution does not need goes no further into the gateway.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from gateway.identity.rules import Assertion, link_of
from gateway.messaging.records import Outgoing, Record
from gateway.payments.refunds.rules import ReceivedRefund
from gateway.payments.rules.purchase import ReceivedOrder
from gateway.payments.rules.waiting import ScheduledOrder
from gateway.sealing.marks import MarkProblem, RecordMarks
from schemas.codec import decode
from schemas.envelope import Envelope, EnvelopeError, write_envelope
from schemas.orders import OCCURRENCE_TYPE, ORDER_TYPE, OccurrenceOrder, PaymentOrder
from schemas.primitives import NetworkId
from schemas.reasons import Reason
from schemas.refunds import REFUND_TYPE, PaymentRefund
from schemas.topics import dispatch_topic

JUDGED_HEADER: Final = "mypay-judged"
MARK_HEADER: Final = "mypay-mark"
"""The two last headers, in this order."""

SOURCE: Final = "/mypay/initiation"
SCHEDULE_SOURCE: Final = "/mypay/schedule"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_TYPES: Final = frozenset((ORDER_TYPE, OCCURRENCE_TYPE, REFUND_TYPE))
_DUE: Final = (None, "proven", "unproven")
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


class Dispatched(NamedTuple):
    """A dispatched message as its mark vouches for it.

    Attributes:
        digest: SHA-256 of the partner's raw bytes.
        ordered_at: Kafka timestamp of the partner's record; reference: its topic/partition/offset.
        judged_at: when this was written down.
        signature: the partner's, verified.
        is_due: it waited for its day, which has come; proven: its proof was used when it was accepted.
        proof: the customer's, verified and made for exactly this message: all but its link.
    """

    type: str
    body: bytes
    digest: bytes
    ordered_at: datetime
    judged_at: datetime
    reference: str
    signature: str | None
    traceparent: str | None
    is_due: bool
    proven: bool
    proof: Sequence[Any] | None

    @property
    def is_refund(self) -> bool:
        """True for a refund; else it is an order."""
        return self.type == REFUND_TYPE

    def order(self) -> ReceivedOrder:
        """The order that it is.

        Raises:
            DecodeError: the marked bytes are none: a bug.
        """
        order = decode_order(self.type, self.body)
        return ReceivedOrder(
            order=order,
            digest=self.digest,
            ordered_at=self.ordered_at,
            # Both stages name the partner's record, so that what they both tell has one id, which the partner knows.
            reference=self.reference,
            traceparent=self.traceparent,
            assertion=None if self.proof is None else _assertion(self.proof, order),
            signature=self.signature,
            is_due=self.is_due,
            proven=self.proven,
        )

    def refund(self) -> ReceivedRefund:
        """The refund that it is; raises as :meth:`order`."""
        return ReceivedRefund(
            refund=decode(PaymentRefund, self.body, trusted=True),
            digest=self.digest,
            ordered_at=self.ordered_at,
            reference=self.reference,
            traceparent=self.traceparent,
            signature=self.signature,
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
            _Facts(
                type=ORDER_TYPE,
                digest=received.digest,
                ordered_at=received.ordered_at,
                judged_at=now,
                reference=received.reference,
                signature=received.signature,
                traceparent=received.traceparent,
                proof=proof,
            ),
            received.order.consent_id,
            body,
            network_id,
        )

    def refund(self, received: ReceivedRefund, body: bytes, network_id: NetworkId, now: datetime) -> Outgoing:
        """Forward an accepted refund to the network of the payment that it refunds."""
        return self._outgoing(
            _Facts(
                type=REFUND_TYPE,
                digest=received.digest,
                ordered_at=received.ordered_at,
                judged_at=now,
                reference=received.reference,
                signature=received.signature,
                traceparent=received.traceparent,
            ),
            received.refund.consent_id,
            body,
            network_id,
        )

    def due(self, waited: ScheduledOrder, order: PaymentOrder, network_id: NetworkId, now: datetime) -> Outgoing:
        """Hand an order on whose day has come: as it came, with its mark that it waited."""
        return self._outgoing(
            _Facts(
                type=waited.order_type,
                digest=hashlib.sha256(waited.body).digest(),
                ordered_at=waited.ordered_at,
                judged_at=now,
                reference=waited.reference,
                signature=waited.signature,
                traceparent=waited.traceparent,
                due="proven" if waited.proven else "unproven",
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
        return _read_facts(headers[-1][1], record.value)

    def _outgoing(self, facts: "_Facts", key: str, body: bytes, network_id: NetworkId) -> Outgoing:
        envelope = Envelope(
            id=facts.reference,
            source=SOURCE if facts.due is None else SCHEDULE_SOURCE,
            type=facts.type,
            time=facts.judged_at,
            traceparent=facts.traceparent,
        )
        headers = [*write_envelope(envelope), (JUDGED_HEADER, facts.written())]
        record_key = key.encode()
        mark = self._marks.mark(_parts(network_id, record_key, body, headers))
        return Outgoing(dispatch_topic(network_id), record_key, body, [*headers, (MARK_HEADER, mark)])


def decode_order(type_: str, body: bytes) -> PaymentOrder:
    """Read an order that initiation has accepted, or that the gateway made.

    Raises:
        DecodeError: it is not one.
    """
    return decode(OccurrenceOrder if type_ == OCCURRENCE_TYPE else PaymentOrder, body, trusted=True)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What was judged of a message. ``due``: ``proven`` or ``unproven`` of one that waited for its day."""

    type: str
    digest: bytes
    ordered_at: datetime
    judged_at: datetime
    reference: str
    signature: str | None
    traceparent: str | None
    due: str | None = None
    proof: Assertion | None = None

    def written(self) -> bytes:
        return _dumps(
            [
                _VERSION,
                self.type,
                self.digest.hex(),
                _micros(self.ordered_at),
                _micros(self.judged_at),
                self.reference,
                self.signature,
                self.traceparent,
                self.due,
                self.proof and _written_proof(self.proof),
            ]
        ).encode()


_VERSION: Final = 1
_dumps = json.JSONEncoder(separators=(",", ":")).encode


def _read_facts(written: bytes, body: bytes) -> Dispatched:
    try:
        version, type_, digest, ordered_at, judged_at, reference, signature, traceparent, due, proof = json.loads(
            written
        )
        if version != _VERSION or type_ not in _TYPES or due not in _DUE:
            raise ValueError("another version")
        return Dispatched(
            type_,
            body,
            bytes.fromhex(digest),
            _moment(ordered_at),
            _moment(judged_at),
            reference,
            signature,
            traceparent,
            due is not None,
            due == "proven",
            proof,
        )
    except (ValueError, TypeError, OverflowError, OSError):
        raise EnvelopeError(JUDGED_HEADER, "is not in a form that is known here") from None


def _written_proof(proof: Assertion) -> list[Any]:
    return [
        proof.issuer,
        proof.kid,
        proof.subject,
        list(proof.audience),
        proof.jti,
        proof.level_name,
        list(proof.methods),
        _micros(proof.issued_at),
        None if proof.not_before is None else _micros(proof.not_before),
        _micros(proof.expires_at),
        _micros(proof.authenticated_at),
    ]


def _assertion(proof: Sequence[Any], order: PaymentOrder) -> Assertion:
    issuer, kid, subject, audience, jti, level_name, methods, issued_at, not_before, expires_at, at = proof
    return Assertion(
        issuer=issuer,
        subject=subject,
        audience=tuple(audience),
        issued_at=_moment(issued_at),
        not_before=None if not_before is None else _moment(not_before),
        expires_at=_moment(expires_at),
        authenticated_at=_moment(at),
        jti=jti,
        level_name=level_name,
        methods=tuple(methods),
        link=link_of(order),
        kid=kid,
    )


def _parts(
    network_id: NetworkId, key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes]]
) -> list[bytes | None]:
    parts: list[bytes | None] = [network_id.encode(), key, value]
    for name, content in headers:
        parts += (name.encode("utf-8", "surrogatepass"), content)
    return parts


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _moment(micros: int) -> datetime:
    return datetime.fromtimestamp(micros / 1_000_000, UTC)
