"""The check of the receivers' books: a small world balances, and every single thing that goes wrong in it is found."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway.proving.books.evidence import Evidence, PaymentRow
from gateway.proving.books.handed import (
    AffiliatesBook,
    Agreement,
    CampaignRow,
    Handed,
    HolderRow,
    LogRow,
    OfferRow,
    ReceivedShare,
    ShareRow,
    UseRow,
)
from gateway.proving.books.receivers import check_handed
from tests.support.proving_books import payment_id

PARTNER, BANK, MOBILE, RECIPIENT = "hanbit", "insurer", "mobility", "B2BBBB0000"
ENDED_S = 1_795_402_800.0
BOTH = frozenset((BANK, MOBILE))
COARSE = frozenset(("category", "amount_band", "month"))
LOYAL = COARSE | {"amount"}

Change = Callable[[Handed, Evidence], Any]


def row(number: int, affiliate: str, consent: str) -> ShareRow:
    return ShareRow(
        PARTNER, str(payment_id(f"p{number}")), affiliate, consent, f"{affiliate}-p{number}", f"{affiliate}-{consent}"
    )


def held(number: int, affiliate: str, consent: str) -> ReceivedShare:
    use, fields = ("loyalty", LOYAL) if affiliate == MOBILE else ("credit-assessment", COARSE)
    return ReceivedShare(
        f"{affiliate}-p{number}", f"{affiliate}-{consent}", f"{affiliate}-u-{consent}", {use: frozenset(fields)}
    )


def payment(number: int, consent: str, state: str = "settled") -> PaymentRow:
    fields = dict.fromkeys(PaymentRow._fields)
    told = {"partner_id": PARTNER, "payment_id": payment_id(f"p{number}"), "consent_id": consent, "state": state}
    return PaymentRow(**{**fields, **told, "operation": "purchase"})  # type: ignore[arg-type]


def world() -> tuple[Handed, Evidence]:
    """Two payments under a consent that stands and one under one that ended; p4 was settled after that end."""
    evidence = Evidence(produced=[])
    for number, consent in ((1, "c-1"), (2, "c-1"), (3, "c-2"), (4, "c-2"), (5, "c-3")):
        one = payment(number, consent)
        evidence.payments[one.key] = one
    shares = [row(n, a, c) for a in sorted(BOTH) for n, c in ((1, "c-1"), (2, "c-1"), (3, "c-2"))]
    agreement = Agreement(BOTH, frozenset(("loyalty", "credit-assessment")), LOYAL)
    offers = [
        OfferRow("o-1", "spring", BANK, PARTNER, "c-1", "open", 1_000, 3, 1, 700),
        OfferRow("o-2", "spring", BANK, PARTNER, "c-2", "revoked", 1_000, 3, 1, 1_000),
        OfferRow("o-3", "spring", MOBILE, PARTNER, "c-3", "expired", 1_000, 3, 0, 0),
    ]
    uses = [
        UseRow(BANK, "r-1", "o-1", 700, None, ENDED_S + 9),
        UseRow(BANK, "r-2", "o-2", 1_000, None, ENDED_S - 1),
        UseRow(BANK, "r-3", "o-2", 1_000, "MD01", ENDED_S + 1),
    ]
    log = [
        *(LogRow("share", PARTNER, s.consent_id, s.affiliate_id, s.payment_id, ENDED_S - 3, False) for s in shares),
        *(LogRow("offer", PARTNER, o.consent_id, o.affiliate_id, o.offer_id, ENDED_S - 2, False) for o in offers),
        *(LogRow("payment", PARTNER, "c-2", "shop", str(payment_id(f"p{n}")), ENDED_S - 4, False) for n in (3, 4)),
        LogRow("export", PARTNER, "c-2", RECIPIENT, "t-1/1", ENDED_S - 1, False),
        LogRow("export", PARTNER, "c-2", RECIPIENT, "t-2/1", ENDED_S + 1, True),
        LogRow("pull", PARTNER, "c-2", RECIPIENT, "B2BBBB0000M1", ENDED_S - 5, False),
    ]
    books = {
        a: AffiliatesBook(
            shares=[held(n, a, "c-1") for n in (1, 2)],
            received={f"{a}-c-1": 2, f"{a}-c-2": 1},
            notices=frozenset((f"{a}-c-2",)),
            erased={f"{a}-c-2": 1},
        )
        for a in BOTH
    }
    books[BANK].offers, books[MOBILE].offers = frozenset(("o-1", "o-2")), frozenset(("o-3",))
    books[BANK].answers = {"r-1": None, "r-2": None, "r-3": "MD01"}
    handed = Handed(
        shares=shares,
        holders=[
            *(HolderRow(PARTNER, "c-1", a, f"{a}-c-1", noticed=False, erased=None) for a in sorted(BOTH)),
            *(HolderRow(PARTNER, "c-2", a, f"{a}-c-2", noticed=True, erased=1) for a in sorted(BOTH)),
        ],
        offers=offers,
        uses=uses,
        campaigns=[CampaignRow("spring", 9_000, 3, 2, 2_000, 1_700)],
        exports={"t-1/1": 12},
        log=log,
        approved={BANK: frozenset(("credit-assessment",)), MOBILE: frozenset(("loyalty",))},
        agreements={(PARTNER, c): agreement for c in ("c-1", "c-2")},
        ends={(PARTNER, "c-2", p): ENDED_S for p in ("payment", "portability", "sharing", "marketing")},
        books=books,
        opened={"t-1/1": 12},
    )
    return handed, evidence


def wrong(handed: Handed, evidence: Evidence) -> set[str]:
    return {c.name for c in check_handed(handed, evidence) if not c.ok}


def test_a_world_in_order_balances_and_every_check_looks_at_something() -> None:
    checked = check_handed(*world())
    assert [c.name for c in checked if not c.ok] == []
    assert [c.name for c in checked if not c.looked_at] == []


def change(of: str, place: int, **fields: Any) -> Change:
    def apply(handed: Handed, _evidence: Evidence) -> None:
        rows = getattr(handed, of)
        rows[place] = rows[place]._replace(**fields)

    return apply


def drop(of: str, place: int) -> Change:
    return lambda handed, _: getattr(handed, of).pop(place)


def receive(share: ReceivedShare, affiliate: str = MOBILE) -> Change:
    """An affiliate holds this instead of its first share."""
    return lambda handed, _: handed.books[affiliate].shares.__setitem__(0, share)


def settle_unshared(handed: Handed, evidence: Evidence) -> None:
    one = payment(6, "c-1")
    evidence.payments[one.key] = one


def share_of_open(handed: Handed, evidence: Evidence) -> None:
    one = payment(1, "c-1", "approved")
    evidence.payments[one.key] = one


def know_one_card(handed: Handed, _evidence: Evidence) -> None:
    for affiliate in (BANK, MOBILE):
        shares = handed.books[affiliate].shares
        shares[0] = shares[0]._replace(tokens=frozenset(("t-1",)))


GOOD = held(1, MOBILE, "c-1")
FAULTS: dict[str, tuple[Change, str]] = {
    "a share is lost on its way": (
        lambda h, _: h.books.__setitem__(BANK, AffiliatesBook(offers=h.books[BANK].offers)),
        "shares_agree",
    ),
    "a share came that is not recorded": (receive(GOOD._replace(share_id="x")), "shares_agree"),
    "a share came under another reference": (receive(GOOD._replace(consent_ref=f"{MOBILE}-c-2")), "shares_agree"),
    "a field that the customer did not agree to": (
        receive(GOOD._replace(fields={"loyalty": LOYAL | {"payee"}})),
        "shares_agree",
    ),
    "a field that the use may not see": (
        receive(held(1, BANK, "c-1")._replace(fields={"credit-assessment": LOYAL}), BANK),
        "shares_agree",
    ),
    "a use that nobody approved": (receive(GOOD._replace(fields={"credit-assessment": COARSE})), "shares_agree"),
    "an affiliate finds something wrong": (
        lambda h, _: setattr(h.books[BANK], "problems", ("line 1: odd",)),
        "shares_agree",
    ),
    "a share with whom the consent does not name": (
        lambda h, _: h.agreements.__setitem__((PARTNER, "c-1"), Agreement(frozenset((BANK,)), BOTH, LOYAL)),
        "shares_complete",
    ),
    "a settled payment is not shared": (settle_unshared, "shares_complete"),
    "a payment that is not settled is shared": (share_of_open, "shares_complete"),
    "a payment is shared twice": (lambda h, _: h.shares.append(h.shares[0]), "shares_complete"),
    "two affiliates know one name": (receive(GOOD._replace(customer=f"{BANK}-u-c-1")), "names_apart"),
    "two affiliates know one name of a card": (know_one_card, "names_apart"),
    "no notice after an end": (change("holders", 2, noticed=False, erased=None), "erased_what_ended"),
    "a notice without an end": (lambda h, _: h.ends.pop((PARTNER, "c-2", "sharing")), "erased_what_ended"),
    "a notice that did not come": (lambda h, _: setattr(h.books[BANK], "notices", frozenset()), "erased_what_ended"),
    "what had to be erased is held": (
        lambda h, _: h.books[BANK].shares.append(held(3, BANK, "c-2")),
        "erased_what_ended",
    ),
    "a confirmation that was not taken in": (change("holders", 2, erased=None), "erased_what_ended"),
    "a confirmation of another number": (change("holders", 3, erased=7), "erased_what_ended"),
    "an offer that did not come": (lambda h, _: setattr(h.books[MOBILE], "offers", frozenset()), "offers_agree"),
    "a use that was answered otherwise": (change("uses", 0, reason_code="AG01"), "offers_agree"),
    "a use that was answered and is not recorded": (drop("uses", 2), "offers_agree"),
    "an offer's counter lags": (change("offers", 0, uses=0, used_minor=0), "campaigns_hold"),
    "an offer is used beyond its worth": (
        lambda h, e: (change("offers", 0, used_minor=1_400)(h, e), change("uses", 0, amount_minor=1_400)(h, e)),
        "campaigns_hold",
    ),
    "a campaign's counter is off": (change("campaigns", 0, used_minor=1_699), "campaigns_hold"),
    "a campaign is beyond its budget": (change("campaigns", 0, budget_minor=3_000), "campaigns_hold"),
    "a campaign made too many offers": (change("campaigns", 0, budget_offers=1), "campaigns_hold"),
    "an export of which a record is missing": (lambda h, _: h.opened.update({"t-1/1": 11}), "exports_agree"),
    "an export that nobody opened": (lambda h, _: h.opened.clear(), "exports_agree"),
    "an export that the gateway does not know": (lambda h, _: h.opened.update({"t-9/1": 1}), "exports_agree"),
    "an export that did not hold": (lambda h, _: setattr(h, "refused", ("chunk 2 is missing",)), "exports_agree"),
    "an attempt without an end": (lambda h, _: setattr(h, "half_open", ("t-3/1, attempt 1",)), "exports_agree"),
    "a share that is not logged": (drop("log", 0), "uses_logged"),
    "a share that is logged twice": (lambda h, _: h.log.append(h.log[0]), "uses_logged"),
    "a share that is logged to another": (change("log", 0, recipient=RECIPIENT), "uses_logged"),
    "an export that is not logged": (lambda h, _: h.log.pop(-3), "uses_logged"),
    "an export that is logged and was none": (change("log", -2, is_void=False, at_s=ENDED_S - 1), "uses_logged"),
    "a share after the end": (change("log", 2, at_s=ENDED_S + 0.01), "ends_hold"),
    "an offer after the end": (change("log", 7, at_s=ENDED_S + 0.01), "ends_hold"),
    "a payment after the end": (change("log", 9, at_s=ENDED_S + 0.01), "ends_hold"),
    "an export after the end": (change("log", 11, at_s=ENDED_S + 0.01), "ends_hold"),
    "an answer through the API after the end": (change("log", 13, at_s=ENDED_S + 0.01), "ends_hold"),
    "a use of an offer after the end": (change("uses", 1, at_s=ENDED_S + 0.01), "ends_hold"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_goes_wrong_is_found(fault: str) -> None:
    apply, check = FAULTS[fault]
    handed, evidence = world()
    apply(handed, evidence)
    assert check in wrong(handed, evidence)


def test_what_is_void_or_done_under_another_purpose_may_come_after_an_end() -> None:
    handed, evidence = world()
    # Sharing alone has ended.
    handed.ends = {(PARTNER, "c-2", "sharing"): ENDED_S}
    handed.log[9] = handed.log[9]._replace(at_s=ENDED_S + 5)
    assert wrong(handed, evidence) == set()
