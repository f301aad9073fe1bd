"""Who is given what of settled payments, and who must erase: decided of consents that were read under their locks."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from gateway.base.keys import ConsentKey
from gateway.consents.rules.consent import Consent, refuse_use
from gateway.consents.rules.purposes import end_of
from gateway.sharing.rules.policy import allowed_fields, amount_band, known_uses, month_of, region_of
from gateway.sharing.rules.records import Approval, Holder, SettledPayment
from schemas.consents import ConsentStatus, Purpose, SharingField
from schemas.primitives import Money
from schemas.sharing import EraseCause, SharedData

Approvals = Mapping[str, Sequence[Approval]]
"""Affiliate → what is approved for it; an affiliate that is not active is not in it."""


class GrantedUse(Struct, frozen=True, gc=False):
    """A use that an approval, the policy and the customer allow, with the fields that it may see: at least one."""

    approval: Approval
    fields: frozenset[SharingField]


class Granted(Struct, frozen=True, gc=False):
    """A payment that an affiliate is given."""

    payment: SettledPayment
    affiliate_id: str
    customer_id: str
    consent_version: int
    use_until: datetime
    uses: tuple[GrantedUse, ...]


def decide_shares(
    settled: Sequence[SettledPayment], *, consents: Mapping[ConsentKey, Consent], approvals: Approvals, now: datetime
) -> list[Granted]:
    """Who is given what. ``now`` is read after the consents' locks were taken.

    Nothing leaves where the consent permits no sharing now, to an affiliate that it does not name or that nobody
    approved, or for a use that it does not name, that no table knows or that nobody approved for this affiliate.
    """
    shares: list[Granted] = []
    for payment in settled:
        consent = consents.get(payment.consent_key)
        if consent is None or refuse_use(consent, Purpose.SHARING, now) is not None:
            continue
        terms = consent.terms.sharing
        if terms is None:
            raise AssertionError("a purpose that is permitted is among the terms")
        wanted = {use: allowed_fields(use, terms.fields) for use in known_uses(terms.purposes)}
        for affiliate in sorted(terms.affiliates):
            uses = tuple(
                GrantedUse(approval, wanted[approval.use])
                for approval in approvals.get(affiliate, ())
                if wanted.get(approval.use)
            )
            if uses:
                until = end_of(consent.terms, Purpose.SHARING)
                customer = consent.terms.customer_id
                shares.append(Granted(payment, affiliate, customer, consent.version, until, uses))
    return shares


def data_of(payment: SettledPayment, fields: frozenset[SharingField], name_token: Callable[[str], str]) -> SharedData:
    """The fields of a payment that may leave, and nothing else.

    Args:
        payment: what was paid.
        fields: that may leave.
        name_token: the affiliate's own name of a card or account.
    """
    made: Mapping[SharingField, Callable[[], object]] = {
        SharingField.CATEGORY: lambda: payment.category,
        SharingField.AMOUNT_BAND: lambda: amount_band(payment.amount_minor, payment.currency),
        SharingField.MONTH: lambda: month_of(payment.paid_at),
        SharingField.AMOUNT: lambda: Money.trusted(payment.amount_minor, payment.currency),
        SharingField.REGION: lambda: region_of(payment.name_location or ""),
        SharingField.EXACT_TIME: lambda: payment.paid_at,
        SharingField.PAYEE: lambda: payment.merchant_id,
        SharingField.TOKEN: lambda: name_token(payment.funding_token) if payment.funding_token else None,
    }
    return SharedData.of_stored(**{f.value: made[f]() for f in sorted(fields)})


def erase_cause(
    holder: Holder, consent: Consent | None, approved: Collection[tuple[str, str]], now: datetime
) -> EraseCause | None:
    """Why an affiliate must erase what it was given under a consent; None while it may use it.

    A suspension of the consent, and an affiliate that is disabled, stop what would follow, and take nothing back.

    Args:
        holder: what it holds: all of it goes, for nobody can say which part of it a use has seen.
        consent: as it was read under its lock.
        approved: (affiliate, use) of every approval that was not withdrawn.
        now: read after the lock was taken.
    """
    if consent is None or consent.status not in (ConsentStatus.AUTH, ConsentStatus.SUSP):
        return EraseCause.ENDED
    terms = consent.terms.sharing
    if terms is None or Purpose.SHARING in consent.ended or now >= end_of(consent.terms, Purpose.SHARING):
        return EraseCause.ENDED
    if holder.affiliate_id not in terms.affiliates or not set(terms.purposes).issuperset(holder.uses):
        return EraseCause.DROPPED
    withdrawn = any((holder.affiliate_id, use) not in approved for use in holder.uses)
    return EraseCause.WITHDRAWN if withdrawn else None
