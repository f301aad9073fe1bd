"""By which fault each alert was seen to fire on a gateway at work, and what ended it.

Tests cause each of these faults under a real Prometheus; the alerts' page shows this table.
"""

from collections.abc import Mapping
from typing import Final

# fmt: off
FAULTS: Final[Mapping[str, str]] = {
    "PaymentUnknownTooLong": "a network answered nothing and was killed; it came back, and the payments were reversed",
    "PaymentSentTooLong": "an execution was killed amid payments; another was started, and took them over",
    "ReversalUnconfirmed": "a network answered no reversal; it answered again",
    "Incident": "a record without a mark on `mypay.dispatch.bcard`; it happened once",
    "PaymentUnwritable": "a planted trigger refused a payment's approval; the trigger was taken away",
    "UseAfterConsentEnd": "a consent was revoked by a clock that was behind; the stage that is named was stopped",
    "UntrustedRecord": "a record without a mark on `mypay.dispatch.bcard`; it happened once",
    "BatchUnread": "a batch that unpacks beyond all bounds among the orders; it happened once",
    "StageFailing": "a planted trigger refused a row of the intake; it was taken away and the dead letter sent again",
    "NetworkClosed": "a network was killed; it was started",
    "NetworkLinkDown": "a network was killed; it was started",
    "NetworkAnswersBadly": "a network answered 60 payments with silence; it answered again",
    "ClearingLate": "no cycle was closed; the networks' files came",
    "ClearingFileRefused": "a file whose trailer did not agree; the corrected file was imported",
    "BreaksOpen": "a record of a wrong amount, a day old; the corrected file was imported",
    "ScheduledOrdersLate": "a session held a lock on an order that waited for its day; it was ended",
    "ProcessDown": "every relay was killed; they were started",
    "ProcessMissing": "settlement was stopped; it was started",
    "DependencyDown": "Kafka was stopped; it was started",
    "RelayLeaderless": "every relay was killed; they were started",
    "EventsLate": "every relay was killed; they were started",
    "EventsParked": "a partner without a topic was told something; `mypay topics apply`",
    "ConsumerLate": "a network was killed while orders came; it was started",
    "RecordsGone": "orders were deleted from their topic while initiation was stopped; it happened once",
    "RecordTooLarge": "a partner's topic took no record of more than 100 bytes; `mypay topics apply`",
    "OpenTransaction": "a producer left a transaction open; it committed",
    "DatabasePoolExhausted": "a lock stood in the way of an execution with one connection; it was ended",
    "DiskFilling": "a file took the room; it was deleted",
    "ClockWrong": "the clock of a process jumped by an hour; it was set right",
    "KeyTableOld": "a session held a lock on the partners' keys; it was ended",
    "TrustTableOld": "a provider's key set could not be read; it was put back",
    "TrustPolicyDiffers": "another policy was applied than the files say; `mypay auth policy apply` of these",
    "NoProofAsked": "a process ran with `MYPAY_ALLOW_NO_PROOF`; it was stopped",
    "DeadLetters": "records that nobody can read among the orders; they ended",
    "PartnerKeysEnding": "a partner's only key had three days left; `mypay partner key add`",
    "CertificateEnding": "the API's certificate had three days left; a new one, and a restart",
    "ReportsUntold": "a process with a planted slip reported under an unknown name; it was stopped",
    "ErasureOverdue": "an affiliate's time was up; `mypay sharing erased`",
    "DisclosureLate": "a planted trigger slowed the log's writes; it was taken away",
    "DisclosureLeaderless": "the sequencer was killed; it was started",
    "ExportsLate": "a recipient's topic was missing; `mypay topics apply`",
    "LatencyBudgetBurningFast": "a network took 1.5 s to answer 60 payments; it answered at once again",
    "LatencyBudgetBurningSlowly": "likewise",
    "ToldBudgetBurningFast": "a session held a lock on the relay's place for more than five seconds; it was ended",
    "ToldBudgetBurningSlowly": "likewise",
    "AvailabilityBudgetBurningFast": "a network answered 60 payments with silence; it answered again",
    "AvailabilityBudgetBurningSlowly": "likewise",
}
# fmt: on
"""Alert → the fault, and what ended it."""
