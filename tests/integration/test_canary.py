"""Card numbers and keys that were planted, or are used, must be found nowhere: topics, tables, logs, pages, files.

And who a customer is, what paid and where, is found only where it belongs, also where data is handed to others.
"""

import base64
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from gateway.app.clock import SystemClock
from gateway.app.registries import open_consent_changes
from gateway.consents.changing import change_consent_status
from gateway.consents.rules.consent import ConsentCommand
from gateway.identity.jose.jwk import generate_key
from gateway.messaging.records import Outgoing
from gateway.proving.traffic.cast import Role, luhn_digit
from gateway.proving.traffic.shops import SHOPS
from schemas.marketing import OfferGranted
from schemas.primitives import Money
from schemas.sharing import ErasureConfirmed
from schemas.topics import offers_topic, sharing_topic
from tests.integration.test_bad_input import fates
from tests.support.canaries import (
    bytes_spellings,
    card_spellings,
    found_in,
    pem,
    places,
    private_bytes,
    private_key_spellings,
    spellings,
)
from tests.support.entries import BCARD, DEAD, DECLINED, KCARD, REJECTED, REVERSED, SHOP_OF, Entry
from tests.support.handing import Handing, handing, use_of
from tests.support.scene import Scene

Plant = Callable[[Outgoing, str], Outgoing]
"""(a good order's record, a card number) → the record with the number in it"""


def card(number: int, length: int = 16) -> str:
    body = f"9700{number:03d}".ljust(length - 1, "7")
    return body + luhn_digit(body)


def with_fields(record: Outgoing, **fields: Any) -> Outgoing:
    return replace(record, value=json.dumps(json.loads(record.value) | fields).encode())


def with_header(record: Outgoing, name: str, value: str) -> Outgoing:
    headers = [h for h in record.headers if h[0] != name]
    return replace(record, headers=[*headers, (name, value.encode())])


def grouped(pan: str, by: str) -> str:
    return by.join(pan[i : i + 4] for i in range(0, len(pan), 4))


IN_BAD_ORDERS: dict[str, Plant] = {
    "in text that is no JSON": lambda r, pan: replace(r, value=f"card {pan} 12/29 please".encode()),
    "after bytes that are no text": lambda r, pan: replace(r, value=b"\xff\xfe\xc3(" + pan.encode()),
    "in UTF-16": lambda r, pan: replace(r, value=pan.encode("utf-16")),
    "an unknown field": lambda r, pan: with_fields(r, card_number=pan),
    "an unknown field, as a number": lambda r, pan: with_fields(r, card_number=int(pan)),
    "an unknown field's name": lambda r, pan: with_fields(r, **{pan: True}),
    "in an unknown object": lambda r, pan: with_fields(r, card={"pan": pan, "cvc": "123"}),
    "with hyphens": lambda r, pan: with_fields(r, note=grouped(pan, "-")),
    "with blanks": lambda r, pan: with_fields(r, note=grouped(pan, " ")),
    "the order's id": lambda r, pan: with_fields(r, order_id=pan, tip="1"),
    "the shop's id": lambda r, pan: with_fields(r, merchant_id=pan, tip="1"),
    "the consent's id": lambda r, pan: with_fields(r, consent_id=pan, tip="1"),
    "the partner's id": lambda r, pan: with_fields(r, partner_id=pan),
    "the amount": lambda r, pan: with_fields(r, amount={"currency": "KRW", "value": pan}),
    "the key": lambda r, pan: replace(r, key=pan.encode()),
    "a header": lambda r, pan: with_fields(with_header(r, "x-card", pan), tip="1"),
    "a header's name": lambda r, pan: with_fields(with_header(r, pan, "x"), tip="1"),
    "the message's id": lambda r, pan: with_fields(with_header(r, "ce_id", pan), tip="1"),
    "the message's type": lambda r, pan: with_header(r, "ce_type", pan),
}
"""Where a card number may stand in an order that cannot be read."""

IN_GOOD_ORDERS: dict[str, Plant] = {
    "an unknown header": lambda r, pan: with_header(r, "x-card", pan),
    "an unknown header's name": lambda r, pan: with_header(r, pan, "x"),
    "the message's id": lambda r, pan: with_header(r, "ce_id", pan),
    "the message's source": lambda r, pan: with_header(r, "ce_source", f"/pay/{pan}"),
    "the message's time": lambda r, pan: with_header(r, "ce_time", pan),
    "the trace": lambda r, pan: with_header(r, "traceparent", pan),
}
"""Where it may stand beside an order that is paid all the same."""


