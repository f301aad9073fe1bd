"""Grafana's dashboards, in one table: which panels, of which expressions.

``deploy/grafana/dashboards`` is made from it. A test sees every expression give data from a gateway at work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

PARTNER: Final = "$partner"
"""The partner that was chosen above a dashboard."""

RATE: Final = "$__rate_interval"
"""Grafana's window for rates: several scrapes, more where the time that is shown is long."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        unit: as Grafana names it: ``s``, ``ops``, ``percentunit``, ``short``, ``bytes``.
        series: expressions of PromQL, each with its legend.
        above_zero: what is shown is never less than 0, so that its axis begins there.
    """

    title: str
    unit: str
    series: Sequence[tuple[str, str]]
    above_zero: bool = True


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard.

    Attributes:
        chosen: name of what is chosen above it, by the expression that lists it.
    """

    name: str
    title: str
    panels: Sequence[Panel]
    chosen: Mapping[str, str] = field(default_factory=dict)


def _rate(counter: str, by: str = "") -> str:
    return f"sum by ({by}) (rate({counter}[{RATE}]))" if by else f"sum(rate({counter}[{RATE}]))"


def _quantiles(histogram: str, by: str = "", *, legend: str = "") -> Sequence[tuple[str, str]]:
    labels = f"le, {by}" if by else "le"
    return [
        (f"histogram_quantile({q}, sum by ({labels}) (rate({histogram}_bucket[{RATE}])))", f"p{int(q * 100)}{legend}")
        for q in (0.5, 0.99)
    ]


_BUSINESS: Final = Dashboard(
    "business",
    "Payments",
    (
        Panel("Payments by outcome", "ops", [(_rate("mypay_payments_total", "state"), "{{state}}")]),
        Panel(
            "Share approved",
            "percentunit",
            [
                (
                    _rate('mypay_payments_total{state="approved"}', "network")
                    + f" / ({_rate('mypay_payments_total', 'network')} > 0)",
                    "{{network}}",
                )
            ],
        ),
        Panel(
            "Why they were refused",
            "ops",
            [
                (
                    "topk(10, " + _rate('mypay_payments_total{state=~"declined|rejected"}', "reason") + ")",
                    "{{reason}}",
                )
            ],
        ),
        Panel("From order to result", "s", _quantiles("mypay_order_to_result_seconds")),
        Panel(
            "Open outcomes", "short", [("max by (state) (sum by (state, instance) (mypay_payments_open))", "{{state}}")]
        ),
        Panel("Oldest open outcome", "s", [("max by (state) (mypay_payment_oldest_seconds)", "{{state}}")]),
        Panel(
            "Orders by what the intake made of them", "ops", [(_rate("mypay_orders_total", "outcome"), "{{outcome}}")]
        ),
        Panel("Refusals", "ops", [(_rate("mypay_refusals_total", "stage"), "{{stage}}")]),
        Panel("Incidents", "short", [("sum by (stage) (increase(mypay_incidents_total[1h]))", "{{stage}}")]),
    ),
)

_PIPELINE: Final = Dashboard(
    "pipeline",
    "Pipeline",
    (
        Panel("Processes", "short", [("sum by (stage) (mypay_build_info)", "{{stage}}")]),
        Panel(
            "What the processes stand on", "short", [("min by (dependency) (mypay_dependency_up)", "{{dependency}}")]
        ),
        Panel("How far behind", "s", [("max by (group) (mypay_consumer_lag_seconds)", "{{group}}")]),
        Panel("Records that wait", "short", [("sum by (group) (mypay_consumer_lag_records)", "{{group}}")]),
        Panel(
            "Records gone before they were read",
            "short",
            [('sum(increase(mypay_kafka_consumer_faults_total{fault="gone_unread"}[1h]))', "records")],
        ),
        Panel("Outbox, oldest event", "s", [("max(mypay_outbox_oldest_seconds)", "oldest")]),
        Panel("Events relayed", "ops", [(_rate("mypay_relay_events_total", "outcome"), "{{outcome}}")]),
        Panel("Hops, p99", "s", [_quantiles("mypay_hop_seconds", "hop", legend=" {{hop}}")[1]]),
        Panel("Batches, p99", "s", [_quantiles("mypay_batch_seconds", "stage", legend=" {{stage}}")[1]]),
        Panel("Connections to PostgreSQL", "short", [("sum by (state) (mypay_db_pool_connections)", "{{state}}")]),
        Panel("Processor", "percentunit", [(f"rate(process_cpu_seconds_total[{RATE}])", "{{process}}")]),
        Panel("Memory", "bytes", [("process_resident_memory_bytes", "{{process}}")]),
        Panel("Dead letters", "ops", [(_rate("mypay_dead_letters_total", "stage"), "{{stage}}")]),
        Panel(
            "Clocks, ahead of the database's",
            "s",
            [("max by (instance) (mypay_clock_ahead_seconds)", "{{instance}}")],
            above_zero=False,
        ),
        Panel("Room on disks", "bytes", [("min by (folder) (mypay_disk_free_bytes)", "{{folder}}")]),
    ),
)

