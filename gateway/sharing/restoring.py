"""After a database was set back in time: who holds what was shared since is known again, so that it can be erased.

Of the shares themselves nothing is written down: payments that settle again are shared again, under their former names.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from msgspec.structs import replace

from gateway.base.keys import ConsentKey
from gateway.consents.rules.consent import Consent
from gateway.sharing.pseudonyms import Pseudonyms
from gateway.sharing.rules.records import Holder, Notice
from gateway.sharing.store import SharingUnit

_ROUNDS: Final = 50
"""That may have begun since under one consent with one affiliate."""

Reference = tuple[str, str]
"""Affiliate, and its own name of a consent and round."""


@dataclass(slots=True)
class SharedSince:
    """What was told to be shared with an affiliate under a consent: since when, for which uses, and which fields."""

    since: datetime
    uses: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)


@dataclass(slots=True)
class ToldReferences:
    """What affiliates were sent: under which names, made with which keys, and what they must erase."""

    keys: dict[Reference, set[str]] = field(default_factory=dict)
    notices: dict[Reference, Notice] = field(default_factory=dict)


async def holders_again(
    uow: SharingUnit,
    told: Mapping[tuple[ConsentKey, str], SharedSince],
    references: ToldReferences,
    pseudonyms: Pseudonyms,
    key_ids: Sequence[str],
) -> Collection[tuple[ConsentKey, str]]:
    """Write down who holds something, while no stage shares; return of which consents and affiliates it is known now.

    ``told``: (consent, affiliate) → what its partner was told; ``key_ids``: of all keys that may have named a consent.
    """
    keys = sorted({key for key, _ in told})
    consents, affiliates = await uow.consents.read(keys), await uow.sharing.known_affiliates()
    latest = {(h.key, h.affiliate_id): h for h in await uow.sharing.holders(keys)}
    known, asked = list[Holder](), set[tuple[ConsentKey, str]]()
    for (key, affiliate), shared in told.items():
        consent, stands = consents.get(key), latest.get((key, affiliate))
        if consent is None or affiliate not in affiliates:
            continue
        if stands is not None and stands.notice is None:
            known.append(_since(stands, shared, references))
        elif stands is not None and (affiliate, stands.reference) in references.keys:
            # It is to erase what it was sent since: that stands from before, or was written down already.
            asked.add((key, affiliate))
        first = 1 if stands is None else stands.round + 1
        known += _forgotten(consent, affiliate, first, shared, references, _Names(pseudonyms, key_ids))
    await uow.sharing.write_holders(known)
    return {(h.key, h.affiliate_id) for h in known} | asked


@dataclass(frozen=True, slots=True)
class _Names:
    pseudonyms: Pseudonyms
    key_ids: Sequence[str]

    def of(self, key: ConsentKey, affiliate: str, number: int) -> Iterable[str]:
        """All names that a consent's round may have."""
        return (self.pseudonyms.name_of_round(affiliate, key, number, key_id=k) for k in self.key_ids)


def _forgotten(
    consent: Consent, affiliate: str, first: int, shared: SharedSince, references: ToldReferences, names: _Names
) -> list[Holder]:
    """Rounds from this number on of which the affiliate was sent something."""
    key = (consent.terms.partner_id, consent.terms.consent_id)
    found: list[Holder] = []
    for number in range(first, first + _ROUNDS):
        reference = next((r for r in names.of(key, affiliate, number) if (affiliate, r) in references.keys), None)
        if reference is None:
            break
        begun = Holder(
            key=key,
            customer_id=consent.terms.customer_id,
            affiliate_id=affiliate,
            round=number,
            reference=reference,
            key_ids=(),
            since=shared.since,
            uses=(),
        )
        found.append(_since(begun, shared, references))
    return found


def _since(holder: Holder, shared: SharedSince, references: ToldReferences) -> Holder:
    """A holder with what it was given since, as far as is known; more rather than less."""
    place = (holder.affiliate_id, holder.reference)
    return replace(
        holder,
        key_ids=tuple(sorted({*holder.key_ids, *references.keys.get(place, ())})),
        uses=tuple(sorted({*holder.uses, *shared.uses})),
        fields=tuple(sorted({*holder.fields, *shared.fields})),
        notice=references.notices.get(place),
    )
