"""What partners send on ``mypay.consents.commands``: what shall become of a customer's consent.

A command names the consent that it is about and has an id of its own: the same id again has no second effect. Which
commands need the customer's authentication is the assurance policy's word; ending or pausing a consent needs none.

**Digest of terms.** The customer authenticates the terms by their digest: SHA-256, in lower-case hexadecimal, over
their canonical JSON (RFC 8785: no white space, members sorted by name) as the partner sent them, what is left out
staying out. ``jq -cjS . terms.json | sha256sum`` computes it. The digest of an amendment is that of its new terms;
every other command carries the digest of the version that is in force.
"""

import hashlib
from typing import Annotated, Final

from pydantic import Field

from schemas.codec import canonical
from schemas.consents import ConsentTerms, NamedPurposes
from schemas.orders import CompactJws
from schemas.primitives import NO_CARD_NUMBER, ConsentIdField, Model, PartnerIdField, UtcTime, id_field

CONSENT_REQUEST_TYPE: Final = "kr.mypay.consent.request.v1"
CONSENT_GRANT_TYPE: Final = "kr.mypay.consent.grant.v1"
CONSENT_REJECT_TYPE: Final = "kr.mypay.consent.reject.v1"
CONSENT_SUSPEND_TYPE: Final = "kr.mypay.consent.suspend.v1"
CONSENT_RESUME_TYPE: Final = "kr.mypay.consent.resume.v1"
CONSENT_REVOKE_TYPE: Final = "kr.mypay.consent.revoke.v1"
CONSENT_AMEND_TYPE: Final = "kr.mypay.consent.amend.v1"

# Ids with a colon are the gateway's own: what operators and time do to a consent.
CommandIdField = Annotated[str, id_field(64), NO_CARD_NUMBER]


class _Command(Model):
    partner_id: PartnerIdField
    consent_id: ConsentIdField
    command_id: CommandIdField
    issued_at: UtcTime

    @property
    def record_key(self) -> str:
        """The record's Kafka key: commands on one consent keep their order."""
        return self.consent_id


class ConsentRequest(_Command):
    """A new consent, to be authorised by the customer. Closed: an unknown field is refused by name.

    Attributes:
        partner_id: the partner that signs.
        consent_id: chosen by the partner, unique per partner for ever; also the record's Kafka key.
        command_id: unique within the consent.
        issued_at: when the partner issued the command.
        terms: what the customer is asked to agree to; names the same partner and consent.
    """

    terms: ConsentTerms


class ConsentAmendment(_Command):
    """New terms for a consent that the customer has granted: its next version. Payments made before keep theirs.

    Attributes:
        partner_id: the partner that signs.
        consent_id: the consent; also the record's Kafka key.
        command_id: unique within the consent.
        issued_at: when the partner issued the command.
        terms: the new terms, in full. Customer and ``valid_from`` must stay: what is used of each limit goes on.
        authentication: the customer's proof (:mod:`schemas.assertions`) for command ``amend`` and these terms.
        purposes: those of the new terms that are in force from now on, and no others; left out: what was revoked stays
            revoked, and what the terms before did not have comes into force.
    """

    terms: ConsentTerms
    purposes: NamedPurposes | None = None
    authentication: CompactJws | None = Field(default=None, repr=False)


class ConsentInstruction(_Command):
    """Grant, reject, suspend, resume or revoke a consent: the message's type says which.

    Attributes:
        partner_id: the partner that signs.
        consent_id: the consent; also the record's Kafka key.
        command_id: unique within the consent.
        issued_at: when the partner issued the command.
        authentication: the customer's proof (:mod:`schemas.assertions`) for this command and the terms in force.
        purposes: with a grant: what the customer grants, the others are declined; with a revocation: what ends, the
            others go on. Left out: all of them. With other commands there are none to name.
    """

    purposes: NamedPurposes | None = None
    authentication: CompactJws | None = Field(default=None, repr=False)


ConsentMessage = ConsentRequest | ConsentAmendment | ConsentInstruction

CONSENT_MESSAGES: Final[dict[str, type[ConsentRequest] | type[ConsentAmendment] | type[ConsentInstruction]]] = {
    CONSENT_REQUEST_TYPE: ConsentRequest,
    CONSENT_GRANT_TYPE: ConsentInstruction,
    CONSENT_REJECT_TYPE: ConsentInstruction,
    CONSENT_SUSPEND_TYPE: ConsentInstruction,
    CONSENT_RESUME_TYPE: ConsentInstruction,
    CONSENT_REVOKE_TYPE: ConsentInstruction,
    CONSENT_AMEND_TYPE: ConsentAmendment,
}
"""CloudEvents type → body. The type is also the ``typ`` that the partner's signature must carry."""


def canonical_terms(document: bytes, *, member: str | None = None) -> str:
    """The canonical form of terms as they were sent, whose digest the customer authenticates.

    Args:
        document: JSON that :func:`schemas.codec.decode` has accepted.
        member: where in the document the terms are; None: it is the terms.
    """
    return canonical(document, member=member).decode()


def terms_digest(canonical_form: str) -> str:
    """SHA-256 of :func:`canonical_terms`, in lower-case hexadecimal."""
    return hashlib.sha256(canonical_form.encode()).hexdigest()
