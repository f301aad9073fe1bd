"""``rsp_code`` and ``rsp_msg`` of the standard API, as a table. The numbers are the standard's, the words ours."""

from enum import StrEnum, unique
from typing import Final

CODES_VERSION: Final = "2023"
"""The standard's edition that the numbers were taken from."""


@unique
class RspCode(StrEnum):
    """What an answer's ``rsp_code`` says. Its first three digits are the status of HTTP, but for 00000 and 00001."""

    SUCCESS = "00000"
    """Success."""
    UP_TO_DATE = "00001"
    """Nothing has changed since `search_timestamp`."""
    PARAMETER = "40001"
    """A parameter is missing, unknown, given twice or not well formed."""
    HEADER = "40002"
    """A header is missing or not well formed."""
    VERSION = "40003"
    """This version of the API is not served."""
    RANGE = "40004"
    """A parameter is out of its range."""
    TOKEN = "40101"  # noqa: S105 - a number of the standard
    """The access token is not valid. Never sent: there are no access tokens."""
    ADDRESS = "40102"
    """The address may not call. Never sent: whoever has the certificate may call."""
    CERTIFICATE = "40103"
    """The client certificate is no active recipient's."""
    SCOPE = "40104"
    """The customer's consent does not have this scope."""
    ASSET = "40105"
    """The asset is not in the transmission request. Never sent: consents name no single assets."""
    ENDED = "40106"
    """What permitted it has ended: revoked, past its end, or lapsed."""
    CALL = "40301"
    """The call is not permitted: scheduled, where the consent permits no schedule."""
    SLOWED = "40302"
    """The call is held back. Never sent: see 42901."""
    ORG_CODE = "40303"
    """`org_code` is not this provider's."""
    TOO_OLD = "40304"
    """`from_date` lies more than five years back."""
    CLOSED = "40305"
    """The asset is closed. Never sent: what was paid with a card stays readable."""
    NO_URL = "40401"
    """There is no such resource."""
    NO_ASSET = "40402"
    """The customer has no such card."""
    NO_CUSTOMER = "40403"
    """There is no such consent of this customer for this recipient; the same for another recipient's."""
    METHOD = "40501"
    """The resource is not called with this method."""
    QUOTA = "42901"
    """Too many calls: `Retry-After` says in how many seconds to come again."""
    FAILURE = "50001"
    """What the answer is made from is away; ask again."""
    NOT_DONE = "50002"
    """The call could not be done; ask again."""
    TIMEOUT = "50003"
    """The answer took too long; ask again."""
    UNKNOWN = "50004"
    """The call failed for a reason that is not known."""
    MAINTENANCE = "50008"
    """Maintenance: the gateway is stopping; ask again."""
    HOURS = "50009"
    """Outside service hours. Never sent: there are none."""

    @property
    def status(self) -> int:
        """Of HTTP."""
        return 200 if self.value.startswith("000") else int(self.value[:3])


MESSAGES: Final = {
    RspCode.SUCCESS: "success",
    RspCode.UP_TO_DATE: "up to date",
    RspCode.PARAMETER: "invalid parameter",
    RspCode.HEADER: "invalid header",
    RspCode.VERSION: "version not served",
    RspCode.RANGE: "parameter out of range",
    RspCode.TOKEN: "invalid access token",
    RspCode.ADDRESS: "address not permitted",
    RspCode.CERTIFICATE: "certificate not permitted",
    RspCode.SCOPE: "scope not granted",
    RspCode.ASSET: "asset not in the transmission request",
    RspCode.ENDED: "transmission request ended",
    RspCode.CALL: "call not permitted",
    RspCode.SLOWED: "call held back",
    RspCode.ORG_CODE: "wrong org_code",
    RspCode.TOO_OLD: "older than five years",
    RspCode.CLOSED: "asset closed",
    RspCode.NO_URL: "no such resource",
    RspCode.NO_ASSET: "no such asset",
    RspCode.NO_CUSTOMER: "no such customer",
    RspCode.METHOD: "method not permitted",
    RspCode.QUOTA: "too many calls",
    RspCode.FAILURE: "system failure",
    RspCode.NOT_DONE: "call not done",
    RspCode.TIMEOUT: "timed out",
    RspCode.UNKNOWN: "failure",
    RspCode.MAINTENANCE: "maintenance",
    RspCode.HOURS: "outside service hours",
}
"""``rsp_msg``; after a colon it may name a member."""


class RefusedCallError(Exception):
    """A call that is answered with a fault. ``member`` names what is wrong, and holds no value of it."""

    def __init__(self, code: RspCode, member: str = "") -> None:
        self.code = code
        self.member = member
        super().__init__(message(code, member))


def message(code: RspCode, member: str = "") -> str:
    """``rsp_msg`` of a code."""
    return f"{MESSAGES[code]}: {member}" if member else MESSAGES[code]
