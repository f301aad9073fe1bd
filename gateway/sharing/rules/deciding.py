"""Who is given what of settled payments, and who must erase: decided of consents that were read under their locks."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from msgspec import Struct

from gateway.base.keys import ConsentKey
from gateway.consents.rules.consent import Consent, refuse_use
from gateway.consents.rules.purposes import end_of
from gateway.sharing.rules.policy import allowed_fields, amount_band, known_uses, month_of, region_of
from gateway.sharing.rules.records import Approval, Holder, SettledPayment
from schemas.consents import ConsentStatus, Purpose, SharingField
from schemas.primitives import decimal_of
from schemas.sharing import EraseCause

Approvals = Mapping[str, Sequence[Approval]]
"""Affiliate → what is approved for it; an affiliate that is not active is not in it."""

SHARED_WITHIN: Final = timedelta(days=366)
"""From a payment until it is shared at last. Shares are kept for three years after they were erased, and so for longer:
what is settled anew after that is not shared a second time."""


class GrantedUse(Struct, frozen=True, gc=False):
    """A use that an approval, the policy and the customer allow, with the fields that it may see: at least one."""

    approval: Approval
    fields: frozenset[SharingField]


class Uses(Struct, frozen=True, gc=False):
    """The uses that terms and approvals allow an affiliate; in words: their names, and all their fields."""

    of: tuple[GrantedUse, ...]
    names: tuple[str, ...]
    fields: tuple[str, ...]


class Granted(Struct, frozen=True, gc=False):
    """A payment that an affiliate is given."""

    payment: SettledPayment
    consent_key: ConsentKey
    affiliate_id: str
    customer_id: str
    consent_version: int
    use_until: datetime
    allowed: Uses

    @property
    def uses(self) -> tuple[GrantedUse, ...]:
        """What it may be used for."""
        return self.allowed.of


def decide_shares(
    settled: Sequence[SettledPayment], *, consents: Mapping[ConsentKey, Consent], approvals: Approvals, now: datetime
) -> list[Granted]:
    """Who is given what. ``now`` is read after the consents' locks were taken.

    Nothing leaves that was paid longer ago than :data:`SHARED_WITHIN`: that it was shared before is forgotten one day.
    Nothing leaves where the consent permits no sharing now, to an affiliate that it does not name or that nobody
    approved, or for a use that it does not name, that no table knows or that nobody approved for this affiliate.
    """
    shares: list[Granted] = []
    given: dict[ConsentKey, tuple[_Given, ...]] = {}
    uses: dict[tuple[str, tuple[str, ...], tuple[SharingField, ...]], Uses] = {}
    for payment in settled:
        if now - payment.paid_at > SHARED_WITHIN:
            continue
        key = payment.consent_key
        under = given.get(key)
        if under is None:
            under = given[key] = _given(consents.get(key), approvals, uses, now)
        shares += [Granted(payment, key, g.affiliate_id, g.customer_id, g.version, g.until, g.allowed) for g in under]
    return shares


class _Given(Struct, frozen=True, gc=False):
    """What one affiliate is given under one consent."""

    affiliate_id: str
    customer_id: str
    version: int
    until: datetime
    allowed: Uses


def _given(
    consent: Consent | None,
    approvals: Approvals,
    known: dict[tuple[str, tuple[str, ...], tuple[SharingField, ...]], Uses],
    now: datetime,
) -> tuple[_Given, ...]:
    """Who is given what under a consent; ``known``: uses that were found for consents which say the same."""
    if consent is None or refuse_use(consent, Purpose.SHARING, now) is not None:
        return ()
    terms = consent.terms.sharing
    if terms is None:
        raise AssertionError("a purpose that is permitted is among the terms")
    until, customer_id = end_of(consent.terms, Purpose.SHARING), consent.terms.customer_id
    found = []
    for affiliate in sorted(terms.affiliates):
        said = (affiliate, terms.purposes, terms.fields)
        uses = known.get(said)
        if uses is None:
            wanted = {use: allowed_fields(use, terms.fields) for use in known_uses(terms.purposes)}
            granted = tuple(
                GrantedUse(approval, wanted[approval.use])
                for approval in approvals.get(affiliate, ())
                if wanted.get(approval.use)
            )
            names = tuple(u.approval.use.value for u in granted)
            uses = known[said] = Uses(granted, names, tuple(sorted({f.value for u in granted for f in u.fields})))
        if uses.of:
            found.append(_Given(affiliate, customer_id, consent.version, until, uses))
    return tuple(found)


_Make = Callable[[SettledPayment, Callable[[str], str]], object]


def _token(payment: SettledPayment, name_token: Callable[[str], str]) -> str | None:
    return name_token(payment.funding_token) if payment.funding_token else None


_MADE: Final[Mapping[SharingField, _Make]] = {
    SharingField.CATEGORY: lambda p, _: p.category,
    SharingField.AMOUNT_BAND: lambda p, _: amount_band(p.amount_minor, p.currency),
    SharingField.MONTH: lambda p, _: month_of(p.paid_at),
    SharingField.AMOUNT: lambda p, _: {"currency": p.currency, "value": decimal_of(p.amount_minor, p.currency)},
    SharingField.REGION: lambda p, _: region_of(p.name_location or ""),
    SharingField.EXACT_TIME: lambda p, _: p.paid_at,
    SharingField.PAYEE: lambda p, _: p.merchant_id,
    SharingField.TOKEN: _token,
}
"""How each field is made of a payment, in the order of :class:`schemas.sharing.SharedData`."""


def data_of(
    payment: SettledPayment, fields: frozenset[SharingField], name_token: Callable[[str], str]
) -> dict[str, object]:
    """The members of :class:`schemas.sharing.SharedData` that may leave of a payment, and nothing else.

    Args:
        payment: what was paid.
        fields: that may leave.
        name_token: the affiliate's own name of a card or account.
    """
    return {name: value for name, make in _made(fields) if (value := make(payment, name_token)) is not None}


@lru_cache(maxsize=256)
def _made(fields: frozenset[SharingField]) -> tuple[tuple[str, _Make], ...]:
    """The names of these fields, and how each is made: many payments are shared with the same."""
    return tuple((field.value, make) for field, make in _MADE.items() if field in fields)


def erase_cause(
    holder: Holder,
    consent: Consent | None,
    approved: Collection[tuple[str, str]],
    now: datetime,
    ended_at: datetime | None = None,
) -> EraseCause | None:
    """Why an affiliate must erase what it was given under a consent; None while it may use it.

    A suspension of the consent, and an affiliate that is disabled, stop what would follow, and take nothing back.

    Args:
        holder: what it holds: all of it goes, for nobody can say which part of it a use has seen.
        consent: as it was read under its lock.
        approved: (affiliate, use) of every approval that was not withdrawn.
        now: read after the lock was taken.
        ended_at: when sharing was last ended under the consent: what was given before goes, also where the customer
            has permitted it again before anybody looked.
    """
    if consent is None or consent.status not in (ConsentStatus.AUTH, ConsentStatus.SUSP):
        return EraseCause.ENDED
    terms = consent.terms.sharing
    if terms is None or Purpose.SHARING in consent.ended or now >= end_of(consent.terms, Purpose.SHARING):
        return EraseCause.ENDED
    if ended_at is not None and ended_at > holder.since:
        return EraseCause.ENDED
    if holder.affiliate_id not in terms.affiliates or not set(terms.purposes).issuperset(holder.uses):
        return EraseCause.DROPPED
    if not set(terms.fields).issuperset(holder.fields):
        return EraseCause.DROPPED
    withdrawn = any((holder.affiliate_id, use) not in approved for use in holder.uses)
    return EraseCause.WITHDRAWN if withdrawn else None
