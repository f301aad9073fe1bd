"""Which end each produced record came to, by the traces that it left.

Records are taken in the order of the topic, each claims its own trace, and no trace is claimed twice: a record without
one was lost, a trace without a record came from nowhere. In this order:

1. a dead letter that names its partition and offset;
2. a refusal that names them (or, where the order was dispatched first, one of this order id under a dispatch topic);
3. the payment of its order id, if it is the first record with exactly the payment's bytes;
4. if it is a repetition of these bytes: an event that told the payment's state again.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from gateway.proving.books.evidence import DeadLetterRow, Ending, Evidence, OrderFacts, PaymentKey, PaymentRow, Produced
from schemas.topics import ORDERS, PORTABILITY_REQUESTS

FINAL: Final = {
    "settled": Ending.SETTLED,
    "declined": Ending.DECLINED,
    "rejected": Ending.REJECTED,
    "reversed": Ending.REVERSED,
}
"""Payment states that are an end. Approved is none: the network has not cleared it yet."""


@dataclass(slots=True)
class Endings:
    """How every record ended.

    Attributes:
        of: one ending a produced record, in their order.
        repeats: indexes of records that repeated an order and were answered without effect.
        doubled: records with more than one end.
        strays: traces that no produced record accounts for.
        reasons: index of a rejected, declined or dead record → why.
    """

    of: list[Ending] = field(default_factory=list)
    repeats: set[int] = field(default_factory=set)
    doubled: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)

    def counts(self) -> Counter[Ending]:
        """Records by ending."""
        return Counter(self.of)


def endings_of(evidence: Evidence, *, redelivery: bool = False) -> Endings:
    """Find each produced record's end.

    Args:
        evidence: all three sides.
        redelivery: stages were killed or restarted, so that a record may be handled twice without effect: repeated
            dead letters and repeated answers are then no violation.
    """
    return _Matcher(evidence, redelivery=redelivery).run()


class _Matcher:
    def __init__(self, evidence: Evidence, *, redelivery: bool) -> None:
        self._evidence = evidence
        self._redelivery = redelivery
        self._result = Endings()
        self._dead: dict[tuple[int, int], list[DeadLetterRow]] = defaultdict(list)
        self._refused: dict[str, str] = {}
        self._refused_later: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._told_again: Counter[str] = Counter()
        self._claimed: set[PaymentKey] = set()

    def run(self) -> Endings:
        self._sort_traces()
        for index, record in enumerate(self._evidence.produced):
            endings = self._ends_of(index, record)
            if len(endings) > 1:
                self._result.doubled.append(f"{record.place}: {', '.join(endings)}")
            self._result.of.append(endings[0] if endings else Ending.UNKNOWN)
        self._find_strays()
        return self._result

    def _sort_traces(self) -> None:
        forged = {(f.topic, f.partition, f.offset) for f in self._evidence.forged}
        for letter in self._evidence.dead_letters:
            if letter.topic == ORDERS:
                self._dead[letter.partition, letter.offset].append(letter)
            elif (letter.topic, letter.partition, letter.offset) not in forged:
                self._result.strays.append(f"dead letter of {letter.topic}/{letter.partition}/{letter.offset}")
        for refusal in self._evidence.refusals:
            if refusal.reference.startswith(f"{ORDERS}/"):
                self._refused[refusal.reference] = refusal.reason_code
            elif not refusal.reference.startswith(f"{PORTABILITY_REQUESTS}/"):
                self._refused_later[refusal.partner_id, refusal.order_id].append(refusal.reason_code)
        seen: set[str] = set()
        for event in self._evidence.events:
            if event.kind == "payment.reported" and event.event_id not in seen:
                seen.add(event.event_id)
                self._told_again[event.subject] += 1

    def _ends_of(self, index: int, record: Produced) -> list[Ending]:
        endings: list[Ending] = []
        reasons = self._result.reasons
        letters = self._dead.pop((record.partition, record.offset), [])
        if letters:
            endings.extend([Ending.DEAD_LETTER] * (1 if self._redelivery else len(letters)))
            reasons[index] = letters[0].reason_code or letters[0].error
        refused = self._refused.pop(f"{ORDERS}/{record.partition}/{record.offset}", None)
        if refused is not None:
            endings.append(Ending.REJECTED)
            reasons[index] = refused
        if record.order is None:
            return endings
        key = (record.order.partner_id, record.order.payment_id)
        payment = self._evidence.payments.get(key)
        if payment is not None and payment.digest == record.digest and key not in self._claimed:
            # A record that was refused or parked has no claim on the payment of another with the same bytes.
            if not endings:
                self._claimed.add(key)
                endings.append(FINAL.get(payment.state, Ending.UNKNOWN))
                if payment.reason_code:
                    reasons[index] = payment.reason_code
        elif not endings:
            endings.extend(self._end_beside(index, record.order, same=_same(payment, record)))
        return endings

    def _end_beside(self, index: int, order: OrderFacts, *, same: bool) -> Iterable[Ending]:
        """The end of a record whose order id belongs to an earlier one."""
        subject = str(order.payment_id)
        if same:
            if self._told_again[subject] == 0:
                return ()
            self._told_again[subject] -= 1
            self._result.repeats.add(index)
            return (Ending.REJECTED,)
        pool = self._refused_later.get((order.partner_id, order.order_id))
        if not pool:
            return ()
        self._result.reasons[index] = pool.pop()
        return (Ending.REJECTED,)

    def _find_strays(self) -> None:
        strays = self._result.strays
        strays.extend(f"payment {key[1]}" for key in self._evidence.payments.keys() - self._claimed)
        strays.extend(f"refusal {reference}" for reference in self._refused)
        strays.extend(f"dead letter {partition}/{offset}" for partition, offset in self._dead)
        if self._redelivery:
            return
        strays.extend(f"refusal of order {key[1]}" for key, left in self._refused_later.items() for _ in left)
        strays.extend(f"repeated answer for payment {subject}" for subject, left in self._told_again.items() if left)


def _same(payment: PaymentRow | None, record: Produced) -> bool:
    return payment is not None and payment.digest == record.digest
