"""Every metric that a process serves: its families, and the names that its labels take, each with what it means.

The stages report under these names (:class:`gateway.base.process.Observer`). The operators' reference is made
from these tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

ANY_STAGE: Final = "*"
"""Of outcomes that stages have in common."""

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_DELAY_SECONDS: Final = (*_SECONDS, 300.0, 3600.0, 86400.0)
_HOP_SECONDS: Final = (
    *(0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.08),
    *(0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
_SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family.

    Attributes:
        name: as registered; a counter is served with ``_total`` behind it.
        labels: the names of its labels.
        buckets: of a histogram, upper bounds; empty otherwise.
    """

    name: str
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()


BATCH_SIZE: Final = Family("mypay_batch_size", "Items in a batch.", ("stage",), _SIZES)
BATCH_SECONDS: Final = Family("mypay_batch_seconds", "Time to handle a batch.", ("stage",), _SECONDS)
OUTCOMES_TOTAL: Final = Family("mypay_outcomes", "Items by how a stage ended them.", ("stage", "outcome", "reason"))
DELAY_SECONDS: Final = Family("mypay_delay_seconds", "Spans of payments' ways.", ("span",), _DELAY_SECONDS)
HOP_SECONDS: Final = Family(
    "mypay_hop_seconds", "Where the time of a payment's way goes, hop by hop.", ("hop",), _HOP_SECONDS
)
LEVEL: Final = Family("mypay_level", "Quantities as they stand.", ("name",))
FAMILIES: Final = (OUTCOMES_TOTAL, LEVEL, DELAY_SECONDS, HOP_SECONDS, BATCH_SIZE, BATCH_SECONDS)

LEVELS: Final[Mapping[str, str]] = {
    "open_sent": "Payments that were sent and wait for their answer, of all networks (told by `schedule`).",
    "oldest_sent_seconds": "Age of the oldest of them. Alarm where it grows past your networks' deadlines.",
    "open_unknown": "Payments whose outcome is unknown.",
    "oldest_unknown_seconds": "Age of the oldest of them. Alarm where it grows past your networks' deadlines.",
    "open_reversing": "Payments that are being undone at their network.",
    "oldest_reversing_seconds": "Age of the oldest of them. Alarm where it grows past your networks' deadlines.",
    "links_signed_on": "Links to the network's hosts that are signed on.",
    "network_open": "1 while the network's topic is read; 0 while the circuit breaker or a lost link closes it.",
    "revoke_to_last_intent_seconds": (
        "Between a consent's end and the last payment that was begun under it, the highest of all. Never above zero."
    ),
    "revoke_to_last_share_seconds": (
        "Between a sharing purpose's end and the last share that was decided under it, the highest of all. Never above "
        "zero."
    ),
    "revoke_to_last_offer_seconds": (
        "Between a marketing purpose's end and the last offer that was made under it, the highest of all. Never above "
        "zero."
    ),
    "overdue_erasures": (
        "Erase notices that their affiliates have not confirmed in time (told by `schedule`). Alarm above zero."
    ),
    "oldest_overdue_erasure_seconds": "How long the oldest of them has been overdue.",
    "open_transaction_seconds": (
        "How long somebody's open Kafka transaction has held back what others wrote behind it. Alarm above 10."
    ),
    "open_transaction_records": "How many records it holds back.",
    "key_registry_age_seconds": "How old this process's view of partners' keys is.",
    "trust_table_age_seconds": "How old its oldest key set of an identity provider is.",
    "trust_policy_differs": (
        "1 while the files on this machine are not the policy that was applied: it goes on with the old one."
    ),
    "disclosure_leader": "1 on the sequencer that writes the disclosure log, 0 on those that stand by.",
    "disclosure_lag_seconds": (
        "How late the oldest use of the last batch came into the disclosure log. Alarm above 60, and if nobody leads."
    ),
    "disclosure_entries": "Entries of the disclosure log.",
    "no_proof_asked": "1 where no customer's proof is asked for (`MYPAY_ALLOW_NO_PROOF`).",
}
"""What ``mypay_level`` has for ``name``."""

