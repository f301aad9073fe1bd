"""The alerts, in one table: what each looks at, from where on it fires, and for how long that must be so.

Prometheus' rules are made from it (``deploy/prometheus/alerts.yaml``); each alert has a runbook of its name in
``deploy/prometheus/runbooks``. Ages in seconds are looked at rather than
numbers of records: they mean the same at night.
"""

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from gateway.observability.metrics import STAGES_OF

RUNBOOKS: Final = "deploy/prometheus/runbooks"


@unique
class Severity(StrEnum):
    """Who is told, and when."""

    PAGE = "page"  # now, also at night: money or everybody's payments
    TICKET = "ticket"  # on the next working day


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert.

    Attributes:
        name: of its runbook too.
        looks_at: an expression of PromQL.
        when: a comparison with a bound, such as ``> 60``; empty: whatever it finds.
        for_s: for so many seconds.
        summary: what is wrong, a sentence.
    """

    name: str
    severity: Severity
    looks_at: str
    when: str
    for_s: int
    summary: str

    @property
    def expr(self) -> str:
        """The whole expression."""
        return f"{self.looks_at} {self.when}".rstrip()

    @property
    def runbook(self) -> str:
        """The file of what to do."""
        return f"{self.name}.md"


_P, _T = Severity.PAGE, Severity.TICKET


def _more(counter: str, by: str, minutes: int = 10) -> str:
    return f"sum by ({by}) (increase({counter}[{minutes}m]))"


OPTIONAL: Final = ("portability", "portability_api", "sharing", "marketing")
"""Stages that an installation need not run: they are missed only where they ran in the last seven days."""

_NOBODY_WAKES_FOR: Final = ("console",)
"""No payment needs it, and every command is there without it."""

_NEEDED: Final = tuple(stage for stage in STAGES_OF if stage not in {*OPTIONAL, *_NOBODY_WAKES_FOR})
_RAN: Final = f'present_over_time(mypay_build_info{{stage=~"{"|".join(OPTIONAL)}"}}[7d])'
_MISSING: Final = " or ".join(
    (
        *(f'absent(mypay_build_info{{stage="{stage}"}})' for stage in _NEEDED),
        f"(group by (stage) ({_RAN}) unless group by (stage) (mypay_build_info))",
    )
)
_ALL: Final = "sum by (network) (increase(mypay_network_exchanges_total[5m]))"
_BAD: Final = 'sum by (network) (increase(mypay_network_exchanges_total{outcome=~"timeout|link_lost|garbled"}[5m]))'

# fmt: off
_MONEY: Final = (
    Alert("PaymentUnknownTooLong", _P, 'max by (state) (mypay_payment_oldest_seconds{state=~"unknown|reversing"})',
          "> 900", 60, "A payment's outcome has been unknown, or its undoing unconfirmed, for 15 minutes."),
    Alert("PaymentSentTooLong", _P, 'max(mypay_payment_oldest_seconds{state="sent"})',
          "> 120", 60, "A payment was sent and nobody follows it up: its worker died and no other takes it over."),
    Alert("ReversalUnconfirmed", _P, _more("mypay_follow_up_alerts_total", "network"),
          "> 0", 0, "A network has not confirmed a reversal for too long."),
    Alert("Incident", _P, _more("mypay_incidents_total", "stage"),
          "> 0", 0, "Something happened that people must look at."),
    Alert("PaymentUnwritable", _P, _more("mypay_payments_unwritable_total", "stage"),
          "> 0", 0, "The database refuses to move a payment: a bug."),
    Alert("UseAfterConsentEnd", _P, f'{_more("mypay_uses_after_end_total", "stage", 60)} > 0 '
          "or max by (use) (mypay_revoke_to_last_use_seconds)",
          "> 0", 0, "A payment, share or offer was decided after its consent had ended: a bug."),
    Alert("UntrustedRecord", _P, _more("mypay_untrusted_records_total", "stage"),
          "> 0", 0, "Somebody else wrote to a topic that only the gateway writes to."),
    Alert("BatchUnread", _P, _more("mypay_batches_unread_total", "stage"),
          "> 0", 0, "A batch of records was passed over unread."),
    Alert("StageFailing", _P, _more("mypay_failures_total", "stage"),
          "> 0", 0, "A batch or a record met a bug, and was parked."),
    Alert("NetworkClosed", _P, "min by (network) (mypay_network_open)",
          "== 0", 120, "Nothing is sent to a card network: no link is signed on, or its circuit breaker is open."),
    Alert("NetworkLinkDown", _T, "min by (network, link) (mypay_network_link_up)",
          "== 0", 300, "A link to a card network's host is down."),
    Alert("NetworkAnswersBadly", _P, f"{_BAD} / ({_ALL} >= 50)",
          "> 0.05", 120, "More than one request in twenty to a card network ends without an answer."),
    Alert("ClearingLate", _T, "max by (network) (mypay_clearing_age_seconds)",
          "> 108000", 600, "No clearing has come from a network for 30 hours."),
    Alert("ClearingFileRefused", _T,
          'sum by (outcome) (increase(mypay_clearing_files_total{outcome=~"partial|failed|not_taken"}[1h]))',
          "> 0", 0, "A clearing file was not imported whole."),
    Alert("BreaksOpen", _T, 'sum by (network, kind) (max by (network, kind, age) (mypay_breaks_open{age!="<1d"}))',
          "> 0", 600, "Cleared records fit no payment for more than a day."),
    Alert("ScheduledOrdersLate", _P, "max(mypay_scheduled_overdue_seconds)",
          "> 300", 60, "Orders whose day has come are not handed on."),
)

_PARTS: Final = (
    Alert("ProcessDown", _P, 'up{job="mypay"}',
          "== 0", 60, "A process of the gateway does not serve its metrics."),
    Alert("ProcessMissing", _P, _MISSING,
          "", 120, "No process of a stage runs."),
    Alert("DependencyDown", _P, "min by (dependency) (mypay_dependency_up)",
          "== 0", 60, "PostgreSQL or Kafka does not answer, or takes no writes."),
    Alert("RelayLeaderless", _P, "absent(mypay_relay_leader == 1)",
          "", 60, "No relay leads: no event reaches Kafka."),
    Alert("EventsLate", _P, "max(mypay_outbox_oldest_seconds)",
          "> 60", 60, "Events wait in the outbox: partners are not told what became of their payments."),
    Alert("EventsParked", _T, "max(mypay_outbox_parked_rows)",
          "> 0", 600, "Events are set aside: their topic is missing or takes none as large, or they cannot be read."),
    Alert("ConsumerLate", _P, "max by (group) (mypay_consumer_lag_seconds)",
          "> 60", 120, "Records wait for a consumer group for more than a minute."),
    Alert("RecordsGone", _P, _more('mypay_kafka_consumer_faults_total{fault="gone_unread"}', "instance"),
          "> 0", 0, "Records were dropped from their topic before they were read: nobody takes them any more."),
    Alert("RecordTooLarge", _T, 'sum(increase(mypay_kafka_producer_faults_total{fault="too_large"}[1h]))',
          "> 0", 0, "A topic does not take a record of the gateway's, which is put aside: it takes none as large."),
    Alert("OpenTransaction", _T, "max(mypay_open_transaction_seconds)",
          "> 10", 30, "Somebody leaves a Kafka transaction open, and holds others up."),
    Alert("DatabasePoolExhausted", _T, "max by (instance) (mypay_db_pool_waiting)",
          "> 0", 120, "A process waits for connections to PostgreSQL all the time."),
    Alert("DiskFilling", _P, "min by (instance, folder) (mypay_disk_free_bytes)",
          "< 1073741824", 60, "Less than 1 GiB is free where a process writes."),
    Alert("ClockWrong", _P, "max by (instance) (abs(mypay_clock_ahead_seconds))",
          "> 30", 60, "A machine's clock is far from the database's: from a minute on no process starts under it."),
    Alert("KeyTableOld", _P, "max by (instance) (mypay_key_registry_age_seconds)",
          "> 60", 60, "A process judges signatures by old keys: a disabled one may still count."),
    Alert("TrustTableOld", _T, "max by (instance) (mypay_trust_table_age_seconds)",
          "> 7200", 300, "An identity provider's keys cannot be read."),
    Alert("TrustPolicyDiffers", _T, "max by (instance) (mypay_trust_policy_differs)",
          "> 0", 300, "A process goes on with another trust policy than its files say."),
    Alert("NoProofAsked", _T, "max(mypay_no_proof_asked)",
          "> 0", 600, "No customer's proof is asked for: right on a test system alone."),
    Alert("DeadLetters", _T, _more("mypay_dead_letters_total", "stage", 15),
          "> 10", 0, "Records are parked: somebody sends what cannot be read or trusted."),
    Alert("PartnerKeysEnding", _T, 'max(mypay_partners_keys_ending{within="7d"})',
          "> 0", 600, "A partner's last key ends within seven days: its orders are refused then."),
    Alert("CertificateEnding", _T, "min by (certificate) (mypay_certificate_expires_timestamp_seconds) - time()",
          "< 1209600", 600, "A certificate of the gateway's own ends within 14 days."),
    Alert("ReportsUntold", _T, "sum(increase(mypay_reports_untold_total[1h])) + "
          "sum(increase(mypay_log_fields_dropped_total[1h]))",
          "> 0", 0, "The gateway reports under a name, or logs a field, that is in no table: a bug."),
)

_DATA: Final = (
    Alert("ErasureOverdue", _P, "max(mypay_erasures_overdue)",
          "> 0", 300, "An affiliate has not confirmed in time that it erased."),
    Alert("DisclosureLate", _P, "max(mypay_disclosure_lag_seconds or "
          "Inf * (mypay_disclosure_leader == 1 unless on (instance) mypay_disclosure_lag_seconds))",
          "> 60", 120, "Uses of consents come late into the disclosure log, or who writes it stands still."),
    Alert("DisclosureLeaderless", _P, "absent(mypay_disclosure_leader == 1)",
          "", 120, "No sequencer leads: the disclosure log stands still."),
    Alert("ExportsLate", _T, "max(mypay_export_oldest_seconds)",
          "> 3600", 300, "An export of a customer's data has not been delivered for an hour."),
)
# fmt: on


@dataclass(frozen=True, slots=True)
class Objective:
    """What share of events must go well (an SLO), over 30 days.

    Attributes:
        name: of the label ``slo``.
        good: how many go well, and ``total``: how many there are, both as counters; ``{w}`` stands for the window.
        share: that must go well.
        floor: fewer events than this in the longer window are no ground to wake anybody.
    """

    name: str
    summary: str
    good: str
    total: str
    share: float
    floor: int = 50


OBJECTIVES: Final = (
    Objective(
        "latency",
        "99 of 100 payments have their network's answer within a second of the order's coming.",
        'sum(rate(mypay_order_to_result_seconds_bucket{{le="1.0"}}[{w}]))',
        "sum(rate(mypay_order_to_result_seconds_count[{w}]))",
        0.99,
    ),
    Objective(
        "told",
        "999 of 1,000 changes of payments and consents are told on Kafka within five seconds.",
        'sum(rate(mypay_hop_seconds_bucket{{hop="change_to_event",le="5.0"}}[{w}]))',
        'sum(rate(mypay_hop_seconds_count{{hop="change_to_event"}}[{w}]))',
        0.999,
    ),
    Objective(
        "availability",
        "999 of 1,000 payments that are sent have a certain outcome at once.",
        'sum(rate(mypay_payment_changes_total{{stage="execution",state=~"approved|declined"}}[{w}]))',
        'sum(rate(mypay_payment_changes_total{{stage="execution",state=~"approved|declined|unknown"}}[{w}]))',
        0.999,
    ),
)

WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
"""Of the recorded shares that went wrong."""

_SECONDS_OF: Final = {"1h": 3600, "6h": 21600, "1d": 86400, "3d": 259200}
BURNS: Final = (
    (14.4, "1h", "5m", Severity.PAGE),
    (6.0, "6h", "30m", Severity.PAGE),
    (3.0, "1d", "2h", Severity.TICKET),
    (1.0, "3d", "6h", Severity.TICKET),
)
"""(times the budget's even use, longer window, shorter window, who is told)."""


def recorded(objective: Objective, window: str) -> tuple[str, str]:
    """Name and expression of the share that went wrong."""
    good, total = (text.format(w=window) for text in (objective.good, objective.total))
    return f"mypay:slo_errors:ratio_rate{window}", f"1 - {good} / ({total} > 0)"


def _burning(objective: Objective) -> list[Alert]:
    found = []
    budget = 1 - objective.share
    name = f"{objective.name.title()}BudgetBurning"
    for severity in Severity:
        parts = []
        for times, long, short, told in BURNS:
            if told is severity:
                bound = f"{times * budget:.6g}"
                both = [f'mypay:slo_errors:ratio_rate{w}{{slo="{objective.name}"}} > {bound}' for w in (long, short)]
                enough = f"{objective.total.format(w=long)} * {_SECONDS_OF[long]} > {objective.floor}"
                parts.append(f"({both[0]} and {both[1]} and on () ({enough}))")
        more = "Fast" if severity is Severity.PAGE else "Slowly"
        summary = f"The budget of errors is used up too fast: {objective.summary[0].lower()}{objective.summary[1:]}"
        found.append(Alert(f"{name}{more}", severity, " or ".join(parts), "", 0, summary))
    return found


ALERTS: Final = (*_MONEY, *_PARTS, *_DATA, *(alert for objective in OBJECTIVES for alert in _burning(objective)))
"""All of them."""
