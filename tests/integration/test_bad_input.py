"""Every kind of bad order: a defined end, a reason, a counter; the stage lives, and its neighbours are settled."""

import asyncio
import base64
import hmac
import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace

from gateway.client import Signer
from gateway.identity.jose.jwk import generate_key
from gateway.messaging.dead_letters import Fate, LetterKeys, read_fate
from gateway.messaging.records import Outgoing, Record
from gateway.proving.collect.topics import read_topics
from gateway.proving.traffic.cast import Customer, Partner, Role
from gateway.proving.traffic.spoiling import FAULTY, INDIFFERENT, MALFORMED
from schemas.orders import ORDER_TYPE
from schemas.topics import DEAD_LETTER, ORDERS, clearing_topic, dispatch_topic, events_topic
from tests.support.batches import rename_header
from tests.support.entries import BCARD, DEAD, REJECTED, Entry
from tests.support.scene import Scene

Spoil = Callable[[Outgoing], Outgoing]

UNSIGNED = {"no headers, not signed": "DS0B"}
"""Of what was signed and then spoilt the signature does not match the bytes: DS17."""

# --- what is signed and has a fault, which its partner is told of: how the reason begins ------------------------------

FAULTS: dict[str, str] = {
    "empty": "Invalid JSON",
    "not JSON": "Invalid JSON",
    "cut off": "Invalid JSON",
    "a list": "must be an object",
    "nested too deep": "Invalid JSON: recursion limit exceeded",
    "more than 64 KiB": "body is larger than 65536 bytes",
    "bad UTF-8": "Invalid JSON: invalid unicode",
    "NUL character": "",
    "unknown field": "tip: unknown field",
    "a card number": "card_number: unknown field",
    "amount as a number": "amount.value: ",
    "field missing": "expires_at: field is missing",
    "negative amount": "amount",
    "zero amount": "amount",
    "amount too large": "amount",
    "unknown currency": "amount: currency is not",
    "wrong decimals": "amount: KRW amounts have exactly 0 decimals",
    "time without zone": "issued_at: ",
    "expires before issue": "expires_at must be later than issued_at",
    "wrong specversion": "header ce_specversion: must be 1.0",
    "header twice": "header ce_type: given twice",
    "wrong key": "header key: ",
    "no key": "header key: ",
    "lone surrogate": "Invalid JSON",
    "not a number": "amount.value: ",
    "infinity": "amount",
    "exponent": "amount",
    "other digits": "amount",
    "5,000 digits": "",
    "byte order mark": "Invalid JSON",
    "UTF-16": "",
    "end of time": "expires_at: ",
    "field twice": "a field is given twice",
    "slash in an id": "order_id: ",
    "id too long": "order_id: ",
    "900 KiB": "body is larger than 65536 bytes",
    "other content type": "header content-type: ",
}

SEALED = {"a card number"}
"""What holds a card number."""


def swap(old: bytes, new: bytes) -> Spoil:
    def spoil(record: Outgoing) -> Outgoing:
        assert record.value.count(old) == 1
        return replace(record, value=record.value.replace(old, new))

    return spoil


def field(name: str, text: str) -> Spoil:
    """Put raw JSON text in a field's place."""

    def spoil(record: Outgoing) -> Outgoing:
        body: dict[str, Any] = json.loads(record.value)
        place = body["amount"] if name == "value" else body
        place[name] = "@"
        return replace(record, value=json.dumps(body).replace('"@"', text).encode())

    return spoil


def header(name: str, value: bytes) -> Spoil:
    return lambda r: replace(r, headers=[(n, value if n == name else v) for n, v in r.headers])


MORE: dict[str, Spoil] = {
    "lone surrogate": field("order_id", '"\\ud800"'),
    "not a number": field("value", "NaN"),
    "infinity": field("value", '"Infinity"'),
    "exponent": field("value", '"1e3"'),
    "other digits": field("value", '"١٠٠٠"'),
    "5,000 digits": field("value", "9" * 5_000),
    "byte order mark": lambda r: replace(r, value=b"\xef\xbb\xbf" + r.value),
    "UTF-16": lambda r: replace(r, value=r.value.decode().encode("utf-16")),
    "end of time": field("expires_at", '"9999-12-31T23:59:59-23:59"'),
    "field twice": swap(b'{"partner_id"', b'{"order_id":"other","partner_id"'),
    "slash in an id": field("order_id", '"a/b"'),
    "id too long": field("order_id", f'"{"a" * 36}"'),
    "900 KiB": lambda r: replace(r, value=r.value + b" " * 900 * 1024),
    "other content type": header("content-type", b"text/plain"),
}

# --- what nobody is known to have sent, and what came at the wrong time: reason ---------------------------------------

