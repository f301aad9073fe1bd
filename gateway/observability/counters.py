"""The counters: which outcomes that stages report are counted where, and what each means.

A report (:meth:`gateway.base.process.Observer.count`) names its stage, its outcome, a reason and a network. Each pair
of stage and outcome is in one row alone.
"""

from typing import Final

from gateway.observability.counters_of_data import COUNTERS_OF_DATA
from gateway.observability.counters_of_parts import COUNTERS_OF_PARTS
from gateway.observability.metric import ANY_STAGE, CounterMetric, Source
from schemas.reasons import ReasonCode

_STAGE = {"stage": Source.STAGE}
_NETWORK = {"network": Source.NETWORK}
_OUTCOME = {"outcome": Source.OUTCOME}
_REASON = {"reason": Source.REASON}
_CODES: Final = tuple(code.value for code in ReasonCode)

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

_PAYMENTS: Final = (
    CounterMetric(
        name="mypay_payments_total",
        unit="payments",
        help=(
            "Payments by their final outcome, each once, as it commits. What follows an approval (a cancellation, a "
            "refund, its clearing) counts elsewhere."
        ),
        labels={**_NETWORK, "state": Source.OUTCOME, **_REASON},
        outcomes={
            "payment": {
                "approved": "The network approved it.",
                "declined": "The network declined it.",
                "rejected": "It was refused before anything left; without a network where none was chosen.",
                "reversed": "It was unknown, or waited for its day, and is certainly without effect.",
            }
        },
        reasons={"declined": _CODES, "rejected": _CODES, "reversed": ("AB05", "CUST", "DS02")},
    ),
    CounterMetric(
        name="mypay_partner_orders_total",
        unit="orders",
        help=(
            "Orders of each partner by how they ended: there once the partner has one. Of partners beyond the first "
            "200 of a process together, as `other`."
        ),
        labels={"partner": Source.PARTNER, **_OUTCOME},
        outcomes={
            "partner": {
                "approved": "The network approved it.",
                "declined": "The network declined it.",
                "rejected": "It was refused before anything left.",
                "reversed": "It is certainly without effect.",
                "refused": "It became no payment.",
            }
        },
    ),
    CounterMetric(
        name="mypay_payment_changes_total",
        unit="changes",
        help="Steps of payments: the states that they reached, by what brought them there.",
        labels={**_STAGE, **_NETWORK, "state": Source.OUTCOME, **_REASON},
        outcomes={
            "execution": {**_STATES},
            "late_answer": {**_STATES},
            "inquiry": {**_STATES},
            "reversal": {**_STATES},
        },
        # There from the beginning: an alert looks at them, and a burst may be the first.
        reasons={"unknown": ("AB05", "AB07", "MS03"), "reversing": ("AB05", "AB07", "MS03")},
    ),
    CounterMetric(
        name="mypay_orders_total",
        unit="orders",
        help="Orders by what the intake made of them; those that became no payment are refusals.",
        labels={**_OUTCOME, **_REASON},
        outcomes={
            "initiation": {
                "dispatched": "It was accepted, and handed to its network.",
                "scheduled": "It was accepted for a later day.",
                "rejected": "It became a payment that was refused.",
                "repeated": "It had come before: its payment is told again.",
                "waits": "It is beyond its sender's share of a turn, and waits.",
            }
        },
        reasons={"rejected": _CODES},
    ),
    CounterMetric(
        name="mypay_refusals_total",
        unit="messages",
        help="What partners asked for and that became nothing; its partner is told the reason.",
        labels={**_STAGE, **_REASON},
        outcomes={
            "initiation": {"refused": "An order, or a message with a fault."},
            "refund": {"refused": "A refund."},
            "cancellation": {"refused": "A cancellation."},
            "consents": {"refused": "A command on a consent."},
            "execution": {"refused": "A dispatched order that became no payment."},
            "portability": {"refused": "A transmission request."},
        },
        reasons={"refused": _CODES},
    ),
    CounterMetric(
        name="mypay_instructions_total",
        unit="messages",
        help="Cancellations, refunds, bulks and standing orders that came, by type.",
        labels={"type": Source.REASON},
        outcomes={"initiation": {"instruction": "One came."}},
    ),
    CounterMetric(
        name="mypay_bulks_total",
        unit="bulks",
        help="Bulks by what the intake made of them.",
        labels={**_OUTCOME, **_REASON},
        outcomes={
            "initiation": {
                "bulk_accepted": "It was accepted.",
                "bulk_refused": "It was refused.",
                "bulk_repeated": "It had come before.",
            }
        },
        prefix="bulk_",
        reasons={"bulk_refused": _CODES},
    ),
    CounterMetric(
        name="mypay_bulk_items_rejected_total",
        unit="items",
        help="Items of bulks that were turned away.",
        outcomes={"initiation": {"bulk_item_rejected": "An item."}},
    ),
    CounterMetric(
        name="mypay_standing_orders_total",
        unit="standing orders",
        help="Standing orders by what became of them.",
        labels=_OUTCOME,
        outcomes={
            "initiation": {
                "standing_order": "It was created or cancelled.",
                "standing_order_refused": "It, or its cancellation, was refused.",
            },
            "schedule": {
                "standing_order_completed": "It ended by itself.",
                "day_moved": "Its next day moved by a change of the calendar.",
            },
        },
    ),
    CounterMetric(
        name="mypay_occurrences_total",
        unit="payments",
        help="Occurrences of standing orders.",
        labels=_OUTCOME,
        outcomes={
            "schedule": {
                "occurrence": "It became a payment.",
                "occurrence_missed": "Its day was missed: told as rejected.",
            }
        },
    ),
    CounterMetric(
        name="mypay_scheduled_orders_total",
        unit="orders",
        help="Orders whose day has come.",
        labels={**_OUTCOME, **_REASON},
        outcomes={
            "schedule": {
                "order_dispatched": "It was handed on.",
                "order_rejected": "It was refused.",
                "order_unreadable": "It cannot be read.",
            }
        },
        prefix="order_",
        reasons={"order_rejected": _CODES},
    ),
    CounterMetric(
        name="mypay_refunds_total",
        unit="refunds",
        help="Refunds by what the intake made of them; those that became no payment are refusals.",
        labels=_OUTCOME,
        outcomes={
            "refund": {
                "dispatched": "It was handed to its network.",
                "rejected": "It became a payment that was refused.",
                "repeated": "It had come before.",
            }
        },
    ),
    CounterMetric(
        name="mypay_cancellations_total",
        unit="cancellations",
        help="Cancellations that were accepted, by their effect.",
        labels={"effect": Source.REASON},
        outcomes={"cancellation": {"accepted": "It was accepted."}},
    ),
    CounterMetric(
        name="mypay_executed_orders_total",
        unit="orders",
        help="Dispatched orders that execution made no payment of.",
        labels=_OUTCOME,
        outcomes={
            "execution": {
                "repeated": "It had come before.",
                "order_id_taken": "Its id is used by another order.",
            }
        },
    ),
    CounterMetric(
        name="mypay_payments_taken_over_total",
        unit="payments",
        help="Payments that a dead worker left behind, and another took over.",
        labels=_NETWORK,
        outcomes={"execution": {"taken_over": "One."}},
    ),
    CounterMetric(
        name="mypay_follow_ups_repeated_total",
        unit="requests",
        help="Inquiries and reversals that settled nothing, by the answer's code, and are sent again.",
        labels={**_STAGE, **_NETWORK, "code": Source.REASON},
        outcomes={
            "inquiry": {"repeated": "It is asked again."},
            "reversal": {"repeated": "It was not confirmed, and is repeated."},
        },
    ),
    CounterMetric(
        name="mypay_follow_up_alerts_total",
        unit="alerts",
        help="Reversals that stay open too long, at each attempt: the network's operator must help.",
        labels={**_STAGE, **_NETWORK},
        outcomes={"reversal": {"alert": "A reversal."}},
    ),
    CounterMetric(
        name="mypay_payments_settled_total",
        unit="payments",
        help="Payments that their network cleared.",
        labels=_NETWORK,
        outcomes={"settlement": {"settled": "One."}},
    ),
)

