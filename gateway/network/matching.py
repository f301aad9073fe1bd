"""Which answer belongs to which request: what a host echoes, and how much of it must agree.

Hosts differ: some stamp a time of their own into DE7 of an answer, some leave DE41 or DE37 out. The rule is a setting
of the network; each is as strict as the hosts that need it allow. Whether DE4 and DE37 of a matched answer agree with
what was asked is judged apart (:mod:`gateway.payments.unknown.verdicts`), for there a difference is an incident.
"""

from enum import StrEnum, unique
from typing import assert_never

from gateway.network.exchange import Echoed, TraceNumbers


@unique
class MatchBy(StrEnum):
    """What must agree beside the class of the message and DE11."""

    STRICT = "strict"  # DE41 and DE7, both echoed
    REFERENCE = "reference"  # DE37; or DE41 with, where there is no DE37, DE7. A DE41 that is echoed agrees
    TERMINAL = "terminal"  # DE41: for a host that echoes neither DE37 nor DE7
    STAN = "stan"  # nothing more, but a DE41 that is echoed agrees: for a host that echoes none of them


def answers_to(trace: TraceNumbers, echoed: Echoed, by: MatchBy) -> bool:
    """Tell whether an answer belongs to the request that was sent under ``trace``."""
    if echoed.stan != trace.stan:
        return False
    same_terminal = echoed.terminal_id == trace.terminal_id
    match by:
        case MatchBy.STRICT:
            return same_terminal and _same_time(trace, echoed)
        case MatchBy.REFERENCE:
            if echoed.terminal_id is None:
                return echoed.rrn == trace.rrn
            # With the terminal's own number an RRN that differs is no other message, but a wrong answer.
            return same_terminal and (echoed.rrn is not None or _same_time(trace, echoed))
        case MatchBy.TERMINAL:
            return same_terminal
        case MatchBy.STAN:
            return same_terminal or echoed.terminal_id is None
        case _:
            assert_never(by)


def _same_time(trace: TraceNumbers, echoed: Echoed) -> bool:
    return echoed.transmitted_at == f"{trace.transmitted_at:%m%d%H%M%S}"
