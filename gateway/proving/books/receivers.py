"""Checks of what was handed to recipients and affiliates: their own books beside the gateway's and the disclosure log.

What may be shared is written out anew here.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Final

from gateway.proving.books.evidence import Checked, Evidence
from gateway.proving.books.handed import AffiliatesBook, Handed, OfferRow, ReceivedShare, ShareRow, used
from gateway.proving.books.report import Finding

FIELDS_OF: Final[Mapping[str, frozenset[str]]] = {
    "spending-analysis": frozenset(("category", "amount_band", "month", "region")),
    "credit-assessment": frozenset(("category", "amount_band", "month")),
    "loyalty": frozenset(("category", "amount_band", "month", "amount", "payee")),
    "fraud-prevention": frozenset(
        ("category", "amount_band", "month", "amount", "region", "exact_time", "payee", "token")
    ),
}
"""Use → the most that it may see of a payment."""


def check_handed(handed: Handed, evidence: Evidence) -> list[Checked]:
    """Run every check on what was collected at rest.

    Args:
        handed: the three sides of what was handed over.
        evidence: of the same world: its payments.
    """
    return [
        shares_agree(handed),
        shares_complete(handed, evidence),
        names_apart(handed),
        erased_what_ended(handed),
        offers_agree(handed),
        campaigns_hold(handed),
        exports_agree(handed),
        uses_logged(handed),
        ends_hold(handed),
    ]


def shares_agree(handed: Handed) -> Checked:
    """Each affiliate was given what the gateway says, with no field beyond its use, its approval and the consent."""
    found = Finding("shares_agree", "Affiliates were given what the gateway says, and no field that they may not see")
    rows = {(row.affiliate_id, row.share_id): row for row in handed.shares}
    under = Counter((row.affiliate_id, row.reference) for row in handed.shares)
    for affiliate, book in handed.books.items():
        for problem in book.problems:
            found.wrong(f"{affiliate}: {problem}")
        for reference in book.received.keys() | {ref for a, ref in under if a == affiliate}:
            found.looked_at += book.received.get(reference, 0)
            if book.received.get(reference, 0) != under[affiliate, reference]:
                found.wrong(f"{affiliate} was given another number of payments under {reference} than is recorded")
        for share in book.shares:
            row = rows.get((affiliate, share.share_id))
            wrong = _wrong_share(handed, affiliate, share, row)
            if wrong is not None:
                found.wrong(f"{affiliate} holds {share.share_id}{wrong}")
    return found.result()


def _wrong_share(handed: Handed, affiliate: str, share: ReceivedShare, row: ShareRow | None) -> str | None:
    """What is wrong with a share that an affiliate holds, or None."""
    if row is None or row.reference != share.consent_ref:
        return ", of which nothing is recorded"
    agreement = handed.agreements.get((row.partner_id, row.consent_id))
    if agreement is None or affiliate not in agreement.affiliates:
        return ", and the consent does not name it"
    permitted = handed.approved.get(affiliate, frozenset()) & agreement.uses
    for use, fields in share.fields.items():
        if use not in permitted:
            return f" for {use}, which is not permitted"
        if fields - FIELDS_OF.get(use, frozenset()) or fields - agreement.fields:
            return " with fields that it may not see"
    return None


def shares_complete(handed: Handed, evidence: Evidence) -> Checked:
    """Each settled purchase was shared once with everybody whom its consent names and a use is approved for."""
    found = Finding("shares_complete", "Every settled payment was shared once with whom its customer named")
    shared = Counter((row.partner_id, row.payment_id, row.affiliate_id) for row in handed.shares)
    for payment in evidence.payments.values():
        agreement = handed.agreements.get((payment.partner_id, payment.consent_id))
        if agreement is None or payment.operation != "purchase":
            continue
        ended = (payment.partner_id, payment.consent_id, "sharing") in handed.ends
        for affiliate in agreement.affiliates:
            found.looked_at += 1
            times = shared.pop((payment.partner_id, str(payment.payment_id), affiliate), 0)
            allowed = agreement.uses & handed.approved.get(affiliate, frozenset())
            must = payment.state == "settled" and bool(allowed) and not ended
            if times > 1 or (must and not times) or (times and payment.state != "settled"):
                found.wrong(f"payment {payment.payment_id} ({payment.state}) was shared {times} times with {affiliate}")
    for _, payment_id, affiliate in shared:
        found.wrong(f"payment {payment_id} was shared with {affiliate}, which its consent does not name")
    return found.result()


def names_apart(handed: Handed) -> Checked:
    """Two affiliates that put their books together find no name in both."""
    found = Finding("names_apart", "No name of a customer, consent, payment or card is known to two affiliates")
    owners: dict[str, str] = {}
    for affiliate, book in handed.books.items():
        names = {n for s in book.shares for n in (s.share_id, s.consent_ref, s.customer, *s.tokens)} | set(
            book.received
        )
        found.looked_at += len(names)
        for name in names:
            if owners.setdefault(name, affiliate) != affiliate:
                found.wrong(f"{name} is a name for {owners[name]} and for {affiliate}")
    return found.result()


def erased_what_ended(handed: Handed) -> Checked:
    """Whoever must erase was told, holds nothing more, and the gateway has its word for all that it held."""
    found = Finding("erased_what_ended", "Affiliates erased what ended, and the gateway has their word for it")
    for row in handed.holders:
        book = handed.books.get(row.affiliate_id, AffiliatesBook())
        found.looked_at += 1
        if row.noticed != ((row.partner_id, row.consent_id, "sharing") in handed.ends):
            found.wrong(
                f"{row.affiliate_id} under {row.reference}: the notice and the consent's end do not go together"
            )
        if row.noticed != (row.reference in book.notices):
            found.wrong(f"{row.affiliate_id} under {row.reference}: it was told otherwise than is recorded")
        if not row.noticed:
            continue
        if any(share.consent_ref == row.reference for share in book.shares):
            found.wrong(f"{row.affiliate_id} holds payments under {row.reference}, which had to be erased")
        if row.erased is None or row.erased != book.erased.get(row.reference):
            found.wrong(f"{row.affiliate_id} under {row.reference}: its confirmation is missing, or of another number")
    return found.result()


def offers_agree(handed: Handed) -> Checked:
    """Offers and what became of each use are the same in both books."""
    found = Finding("offers_agree", "Offers, and what became of their uses, are the same in the affiliates' books")
    offers: dict[str, set[str]] = defaultdict(set)
    answers: dict[str, dict[str, str | None]] = defaultdict(dict)
    for offer in handed.offers:
        offers[offer.affiliate_id].add(offer.offer_id)
    for use in handed.uses:
        answers[use.affiliate_id][use.use_id] = use.reason_code
    for affiliate in handed.books.keys() | offers.keys() | answers.keys():
        book = handed.books.get(affiliate, AffiliatesBook())
        found.looked_at += len(offers[affiliate]) + len(answers[affiliate])
        for offer_id in offers[affiliate] ^ set(book.offers):
            found.wrong(f"offer {offer_id} of {affiliate} is in one of the two books")
        for use_id in answers[affiliate].keys() | book.answers.keys():
            one, other = answers[affiliate].get(use_id, "none"), book.answers.get(use_id, "none")
            if one != other:
                found.wrong(f"use {use_id} of {affiliate}: recorded {one or 'counted'}, told {other or 'counted'}")
    return found.result()


def campaigns_hold(handed: Handed) -> Checked:
    """Uses add up to their offers, offers to their campaigns, and none of these is beyond what it may cost."""
    found = Finding("campaigns_hold", "Uses add up to offers and campaigns, and none passed its caps or its budget")
    counted: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for use in (u for u in handed.uses if u.reason_code is None):
        counted[use.offer_id][0] += 1
        counted[use.offer_id][1] += use.amount_minor
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for offer in handed.offers:
        found.looked_at += 1
        if counted.pop(offer.offer_id, [0, 0]) != [offer.uses, offer.used_minor]:
            found.wrong(f"offer {offer.offer_id}: its uses are not what was counted")
        if offer.uses > offer.uses_max or offer.used_minor > offer.worth_minor * offer.uses:
            found.wrong(f"offer {offer.offer_id} was used beyond what it is worth")
        for place, number in enumerate(_takes(offer)):
            sums[offer.campaign_id][place] += number
    for offer_id in counted:
        found.wrong(f"uses of offer {offer_id} were counted, which does not exist")
    for row in handed.campaigns:
        found.looked_at += 1
        if sums[row.campaign_id] != [row.offers, row.held_minor, row.used_minor]:
            found.wrong(f"campaign {row.campaign_id}: its counters are not the sums of its offers")
        if row.offers > row.budget_offers or row.held_minor + row.used_minor > row.budget_minor:
            found.wrong(f"campaign {row.campaign_id} is beyond its budget")
    return found.result()


def _takes(offer: OfferRow) -> tuple[int, int, int]:
    """What an offer takes of its campaign's budget: offers, money that it may still cost, money that it has."""
    given_back = offer.state in ("revoked", "expired") and not offer.uses
    left = offer.worth_minor * (offer.uses_max - offer.uses) if offer.state == "open" else 0
    return int(not given_back), left, offer.used_minor