Sign = Callable[[bytes, Partner, Partner], str | None]
"""(body, its partner, another partner) → header ``signature``"""


def protected(**members: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(members).encode()).rstrip(b"=").decode()


def signed(by: Partner, body: bytes, *, kid: str | None = None, typ: str = ORDER_TYPE) -> str:
    return Signer(by.private_key, kid or by.kid).sign(body, typ)


def stranger(body: bytes, partner: Partner, _: Partner) -> str:
    key, _jwk = generate_key(partner.algorithm)
    return Signer(key, partner.kid).sign(body, ORDER_TYPE)


def symmetric(body: bytes, partner: Partner, _: Partner) -> str:
    """HMAC with the partner's public key for a secret: what lenient verifiers fall for."""
    secret = partner.private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = protected(alg="HS256", kid=partner.kid, typ=ORDER_TYPE, b64=False, crit=["b64"])
    mac = hmac.digest(secret, head.encode() + b"." + body, "sha256")
    return f"{head}..{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


SIGNATURES: dict[str, tuple[str, Sign]] = {
    "tampered": ("DS17", lambda body, own, _: signed(own, body.replace(b'"amount"', b'"amoumt"'))),
    "another partner's key": ("DS19", lambda body, _, other: signed(other, body)),
    "a stranger's key under our kid": ("DS17", stranger),
    "unknown kid": ("DS0E", lambda body, own, _: signed(own, body, kid="nobody-1")),
    "alg none": (
        "DS0B",
        lambda _, own, __: protected(alg="none", kid=own.kid, typ=ORDER_TYPE, b64=False, crit=["b64"]) + "..",
    ),
    "HMAC with the public key": ("DS0B", symmetric),
    "not signed": ("DS0B", lambda *_: None),
    "signed as something else": ("DS17", lambda body, own, _: signed(own, body, typ="kr.mypay.consent.command.v1")),
    "not a JWS": ("DS0B", lambda *_: "signed, sealed, delivered"),
    "endless signature": ("DS0B", lambda *_: "x" * 5_000),
    "signature cut off": ("DS17", lambda body, own, _: signed(own, body)[:-2]),
}

TIMES: dict[str, tuple[str, dict[str, timedelta]]] = {
    "issued in the future": ("DT04", {"issued": timedelta(minutes=2)}),
    "expired": ("TM01", {"issued": -timedelta(hours=2)}),
    "valid for too long": ("DT01", {"valid_for": timedelta(hours=24, seconds=1)}),
}


def faulty(scene: Scene, customer: Customer) -> list[Entry]:
    """Signed as they are."""
    ways = {**FAULTY, **MORE}
    assert ways.keys() == FAULTS.keys()
    own = scene.world.cast.partner(customer.terms.partner_id)
    entries = []
    for name, spoil in ways.items():
        record = spoil(scene.entry(scene.order(customer=customer)).record)
        signature = signed(own, record.value).encode()
        headers = [(n, signature if n == "signature" else v) for n, v in record.headers]
        entries.append(Entry(replace(record, headers=headers), None, REJECTED, name))
    return entries


def malformed(scene: Scene, customer: Customer) -> list[Entry]:
    """Signed as they were."""
    return [
        Entry(spoil(scene.entry(scene.order(customer=customer)).record), None, DEAD, f"{name}, not signed")
        for name, spoil in MALFORMED.items()
    ]


def untrusted(scene: Scene, customer: Customer) -> list[Entry]:
    own = scene.world.cast.partner(customer.terms.partner_id)
    other = next(p for p in scene.world.cast.partners if p is not own)
    entries = []
    for name, (_, sign) in SIGNATURES.items():
        good = scene.entry(scene.order(customer=customer), DEAD, label=name)
        signature = sign(good.record.value, own, other)
        headers = [(n, v) for n, v in good.record.headers if n != "signature"]
        if signature is not None:
            headers.append(("signature", signature.encode()))
        entries.append(good._replace(record=replace(good.record, headers=headers)))
    return entries


def reason_of_stranger(label: str) -> str:
    return SIGNATURES[label][0] if label in SIGNATURES else UNSIGNED.get(label, "DS17")


def indifferent(scene: Scene, customer: Customer) -> list[Entry]:
    entries = [scene.entry(scene.order(customer=customer)) for _ in INDIFFERENT]
    return [e._replace(record=spoil(e.record)) for e, spoil in zip(entries, INDIFFERENT.values(), strict=True)]


def untimely(scene: Scene, customer: Customer) -> list[Entry]:
    return [
        scene.entry(scene.order(customer=customer, **times), REJECTED, label=name)  # type: ignore[arg-type]
        for name, (_, times) in TIMES.items()
    ]


