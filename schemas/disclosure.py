"""The disclosure log as others see it: roots that anybody can check, evidence of destruction, yearly notices."""

from typing import Annotated, Final

from pydantic import Field, StringConstraints

from schemas.primitives import CustomerIdField, Model, PartnerIdField, UtcTime

ROOT_TYP: Final = "mypay-disclosure-root+jws"
"""Header ``typ`` of a root's statement (RFC 7515 §4.1.9)."""

HashField = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{43}$")]
"""SHA-256 in base64url without padding."""

Sequence = Annotated[int, Field(ge=1)]


class RootStatement(Model):
    """What the gateway signs of a period: the payload of a compact JWS (ES256).

    Attributes:
        number: 1, 2, 3 … without gaps.
        first_seq, last_seq: the entries that it covers; it follows the last one of the root before.
        root: of the Merkle tree over their hashes, as RFC 6962 §2.1 makes it.
        head: hash of entry ``last_seq``, which all before it have gone into.
        previous: SHA-256 of the statement before, its compact JWS as ASCII; of the first one all zero.
        closed_at: when it was made.
    """

    number: Sequence
    first_seq: Sequence
    last_seq: Sequence
    root: HashField
    head: HashField
    previous: HashField
    closed_at: UtcTime


class DisclosureRoot(Model):
    """A period of the disclosure log was closed.

    Attributes:
        number: as in the statement.
        statement: a compact JWS of a :class:`RootStatement` under the gateway's published key.
    """

    number: Sequence
    statement: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$")]


class DisclosuresDestroyed(Model):
    """What the log told of uses whose time was over was destroyed; their hashes stay.

    Attributes:
        first_seq, last_seq: the entries whose contents are gone.
        entries: how many that is.
        rule: by which rule.
        before: they had occurred before this.
        digest: SHA-256 over the hashes of the contents, in their order.
    """

    first_seq: Sequence
    last_seq: Sequence
    entries: Sequence
    rule: str
    before: UtcTime
    digest: HashField
    occurred_at: UtcTime


class DataDestroyed(Model):
    """Rows were destroyed whose time was over: nobody had asked about them for so long, or nobody needs them any more.

    Attributes:
        number: 1, 2, 3 …: the evidence's own.
        kind: what they were; rows: how many.
        rule: by which rule.
        before: nobody had asked about them since then, or they had come to their end by then.
        digest: SHA-256, of transmission requests over the digests of their records, by partner and id; of rounds of
            sharing over the ids of their erase notices, and of payments of aggregates over the payments' ids, each 16
            bytes, in order.
    """

    number: Sequence
    kind: str
    rows: Sequence
    rule: str
    before: UtcTime
    digest: HashField | None = None
    occurred_at: UtcTime


class DisclosedTo(Model):
    """How often something of a customer's was used for one recipient and purpose."""

    recipient: str
    kind: str
    purpose: str
    count: Sequence


class DisclosureNotice(Model):
    """Once a year: what was used and provided of one customer under the consents that the partner holds.

    The partner brings it to its customer.

    Attributes:
        since, until: the year that it tells of; ``until`` is not in it.
        disclosed: one row a recipient, kind and purpose, the most frequent first; at most a thousand.
        left_out: uses in rows beyond these.
    """

    partner_id: PartnerIdField
    customer_id: CustomerIdField
    since: UtcTime
    until: UtcTime
    disclosed: tuple[DisclosedTo, ...]
    left_out: Annotated[int, Field(ge=0)] = 0
    occurred_at: UtcTime


class ToldUse(Model):
    """One use of a consent: what, to whom, why, under which consent and version, when.

    Attributes:
        kind: payment, refund, withdrawn (a payment of which no byte left), export, share, offer; of the log itself
            destruction and unreadable.
        recipient: to whom data or money went.
        reference: the id under which the recipient knows it: a payment's, a transfer's.
    """

    kind: str
    customer_id: str | None = None
    partner_id: str | None = None
    consent_id: str | None = None
    consent_version: int | None = None
    recipient: str
    purpose: str
    legal_basis: str
    what: str
    reference: str
    occurred_at: UtcTime


class ProvenDisclosure(Model):
    """One entry of the disclosure log with all that its hash is made of, and the way to its root.

    Attributes:
        source: the event that it was made of: its transaction's number and its own.
        salt: 16 random bytes, base64url.
        previous: hash of the entry before.
        root: number of the root that covers it; left out where none does yet.
        path: the audit path (RFC 6962 §2.1.1) to that root.
    """

    seq: Sequence
    source: tuple[int, int]
    use: ToldUse
    salt: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{22}$"), Field(repr=False)]
    previous: HashField
    root: Sequence | None = None
    path: tuple[HashField, ...] = ()


class DisclosureProof(Model):
    """What was disclosed of a customer, with proofs: the file of `mypay customer disclosures --proofs`.

    Attributes:
        roots: statements of the roots that cover them: compact JWS.
    """

    customer_id: str
    since: UtcTime
    until: UtcTime
    disclosures: tuple[ProvenDisclosure, ...]
    roots: tuple[str, ...]
