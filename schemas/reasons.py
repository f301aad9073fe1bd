"""ISO 20022 status and reason codes that the gateway emits: one table, with the codes' official names.

Names are those of the external code sets ExternalPaymentTransactionStatus1Code and ExternalStatusReason1Code; for the
answers to cancellations also of ExternalPaymentCancellationRejection1Code.
"""

from enum import StrEnum, unique
from typing import Annotated

from pydantic import StringConstraints

from schemas.primitives import Model


@unique
class PaymentStatus(StrEnum):
    """ISO 20022 transaction status, as emitted."""

    PDNG = "PDNG"  # Pending
    ACTC = "ACTC"  # AcceptedTechnicalValidation
    ACSP = "ACSP"  # AcceptedSettlementInProcess
    ACSC = "ACSC"  # AcceptedSettlementCompletedDebitorAccount
    RJCT = "RJCT"  # Rejected
    CANC = "CANC"  # Cancelled


@unique
class ReasonCode(StrEnum):
    """Why a payment was refused, declined or undone, or a cancellation refused."""

    AB05 = "AB05"  # TimeoutCreditorAgent
    AB07 = "AB07"  # OfflineAgent
    AB08 = "AB08"  # OfflineCreditorAgent
    AC03 = "AC03"  # InvalidCreditorAccountNumber
    AC06 = "AC06"  # BlockedAccount
    AC07 = "AC07"  # ClosedCreditorAccountNumber
    AC16 = "AC16"  # CardNumberInvalid
    AG01 = "AG01"  # TransactionForbidden
    AG13 = "AG13"  # ForbiddenReturnPayment
    AGNT = "AGNT"  # IncorrectAgent
    AM02 = "AM02"  # NotAllowedAmount
    AM03 = "AM03"  # NotAllowedCurrency
    AM04 = "AM04"  # InsufficientFunds
    AM05 = "AM05"  # Duplication
    AM10 = "AM10"  # InvalidControlSum
    AM12 = "AM12"  # InvalidAmount
    AM13 = "AM13"  # AmountExceedsClearingSystemLimit
    AM14 = "AM14"  # AmountExceedsAgreedLimit
    AM18 = "AM18"  # InvalidNumberOfTransactions
    AM21 = "AM21"  # LimitExceeded
    ARDT = "ARDT"  # AlreadyReturned (cancellation rejection)
    DS02 = "DS02"  # OrderCancelled
    DS0A = "DS0A"  # DataSignRequested
    DS0B = "DS0B"  # UnknownDataSignFormat
    DS0C = "DS0C"  # SignerCertificateRevoked
    DS0D = "DS0D"  # SignerCertificateNotValid
    DS0E = "DS0E"  # IncorrectSignerCertificate
    DS0F = "DS0F"  # SignerCertificationAuthoritySignerNotValid
    DS0G = "DS0G"  # NotAllowedPayment
    DS0H = "DS0H"  # NotAllowedAccount
    DS15 = "DS15"  # IdenticalSignatureFound
    DS17 = "DS17"  # DifferentOrderDataInSignatures
    DS19 = "DS19"  # ElectronicSignatureRightsInsufficient
    DS24 = "DS24"  # WaitingTimeExpired
    DT01 = "DT01"  # InvalidDate
    DT04 = "DT04"  # FutureDateNotSupported
    DUPL = "DUPL"  # DuplicatePayment
    FF01 = "FF01"  # InvalidFileFormat
    FF02 = "FF02"  # SyntaxError
    FRAD = "FRAD"  # FraudulentOrigin
    MD01 = "MD01"  # NoMandate
    MS03 = "MS03"  # NotSpecifiedReasonAgentGenerated
    NARR = "NARR"  # Narrative
    NOOR = "NOOR"  # NoOriginalTransactionReceived (cancellation rejection)
    SL11 = "SL11"  # CreditorNotOnWhitelistOfDebtor
    SL12 = "SL12"  # CreditorOnBlacklistOfDebtor
    SL13 = "SL13"  # MaximumNumberOfDirectDebitTransactionsExceeded
    SL14 = "SL14"  # MaximumDirectDebitTransactionAmountExceeded
    TKCM = "TKCM"  # TokenCounterpartyMismatch
    TKSG = "TKSG"  # TokenSingleUse
    TKSP = "TKSP"  # TokenSuspended
    TKVE = "TKVE"  # TokenValueExceeded
    TKXP = "TKXP"  # TokenExpired
    TM01 = "TM01"  # InvalidCutOffTime


class Reason(Model):
    """A refusal, told to the partner: the code, a sentence, and where it applies the network's raw code or the limit.

    Attributes:
        code: ISO 20022 reason.
        text: one sentence that names the field or rule; never contains input.
        network_code: the network's own raw code (DE39), where a network decided.
    """

    code: ReasonCode
    text: Annotated[str, StringConstraints(max_length=500)]
    network_code: Annotated[str, StringConstraints(max_length=2)] | None = None
