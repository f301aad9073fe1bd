"""The gauges: what stages tell as it stands.

They report each by its name without ``mypay_`` (:meth:`gateway.base.process.Observer.level`).
"""

from typing import Final

from gateway.observability.metric import ANY, GaugeMetric

_NETWORK: Final = {"network": "The card network."}
_READ_S: Final = 30.0
"""For how long a value holds that was read elsewhere: several times the pause between two looks."""

GAUGES: Final = (
    GaugeMetric(
        name="mypay_build_info",
        unit="1",
        help="Always 1; its labels tell what runs.",
        labels={"version": "Of the gateway.", "stage": "What the process is.", "python": "Version of Python."},
        processes=(ANY,),
    ),
    GaugeMetric(
        name="mypay_dependency_up",
        unit="1",
        help="1 while what the process stands on answers it, and takes what it writes; 0 while not.",
        labels={"dependency": "`postgres` or `kafka`."},
        fresh_s=_READ_S,
        processes=(ANY,),
    ),
    GaugeMetric(
        name="mypay_clock_ahead_seconds",
        unit="seconds",
        help="How far the machine's clock is ahead of the database's. By more than 60 either way it is not followed.",
        fresh_s=_READ_S,
        processes=(ANY,),
    ),
    GaugeMetric(
        name="mypay_disk_free_bytes",
        unit="bytes",
        help="Room on the disks that the process writes to.",
        labels={"folder": "`home`, or `clearing_inbox`."},
        processes=(ANY,),
    ),
    GaugeMetric(
        name="mypay_db_pool_connections",
        unit="connections",
        help="Connections to PostgreSQL.",
        labels={"state": "`used` or `idle`."},
        processes=(ANY,),
    ),
    GaugeMetric(
        name="mypay_db_pool_max_connections",
        unit="connections",
        help="How many there may be.",
        processes=(ANY,),
    ),
    GaugeMetric(
        name="mypay_db_pool_waiting",
        unit="tasks",
        help="Tasks that wait for a connection.",
        processes=(ANY,),
    ),
    GaugeMetric(
        name="mypay_consumer_lag_records",
        unit="records",
        help="Records that wait in the partitions which this process holds.",
        labels={"group": "The consumer group."},
        fresh_s=_READ_S,
        processes=("initiation", "consents", "execution", "settlement", "portability", "sharing", "marketing"),
    ),
    GaugeMetric(
        name="mypay_consumer_lag_seconds",
        unit="seconds",
        help="For how long the oldest of them has waited, at most; 0 where none waits.",
        labels={"group": "The consumer group."},
        fresh_s=_READ_S,
        processes=("initiation", "consents", "execution", "settlement", "portability", "sharing", "marketing"),
    ),
    GaugeMetric(
        name="mypay_payments_open",
        unit="payments",
        help="Payments whose outcome is not known yet, on all networks: told by `schedule`.",
        labels={"state": "`sent`, `unknown` or `reversing`.", **_NETWORK},
        fresh_s=_READ_S,
        processes=("schedule",),
    ),
    GaugeMetric(
        name="mypay_payment_oldest_seconds",
        unit="seconds",
        help="For how long the oldest of them has been so; 0 where there is none.",
        labels={"state": "`sent`, `unknown` or `reversing`."},
        fresh_s=_READ_S,
        processes=("schedule",),
    ),
    GaugeMetric(
        name="mypay_outbox_rows",
        unit="events",
        help="Rows of events that the relay has not published yet, up to 100,000.",
        fresh_s=_READ_S,
        processes=("schedule",),
    ),
    GaugeMetric(
        name="mypay_outbox_oldest_seconds",
        unit="seconds",
        help="For how long the oldest of them has waited; 0 where there is none.",
        fresh_s=_READ_S,
        processes=("schedule",),
    ),
    GaugeMetric(
        name="mypay_outbox_parked_rows",
        unit="events",
        help="Rows of events that are set aside: their topic is missing or takes none as large, or they cannot be "
        "read; up to 100,000.",
        fresh_s=_READ_S,
        processes=("schedule",),
    ),
    GaugeMetric(
        name="mypay_breaks_open",
        unit="records",
        help="Cleared records that fit no payment, and were not matched since.",
        labels={**_NETWORK, "kind": "How it does not fit.", "age": "`<1d`, `1-7d`, `7-30d` or `30d+`."},
        fresh_s=_READ_S,
        processes=("schedule",),
    ),
    GaugeMetric(
        name="mypay_clearing_age_seconds",
        unit="seconds",
        help="How long ago the last record of the network's newest clearing cycle came.",
        labels=_NETWORK,
        fresh_s=_READ_S,
        processes=("schedule",),
    ),
    GaugeMetric(
        name="mypay_follow_ups_open",
        unit="requests",
        help="Inquiries and reversals that are not settled yet.",
        labels={**_NETWORK, "kind": "`inquiry` or `reversal`."},
        fresh_s=_READ_S,
        processes=("schedule",),
    ),
    GaugeMetric(
        name="mypay_exports_open",
        unit="exports",
        help="Exports of customers' data that are not whole yet.",
        fresh_s=_READ_S,
        processes=("schedule",),
    ),
    GaugeMetric(
        name="mypay_export_oldest_seconds",
        unit="seconds",
        help="For how long the oldest of them has been asked for; 0 where there is none.",
        fresh_s=_READ_S,
        processes=("schedule",),
    ),
    GaugeMetric(
        name="mypay_scheduled_overdue_seconds",
        unit="seconds",
        help="For how long the order that is most overdue has been due and not looked at; 0 where none is.",
        fresh_s=_READ_S,
        processes=("schedule",),
    ),
    GaugeMetric(
        name="mypay_partners_keys_ending",
        unit="partners",
        help="Active partners whose last key ends soon, or has ended.",
        labels={"within": "`7d`, or `30d` for those that have more than seven days left."},
        fresh_s=_READ_S,
        processes=("schedule",),
    ),
    GaugeMetric(
        name="mypay_certificate_expires_timestamp_seconds",
        unit="seconds",
        help="When a certificate of the process's own ends, in seconds since 1970.",
        labels={"certificate": "`kafka`, `portability_api`, or `network` of a link's."},
        processes=(ANY,),
    ),
    GaugeMetric(
        name="mypay_network_link_up",
        unit="1",
        help="1 while the link to the network's host is signed on.",
        labels={**_NETWORK, "link": "The link's number and address."},
        processes=("execution",),
    ),
    GaugeMetric(
        name="mypay_network_open",
        unit="1",
        help="1 while the network's topic is read; 0 while the circuit breaker or a lost link closes it.",
        labels=_NETWORK,
        fresh_s=_READ_S,
        processes=("execution",),
    ),
    GaugeMetric(
        name="mypay_network_breaker",
        unit="1",
        help="1 for the state that the network's circuit breaker is in, 0 for the others.",
        labels={**_NETWORK, "state": "`closed`, `open` or `half_open`."},
        processes=("execution",),
    ),
    GaugeMetric(
        name="mypay_relay_leader",
        unit="1",
        help="1 on the relay that publishes, 0 on those that stand by.",
        processes=("relay",),
    ),
    GaugeMetric(
        name="mypay_revoke_to_last_use_seconds",
        unit="seconds",
        help=(
            "Between a consent's end (of this purpose) and the last use that was decided under it, the highest of all "
            "since the process began. Never above zero."
        ),
        labels={"use": "`intent` of a payment, `export`, `pull` by the API, `share` or `offer` (made or used)."},
        processes=("execution", "portability", "portability_api", "sharing", "marketing"),
    ),
    GaugeMetric(
        name="mypay_erasures_overdue",
        unit="notices",
        help="Erase notices that their affiliates have not confirmed in time.",
        fresh_s=_READ_S,
        processes=("schedule",),
    ),
    GaugeMetric(
        name="mypay_erasure_overdue_oldest_seconds",
        unit="seconds",
        help="How long the oldest of them has been overdue.",
        fresh_s=_READ_S,
        processes=("schedule",),
    ),
    GaugeMetric(
        name="mypay_open_transaction_seconds",
        unit="seconds",
        help="How long somebody's open Kafka transaction has held back what others wrote behind it.",
        processes=("initiation", "consents"),
    ),
    GaugeMetric(
        name="mypay_open_transaction_records",
        unit="records",
        help="How many records it holds back.",
        processes=("initiation", "consents"),
    ),
    GaugeMetric(
        name="mypay_key_registry_age_seconds",
        unit="seconds",
        help="How old this process's view of partners' keys is.",
        fresh_s=_READ_S,
        processes=("initiation", "consents", "execution", "portability", "sharing", "marketing"),
    ),
    GaugeMetric(
        name="mypay_trust_table_age_seconds",
        unit="seconds",
        help=(
            "How old its oldest key set of an identity provider is; of one that was never read, for how long it has "
            "been missed."
        ),
        processes=("initiation", "consents", "execution", "portability"),
    ),
    GaugeMetric(
        name="mypay_trust_policy_differs",
        unit="1",
        help="1 while the files on this machine are not the policy that was applied: it goes on with the old one.",
        processes=("initiation", "consents", "execution", "portability"),
    ),
    GaugeMetric(
        name="mypay_no_proof_asked",
        unit="1",
        help="1 where no customer's proof is asked for (`MYPAY_ALLOW_NO_PROOF`).",
        processes=("initiation", "consents", "execution", "portability"),
    ),
    GaugeMetric(
        name="mypay_disclosure_leader",
        unit="1",
        help="1 on the sequencer that writes the disclosure log, 0 on those that stand by.",
        processes=("disclosure",),
    ),
    GaugeMetric(
        name="mypay_disclosure_lag_seconds",
        unit="seconds",
        help="How late the oldest use of the last batch came into the disclosure log.",
        fresh_s=_READ_S,
        processes=("disclosure",),
    ),
    GaugeMetric(
        name="mypay_disclosure_entries",
        unit="entries",
        help="Entries of the disclosure log.",
        processes=("disclosure",),
    ),
)
"""All of them."""