async def fates(scene: Scene) -> dict[tuple[str, int, int], Fate]:
    """Where a dead letter's original stands → why it is one."""
    found = {}
    async for r in read_topics(scene.world.kafka_bootstrap_servers, [DEAD_LETTER]):
        letter = Record(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers))
        fate = read_fate(letter, LetterKeys(scene.world.dead_letter_keys))
        found[fate.topic, fate.partition, fate.offset] = fate
    return found


async def test_every_bad_order_has_its_end_and_harms_no_neighbour(scene: Scene) -> None:
    # One customer, so one key and one partition: the bad and the good come in one batch, in turn.
    customer = scene.world.cast.of(Role.PLAIN)[0]
    strangers = [*malformed(scene, customer), *untrusted(scene, customer)]
    bad = [*faulty(scene, customer), *strangers, *untimely(scene, customer)]
    good = [scene.entry(scene.order(customer=customer)) for _ in bad] + indifferent(scene, customer)
    before, pid = await scene.outcomes("initiation"), scene.process("initiation").pid
    sent = await scene.send(list(chain.from_iterable(zip(bad, good, strict=False))) + good[len(bad) :])

    await scene.until_states(good, "approved")
    await scene.until_quiet()
    counted = await scene.outcomes("initiation") - before
    # How many waited for their sender's turn on the way depends on the machine.
    counted = Counter({key: n for key, n in counted.items() if key[0] == "initiation" and key[1] != "waits"})
    await scene.settle()
    evidence, endings = await scene.check_books()

    why = {p.label: endings.reasons.get(i) for i, p in enumerate(evidence.produced) if p in sent and p.label != "order"}
    assert why == {
        **dict.fromkeys(FAULTS, "FF01"),
        **{entry.label: reason_of_stranger(entry.label) for entry in strangers},
        **{name: code for name, (code, _) in TIMES.items()},
    }
    texts = await told_texts(scene, customer.terms.partner_id)
    letters = await fates(scene)
    for record in sent:
        place = (ORDERS, record.partition, record.offset)
        if record.label in FAULTS:
            assert texts["/".join(map(str, place))].startswith(FAULTS[record.label]), record.label
        elif record.label in SIGNATURES:
            assert letters[place].message.startswith(SIGNATURES[record.label][0]), record.label
        if place in letters:
            assert letters[place].stage == "initiation"
            # Beside large ones also what was not searched is sealed.
            assert letters[place].sealed or record.label.partition(",")[0] not in SEALED, record.label
    assert counted == expected_counts(len(good))
    assert scene.process("initiation").pid == pid
    assert await scene.healthz("initiation") == 200
    assert await scene.count_in(good, "settled") == len(good)


async def told_texts(scene: Scene, partner_id: str) -> dict[str, str]:
    """Reference of a refused record → the text that its partner read."""
    found = {}
    async for r in read_topics(scene.world.kafka_bootstrap_servers, [events_topic(partner_id)]):
        if dict(r.headers)["ce_type"] == b"kr.mypay.order.refused.v1":
            body = json.loads(r.value)
            found[body["reference"]] = body["reason"]["text"]
    return found


def expected_counts(dispatched: int) -> Counter[tuple[str, str, str]]:
    counts: Counter[tuple[str, str, str]] = Counter()
    counts["initiation", "refused", "FF01"] = len(FAULTS)
    counts["initiation", "dead_letter", "DS0B"] = 1  # no headers at all
    counts["initiation", "dead_letter", "DS17"] = len(MALFORMED) - 1
    counts.update(("initiation", "dead_letter", code) for code, _ in SIGNATURES.values())
    counts.update(("initiation", "rejected", code) for code, _ in TIMES.values())
    counts["initiation", "dispatched", ""] = dispatched
    return counts


async def test_a_header_name_that_is_not_utf8_harms_no_order(scene: Scene) -> None:
    """Nobody checks header names on the way: brokers take any bytes, and the whole partition hangs on reading them."""
    customer = scene.world.cast.of(Role.PLAIN)[1]
    entries = [
        scene.entry(scene.order(customer=customer), headers=[("AAAA", b"v")] if n == 1 else ()) for n in range(3)
    ]
    batch = scene.producer.create_batch()
    for e in entries:
        r = e.record
        batch.append(timestamp=None, key=r.key, value=r.value, headers=list(r.headers))
    rename_header(batch, b"AAAA", b"\xff\xfe\xff\xfe")
    at = await (await scene.producer.send_batch(batch, ORDERS, partition=0))
    scene.sent(entries, [(at.partition, at.offset + n, at.timestamp) for n in range(3)])
    await scene.until_states(entries, "approved")
    await scene.settle()
    await scene.check_books()


