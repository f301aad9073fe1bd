"""The counters of consents, customers' data, settlement and events."""

from typing import Final

from gateway.observability.metric import CounterMetric, Source

_NETWORK = {"network": Source.NETWORK}
_OUTCOME = {"outcome": Source.OUTCOME}

COUNTERS_OF_DATA: Final = (
    CounterMetric(
        name="mypay_consent_commands_total",
        unit="commands",
        help="Commands on consents that were carried out, by who gave them; others are refusals.",
        labels={"command": Source.OUTCOME, "actor": Source.REASON},
        outcomes={
            "consents": {
                "request": "A consent was requested.",
                "grant": "The customer granted it.",
                "reject": "The customer rejected it.",
                "suspend": "It was suspended.",
                "resume": "It was resumed.",
                "revoke": "It was revoked.",
                "amend": "Its terms were amended.",
                "unchanged": "A command found the consent as it wanted it, or came again.",
            }
        },
    ),
    CounterMetric(
        name="mypay_consents_expired_total",
        unit="consents",
        help="Consents that were ended because their time was up.",
        outcomes={"schedule": {"consent_expired": "One."}},
    ),
    CounterMetric(
        name="mypay_used_proofs_purged_total",
        unit="proofs",
        help="Used proofs that nothing can replay any more, and that were forgotten.",
        outcomes={"schedule": {"used_proof_purged": "One."}},
    ),
    CounterMetric(
        name="mypay_silent_rows_destroyed_total",
        unit="rows",
        help="Rows held for transmission requests that were destroyed after a year without access.",
        outcomes={"schedule": {"silent_destroyed": "One."}},
    ),
    CounterMetric(
        name="mypay_old_rows_destroyed_total",
        unit="rows",
        help="Rows that were destroyed, their time being over.",
        labels=_OUTCOME,
        outcomes={
            "schedule": {
                "old_shares_destroyed": "Of shares and rounds of sharing.",
                "old_contributions_destroyed": "Of what published aggregates counted.",
                "old_operating_destroyed": "Of what operators did, and of attempts to sign in.",
            }
        },
    ),
    CounterMetric(
        name="mypay_transmissions_total",
        unit="transmissions",
        help="Scheduled transmissions of customers' data.",
        labels=_OUTCOME,
        outcomes={"schedule": {"export_begun": "An export was begun.", "transmission_stopped": "One was stopped."}},
    ),
    CounterMetric(
        name="mypay_transmission_requests_total",
        unit="requests",
        help="Transmission requests that were taken; others are refusals.",
        labels=_OUTCOME,
        outcomes={"portability": {"accepted": "It was taken.", "repeated": "It had come before."}},
    ),
    CounterMetric(
        name="mypay_exports_total",
        unit="exports",
        help="Exports of customers' data by how they ended.",
        labels=_OUTCOME,
        outcomes={
            "portability": {
                "delivered": "It is whole.",
                "voided": "It came to nothing, as what permitted it ended.",
                "too_large": "It came to nothing, as its recipient's topic takes not even one record of it.",
                "restarted": "It begins anew, for its recipient's key or its consent's terms changed.",
                "attempt_failed": "PostgreSQL or Kafka went away in the middle: another attempt follows.",
                "lost": "Another worker took it over.",
            }
        },
    ),
    CounterMetric(
        name="mypay_exported_records_total",
        unit="records",
        help="Records of customers that were handed over: in exports that are whole, and in answers of the API.",
        labels={"stage": Source.STAGE},
        outcomes={"portability": {"record": "In an export."}, "portability_api": {"record": "In an answer."}},
    ),
    CounterMetric(
        name="mypay_portability_calls_total",
        unit="calls",
        help="Calls of the portability API.",
        labels={"outcome": Source.OUTCOME, "rsp_code": Source.REASON},
        outcomes={"portability_api": {"answered": "It was answered.", "refused": "It was refused."}},
    ),
    CounterMetric(
        name="mypay_portability_connections_cut_total",
        unit="connections",
        help="Connections of the portability API that were cut: slow, too large, or one too many.",
        labels={"reason": Source.REASON},
        outcomes={"portability_api": {"cut": "One."}},
    ),
    CounterMetric(
        name="mypay_offers_total",
        unit="offers",
        help="Offers to customers.",
        labels=_OUTCOME,
        outcomes={
            "marketing": {
                "granted": "It was made.",
                "withdrawn": "It ended: its time was over, or the customer permits it no more.",
            }
        },
    ),
    CounterMetric(
        name="mypay_offer_uses_total",
        unit="uses",
        help="Uses of offers.",
        labels=_OUTCOME,
        outcomes={"marketing": {"use_counted": "It was counted.", "use_refused": "It was refused."}},
        prefix="use_",
    ),
    CounterMetric(
        name="mypay_aggregates_total",
        unit="aggregates",
        help="Weeks' aggregates.",
        labels=_OUTCOME,
        outcomes={
            "marketing": {
                "aggregate_published": "It was published.",
                "aggregate_withheld": "It was not: by itself, or beside an older one, it would tell of too few.",
            }
        },
        prefix="aggregate_",
    ),
    CounterMetric(
        name="mypay_aggregate_cells_suppressed_total",
        unit="cells",
        help="Cells of published aggregates that were suppressed.",
        outcomes={"marketing": {"cell_suppressed": "One."}},
    ),
    CounterMetric(
        name="mypay_shares_total",
        unit="shares",
        help="Settled payments that were shared with an affiliate.",
        outcomes={"sharing": {"shared": "One."}},
    ),
    CounterMetric(
        name="mypay_erasures_total",
        unit="notices",
        help="Erasures that affiliates were asked for.",
        labels=_OUTCOME,
        outcomes={
            "sharing": {
                "erase_notice": "An affiliate was told to erase.",
                "erase_reminder": "It was told so again, for an operator asked for it.",
                "erased": "It confirmed.",
            }
        },
    ),
    CounterMetric(
        name="mypay_disclosure_entries_total",
        unit="entries",
        help="Uses of consents that were written into the disclosure log, by kind.",
        labels={"kind": Source.REASON},
        outcomes={"disclosure": {"entry": "One."}},
    ),
    CounterMetric(
        name="mypay_disclosure_roots_total",
        unit="roots",
        help="Periods that were closed with a signed root.",
        outcomes={"disclosure": {"root": "One."}},
    ),
    CounterMetric(
        name="mypay_disclosure_contents_destroyed_total",
        unit="contents",
        help="Contents of entries that were destroyed, their time being over.",
        outcomes={"disclosure": {"destroyed": "One."}},
    ),
    CounterMetric(
        name="mypay_disclosure_notices_total",
        unit="notices",
        help="Customers' yearly notices that were told to partners.",
        outcomes={"disclosure": {"notice": "One."}},
    ),
    CounterMetric(
        name="mypay_breaks_total",
        unit="records",
        help="Cleared records that fit no payment, by how.",
        labels={**_NETWORK, "kind": Source.REASON},
        outcomes={"settlement": {"break": "One."}},
        reasons={
            "break": (
                *("missing_here", "missing_there", "trace_differs", "duplicate", "kind_differs"),
                *("reversed_but_cleared", "not_approved", "acceptor_differs", "amount_differs"),
            )
        },
    ),
    CounterMetric(
        name="mypay_breaks_matched_total",
        unit="records",
        help="Breaks that were closed after all.",
        outcomes={"settlement": {"break_matched": "One."}},
    ),
    CounterMetric(
        name="mypay_clearing_records_superseded_total",
        unit="records",
        help="Clearing records that another file's took the place of.",
        labels=_OUTCOME,
        outcomes={
            "settlement": {
                "corrected": "One of an earlier file was superseded.",
                "stale": "One of a file that is older than what stands was ignored.",
            }
        },
    ),
    CounterMetric(
        name="mypay_clearing_records_imported_total",
        unit="records",
        help="Records of clearing files that were published.",
        outcomes={"clearing_import": {"record": "One."}},
    ),
    CounterMetric(
        name="mypay_clearing_files_total",
        unit="files",
        help="Clearing files by how their import ended.",
        labels=_OUTCOME,
        outcomes={
            "clearing_import": {
                "done": "It was imported whole.",
                "partial": "It was imported in part.",
                "failed": "Nothing of it was imported.",
                "not_taken": "Something in the inbox that is no clearing file.",
            }
        },
    ),
    CounterMetric(
        name="mypay_relay_events_total",
        unit="events",
        help="Events by what the relay did with them.",
        labels=_OUTCOME,
        outcomes={
            "relay": {
                "published": "It was published.",
                "parked": "It was set aside: its topic does not exist or takes none as large, or it cannot be read.",
                "unparked": "It was published after all.",
            }
        },
    ),
    CounterMetric(
        name="mypay_topics_closed_total",
        unit="refusals",
        help="How often a topic to write to did not exist, or was closed to the gateway.",
        labels={"stage": Source.STAGE},
        outcomes={"relay": {"topic_closed": "One."}, "schedule": {"topic_closed": "One."}},
    ),
    CounterMetric(
        name="mypay_outbox_partitions_total",
        unit="partitions",
        help="Partitions of the outbox.",
        labels=_OUTCOME,
        outcomes={
            "outbox": {
                "partition_made": "One for events to come was made.",
                "partition_dropped": "One was dropped: all events in it were relayed, and old.",
            }
        },
        prefix="partition_",
    ),
    CounterMetric(
        name="mypay_outbox_forgotten_total",
        unit="events",
        help="Old relayed events that lay in no partition of their own, and were deleted.",
        outcomes={"outbox": {"forgotten": "One."}},
    ),
)
"""All of them."""
