"""A consent's purposes: which of them are in force, when each ends, and what a command does to each.

A consent's terms are never changed in place. Beside them stands which of their purposes are over: those that the
customer did not grant, or revoked, and those past an end of their own. When the last one is over, the consent is.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum, unique
from typing import Final, assert_never

from gateway.base.calendar import day_of, day_start
from schemas.consents import ConsentTerms, Purpose
from schemas.reasons import Reason, ReasonCode

PORTABILITY_YEARS_MAX: Final = 5
"""A transmission request of MyData names an end at most so far ahead."""

_NOTHING_LEFT: Final = Reason(
    code=ReasonCode.AG01, text="the amendment leaves no purpose in force: purposes must name what it brings back"
)

NO_PURPOSES: Final[frozenset[Purpose]] = frozenset()


@unique
class PurposeEnd(StrEnum):
    """Why a purpose is over."""

    DECLINED = "declined"  # asked for, and not among what the customer granted
    REVOKED = "revoked"  # taken away, before it was granted or after
    EXPIRED = "expired"  # past its own end
    DROPPED = "dropped"  # the terms in force name it no more


@dataclass(frozen=True, slots=True)
class PurposeEnded:
    """A purpose that one change of a consent ended."""

    purpose: Purpose
    how: PurposeEnd


def in_force(terms: ConsentTerms, ended: Collection[Purpose]) -> tuple[Purpose, ...]:
    """The purposes of the terms that are not over, whatever the time."""
    return tuple(p for p in terms.purposes if p not in ended)


def end_of(terms: ConsentTerms, purpose: Purpose) -> datetime:
    """First moment at which a purpose of these terms permits nothing any more: its own end, or that of the terms."""
    match purpose:
        case Purpose.PAYMENT:
            own = None
        case Purpose.PORTABILITY:
            own = day_start(terms.portability.end_date + timedelta(days=1)) if terms.portability else None
        case Purpose.SHARING:
            own = terms.sharing.use_until if terms.sharing else None
        case Purpose.MARKETING:
            own = terms.marketing.until if terms.marketing else None
        case _:
            assert_never(purpose)
    return terms.valid_until if own is None else min(own, terms.valid_until)


def next_end(terms: ConsentTerms, ended: Collection[Purpose]) -> datetime:
    """When time next ends something of a consent: one of its purposes, or all of it."""
    return min((end_of(terms, p) for p in in_force(terms, ended)), default=terms.valid_until)


def past_end(terms: ConsentTerms, ended: Collection[Purpose], now: datetime) -> tuple[Purpose, ...]:
    """Purposes in force that time has ended."""
    return tuple(p for p in in_force(terms, ended) if now >= end_of(terms, p))


def refuse_ends(terms: ConsentTerms, now: datetime) -> Reason | None:
    """Why terms are refused that bring a purpose which is over already, or lasts for longer than it may."""
    for purpose in terms.purposes:
        if purpose is not Purpose.PAYMENT and now >= end_of(terms, purpose):
            return Reason(code=ReasonCode.DT01, text=f"terms.{_END_MEMBER[purpose]} lies in the past")
    if terms.portability is not None and terms.portability.end_date > _latest_end_date(terms.valid_from):
        text = f"terms.portability.end_date lies more than {PORTABILITY_YEARS_MAX} years after valid_from"
        return Reason(code=ReasonCode.DT01, text=text)
    return None


def refuse_unknown(terms: ConsentTerms, named: Collection[Purpose] | None) -> Reason | None:
    """Why a command is refused that names purposes which the terms do not have."""
    for purpose in named or ():
        if purpose not in terms.purposes:
            return Reason(code=ReasonCode.AG01, text=f"purposes names {purpose}, which the terms do not ask for")
    return None


def granted_from(
    terms: ConsentTerms, ended: frozenset[Purpose], named: Collection[Purpose] | None
) -> tuple[frozenset[Purpose], tuple[PurposeEnded, ...]] | Reason:
    """Purposes that are over once a request is granted, and those that the grant ends: what is not named is declined.

    A Reason where it names what was withdrawn from the request.
    """
    refused = refuse_unknown(terms, named)
    if refused is not None:
        return refused
    open_ = in_force(terms, ended)
    for purpose in named or ():
        if purpose in ended:
            return Reason(code=ReasonCode.AG01, text=f"purposes names {purpose}, which is asked for no more")
    declined = tuple(p for p in open_ if named is not None and p not in named)
    return ended | frozenset(declined), tuple(PurposeEnded(p, PurposeEnd.DECLINED) for p in declined)


def revoked_from(
    terms: ConsentTerms, ended: frozenset[Purpose], named: Collection[Purpose] | None
) -> tuple[frozenset[Purpose], tuple[PurposeEnded, ...]] | Reason:
    """Purposes that are over after a revocation, and those that it ends: the named ones, or all.

    A Reason where it names what the terms never had.
    """
    refused = refuse_unknown(terms, named)
    if refused is not None:
        return refused
    revoked = tuple(p for p in in_force(terms, ended) if named is None or p in named)
    return ended | frozenset(revoked), tuple(PurposeEnded(p, PurposeEnd.REVOKED) for p in revoked)


def amended_from(
    before: ConsentTerms,
    before_ended: frozenset[Purpose],
    after: ConsentTerms,
    named: Collection[Purpose] | None,
) -> tuple[frozenset[Purpose], tuple[PurposeEnded, ...]] | Reason:
    """Purposes that are over under new terms, also such as these do not have, and those that the amendment ends.

    Without names, what is over stays over, whether the terms before had it or an amendment has dropped it, and purposes
    that no terms have had come into force. With names these are in force and no others. So what was over comes back
    only where the customer has agreed to it by name, through however many amendments. A Reason where it names what the
    terms do not have, or nothing would be left in force.
    """
    refused = refuse_unknown(after, named)
    if refused is not None:
        return refused
    dropped = {p for p in before.purposes if p not in after.purposes}
    ended = {*before_ended, *dropped} if named is None else {*before_ended, *dropped, *after.purposes}.difference(named)
    if not in_force(after, ended):
        return _NOTHING_LEFT
    # What is asked for now and was not before, and is not granted, ends as it begins.
    begun = {*in_force(before, before_ended), *(p for p in after.purposes if p not in before.purposes)}
    told = [
        PurposeEnded(p, PurposeEnd.DECLINED if p in after.purposes else PurposeEnd.DROPPED)
        for p in Purpose
        if p in begun and p not in in_force(after, ended)
    ]
    return frozenset(ended), tuple(told)


def _latest_end_date(begins: datetime) -> date:
    begun = day_of(begins)
    leap = (begun.month, begun.day) == (2, 29)
    return begun.replace(year=begun.year + PORTABILITY_YEARS_MAX, day=28 if leap else begun.day)


_END_MEMBER: Final[Mapping[Purpose, str]] = {
    Purpose.PAYMENT: "valid_until",
    Purpose.PORTABILITY: "portability.end_date",
    Purpose.SHARING: "sharing.use_until",
    Purpose.MARKETING: "marketing.until",
}
