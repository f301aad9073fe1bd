"""What one operator may hurry: asking a network about a payment, reminding an affiliate. Neither decides anything."""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from gateway.app.errors import OperationRefusedError
from gateway.app.registries import open_registries
from gateway.payments.rules.payment import PaymentKey

ASKED: Final = "The network is asked about it at once, or as soon as it is open."
REVERSED: Final = "Its reversal is sent again at once, or as soon as the network is open."
REMINDED: Final = "The affiliate is reminded within a minute."


async def inquire_now(dsn: str, key: PaymentKey) -> str:
    """Let the network be asked about an unknown payment now, or one that is being reversed be sent its reversal again.

    Args:
        dsn: the database, as the operator.
        key: the payment's.

    Raises:
        OperationRefusedError: nothing of it waits for a later time.
    """
    now = datetime.now(UTC)
    async with open_registries(dsn) as registries, registries.follow_ups.transaction() as uow:
        if await uow.inquiries.hurry([key], now=now):
            return ASKED
        if await uow.reversals.hurry([key], now=now):
            return REVERSED
    raise OperationRefusedError(
        "Nothing about this payment waits for a later time: the network is being asked, or its outcome is known.",
        hint="`mypay trace` tells its story.",
    )


async def remind(dsn: str, notice_id: UUID) -> str:
    """Let an affiliate be sent an erase notice again that it has not confirmed.

    Args:
        dsn: the database, as the operator.
        notice_id: the notice's.

    Raises:
        OperationRefusedError: there is none, or it is confirmed.
    """
    async with open_registries(dsn) as registries, registries.shares.transaction() as uow:
        if not await uow.sharing.ask_reminder(notice_id, now=datetime.now(UTC)):
            raise OperationRefusedError(
                "There is no such erase notice that is not confirmed.", hint="`mypay sharing list` shows them."
            )
    return REMINDED
