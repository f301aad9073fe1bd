"""What every session of ours asks of the server, so that nobody's locks outlive them for long.

Row locks and the relay's lead belong to a session. A process that is stopped, or a machine that is gone without a word
(no packet ends its connection), would keep them: for as long as it stands, or the two hours of TCP's own keep-alive.
"""

from typing import Final

COMMAND_TIMEOUT_S: Final = 10.0
"""A statement that takes longer counts as the database being away."""

IDLE_IN_TRANSACTION_S: Final = 10.0
"""Between two statements of a transaction nothing but computing happens: milliseconds. Past this it is undone."""


def session_settings(name: str, *, idle_in_transaction_s: float = IDLE_IN_TRANSACTION_S) -> dict[str, str]:
    """Settings of one session; ``name`` is what people see of it in ``pg_stat_activity``."""
    return {
        "application_name": name,
        "idle_in_transaction_session_timeout": str(round(idle_in_transaction_s * 1000)),
        # A peer that is gone is noticed after 25 s without an answer.
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
    }
