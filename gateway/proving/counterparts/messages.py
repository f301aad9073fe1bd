"""A decoded message ↔ what the ledger is asked, and the answer that goes back.

Refusals here are those of a host's front door: a message that it cannot even look up is answered 30 (format error) or
12 (invalid transaction) and never reaches the ledger.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

import iso4217

from gateway.network.iso8583.sections import ProcessingCodes
from gateway.proving.counterparts.config import MessageClass
from gateway.proving.counterparts.records import Operation, Request
from gateway.proving.counterparts.wire import MTI

FORMAT_ERROR: Final = "30"
INVALID_TRANSACTION: Final = "12"
SYSTEM_UNAVAILABLE: Final = "91"

SIGN_ON: Final = "001"
SIGN_OFF: Final = "002"
KEY_CHANGE: Final = "161"
ECHO: Final = "301"

MONEY_CLASSES: Final[Mapping[str, MessageClass]] = {
    "0100": MessageClass.INQUIRY,
    "0200": MessageClass.FINANCIAL,
    "0420": MessageClass.REVERSAL,
    "0421": MessageClass.REVERSAL,
}
"""The requests that the host takes, by MTI."""

_ANSWER_MTI: Final = {"0100": "0110", "0200": "0210", "0420": "0430", "0421": "0430", "0800": "0810"}
_ECHOED: Final = (3, 4, 7, 11, 24, 37, 41, 42, 49)
_KEY_FIELDS: Final = frozenset({3, 4, 7, 11, 41})
_OPERATIONS: Final = {"00": Operation.PURCHASE, "20": Operation.REFUND}
_STANDARD_CODES: Final = ProcessingCodes()
_ORIGINAL_MTI: Final = "0200"
# Codes without a minor unit are metals, funds and "no currency": nothing is bought with them.
_CURRENCIES: Final[Mapping[str, str]] = {f"{c.number:03d}": c.code for c in iso4217.Currency if c.exponent is not None}


def is_answerable(fields: Mapping[int, str]) -> bool:
    """Tell whether a request has what its answer must echo."""
    return fields.keys() >= _KEY_FIELDS


def request_of(
    message_class: MessageClass,
    fields: Mapping[int, str],
    pan_hash_key: bytes | None,
    codes: ProcessingCodes = _STANDARD_CODES,
) -> Request | str:
    """Return what the ledger is asked, or the DE39 by which the message is refused at the door.

    Nothing of the card but its last four digits and, with a key, its keyed hash goes further than this function.
    """
    try:
        own_key = fields[41] + fields[11] + fields[7]
        rrn, acceptor, amount, numeric = fields[37], fields[42], fields[4], fields[49]
        original_data = None if message_class is MessageClass.FINANCIAL else fields[90]
        pan = "" if message_class is MessageClass.INQUIRY else fields[2]
        code = fields[3]
    except KeyError:
        return FORMAT_ERROR
    text = own_key + rrn + acceptor
    if not (text.isascii() and text.isprintable()):
        return FORMAT_ERROR
    operation = _operation(message_class, code, codes)
    if operation is None or (original_data is not None and original_data[:4] != _ORIGINAL_MTI):
        return INVALID_TRANSACTION
    return Request(
        message_class,
        own_key,
        own_key if original_data is None else fields[41] + original_data[4:20],
        operation,
        int(amount),
        _CURRENCIES.get(numeric, ""),
        rrn.rstrip(),
        acceptor.rstrip(),
        pan[-4:],
        blake2b(pan.encode(), key=pan_hash_key, digest_size=16).hexdigest() if pan and pan_hash_key else None,
    )


def _operation(message_class: MessageClass, code: str, codes: ProcessingCodes) -> Operation | None:
    if message_class is MessageClass.INQUIRY:
        # It asks about whatever its original was.
        return Operation.PURCHASE if code == codes.inquiry or code[:2] in _OPERATIONS else None
    own = {codes.purchase: Operation.PURCHASE, codes.refund: Operation.REFUND}
    return own.get(code) or _OPERATIONS.get(code[:2])


def answer(request: Mapping[int, str], response_code: str, approval_code: str | None = None) -> dict[int, str]:
    """Build the answer to a request for money: what is echoed, DE39 and, when approved, DE38."""
    fields = {number: request[number] for number in _ECHOED if number in request}
    fields[MTI] = _ANSWER_MTI[request[MTI]]
    fields[39] = response_code
    if approval_code is not None:
        fields[38] = approval_code
    return fields


def management_answer(request: Mapping[int, str], response_code: str) -> dict[int, str]:
    """Build the 0810 to an 0800."""
    return {MTI: "0810", 7: request[7], 11: request[11], 39: response_code, 70: request[70]}


def echo_request(stan: int, transmitted_at: str) -> dict[int, str]:
    """Build the host's own 0800/301."""
    return {MTI: "0800", 7: transmitted_at, 11: f"{stan:06d}", 70: ECHO}
