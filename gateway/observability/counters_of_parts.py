"""The counters of what the gateway stands on: networks' links, Kafka, keys, trust."""

from typing import Final

from gateway.observability.metric import CounterMetric, Source

_NETWORK = {"network": Source.NETWORK}
_FAULT = {"fault": Source.OUTCOME}
_OUTCOME = {"outcome": Source.OUTCOME}

COUNTERS_OF_PARTS: Final = (
    CounterMetric(
        name="mypay_network_exchanges_total",
        unit="requests",
        help="Requests to a network by how they ended.",
        labels={**_NETWORK, **_OUTCOME},
        outcomes={
            "exchange": {
                "answered": "It was answered.",
                "timeout": "No answer came in time.",
                "link_lost": "The link was lost before the answer.",
                "garbled": "The answer could not be read.",
                "no_link": "No link was signed on: nothing was sent.",
                "too_late": "It could not be sent in time: nothing was sent.",
                "not_encodable": "It cannot be expressed in the network's format: nothing was sent.",
            }
        },
    ),
    CounterMetric(
        name="mypay_network_unmatched_answers_total",
        unit="answers",
        help="Answers of a network that belong to no request in flight, by their code.",
        labels={**_NETWORK, **_OUTCOME, "code": Source.REASON},
        outcomes={
            "execution": {
                "unmatched_answer": "It was kept, and compared with what is known.",
                "unmatched_answer_dropped": "There were too many to keep.",
            }
        },
    ),
    CounterMetric(
        name="mypay_network_link_changes_total",
        unit="changes",
        help="States that links to a network's hosts came into.",
        labels={**_NETWORK, "state": Source.OUTCOME},
        outcomes={
            "link": {
                "down": "It is down.",
                "connecting": "It is being opened.",
                "signing_on": "It is signing on.",
                "up": "It is signed on.",
                "signed_off": "The host signed the gateway off.",
            }
        },
    ),
    CounterMetric(
        name="mypay_network_breaker_changes_total",
        unit="changes",
        help="States that a network's circuit breaker came into.",
        labels={**_NETWORK, "state": Source.OUTCOME},
        outcomes={
            "link": {
                "breaker_closed": "Requests flow.",
                "breaker_open": "The network is left in peace for a pause.",
                "breaker_half_open": "A few requests try whether it answers again.",
            }
        },
        prefix="breaker_",
    ),
    CounterMetric(
        name="mypay_network_link_faults_total",
        unit="faults",
        help="What was wrong on links to a network's hosts.",
        labels={**_NETWORK, **_FAULT},
        outcomes={
            "link": {
                "echo_missed": "An echo was not answered.",
                "undecodable": "A message cannot be read.",
                "unexpected": "An answer to nothing.",
            }
        },
    ),
    CounterMetric(
        name="mypay_network_host_requests_total",
        unit="requests",
        help="Requests that a host sent of its own, by the DE39 that they were answered with.",
        labels={**_NETWORK, "code": Source.REASON},
        outcomes={"link": {"host_asked": "One."}},
    ),
    CounterMetric(
        name="mypay_network_bytes_total",
        unit="bytes",
        help="Bytes on links to a network's hosts.",
        labels={**_NETWORK, "direction": Source.OUTCOME},
        outcomes={"link_bytes": {"sent": "To the host.", "received": "From the host."}},
    ),
    CounterMetric(
        name="mypay_kafka_published_total",
        unit="records",
        help="Records that were published to Kafka.",
        outcomes={"publisher": {"published": "One."}},
    ),
    CounterMetric(
        name="mypay_kafka_producer_faults_total",
        unit="faults",
        help="What was wrong while publishing.",
        labels=_FAULT,
        outcomes={
            "publisher": {
                "unknown_topic": "The topic does not exist.",
                "connect_failed": "The brokers cannot be reached.",
                "producer_replaced": "A producer that failed was replaced.",
                "late": "A publication outlived its deadline.",
                "untimely": "A topic does not take our clock's time.",
                "too_large": "A topic takes no record as large as one was: it is put aside, and others go on.",
            }
        },
    ),
    CounterMetric(
        name="mypay_kafka_consumer_faults_total",
        unit="faults",
        help="What was wrong while reading.",
        labels=_FAULT,
        outcomes={
            "consumer": {
                "commit_lost": "An offset was not committed, for the partition is another worker's.",
                "commit_waits": "A commit takes long.",
                "commit_failed": "A commit failed, and is tried again.",
                "consumer_replaced": "A consumer that failed was replaced.",
                "drain_timeout": "Work in hand did not end in time as partitions were taken away.",
                "open_transaction": "Somebody's transaction stays open.",
                "gone_unread": "A record was dropped from its topic before it was read.",
            },
            "backlog": {"unknown": "How far execution is behind cannot be read."},
        },
    ),
    CounterMetric(
        name="mypay_key_registry_reads_total",
        unit="reads",
        help="Readings of partners' keys.",
        labels=_OUTCOME,
        outcomes={"key_registry": {"refreshed": "They were read.", "unavailable": "They could not be read."}},
    ),
    CounterMetric(
        name="mypay_trust_reads_total",
        unit="reads",
        help="Readings of identity providers' keys and of the trust policy.",
        labels=_OUTCOME,
        outcomes={
            "trust_table": {
                "refreshed": "A provider's keys were read.",
                "unreadable": "A provider's keys could not be read.",
                "file_refused": "A file of the trust policy is wrong.",
                "revocations_unavailable": "The database's revocations could not be read.",
                "policy_unavailable": "Which policy counts could not be read.",
                "policy_not_applied": "Another policy counts than this process has.",
            }
        },
    ),
    CounterMetric(
        name="mypay_spans_total",
        unit="spans",
        help="Spans of traces, where tracing is on: what was made, and what became of it. The rest waits, or was lost.",
        labels=_OUTCOME,
        outcomes={
            "traces": {
                "span_made": "It was made, and queued.",
                "span_sent": "The collector has it.",
                "span_not_sent": "The collector did not take it.",
                "span_held_back": "It was beyond what may be traced, or a field of it is not to be told.",
            }
        },
        prefix="span_",
    ),
    CounterMetric(
        name="mypay_console_requests_total",
        unit="requests",
        help="Pages and forms of the operators' console, by how they were answered; its own files are not counted.",
        labels=_OUTCOME,
        outcomes={
            "console": {
                "request_answered": "It was done, or shown, or led elsewhere.",
                "request_refused": "It was not there, not permitted, or something was wrong with it.",
                "request_failed": "Something was away, or went wrong here.",
            }
        },
        prefix="request_",
    ),
    CounterMetric(
        name="mypay_console_sign_ins_total",
        unit="attempts",
        help="Attempts to sign in at the operators' console.",
        labels=_OUTCOME,
        outcomes={
            "console": {
                "sign_in_let_in": "Somebody was let in.",
                "sign_in_refused": "Name or password was wrong, or the identity provider did not let them in.",
                "sign_in_too_many": "There were too many attempts before it.",
            }
        },
        prefix="sign_in_",
    ),
    CounterMetric(
        name="mypay_console_actions_total",
        unit="actions",
        help="What operators did at the console.",
        labels=_OUTCOME,
        outcomes={
            "console": {
                "action_done": "It was done.",
                "action_proposed": "It waits for a second person.",
                "action_refused": "It could not be done.",
            }
        },
        prefix="action_",
    ),
    CounterMetric(
        name="mypay_reports_untold_total",
        unit="reports",
        help="Reports under a name that is in no table: a bug.",
        labels={"stage": Source.STAGE},
        outcomes={"untold": {"untold": "One."}},
    ),
)
"""All of them."""
