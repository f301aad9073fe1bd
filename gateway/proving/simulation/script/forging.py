"""Somebody who can write to execution's topic and has none of the gateway's keys: records that nobody may believe."""

import hashlib
from datetime import timedelta
from random import Random
from typing import Final

from gateway.messaging.records import Outgoing
from gateway.payments.dispatch import Dispatch
from gateway.payments.rules.purchase import ReceivedOrder
from gateway.proving.memory.kafka import MemoryKafka
from gateway.proving.simulation.script.scene import MERCHANT, NETWORK, PARTNER, SIGNED, Script, krw
from schemas.codec import encode
from schemas.envelope import Envelope, write_envelope
from schemas.orders import ORDER_TYPE, PaymentOrder
from schemas.primitives import NetworkId, OrderId
from schemas.topics import dispatch_topic

ELSEWHERE: Final = NetworkId("net-b")
FORGED_PREFIX: Final = "forged-"
"""Order ids of what is forged begin so, and no others."""


def forge(script: Script, kafka: MemoryKafka, dispatch: Dispatch, rng: Random, number: int) -> Outgoing:
    """One record for execution: as a partner would send it, another's with a body of its own, or another network's."""
    order = PaymentOrder(
        partner_id=PARTNER,
        order_id=OrderId(f"{FORGED_PREFIX}{number}"),
        consent_id=script.consents[0].consent_id,
        merchant_id=MERCHANT,
        amount=krw(rng.randrange(1_000, 9_999)),
        issued_at=script.epoch - timedelta(seconds=1),
        expires_at=script.epoch + timedelta(seconds=300),
    )
    topic, key, body = dispatch_topic(NETWORK), order.consent_id.encode(), encode(order)
    kind = rng.randrange(3)
    authentic = kafka.records(topic)
    if kind == 0 and authentic:
        # The mark of what the gateway wrote, copied with all else, on a body that it never saw.
        return Outgoing(topic, key, body, rng.choice(authentic).headers)
    if kind == 1:
        # What the gateway wrote for another network, brought here.
        digest, reference = hashlib.sha256(body).digest(), f"mypay.orders/0/{10**6 + number}"
        received = ReceivedOrder(order, digest, script.epoch, reference, signature=SIGNED)
        meant = dispatch.order(received, body, ELSEWHERE, script.epoch)
        return Outgoing(topic, key, body, meant.headers)
    envelope = Envelope(f"forged-{number}", "/mypay/initiation", ORDER_TYPE, script.epoch, signature=SIGNED)
    return Outgoing(topic, key, body, write_envelope(envelope))
