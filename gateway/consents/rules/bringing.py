"""What a command on a consent must bring: purposes that it may name, terms, a token to pay with, and a proof.

Pure, as :mod:`gateway.consents.rules.change`, which decides what the command does once nothing here refuses it.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final

from gateway.consents.rules.consent import ConsentCommand
from gateway.consents.rules.exemption import refuse_beyond
from gateway.consents.rules.purposes import refuse_ends
from gateway.consents.rules.records import Actor, ConsentRecord, ConsentTrust, ReceivedCommand
from gateway.directory.funding import TOKEN_NOT_USABLE, TokenUse, token_use
from gateway.identity.rules import Accepted, judge_consent_assertion, replayed
from schemas.assertions import ConsentLink, LinkedCommand
from schemas.consents import ConsentTerms, Purpose
from schemas.reasons import Reason, ReasonCode

_NEEDS_PROOF: Final = frozenset({ConsentCommand.GRANT, ConsentCommand.RESUME, ConsentCommand.AMEND})
"""Commands that give a permission; the assurance policy says which proof."""

_NAMES_PURPOSES: Final = frozenset({ConsentCommand.GRANT, ConsentCommand.AMEND, ConsentCommand.REVOKE})
"""Commands that may be about some of a consent's purposes."""

_GIVES: Final = _NEEDS_PROOF | {ConsentCommand.REQUEST}
"""Commands whose terms name a funding token that will be paid with."""

_LINKED: Final[Mapping[ConsentCommand, LinkedCommand]] = {
    ConsentCommand.GRANT: LinkedCommand.GRANT,
    ConsentCommand.REJECT: LinkedCommand.REJECT,
    ConsentCommand.SUSPEND: LinkedCommand.SUSPEND,
    ConsentCommand.RESUME: LinkedCommand.RESUME,
    ConsentCommand.REVOKE: LinkedCommand.REVOKE,
    ConsentCommand.AMEND: LinkedCommand.AMEND,
}


def _reason(code: ReasonCode, text: str) -> Reason:
    return Reason(code=code, text=text)


_OTHER_PARTNER: Final = _reason(ReasonCode.FF01, "terms.partner_id must be the command's partner_id")
_OTHER_CONSENT: Final = _reason(ReasonCode.FF01, "terms.consent_id must be the command's consent_id")
_OTHER_CUSTOMER: Final = _reason(ReasonCode.AG01, "terms.customer_id must stay: a consent is one customer's")
_OTHER_START: Final = _reason(
    ReasonCode.DT01, "terms.valid_from must stay: what is used of each limit is counted from there"
)
_NO_PURPOSES_HERE: Final = _reason(ReasonCode.FF01, "purposes go with grant, amend and revoke alone")
_OVER_ALREADY: Final = _reason(ReasonCode.DT01, "terms.valid_until lies in the past")


def refuse_names(received: ReceivedCommand) -> Reason | None:
    """Why a command is refused that names purposes and may not."""
    named = received.purposes is not None
    return _NO_PURPOSES_HERE if named and received.command not in _NAMES_PURPOSES else None


def refuse_terms(
    received: ReceivedCommand, record: ConsentRecord | None, trust: ConsentTrust, now: datetime
) -> Reason | None:
    """Why the terms that a command brings are refused; ``record`` is the consent that they amend, if any."""
    if received.terms is None:
        return None
    terms = received.terms.terms
    if terms.partner_id != received.partner_id:
        return _OTHER_PARTNER
    if terms.consent_id != received.consent_id:
        return _OTHER_CONSENT
    if record is not None and (changed := _refuse_changed(terms, record.consent.terms)) is not None:
        return changed
    if now >= terms.valid_until:
        return _OVER_ALREADY
    return refuse_ends(terms, now) or refuse_beyond(
        terms.payment.low_value_exemption if terms.payment else None, trust.policy.exemptions
    )


def refuse_token(
    received: ReceivedCommand, record: ConsentRecord | None, usable: Collection[TokenUse]
) -> Reason | None:
    """Refuse what would give a permission over a token that is not the customer's, or not this partner's to use."""
    if received.command not in _GIVES:
        return None
    if received.purposes is not None and Purpose.PAYMENT not in received.purposes:
        return None
    if received.terms is not None:
        use = token_use(received.terms.terms)
    else:
        use = token_use(record.consent.terms) if record and Purpose.PAYMENT in record.consent.purposes else None
    return None if use is None or use in usable else TOKEN_NOT_USABLE


def _refuse_changed(terms: ConsentTerms, before: ConsentTerms) -> Reason | None:
    """Why an amendment is refused that changes what must stay."""
    if terms.customer_id != before.customer_id:
        return _OTHER_CUSTOMER
    return _OTHER_START if terms.valid_from != before.valid_from else None


def judge_proof(
    received: ReceivedCommand, record: ConsentRecord, trust: ConsentTrust, now: datetime
) -> Accepted | Reason | None:
    """Judge the proof; None where none is needed and none that holds is there."""
    if received.actor is not Actor.PARTNER:
        return None
    found = _judged(received, record, trust, now)
    if isinstance(found, Reason) and received.command not in _NEEDS_PROOF:
        return None
    return found


def _judged(received: ReceivedCommand, record: ConsentRecord, trust: ConsentTrust, now: datetime) -> Accepted | Reason:
    proof = received.proof
    if isinstance(proof, Reason):
        return proof
    link = ConsentLink(
        partner_id=received.partner_id,
        consent_id=received.consent_id,
        command=_LINKED[received.command],
        terms_digest=received.terms.digest if received.terms else record.digest,
        purposes=received.purposes,
    )
    accepted = judge_consent_assertion(
        proof,
        link=link,
        customer_id=record.consent.terms.customer_id,
        linked=trust.links.get(proof.identity) if proof else None,
        issuer=trust.issuers.get(proof.issuer) if proof else None,
        policy=trust.policy,
        now=now,
    )
    if isinstance(accepted, Accepted) and received.key in trust.replayed:
        return replayed()
    return accepted
