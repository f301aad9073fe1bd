"""The requests of a network that wait for their answers, over all of its links."""

from gateway.network.exchange import Echoed
from gateway.network.iso8583.connection import Exchange
from gateway.network.matching import MatchBy, answers_to

_Key = tuple[str, int]


class InFlight:
    """Exchanges by the class of their answer and their STAN, which few ever share.

    Attributes:
        orders: how many are payments' own messages; the others are follow-ups.
    """

    def __init__(self, by: MatchBy) -> None:
        self._by = by
        self._exchanges: dict[_Key, list[Exchange]] = {}
        self._count = 0
        self.orders = 0

    def __len__(self) -> int:
        return self._count

    def add(self, exchange: Exchange) -> bool:
        """Take one; False, and nothing is taken, where its answer could not be told from another's."""
        waiting = self._exchanges.setdefault(_key(exchange), [])
        if waiting:
            trace = exchange.trace
            alike = Echoed(trace.stan, trace.terminal_id, trace.rrn, f"{trace.transmitted_at:%m%d%H%M%S}")
            if any(answers_to(other.trace, alike, self._by) for other in waiting):
                return False
        waiting.append(exchange)
        self._count += 1
        self.orders += exchange.is_order
        return True

    def remove(self, exchange: Exchange) -> None:
        """Forget one that has ended."""
        key = _key(exchange)
        waiting = self._exchanges[key]
        waiting.remove(exchange)
        if not waiting:
            del self._exchanges[key]
        self._count -= 1
        self.orders -= exchange.is_order

    def find(self, mti: str, echoed: Echoed) -> Exchange | None:
        """The one that an answer belongs to; None where there is none, or more than one."""
        found: Exchange | None = None
        for exchange in self._exchanges.get((mti, echoed.stan), ()):
            if answers_to(exchange.trace, echoed, self._by):
                if found is not None:
                    return None
                found = exchange
        return found


def _key(exchange: Exchange) -> _Key:
    return (exchange.response_mti, exchange.trace.stan)