_ALARMING: Final = (
    CounterMetric(
        name="mypay_incidents_total",
        unit="incidents",
        help="What people must look at; the log says what.",
        labels=_STAGE,
        outcomes={ANY_STAGE: {"incident": "One."}},
    ),
    CounterMetric(
        name="mypay_payments_unwritable_total",
        unit="payments",
        help="Payments that the database refuses to move: a bug.",
        labels=_STAGE,
        outcomes={ANY_STAGE: {"unwritable": "One."}},
    ),
    CounterMetric(
        name="mypay_untrusted_records_total",
        unit="records",
        help="Records on internal topics that the gateway did not write; each is an incident too.",
        labels=_STAGE,
        outcomes={ANY_STAGE: {"untrusted": "One."}},
    ),
    CounterMetric(
        name="mypay_failures_total",
        unit="failures",
        help="Batches and records that met a bug; the record is parked, and the log says where.",
        labels=_STAGE,
        outcomes={ANY_STAGE: {"failed": "One."}},
    ),
    CounterMetric(
        name="mypay_batches_unread_total",
        unit="batches",
        help="Batches of records that were passed over unread; their places are dead letters.",
        labels=_STAGE,
        outcomes={ANY_STAGE: {"unread": "One."}},
    ),
    CounterMetric(
        name="mypay_uses_after_end_total",
        unit="uses",
        help="Uses of a consent that were decided after its end: a bug.",
        labels=_STAGE,
        outcomes={
            "execution": {"intent_after_end": "A payment was begun."},
            "portability": {"export_after_end": "An export became whole."},
            "portability_api": {"pull_after_end": "A call was answered."},
            "sharing": {"share_after_end": "A share was decided."},
            "marketing": {"offer_after_end": "An offer was made, or a use of one counted."},
        },
    ),
    CounterMetric(
        name="mypay_dead_letters_total",
        unit="records",
        help="Records that were parked as they came; no partner is told.",
        labels={**_STAGE, **_REASON},
        outcomes={
            stage: {"dead_letter": text}
            for stage, text in {
                "initiation": "An order that is nobody's.",
                "consents": "A command that is nobody's.",
                "execution": "A dispatched record that cannot be read.",
                "settlement": "A clearing record that cannot be read.",
                "clearing_import": "The report of a file that was not imported whole.",
                "portability": "A record that nobody is known to have signed.",
                "sharing": "A record that confirms nothing.",
                "marketing": "A record that tells of no use.",
            }.items()
        },
        reasons={"dead_letter": ("", "DS0B", "DS0C", "DS0D", "DS0E", "DS17", "DS19", "AG01", "FF01", "FF02")},
    ),
    CounterMetric(
        name="mypay_results_ignored_total",
        unit="results",
        help="Results that change nothing in the payment's state (`reason`: state and result).",
        labels={**_STAGE, **_REASON},
        outcomes={ANY_STAGE: {"ignored_result": "One."}},
    ),
    CounterMetric(
        name="mypay_approvals_undone_total",
        unit="payments",
        help="Approvals that came too late for their payment, and are being reversed.",
        labels=_STAGE,
        outcomes={ANY_STAGE: {"undone": "One."}},
    ),
    CounterMetric(
        name="mypay_cards_not_opened_total",
        unit="cards",
        help="Funding tokens whose card cannot be used, by why.",
        labels={**_STAGE, **_REASON},
        outcomes={ANY_STAGE: {"card_not_opened": "One."}},
    ),
    CounterMetric(
        name="mypay_log_fields_dropped_total",
        unit="fields",
        help="Fields of log lines that may not be logged: a slip in the code.",
        outcomes={"log": {"field_dropped": "One."}},
    ),
)

COUNTERS: Final = (*_PAYMENTS, *_ALARMING, *COUNTERS_OF_DATA, *COUNTERS_OF_PARTS)
"""All of them."""
