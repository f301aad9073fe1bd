"""For each alert: series under which it fires, and series that are nearly the same under which it is quiet.

In promtool's notation, a value a minute. An alert is looked at after the minutes that are given.
"""

from typing import Final, NamedTuple

from gateway.observability.alerts import OPTIONAL
from gateway.observability.metrics import STAGES_OF


class Sample(NamedTuple):
    """Series → values, for an alert that fires and for one that does not."""

    fires: dict[str, str]
    quiet: dict[str, str]
    minutes: int = 15


def _above(series: str, bad: float, good: float) -> Sample:
    return Sample({series: f"{bad}x60"}, {series: f"{good}x60"})


def _first(series: str) -> Sample:
    """A counter that was there at 0 before its first event; and one that stands where it was."""
    return Sample({series: "0x12 1x30"}, {series: "1x60"})


_BUILT: Final = {f'mypay_build_info{{stage="{stage}"}}': "1x60" for stage in STAGES_OF if stage not in OPTIONAL}
_LESS: Final = {name: values for name, values in _BUILT.items() if '"relay"' not in name}


def _exchanges(bad: int, each: int) -> dict[str, str]:
    name = "mypay_network_exchanges_total"
    return {
        f'{name}{{network="n",outcome="answered"}}': f"0+{each - bad}x60",
        f'{name}{{network="n",outcome="timeout"}}': f"0+{bad}x60",
    }


def _latency(good: int, total: int) -> dict[str, str]:
    name = "mypay_order_to_result_seconds"
    return {
        f'{name}_bucket{{network="n",le="1.0"}}': f"0+{good}x200",
        f'{name}_count{{network="n"}}': f"0+{total}x200",
    }


def _told(good: int, total: int) -> dict[str, str]:
    name = "mypay_hop_seconds"
    return {
        f'{name}_bucket{{hop="change_to_event",le="5.0"}}': f"0+{good}x200",
        f'{name}_count{{hop="change_to_event"}}': f"0+{total}x200",
    }


def _certain(good: int, total: int) -> dict[str, str]:
    name = "mypay_payment_changes_total"
    return {
        f'{name}{{stage="execution",state="approved"}}': f"0+{good}x200",
        f'{name}{{stage="execution",state="unknown"}}': f"0+{total - good}x200",
    }


_FAST: Final = 65
SLOW: Final = 4980
"""Minutes: a page needs an hour or six of them, a ticket up to three days."""