SPANS: Final[Mapping[str, str]] = {
    "exchange": "A request to a network, until its answer or the end of waiting.",
    "order_to_result": "From the order's coming to the network's answer written down.",
    "order_to_settled": "From the order's coming to its settlement.",
    "outbox_to_event": "From a change to its event on Kafka: of the oldest of a batch.",
    "kafka_publish": "A publication to Kafka, repetitions included.",
    "revoke_to_last_export": "From a revoked portability purpose to the last chunk of data that left under it.",
    "consent_end_to_event": "From a consent's time being up to its event.",
    "due_to_dispatch": "From an order's day having come to its being handed on.",
    "revoke_to_wire": (
        "From a consent's end to the last byte that left under it: below `MYPAY_EXECUTION_INTENT_TO_WIRE_S`."
    ),
}
"""What ``mypay_delay_seconds`` has for ``span``."""

HOPS: Final[Mapping[str, str]] = {
    "order_to_dispatch": "From the order's coming, by Kafka's clock, to its having been judged and handed on.",
    "dispatch_to_intent": "From there to its intent having been committed and given to the network's links.",
    "intent_to_result": "From the decision under the consent's lock to the network's answer being written down.",
    "change_to_event": "From a change of a payment or consent to its event's standing in Kafka.",
}
"""What ``mypay_hop_seconds`` has for ``hop``, in the order of the way; each payment counts once a hop."""

_STATES: Final = {
    "sent": "It was sent.",
    "approved": "The network approved it.",
    "declined": "The network declined it.",
    "rejected": "It was refused under the consent's lock; nothing was sent.",
    "unknown": "No answer settled it: it is asked about or reversed.",
    "reversing": "It is being undone.",
    "reversed": "It is certainly without effect.",
    "settled": "It is cleared.",
}