class Planted:
    """What was sent, and what must not be found of it."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.entries: list[Entry] = []
        self.needles: dict[str, set[bytes]] = {}
        self._cards = 0

    def card(self, name: str, length: int = 16) -> str:
        self._cards += 1
        pan = card(self._cards, length)
        self.needles[name] = card_spellings(pan)
        return pan

    def signed(self, of: Entry, record: Outgoing) -> Outgoing:
        """Bytes that their partner has signed as they are."""
        assert of.order is not None
        own = self.scene.world.cast.partner(of.order.partner_id)
        typ = dict(record.headers)["ce_type"].decode()
        signature = own.signer.sign(record.value, typ)
        return with_header(record, "signature", signature)

    def bad_orders(self) -> None:
        for name, plant in IN_BAD_ORDERS.items():
            good = self.scene.entry(self.scene.order())
            pan = self.card(f"a card number in a bad order: {name}")
            # A key is not what is signed.
            expected = REJECTED if name == "the key" else DEAD
            self.entries.append(Entry(plant(good.record, pan), None, expected, name))
            pan = self.card(f"a card number in a bad order that is signed: {name}")
            # No partner signs in another's name.
            expected = DEAD if name == "the partner's id" else REJECTED
            record = self.signed(good, plant(good.record, pan))
            self.entries.append(Entry(record, None, expected, f"{name}, signed"))
        for length in (13, 15, 19):
            good = self.scene.entry(self.scene.order()).record
            pan = self.card(f"a card number of {length} digits", length)
            self.entries.append(Entry(with_fields(good, note=pan), None, DEAD, f"{length} digits"))

    def keys(self) -> None:
        for algorithm in ("ES256", "Ed25519"):
            key, public = generate_key(algorithm)
            self.needles[f"a partner's private {algorithm} key in a bad order"] = private_key_spellings(key)
            good = self.scene.entry(self.scene.order()).record
            jwk = {**public, "d": base64.urlsafe_b64encode(private_bytes(key)).rstrip(b"=").decode()}
            self.entries += [
                Entry(with_fields(good, key=pem(key)), None, DEAD, "PEM in a field"),
                Entry(replace(good, value=pem(key).encode()), None, DEAD, "PEM alone"),
                Entry(with_fields(good, key=jwk), None, DEAD, "JWK in a field"),
                Entry(with_fields(good, key=json.dumps(jwk)), None, DEAD, "JWK as text in a field"),
                Entry(with_header(good, "ce_type", json.dumps(jwk)), None, REJECTED, "JWK in a header"),
            ]

    def good_orders(self) -> None:
        for name, plant in IN_GOOD_ORDERS.items():
            good = self.scene.entry(self.scene.order(), label=name)
            pan = self.card(f"a card number beside a good order: {name}")
            self.entries.append(good._replace(record=plant(good.record, pan)))

    def ids(self) -> None:
        for field in ("order_id", "merchant_id", "consent_id"):
            pan = self.card(f"a card number as a signed order's {field}")
            good = self.scene.entry(self.scene.order())
            record = self.signed(good, with_fields(good.record, **{field: pan}))
            key = pan.encode() if field == "consent_id" else record.key
            self.entries.append(Entry(replace(record, key=key), None, REJECTED, field))

    def in_use(self) -> None:
        """The cards that pay, and the keys that sign and seal."""
        world = self.scene.world
        for customer in world.cast.customers:
            self.needles[f"the card of {customer.terms.customer_id}"] = card_spellings(customer.card.pan)
        for partner in world.cast.partners:
            self.needles[f"the key of {partner.partner_id}"] = private_key_spellings(partner.private_key)
        for ring in ("master", "dead-letter", "internal"):
            (file,) = (world.keys / ring).iterdir()
            self.needles[f"the {ring} key"] = bytes_spellings(base64.b64decode(file.read_bytes()))


async def use_cards(scene: Scene) -> list[Entry]:
    """Cards come out of the vault for payments that stand, that are declined, and that are reversed."""
    network = scene.network(BCARD)
    await network.set_faults(drop_after_apply=1.0, classes=["financial"])
    doubtful = scene.payments(3, expected=REVERSED)
    await scene.send(doubtful)
    await scene.until_states(doubtful, "unknown", "reversed")
    await network.clear_faults()
    rest = [
        *scene.payments(len(scene.world.cast.of(Role.PLAIN)), BCARD),
        *scene.payments(5, KCARD),
        scene.entry(scene.order(amount=Money.of(7_051, "KRW")), DECLINED),
    ]
    await scene.send(rest)
    await scene.until_states(doubtful, "reversed")
    return [*doubtful, *rest]


async def send_clearing_file(scene: Scene, pan: str) -> Path:
    """A file of a network that writes a card number into a line that is no record."""
    inbox, ended, name = scene.world.inbox / BCARD, scene.world.cleared / BCARD, "leaky.csv"
    data = f"H,{BCARD},leaky-1,2026-01-01,2026-01-01T00:00:00Z\nD,1,purchase,{pan},no record\nT,0,0\n".encode()
    key = bytes.fromhex((scene.world.clearing_keys / BCARD / "1.hmac").read_text())
    inbox.mkdir(exist_ok=True)
    (inbox / f"{name}.hmac").write_text(hmac.digest(key, data, "sha256").hex())
    (inbox / f"{name}.part").write_bytes(data)
    (inbox / f"{name}.part").replace(inbox / name)

    async def ends() -> list[Path]:
        return [p for p in ended.glob(f"*/{name}") if p.is_file()]

    async def imported() -> bool:
        return bool(await ends())

    await scene.until(imported, "the clearing file is put away")
    scene.planted |= {place for place in await fates(scene) if place[0] == f"file:{name}"}
    [done] = await ends()
    return done


async def test_no_card_number_and_no_key_is_found_anywhere(scene: Scene) -> None:
    planted = Planted(scene)
    planted.bad_orders()
    planted.keys()
    planted.good_orders()
    planted.ids()
    planted.in_use()
    await scene.send(planted.entries)
    await scene.until_quiet()
    used = await use_cards(scene)
    leaky = await send_clearing_file(scene, planted.card("a card number in a clearing file"))
    await scene.settle()
    await scene.check_books()

    row = (await scene.rows_of(used[-2:-1]))[used[-2].payment_id]
    controls = {
        ("topics", row["order_id"]),
        ("tables", row["order_id"]),
        # Where only hex shows it: in the outbox.
        ("tables", row["order_id"].encode().hex()),
        ("logs", "process_started"),
        ("logs", "database system is ready"),
        ("pages", "mypay_payments_total"),
        ("files", row["rrn"]),
    }
    leaks: list[str] = []
    seen: set[tuple[str, str]] = set()
    async for place in places(scene, not_ours=[leaky]):
        seen |= {c for c in controls if c[0] == place.kind and c[1].encode() in place.data}
        leaks += [f"{place.kind} {place.name}: {name}" for name in sorted(found_in(place, planted.needles))]
    assert not leaks
    # The search sees what is there.
    assert seen == controls


# --- who a customer is, and what was bought, where data is handed to others ---


def card_in(kind: str) -> dict[str, str]:
    """A field that no message has, with a card number in it."""
    return {"note": CARDS_IN_MESSAGES[kind]}


CARDS_IN_MESSAGES = {kind: card(900 + n) for n, kind in enumerate(("request", "use", "confirmation", "unsigned"))}

PERSONAL: dict[str, set[str]] = {
    "who the customer is": {
        *("tables consent", "tables consent_version", "tables funding_token", "tables identity_link"),
        *("tables portability_request", "tables share_holder", "tables marketing_customer", "tables offer"),
        *("tables marketing_table_payment", "tables disclosure_content"),
    },
    "what pays": {
        *("tables consent", "tables consent_version", "tables payment"),
        *("tables funding_token", "tables funding_token_partner"),
    },
    "where it was bought, by name": {"tables merchant"},
}
"""What is personal → the only places where it may stand. An export holds all of it, encrypted to its recipient."""


def personal(handing: Handing) -> dict[str, set[bytes]]:
    terms, payment = handing.customer.terms, handing.customer.terms.payment
    assert payment is not None
    shops = [s.name for s in SHOPS if s.merchant_id in SHOP_OF.values()]
    return {
        "who the customer is": spellings(terms.customer_id),
        "what pays": spellings(payment.funding_token),
        "where it was bought, by name": set().union(*map(spellings, shops)),
    }


async def hand_over(scene: Scene, handing: Handing) -> OfferGranted:
    """Everything that the customer permits is done once; beside it come messages with card numbers in them."""
    entries = [
        scene.entry(scene.order(network, customer=handing.customer, amount=Money.of(480_000, "KRW")))
        for network in (BCARD, KCARD) * 2
    ]
    await scene.send(entries)
    await scene.settle()
    await handing.send(handing.as_partner(handing.request("t-canary")))
    offer = await handing.offer()
    await handing.send(
        handing.as_affiliate(use_of(offer, "r-canary")),
        handing.as_partner(handing.request("t-bad"), **card_in("request")),
        handing.as_affiliate(use_of(offer, "r-bad"), **card_in("use")),
        with_header(handing.as_affiliate(use_of(offer, "r-none"), **card_in("unsigned")), "signature", "none"),
    )

    async def done() -> bool:
        references = await handing.references()
        shared = all(handing.books[a].received[ref] == len(entries) for a, ref in references.items())
        counted = "r-canary" in handing.books[offer.affiliate_id].answers
        return bool(handing.receiving.exports.whole) and counted and shared

    await scene.until(done, "an export is whole, a use is counted, and the payments are shared")
    return offer


async def end_all(scene: Scene, handing: Handing) -> None:
    """The customer's consent is revoked, and both affiliates erase what they hold."""
    async with open_consent_changes(scene.world.postgres_dsn) as store:
        await change_consent_status(store, SystemClock(), handing.key, ConsentCommand.REVOKE)  # type: ignore[arg-type]
    references = await handing.references()
    assert set(references) == set(handing.books)

    async def noticed() -> bool:
        return all(ref in handing.books[a].notices for a, ref in references.items())

    await scene.until(noticed, "both affiliates have to erase")
    for affiliate, reference in references.items():
        notice = handing.books[affiliate].notices[reference]
        word = ErasureConfirmed(
            notice_id=notice.notice_id,
            affiliate_id=affiliate,
            erased=handing.books[affiliate].erase(reference),
            erased_at=datetime.now(UTC),
        )
        await handing.send(handing.as_affiliate(word), handing.as_affiliate(word, **card_in("confirmation")))

    async def confirmed() -> bool:
        return not await scene.fetch("SELECT FROM share_holder WHERE notice_id IS NOT NULL AND confirmed_at IS NULL")

    async def logged() -> bool:
        return not await scene.fetch(
            "SELECT FROM outbox o, disclosure_head h WHERE (o.tx, o.id) > (h.tx, h.id) "
            "AND o.event_type <> 'kr.mypay.disclosure.root.v1'"
        )

    await scene.until(confirmed, "both affiliates' confirmations are taken in")
    await scene.until(logged, "every use is logged")
    await scene.until_quiet()


