"""A partner's side of the gateway: sign a message, send it, and wait for what is told of it.

::

    signer = read_signer(Path("key.pem"), "hanbit-bank")
    async with open_client(KafkaSettings("127.0.0.1:9092")) as client:
        async with client.events("hanbit-bank") as events:
            [receipt] = await client.send([signed(signer, order)])
            event = await events.first(partial(answers, order), seconds=60.0)

``order`` is a message of :mod:`schemas` (order, cancellation, refund, bulk, standing order, command on a consent).
What is sent again with the same id and the same bytes has no second effect: after any error it may be sent again.
"""

from gateway.client.events import Event, Events, answers, read_event
from gateway.client.messages import (
    AmbiguousMessageError,
    Message,
    Signer,
    default_kid,
    read_signer,
    record_of,
    signed,
    type_of,
)
from gateway.client.sending import Client, open_client

__all__ = (
    "AmbiguousMessageError",
    "Client",
    "Event",
    "Events",
    "Message",
    "Signer",
    "answers",
    "default_kid",
    "open_client",
    "read_event",
    "read_signer",
    "record_of",
    "signed",
    "type_of",
)
