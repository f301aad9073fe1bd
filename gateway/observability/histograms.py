"""The histograms: how long, or how much, of each event."""

from collections.abc import Mapping
from typing import Final

from gateway.observability.metric import ANY, HistogramMetric

_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LONG_SECONDS: Final = (1.0, 10.0, 60.0, 600.0, 3600.0, 6 * 3600.0, 86400.0, 2 * 86400.0, 4 * 86400.0, 7 * 86400.0)
_HOP_SECONDS: Final = (
    *(0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.08),
    *(0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
_SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_NETWORK: Final = {"network": "The card network."}

HOPS: Final[Mapping[str, str]] = {
    "order_to_dispatch": "From the order's coming, by Kafka's clock, to its having been judged and handed on.",
    "dispatch_to_intent": "From there to its intent having been committed and given to the network's links.",
    "intent_to_result": "From the decision under the consent's lock to the network's answer being written down.",
    "change_to_event": "From a change of a payment or consent to its event's standing in Kafka.",
}
"""What ``mypay_hop_seconds`` has for ``hop``, in the order of the way; each payment counts once a hop."""

HOP_SECONDS: Final = HistogramMetric(
    name="mypay_hop_seconds",
    unit="seconds",
    help="Where the time of a payment's way goes, hop by hop; each payment counts once a hop.",
    labels={"hop": "A part of the way: " + " ".join(f"`{name}`: {text}" for name, text in HOPS.items())},
    buckets=_HOP_SECONDS,
    processes=("initiation", "execution", "relay"),
)

BATCH_SIZE: Final = HistogramMetric(
    name="mypay_batch_size",
    unit="items",
    help="Items in a batch.",
    labels={"stage": "Which stage."},
    buckets=_SIZES,
    processes=(ANY,),
)

BATCH_SECONDS: Final = HistogramMetric(
    name="mypay_batch_seconds",
    unit="seconds",
    help="Time to handle a batch.",
    labels={"stage": "Which stage."},
    buckets=_SECONDS,
    processes=(ANY,),
)

SPANS: Final[Mapping[str, HistogramMetric]] = {
    row.name.removeprefix("mypay_").removesuffix("_seconds"): row
    for row in (
        HistogramMetric(
            name="mypay_network_exchange_seconds",
            unit="seconds",
            help="A request to a network, until its answer or the end of waiting.",
            labels=_NETWORK,
            buckets=_SECONDS,
            processes=("execution",),
        ),
        HistogramMetric(
            name="mypay_order_to_result_seconds",
            unit="seconds",
            help="From the order's coming to the network's answer written down, of each payment that was sent at once.",
            labels=_NETWORK,
            buckets=_SECONDS,
            processes=("execution",),
        ),
        HistogramMetric(
            name="mypay_order_to_settled_seconds",
            unit="seconds",
            help="From the order's coming to its settlement.",
            labels=_NETWORK,
            buckets=_LONG_SECONDS,
            processes=("settlement",),
        ),
        HistogramMetric(
            name="mypay_kafka_publish_seconds",
            unit="seconds",
            help="A publication to Kafka, repetitions included.",
            buckets=_SECONDS,
            processes=(ANY,),
        ),
        HistogramMetric(
            name="mypay_consent_end_to_event_seconds",
            unit="seconds",
            help="From a consent's time being up to its event.",
            buckets=_LONG_SECONDS,
            processes=("schedule",),
        ),
        HistogramMetric(
            name="mypay_due_to_dispatch_seconds",
            unit="seconds",
            help="From an order's day having come to its being handed on.",
            buckets=_LONG_SECONDS,
            processes=("schedule",),
        ),
        HistogramMetric(
            name="mypay_revoke_to_wire_seconds",
            unit="seconds",
            help="From a consent's end to the last byte that left under it: below `MYPAY_EXECUTION_INTENT_TO_WIRE_S`.",
            labels=_NETWORK,
            buckets=_SECONDS,
            processes=("execution",),
        ),
        HistogramMetric(
            name="mypay_console_request_seconds",
            unit="seconds",
            help="A page of the operators' console, from the request to its answer.",
            buckets=_SECONDS,
            processes=("console",),
        ),
        HistogramMetric(
            name="mypay_revoke_to_last_export_seconds",
            unit="seconds",
            help="From the end of a portability purpose to the last chunk of data that left under it.",
            buckets=_SECONDS,
            processes=("portability",),
        ),
    )
}
"""Spans of payments' ways, by the name that stages report them under."""

HISTOGRAMS: Final = (HOP_SECONDS, *SPANS.values(), BATCH_SIZE, BATCH_SECONDS)
"""All of them."""
