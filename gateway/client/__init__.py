"""A partner's or affiliate's side of the gateway: sign a message, send it, and wait for what is told of it.

::

    signer = read_signer(Path("key.pem"), "hanbit-bank")
    async with open_client(KafkaSettings("127.0.0.1:9092")) as client:
        async with client.events("hanbit-bank") as events:
            [receipt] = await client.send([signed(signer, order)])
            event = await events.first(partial(answers, order), seconds=60.0)

``order`` is a message of :mod:`schemas` (order, cancellation, refund, bulk, standing order, command on a consent,
transmission request). An affiliate signs and sends its uses of offers and its confirmations in the same way.
What is sent again with the same id and the same bytes has no second effect: after any error it may be sent again.

The errors are told apart by what to do next: :class:`PublisherUnavailableError` and :class:`KafkaUnavailableError`
(Kafka is away: send the same again), :class:`TopicClosedError` and :class:`TopicMissingError` (ask the gateway's
operators), :class:`RecordTooLargeError`, :class:`TooLargeForTopicError`, :class:`AmbiguousMessageError`,
:class:`KeyFormatError` and :class:`SecretFileError` (correct what was given).
"""

from gateway.base.errors import PublisherUnavailableError, TooLargeForTopicError, TopicClosedError
from gateway.client.events import Event, Events, answers, read_event
from gateway.client.messages import (
    AffiliateMessage,
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
from gateway.identity.jose.jwk import KeyFormatError
from gateway.messaging.producer import RecordTooLargeError
from gateway.messaging.reader import KafkaUnavailableError, TopicMissingError
from gateway.messaging.records import Receipt
from gateway.messaging.settings import KafkaSettings
from gateway.sealing.files import SecretFileError

__all__ = (
    "AffiliateMessage",
    "AmbiguousMessageError",
    "Client",
    "Event",
    "Events",
    "KafkaSettings",
    "KafkaUnavailableError",
    "KeyFormatError",
    "Message",
    "PublisherUnavailableError",
    "Receipt",
    "RecordTooLargeError",
    "SecretFileError",
    "Signer",
    "TooLargeForTopicError",
    "TopicClosedError",
    "TopicMissingError",
    "answers",
    "default_kid",
    "open_client",
    "read_event",
    "read_signer",
    "record_of",
    "signed",
    "type_of",
)
