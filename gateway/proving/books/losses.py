"""What was lost and what was doubled, in numbers; and checks for worlds in which everything was made to fail."""

from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from gateway.proving.books.endings import Endings
from gateway.proving.books.evidence import Checked, Ending, Evidence, Produced, ProducedCancellation
from gateway.proving.books.money import STANDS
from gateway.proving.books.report import Finding


class Losses(NamedTuple):
    """Numbers that must be zero.

    Attributes:
        lost: records without an end, and payments that stand here for which the network captured nothing.
        doubled: records with two ends, RRNs of several transactions, and captures for which nothing stands here.
    """

    lost: int
    doubled: int


def losses_of(evidence: Evidence, endings: Endings) -> Losses:
    """Count, payment by payment, what has no effect where it must have one, and more than one where it may have one."""
    captured = {(e.network_id, e.rrn) for e in evidence.network if e.state == "approved"}
    standing = {(p.network_id or "", p.rrn or "") for p in evidence.payments.values() if p.state in STANDS}
    booked = Counter((e.network_id, e.rrn) for e in evidence.network)
    return Losses(
        lost=endings.of.count(Ending.UNKNOWN) + len(standing - captured),
        doubled=len(endings.doubled) + sum(n - 1 for n in booked.values()) + len(captured - standing),
    )


def breaks_explained(evidence: Evidence) -> Checked:
    """Each break in the clearing is of a payment that was undone, and what was cleared of it adds up to nothing.

    A network that closes its cycle while a payment is in doubt clears what is reversed a moment later: it then clears
    the opposite in its next cycle. Any other break has no such excuse.
    """
    found = Finding("breaks_explained", "Every break in the clearing is of a payment undone after it was cleared")
    states = {(p.network_id, p.rrn): p.state for p in evidence.payments.values()}
    net: Counter[tuple[str, str]] = Counter()
    broken: set[tuple[str, str]] = set()
    for record in evidence.clearing:
        place = (record.network_id, record.rrn)
        net[place] += record.amount_minor if record.kind == "purchase" else -record.amount_minor
        if record.break_kind is not None:
            broken.add(place)
    for place in sorted(broken):
        found.looked_at += 1
        if states.get(place) != "reversed" or net[place]:
            found.wrong(f"{place[0]} RRN {place[1]}: a break of a payment that is {states.get(place, 'unknown here')}")
    return found.result()


def topic_holds(
    produced: Iterable[Produced],
    cancellations: Iterable[ProducedCancellation],
    on_topic: Iterable[tuple[int, int, bytes]],
) -> Checked:
    """The orders topic holds what was sent and nothing else.

    Args:
        produced: what the sender was told that Kafka has.
        cancellations: likewise; of these only the place is compared.
        on_topic: partition, offset and SHA-256 of the value of every record there.
    """
    found = Finding("topic_holds", "Kafka kept every order that it confirmed, once, and nothing else")
    sent: dict[tuple[int, int], bytes | None] = {(p.partition, p.offset): p.digest for p in produced}
    sent.update({(c.partition, c.offset): None for c in cancellations})
    for partition, offset, digest in on_topic:
        found.looked_at += 1
        if sent.pop((partition, offset), b"") not in {digest, None}:
            found.wrong(f"record {partition}/{offset} is not what was sent")
    for partition, offset in sent:
        found.wrong(f"record {partition}/{offset} was confirmed, and is not there")
    return found.result()


NETWORKS_SAKE: Final = frozenset(("AB05", "AB07", "AB08", "TM01"))
"""ISO 20022 reasons of a good order that could not be sent: nobody to send it to, or not in time."""


def turned_away_rightly(evidence: Evidence, endings: Endings, labels: frozenset[str]) -> Checked:
    """Good orders that were turned away were turned away because no network was there to take them.

    Args:
        evidence: all three sides.
        endings: of the same evidence.
        labels: of the orders that nothing else may refuse.
    """
    found = Finding("turned_away_rightly", "Good orders were turned away only where no network could take them")
    for index, (record, ending) in enumerate(zip(evidence.produced, endings.of, strict=True)):
        if record.label not in labels:
            continue
        found.looked_at += 1
        reason = endings.reasons.get(index, "no reason")
        if ending is Ending.REJECTED and reason not in NETWORKS_SAKE:
            found.wrong(f"{record.place} ({record.label}) was rejected: {reason}")
    return found.result()