_NETWORKS: Final = Dashboard(
    "networks",
    "Card networks",
    (
        Panel("Open", "short", [("min by (network) (mypay_network_open)", "{{network}}")]),
        Panel("Links signed on", "short", [("sum by (network) (mypay_network_link_up)", "{{network}}")]),
        Panel(
            "Requests by how they ended",
            "ops",
            [(_rate("mypay_network_exchanges_total", "network, outcome"), "{{network}} {{outcome}}")],
        ),
        Panel("Answers, p99", "s", [_quantiles("mypay_network_exchange_seconds", "network", legend=" {{network}}")[1]]),
        Panel(
            "Inquiries and reversals open",
            "short",
            [("max by (network, kind) (mypay_follow_ups_open)", "{{network}} {{kind}}")],
        ),
        Panel(
            "Faults on links",
            "ops",
            [(_rate("mypay_network_link_faults_total", "network, fault"), "{{network}} {{fault}}")],
        ),
        Panel(
            "Bytes", "Bps", [(_rate("mypay_network_bytes_total", "network, direction"), "{{network}} {{direction}}")]
        ),
    ),
)

_DATA: Final = Dashboard(
    "data",
    "Consents and data",
    (
        Panel("Commands on consents", "ops", [(_rate("mypay_consent_commands_total", "command"), "{{command}}")]),
        Panel("Consents whose time was up", "ops", [(_rate("mypay_consents_expired_total"), "expired")]),
        Panel(
            "Between a consent's end and the last use",
            "s",
            [("max by (use) (mypay_revoke_to_last_use_seconds)", "{{use}}")],
            above_zero=False,
        ),
        Panel("Exports", "ops", [(_rate("mypay_exports_total", "outcome"), "{{outcome}}")]),
        Panel("Exports that wait", "short", [("max(mypay_exports_open)", "open")]),
        Panel("Shares", "ops", [(_rate("mypay_shares_total"), "shares")]),
        Panel("Erasures overdue", "short", [("max(mypay_erasures_overdue)", "overdue")]),
        Panel("Offers", "ops", [(_rate("mypay_offers_total", "outcome"), "{{outcome}}")]),
        Panel("Disclosure log, entries", "short", [("max(mypay_disclosure_entries)", "entries")]),
        Panel("Disclosure log, how late", "s", [("max(mypay_disclosure_lag_seconds)", "late")]),
    ),
)

_SETTLEMENT: Final = Dashboard(
    "settlement",
    "Settlement",
    (
        Panel("Settled", "ops", [(_rate("mypay_payments_settled_total", "network"), "{{network}}")]),
        Panel(
            "From order to settlement, p99",
            "s",
            [_quantiles("mypay_order_to_settled_seconds", "network", legend=" {{network}}")[1]],
        ),
        Panel(
            "Clearing files", "short", [("sum by (outcome) (increase(mypay_clearing_files_total[1d]))", "{{outcome}}")]
        ),
        Panel("Age of the newest clearing", "s", [("max by (network) (mypay_clearing_age_seconds)", "{{network}}")]),
        Panel("New breaks", "short", [("sum by (kind) (increase(mypay_breaks_total[1d]))", "{{kind}}")]),
        Panel("Breaks open", "short", [("sum(mypay_breaks_open) or vector(0)", "open")]),
    ),
)

_OF_PARTNER: Final = f'mypay_partner_orders_total{{partner="{PARTNER}"}}'
_APPROVED: Final = f'mypay_partner_orders_total{{partner="{PARTNER}",outcome="approved"}}'
_TURNED_AWAY: Final = f'mypay_partner_orders_total{{partner="{PARTNER}",outcome=~"refused|rejected"}}'

_PARTNER: Final = Dashboard(
    "partner",
    "One partner",
    (
        Panel("Orders by how they ended", "ops", [(_rate(_OF_PARTNER, "outcome"), "{{outcome}}")]),
        Panel("Share approved", "percentunit", [(f"{_rate(_APPROVED)} / ({_rate(_OF_PARTNER)} > 0)", "approved")]),
        Panel("Refused or rejected", "ops", [(_rate(_TURNED_AWAY, "outcome"), "{{outcome}}")]),
        Panel(
            "Share of all orders",
            "percentunit",
            [(f"{_rate(_OF_PARTNER)} / ({_rate('mypay_partner_orders_total')} > 0)", "share")],
        ),
    ),
    chosen={"partner": "label_values(mypay_partner_orders_total, partner)"},
)

DASHBOARDS: Final = (_BUSINESS, _PIPELINE, _NETWORKS, _DATA, _SETTLEMENT, _PARTNER)
"""All of them."""