SAMPLES: Final = {
    "PaymentUnknownTooLong": _above('mypay_payment_oldest_seconds{state="unknown"}', 901, 900),
    "PaymentSentTooLong": _above('mypay_payment_oldest_seconds{state="sent"}', 121, 120),
    "ReversalUnconfirmed": _first('mypay_follow_up_alerts_total{stage="reversal",network="n"}'),
    "Incident": _first('mypay_incidents_total{stage="execution"}'),
    "PaymentUnwritable": _first('mypay_payments_unwritable_total{stage="execution"}'),
    "UseAfterConsentEnd": Sample(
        {'mypay_uses_after_end_total{stage="sharing"}': "0x12 1x30"},
        {
            'mypay_uses_after_end_total{stage="sharing"}': "0x60",
            'mypay_revoke_to_last_use_seconds{use="intent"}': "-0.5x60",
        },
    ),
    "UntrustedRecord": _first('mypay_untrusted_records_total{stage="execution"}'),
    "BatchUnread": _first('mypay_batches_unread_total{stage="initiation"}'),
    "StageFailing": _first('mypay_failures_total{stage="initiation"}'),
    "NetworkClosed": _above('mypay_network_open{network="n"}', 0, 1),
    "NetworkLinkDown": _above('mypay_network_link_up{network="n",link="0"}', 0, 1),
    "NetworkAnswersBadly": Sample(_exchanges(6, 100), _exchanges(4, 100)),
    "ClearingLate": _above('mypay_clearing_age_seconds{network="n"}', 108001, 108000),
    "ClearingFileRefused": _first('mypay_clearing_files_total{outcome="failed"}'),
    "BreaksOpen": Sample(
        {'mypay_breaks_open{network="n",kind="duplicate",age="1-7d"}': "1x60"},
        {'mypay_breaks_open{network="n",kind="duplicate",age="<1d"}': "1x60"},
    ),
    "ScheduledOrdersLate": _above("mypay_scheduled_overdue_seconds", 301, 300),
    "ProcessDown": _above('up{job="mypay",instance="a"}', 0, 1),
    # An installation that never ran the stages that it need not run.
    # Nobody is woken for the console.
    "ProcessMissing": Sample(_LESS, _BUILT | {'mypay_build_info{stage="console"}': "1x5 stale"}),
    "DependencyDown": _above('mypay_dependency_up{dependency="kafka"}', 0, 1),
    "RelayLeaderless": Sample(
        {'mypay_relay_leader{instance="a"}': "0x60"},
        {'mypay_relay_leader{instance="a"}': "0x60", 'mypay_relay_leader{instance="b"}': "1x60"},
    ),
    "EventsLate": _above("mypay_outbox_oldest_seconds", 61, 60),
    "EventsParked": _above("mypay_outbox_parked_rows", 1, 0),
    "ConsumerLate": _above('mypay_consumer_lag_seconds{group="g"}', 61, 60),
    "RecordsGone": _first('mypay_kafka_consumer_faults_total{instance="a",fault="gone_unread"}'),
    "RecordTooLarge": _first('mypay_kafka_producer_faults_total{fault="too_large"}'),
    "OpenTransaction": _above("mypay_open_transaction_seconds", 11, 10),
    "DatabasePoolExhausted": _above('mypay_db_pool_waiting{instance="a"}', 1, 0),
    "DiskFilling": _above('mypay_disk_free_bytes{instance="a",folder="home"}', 2**30 - 1, 2**30),
    # One that is behind counts like one that is ahead.
    "ClockWrong": _above('mypay_clock_ahead_seconds{instance="a"}', -31, 30),
    "KeyTableOld": _above('mypay_key_registry_age_seconds{instance="a"}', 61, 60),
    "TrustTableOld": _above('mypay_trust_table_age_seconds{instance="a"}', 7201, 7200),
    "TrustPolicyDiffers": _above('mypay_trust_policy_differs{instance="a"}', 1, 0),
    "NoProofAsked": _above('mypay_no_proof_asked{instance="a"}', 1, 0),
    "DeadLetters": Sample(
        {'mypay_dead_letters_total{stage="initiation",reason="DS0B"}': "0x10 20x30"},
        {'mypay_dead_letters_total{stage="initiation",reason="DS0B"}': "0x10 5x30"},
    ),
    "PartnerKeysEnding": Sample(
        {'mypay_partners_keys_ending{within="7d"}': "1x60"},
        {'mypay_partners_keys_ending{within="7d"}': "0x60", 'mypay_partners_keys_ending{within="30d"}': "3x60"},
    ),
    # Time begins at 0 in these tests.
    "CertificateEnding": _above(
        'mypay_certificate_expires_timestamp_seconds{certificate="kafka"}', 1_209_600, 1_209_600 + 3600
    ),
    "ReportsUntold": Sample(
        {'mypay_reports_untold_total{stage="x"}': "0x12 1x30", "mypay_log_fields_dropped_total": "0x60"},
        {'mypay_reports_untold_total{stage="x"}': "0x60", "mypay_log_fields_dropped_total": "0x60"},
    ),
    "ErasureOverdue": _above("mypay_erasures_overdue", 1, 0),
    "DisclosureLate": _above('mypay_disclosure_lag_seconds{instance="a"}', 61, 60),
    "DisclosureLeaderless": Sample(
        {'mypay_disclosure_leader{instance="a"}': "0x60"}, {'mypay_disclosure_leader{instance="a"}': "1x60"}
    ),
    "ExportsLate": _above("mypay_export_oldest_seconds", 3601, 3600),
    # Of 100 a minute 20 are late: 20 times what the objective has room for. Of 100 one: as much as it has.
    "LatencyBudgetBurningFast": Sample(_latency(80, 100), _latency(99, 100), _FAST),
    "LatencyBudgetBurningSlowly": Sample(_latency(95, 100), _latency(995, 1000), SLOW),
    "ToldBudgetBurningFast": Sample(_told(97, 100), _told(9995, 10_000), _FAST),
    "ToldBudgetBurningSlowly": Sample(_told(995, 1000), _told(9995, 10_000), SLOW),
    "AvailabilityBudgetBurningFast": Sample(_certain(97, 100), _certain(9995, 10_000), _FAST),
    "AvailabilityBudgetBurningSlowly": Sample(_certain(995, 1000), _certain(9995, 10_000), SLOW),
}

OPTIONAL_STAGES: Final = {
    stage: Sample(
        # The second of two processes goes on in the quiet one.
        _BUILT | {f'mypay_build_info{{stage="{stage}",instance="a"}}': "1x5 stale"},
        _BUILT
        | {
            f'mypay_build_info{{stage="{stage}",instance="a"}}': "1x5 stale",
            f'mypay_build_info{{stage="{stage}",instance="b"}}': "1x60",
        },
    )
    for stage in OPTIONAL
}
"""``ProcessMissing``: a stage that need not run, and ran in the last week."""

STANDING_STILL: Final = Sample(
    {'mypay_disclosure_leader{instance="a"}': "1x60", 'mypay_disclosure_lag_seconds{instance="a"}': "0x5 stale"},
    {
        'mypay_disclosure_leader{instance="a"}': "1x60",
        'mypay_disclosure_lag_seconds{instance="a"}': "0x60",
        # It stands by, and has nothing to tell.
        'mypay_disclosure_leader{instance="b"}': "0x60",
    },
)
"""``DisclosureLate``: who leads tells nothing any more."""
