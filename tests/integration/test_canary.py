"""Card numbers and keys that were planted, or are used, must be found nowhere: topics, tables, logs, pages, files."""

import base64
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from gateway.identity.jose.jwk import generate_key
from gateway.messaging.records import Outgoing
from gateway.proving.traffic.cast import Role, luhn_digit
from schemas.primitives import Money
from tests.integration.test_bad_input import fates
from tests.support.canaries import (
    bytes_spellings,
    card_spellings,
    found_in,
    pem,
    places,
    private_bytes,
    private_key_spellings,
)
from tests.support.entries import BCARD, DEAD, DECLINED, KCARD, REJECTED, REVERSED, Entry
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