async def test_extreme_times_and_headers_of_a_record_harm_no_order(scene: Scene) -> None:
    """A producer may write any timestamp and any headers; what decides nothing stops none, here or at a later stage."""
    customer = scene.world.cast.of(Role.PLAIN)[2]
    odd: list[tuple[int | None, list[tuple[str, bytes]]]] = [
        (-1, []),
        (-(2**40), []),
        (0, []),
        (2**50, []),
        (None, [("", b"")] * 900),
        (None, [("ce_source", b"\xff" * 60_000), ("traceparent", b"\x00")]),
        (None, [("mypay-mark", b"x"), ("mypay-judged", b"[1]"), ("kafka_dlt-original-topic", b"x")]),
    ]
    entries = [scene.entry(scene.order(customer=customer), headers=more) for _, more in odd]
    places = []
    for entry, (timestamp, _) in zip(entries, odd, strict=True):
        batch, r = scene.producer.create_batch(), entry.record
        batch.append(timestamp=timestamp, key=r.key, value=r.value, headers=list(r.headers))
        at = await (await scene.producer.send_batch(batch, ORDERS, partition=0))
        places.append((at.partition, at.offset, at.timestamp))
    scene.sent(entries, places)
    await scene.until_states(entries, "approved")
    await scene.settle()
    await scene.check_books()


async def test_junk_on_the_gateways_own_topics_is_parked_and_harms_no_neighbour(scene: Scene) -> None:
    """Only the gateway may write there; whatever stands there all the same stops nobody."""
    junk = [b"", b"not JSON", b"[1,2]", b'{"order_id":"\\u0000"}', b"\xff" * 100, b"x" * 600_000]
    topics = {
        dispatch_topic(BCARD): ("execution bcard", "execution"),
        clearing_topic(BCARD): ("settlement", "settlement"),
    }
    before = {name: await scene.outcomes(name) for name, _ in topics.values()}
    for topic in topics:
        for value in junk:
            at = await scene.producer.send_and_wait(topic, value=value, key=b"junk", headers=[("ce_id", b"1")])
            scene.planted.add((topic, at.partition, at.offset))
    entries = scene.payments(5)
    await scene.send(entries)
    await scene.until_states(entries, "approved")
    await scene.settle()
    told = await fates(scene)
    for topic, (name, stage) in topics.items():
        counted = await scene.outcomes(name) - before[name]
        assert sum(n for (s, outcome, _), n in counted.items() if (s, outcome) == (stage, "dead_letter")) == len(junk)
        places = [place for place in scene.planted if place[0] == topic]
        assert {told[place].stage for place in places} == {stage}
        assert await scene.healthz(name) == 200
    await scene.check_books()


async def test_lines_of_a_clearing_file_that_are_no_records_are_parked_alone(scene: Scene) -> None:
    entries = scene.payments(10)
    await scene.send(entries)
    await scene.until_states(entries, "approved")
    await scene.until_quiet()
    cycle = await scene.close_cycle(BCARD, garbage=3)
    await scene.until_states(entries, "settled")
    # A copy of it, and one that lacks a line: nothing is settled twice, and the other is put aside with the cause.
    ended, inbox = scene.world.cleared / BCARD, scene.world.inbox / BCARD
    done = ended / "partial" / cycle.name
    await scene.until(lambda: is_file(done), "the file is put away")
    lines = done.read_bytes().splitlines(keepends=True)
    torn = b"".join(line for line in lines if not line.startswith((b"D,3,", b"D,?")))
    key = bytes.fromhex((scene.world.clearing_keys / BCARD / "1.hmac").read_text())
    for name, data in (("copy.csv", done.read_bytes()), ("torn.csv", torn)):
        (inbox / f"{name}.hmac").write_text(hmac.digest(key, data, "sha256").hex())
        (inbox / name).write_bytes(data)
    (inbox / "forged.csv.hmac").write_text("00" * 32)
    (inbox / "forged.csv").write_bytes(done.read_bytes())
    await scene.until(lambda: is_file(ended / "partial" / "copy.csv"), "the copy is put away")
    for name in ("torn.csv", "forged.csv"):
        await scene.until(lambda name=name: is_file(ended / "failed" / name), f"{name} is put aside")
    parked = {place: fate for place, fate in (await fates(scene)).items() if place[0].startswith("file:")}
    assert {fate.stage for fate in parked.values()} == {"clearing_import"}
    names = (cycle.name, "copy.csv", "torn.csv", "forged.csv")
    assert Counter(place[0] for place in parked) == dict.fromkeys((f"file:{name}" for name in names), 1)
    scene.planted.update(parked)
    await scene.settle()
    await scene.check_books()


async def is_file(path: Path) -> bool:
    return await asyncio.to_thread(path.is_file)