OUTCOMES: Final[Mapping[str, Mapping[str, str]]] = {
    ANY_STAGE: {
        "failed": "A batch or record met a bug (`reason`: the error's class); the record is parked.",
        "unread": "A batch of records was passed over unread: its place is a dead letter. Alarm on it.",
        "incident": "Something that people must look at; the log says what. Alarm on it.",
        "unwritable": "The database refuses to move a payment: a bug. Alarm on it.",
        "untrusted": "A record on an internal topic that the gateway did not write: an incident.",
        "ignored_result": "A result that changes nothing in the payment's state (`reason`: state and result).",
        "undone": "An approval that came too late for its payment, and is being reversed.",
        "card_not_opened": "A funding token whose card cannot be used (`reason`: why).",
        "field_dropped": "A log line with a field that may not be logged (stage `log`).",
    },
    "initiation": {
        "dispatched": "The order was accepted, and handed to its network.",
        "scheduled": "It was accepted for a later day.",
        "rejected": "It became a payment that was refused.",
        "refused": "It became no payment; its partner is told.",
        "repeated": "It had come before: its payment is told again.",
        "dead_letter": "It is nobody's: no partner is told (`reason`: why, see dead letters).",
        "waits": "It is beyond its sender's share of a turn, and waits.",
        "instruction": "A cancellation, refund, bulk or standing order came (`reason`: its type).",
        "bulk_accepted": "A bulk was accepted.",
        "bulk_refused": "A bulk was refused.",
        "bulk_repeated": "A bulk had come before.",
        "bulk_item_rejected": "An item of a bulk was turned away.",
        "standing_order": "A standing order was created or cancelled.",
        "standing_order_refused": "A standing order, or its cancellation, was refused.",
    },
    "refund": {
        "dispatched": "The refund was handed to its network.",
        "rejected": "It became a payment that was refused.",
        "refused": "It became no payment.",
        "repeated": "It had come before.",
    },
    "cancellation": {
        "accepted": "A cancellation was accepted (`reason`: its effect).",
        "refused": "It was refused (`reason`: why).",
    },
    "consents": {
        "request": "A consent was requested (`reason` of all commands: who did it).",
        "grant": "The customer granted it.",
        "reject": "The customer rejected it.",
        "suspend": "It was suspended.",
        "resume": "It was resumed.",
        "revoke": "It was revoked.",
        "amend": "Its terms were amended.",
        "unchanged": "A command found the consent as it wanted it, or came again.",
        "refused": "A command was refused.",
        "dead_letter": "A command is nobody's.",
    },
    "execution": {
        **_STATES,
        "dead_letter": "A dispatched record cannot be read.",
        "refused": "A dispatched order was refused without becoming a payment.",
        "repeated": "It had come before.",
        "order_id_taken": "Its id is used by another order.",
        "taken_over": "A payment that a dead worker left behind.",
        "intent_after_end": "A payment was begun after its consent's end: cannot happen. Alarm on it.",
        "unmatched_answer": "A network's answer that belongs to no request in flight.",
        "unmatched_answer_dropped": "One of which there were too many to keep.",
    },
    "late_answer": {**_STATES},
    "inquiry": {**_STATES, "repeated": "It settled nothing, and is asked again."},
    "reversal": {
        "reversed": "The network confirmed it.",
        "repeated": "It was not confirmed, and is repeated.",
        "alert": "It stays open too long: its network's operator must help. Alarm on it.",
    },
    "portability": {
        "accepted": "A transmission request was taken.",
        "repeated": "One that came before came again.",
        "refused": "A transmission request was refused (`reason`).",
        "dead_letter": "A record that nobody is known to have signed.",
        "delivered": "An export is whole.",
        "record": "A record that was handed over in one that is.",
        "voided": "An export came to nothing, as what permitted it ended.",
        "restarted": "An export begins anew, for its recipient's key changed.",
        "attempt_failed": "PostgreSQL or Kafka went away in the middle: another attempt follows.",
        "lost": "Another worker took an export over.",
    },
    "marketing": {
        "granted": "A customer was made an offer.",
        "withdrawn": "An offer ended: its time was over, or the customer permits it no more.",
        "use_counted": "A use of an offer was counted.",
        "use_refused": "A use of an offer was refused.",
        "dead_letter": "A record that tells of no use (`reason`: why).",
        "aggregate_published": "A week's aggregate was published.",
        "aggregate_withheld": "One was not: by itself, or beside an older one, it would tell of too few.",
        "offer_after_end": "An offer was made after its consent's end: a bug. Alarm on it.",
        "cell_suppressed": "A cell of a published aggregate was suppressed.",
    },
    "portability_api": {
        "answered": "A recipient's call was answered; `reason` is the `rsp_code`.",
        "refused": "A call was refused, with this `rsp_code`.",
        "record": "A record that was told in an answer.",
    },
    "schedule": {
        "export_begun": "An export of a scheduled transmission was begun.",
        "transmission_stopped": "A scheduled transmission was stopped.",
        "consent_expired": "A consent whose time was up was ended.",
        "occurrence": "A standing order's occurrence became a payment.",
        "occurrence_missed": "Its day was missed: told as rejected.",
        "standing_order_completed": "A standing order ended by itself.",
        "day_moved": "A standing order's next day moved by a change of the calendar.",
        "order_dispatched": "An order whose day has come was handed on.",
        "order_rejected": "Such an order was refused.",
        "order_unreadable": "An order that waited cannot be read.",
        "topic_closed": "A topic to hand on to does not exist.",
        "used_proof_purged": "A used proof that nothing can replay any more was forgotten.",
    },
    "settlement": {
        "settled": "A cleared payment was settled.",
        "break": "A cleared record fits no payment (`reason`: how).",
        "break_matched": "A break was closed after all.",
        "corrected": "A record of an earlier file was superseded.",
        "stale": "A record of a file that is older than what stands: ignored.",
        "dead_letter": "A clearing record cannot be read.",
    },
    "clearing_import": {
        "record": "A record was published.",
        "done": "A file was imported whole.",
        "partial": "A file was imported in part.",
        "failed": "Nothing of a file was imported.",
        "dead_letter": "The report of a file that was not imported whole.",
        "not_taken": "Something in the inbox that is no clearing file.",
    },
    "relay": {
        "published": "An event was published.",
        "parked": "An event whose topic does not exist was set aside.",
        "unparked": "One of those was published after all.",
        "topic_closed": "A topic does not exist.",
    },
    "sharing": {
        "shared": "A settled payment was shared with an affiliate.",
        "erase_notice": "An affiliate was told to erase what it holds under a consent.",
        "erased": "An affiliate confirmed that it has erased.",
        "dead_letter": "A record that confirms nothing (`reason`: why).",
        "share_after_end": "A share was decided after its consent's end: a bug. Alarm on it.",
    },
    "disclosure": {
        "entry": "A use of a consent was written into the disclosure log (`reason`: which kind of use).",
        "root": "A period was closed with a signed root.",
        "destroyed": "A content whose time was over was destroyed.",
        "notice": "A customer's yearly notice was told to the partner.",
    },
    "outbox": {
        "partition_made": "A partition for events to come was made.",
        "partition_dropped": "A partition was dropped: all events in it were relayed, and old.",
        "forgotten": "An old relayed event that lay in no partition of its own was deleted.",
    },
    "link": {
        "down": "A link is down.",
        "connecting": "It is being opened.",
        "signing_on": "It is signing on.",
        "up": "It is signed on.",
        "signed_off": "The host signed the gateway off.",
        "echo_missed": "An echo was not answered.",
        "breaker_closed": "Requests flow.",
        "breaker_open": "The network is left in peace for a pause.",
        "breaker_half_open": "A few requests try whether it answers again.",
        "undecodable": "A message cannot be read.",
        "unexpected": "An answer to nothing.",
        "host_asked": "The host sent a request of its own (`reason`: the DE39 that it was answered with).",
    },
    "link_bytes": {"sent": "Bytes sent.", "received": "Bytes received."},
    "exchange": {
        "answered": "A request was answered.",
        "timeout": "No answer came in time.",
        "link_lost": "The link was lost before the answer.",
        "garbled": "The answer could not be read.",
        "no_link": "No link was signed on: nothing was sent.",
        "too_late": "It could not be sent in time: nothing was sent.",
        "not_encodable": "It cannot be expressed in the network's format: nothing was sent.",
    },
    "publisher": {
        "published": "A record was published to Kafka.",
        "unknown_topic": "The topic does not exist.",
        "connect_failed": "The brokers cannot be reached.",
        "producer_replaced": "A producer that failed was replaced.",
        "late": "A publication that outlived its deadline.",
    },
    "consumer": {
        "commit_lost": "An offset was not committed, for the partition is another worker's.",
        "commit_waits": "A commit takes long.",
        "commit_failed": "A commit failed, and is tried again.",
        "consumer_replaced": "A consumer that failed was replaced.",
        "drain_timeout": "Work in hand did not end in time as partitions were taken away.",
        "open_transaction": "Somebody's transaction stays open.",
    },
    "backlog": {"unknown": "How far execution is behind cannot be read."},
    "key_registry": {"refreshed": "Partners' keys were read.", "unavailable": "They could not be read."},
    "trust_table": {
        "refreshed": "An identity provider's keys were read.",
        "unreadable": "They could not be read.",
        "file_refused": "A file of the trust policy is wrong.",
        "revocations_unavailable": "The database's revocations could not be read.",
        "policy_unavailable": "Which policy counts could not be read.",
        "policy_not_applied": "Another policy counts than this process has.",
    },
}
"""By stage, what ``mypay_outcomes_total`` has for ``outcome``."""