def exports_agree(handed: Handed) -> Checked:
    """The recipient opened every export that is whole, and of no other was it left with chunks."""
    found = Finding("exports_agree", "The recipient opened every whole export, record by record, and holds no other")
    for problem in handed.refused:
        found.wrong(f"the recipient refused an export: {problem}")
    for attempt in handed.half_open:
        found.wrong(f"of {attempt} the recipient was told neither a receipt nor that it is void")
    for export_id in handed.exports.keys() | handed.opened.keys():
        ours, theirs = handed.exports.get(export_id), handed.opened.get(export_id)
        found.looked_at += theirs or 0
        if ours != theirs:
            found.wrong(f"export {export_id}: {ours} records were sent, {theirs} opened")
    return found.result()


def uses_logged(handed: Handed) -> Checked:
    """Each share, offer and export is one entry of the log, to its receiver; and the log tells of no other."""
    found = Finding("uses_logged", "Every share, offer and whole export is one entry of the disclosure log")
    wanted = Counter(("share", row.affiliate_id, row.payment_id) for row in handed.shares)
    wanted.update(("offer", row.affiliate_id, row.offer_id) for row in handed.offers)
    logged = Counter((row.kind, row.recipient, row.reference) for row in handed.log if row.kind in ("share", "offer"))
    exported = Counter(row.reference for row in handed.log if row.kind == "export" and not row.is_void)
    found.looked_at = wanted.total() + len(handed.exports)
    for entry in wanted.keys() | logged.keys():
        if wanted[entry] != logged[entry]:
            found.wrong(f"{entry[0]} {entry[2]} to {entry[1]}: {wanted[entry]} recorded, {logged[entry]} logged")
    for export_id in handed.exports.keys() | exported.keys():
        if (export_id in handed.exports, exported[export_id]) != (True, 1):
            found.wrong(f"export {export_id} is logged {exported[export_id]} times")
    return found.result()


def ends_hold(handed: Handed) -> Checked:
    """Under a purpose that ended nothing was used any more: by the moments that were read under the consent's lock."""
    found = Finding("ends_hold", "Nothing was paid, exported, shared or offered after the end of what permitted it")
    for row in used(handed):
        ended = handed.ends.get((row.partner_id, row.consent_id, row.purpose))
        if ended is not None:
            found.looked_at += 1
            if row.at_s > ended:
                found.wrong(f"{row.what} under {row.consent_id}: {row.at_s - ended:.3f} s after its end")
    return found.result()