def names_of_affiliates(offer: OfferGranted, handing: Handing, references: dict[str, str]) -> dict[str, set[bytes]]:
    """What each affiliate calls the customer; one of them knows it by its offer, too."""
    found = {
        f"{affiliate}'s name of the customer": spellings(share.customer)
        for affiliate, book in handing.books.items()
        for share in book.shares.values()
        if share.consent_ref == references[affiliate]
    }
    assert set().union(*found.values()) >= spellings(offer.customer)
    assert len(found) == len(handing.books)
    return found


async def test_who_a_customer_is_and_what_was_bought_stands_only_where_it_belongs(scene: Scene) -> None:
    async with handing(scene) as handed:
        offer = await hand_over(scene, handed)
        names = names_of_affiliates(offer, handed, await handed.references())
        await end_all(scene, handed)
        cards = {f"a card number in a {kind}": card_spellings(pan) for kind, pan in CARDS_IN_MESSAGES.items()}
        needles = personal(handed) | names | cards
        found: dict[str, set[str]] = {name: set() for name in needles}
        async for place in places(scene):
            for name in found_in(place, needles):
                # A table with its partitions is one place.
                found[name].add(f"{place.kind} {'outbox' if place.name.startswith('outbox_') else place.name}")
    belongs = PERSONAL | {name: belonging(name.partition("'")[0]) for name in names}
    astray = {name: sorted(where - belongs.get(name, set())) for name, where in found.items()}
    assert {name: where for name, where in astray.items() if where} == {}
    # The search sees what is there.
    assert [name for name in belongs if not found[name]] == []
    await scene.check_books()


def belonging(affiliate: str) -> set[str]:
    """Where an affiliate's own name of a customer may stand: never at another's."""
    return {f"topics {sharing_topic(affiliate)}", f"topics {offers_topic(affiliate)}", "tables outbox"}
