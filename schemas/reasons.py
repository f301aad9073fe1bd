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

    PDNG = "PDNG"
    """Pending. Nothing is decided yet."""
    ACTC = "ACTC"
    """AcceptedTechnicalValidation. Accepted, and on its way to the network."""
    ACSP = "ACSP"
    """AcceptedSettlementInProcess. Approved by the network."""
    ACSC = "ACSC"
    """AcceptedSettlementCompletedDebitorAccount. Cleared by the network."""
    RJCT = "RJCT"
    """Rejected. Refused by the gateway or declined by the network: without effect."""
    CANC = "CANC"
    """Cancelled. Undone, or cancelled before it was sent: without effect."""


@unique
class ReasonCode(StrEnum):
    """Why a payment was refused, declined or undone, or a cancellation refused."""

    AB05 = "AB05"
    """TimeoutCreditorAgent. No answer came in time, or the host does not know the outcome yet: it is settled with the
    network."""
    AB07 = "AB07"
    """OfflineAgent. The network cannot be reached, or the link was lost before the answer."""
    AB08 = "AB08"
    """OfflineCreditorAgent. The card's issuer is not available."""
    AC03 = "AC03"
    """InvalidCreditorAccountNumber. The merchant is not in the merchant directory."""
    AC06 = "AC06"
    """BlockedAccount. The card is expired, lost, stolen or restricted."""
    AC07 = "AC07"
    """ClosedCreditorAccountNumber. The merchant is no longer paid through this gateway."""
    AC16 = "AC16"
    """CardNumberInvalid. The card number is not valid, or the issuer has no such card."""
    AG01 = "AG01"
    """TransactionForbidden. It is not permitted: by the consent, the trust policy, the network, or the state of the
    payment to refund."""
    AG13 = "AG13"
    """ForbiddenReturnPayment. A refund cannot be refunded, nor cancelled once it was sent."""
    AGNT = "AGNT"
    """IncorrectAgent. No card network takes this merchant, category and currency together, or the network cannot reach
    the issuer."""
    AM02 = "AM02"
    """NotAllowedAmount. The refund is larger than what remains of the payment; the text says what remains."""
    AM03 = "AM03"
    """NotAllowedCurrency. The consent does not allow the currency, or it is not the bulk's or the original's."""
    AM04 = "AM04"
    """InsufficientFunds. The card has not enough funds."""
    AM05 = "AM05"
    """Duplication. The id was used before for other content; the text names the fields that differ."""
    AM10 = "AM10"
    """InvalidControlSum. The bulk's `control_sum` is not the sum of its items."""
    AM12 = "AM12"
    """InvalidAmount. The network finds the amount not valid, or approved a part of it only, which is reversed."""
    AM13 = "AM13"
    """AmountExceedsClearingSystemLimit. The amount is over a limit of the network: for the codes of a network's own
    alone."""
    AM14 = "AM14"
    """AmountExceedsAgreedLimit. The amount is over the card's own limit."""
    AM18 = "AM18"
    """InvalidNumberOfTransactions. The bulk's `number_of_transactions` is not the number of its items."""
    AM21 = "AM21"
    """LimitExceeded. The card has been used too often."""
    ARDT = "ARDT"
    """AlreadyReturned (cancellation rejection). The payment is undone already, or something of it was refunded."""
    DS02 = "DS02"
    """OrderCancelled. The order was cancelled before it came."""
    DS0A = "DS0A"
    """DataSignRequested. The customer's proof is missing; the text says what to obtain."""
    DS0B = "DS0B"
    """UnknownDataSignFormat. The signature or the proof cannot be read, or its algorithm is not allowed."""
    DS0C = "DS0C"
    """SignerCertificateRevoked. The key is disabled or revoked."""
    DS0D = "DS0D"
    """SignerCertificateNotValid. The key is not valid yet, or no longer."""
    DS0E = "DS0E"
    """IncorrectSignerCertificate. The key is not known."""
    DS0F = "DS0F"
    """SignerCertificationAuthoritySignerNotValid. The proof's issuer is not trusted."""
    DS0G = "DS0G"
    """NotAllowedPayment. No proof would be enough for this amount or command, or the issuer may not prove it."""
    DS0H = "DS0H"
    """NotAllowedAccount. The funding token, or the proof's subject, is not the consent's customer's."""
    DS15 = "DS15"
    """IdenticalSignatureFound. The proof was used before."""
    DS17 = "DS17"
    """DifferentOrderDataInSignatures. The signature or the proof was made for something else."""
    DS19 = "DS19"
    """ElectronicSignatureRightsInsufficient. The key is not that of the partner that the body names, or the proof is
    too weak."""
    DS24 = "DS24"
    """WaitingTimeExpired. The proof is too old or expired."""
    DT01 = "DT01"
    """InvalidDate. The dates do not go together."""
    DT04 = "DT04"
    """FutureDateNotSupported. A time lies in the future, or a day is further ahead than is taken."""
    DUPL = "DUPL"
    """DuplicatePayment. The network takes it for a duplicate."""
    FF01 = "FF01"
    """InvalidFileFormat. A field or header is wrong; the text names it and what was expected."""
    FF02 = "FF02"
    """SyntaxError. The network could not read the message, or it cannot be written for this network."""
    FRAD = "FRAD"
    """FraudulentOrigin. Suspected fraud, or a security violation."""
    MD01 = "MD01"
    """NoMandate. There is no such consent, or it is not granted, or it was rejected or revoked."""
    MS03 = "MS03"
    """NotSpecifiedReasonAgentGenerated. No reason is known, or the issuer gives none; a card that does not open is told
    so too."""
    NARR = "NARR"
    """Narrative. The text tells."""
    NOOR = "NOOR"
    """NoOriginalTransactionReceived (cancellation rejection). There is no such payment or order under this consent."""
    SL11 = "SL11"
    """CreditorNotOnWhitelistOfDebtor. The consent does not allow this merchant or its category."""
    SL12 = "SL12"
    """CreditorOnBlacklistOfDebtor. The consent blocks this merchant or its category."""
    SL13 = "SL13"
    """MaximumNumberOfDirectDebitTransactionsExceeded. A limit of the consent on the number of payments in a period is
    reached."""
    SL14 = "SL14"
    """MaximumDirectDebitTransactionAmountExceeded. A limit of the consent on the amount in a period is reached."""
    TKCM = "TKCM"
    """TokenCounterpartyMismatch. The token is another party's: for the codes of a network's own alone."""
    TKSG = "TKSG"
    """TokenSingleUse. The consent was for one payment, and that is used or in flight."""
    TKSP = "TKSP"
    """TokenSuspended. The consent is suspended."""
    TKVE = "TKVE"
    """TokenValueExceeded. The amount is over the consent's limit for one payment, or for its lifetime."""
    TKXP = "TKXP"
    """TokenExpired. The consent is past its end, or ends first."""
    TM01 = "TM01"
    """InvalidCutOffTime. It came too late: past `expires_at`, past the cut-over, or not reached in time."""


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
