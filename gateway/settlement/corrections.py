"""Taking clearing records in: new ones, repeated ones, and those by which a network corrects what it told before.

A correction supersedes: the record before it is kept beside it, a payment that it had settled is approved again and its
settlement booked back, and the corrected record is then matched as if it were new. A record from an older file than the
one that stands changes nothing. Must run inside a transaction; takes the locks of clearing records that are there, then
payments'. New records are written last, with what became of them: one row each, once.
"""

from dataclasses import dataclass, field
from datetime import datetime

from gateway.payments.rules.lifecycle import PaymentEventKind
from gateway.payments.rules.payment import Change, PaymentKey
from gateway.payments.transitions import apply_changes
from gateway.settlement.rules import Repeated, StoredRecord, changed_fields, judge_repeated
from gateway.settlement.store import SettlementUnit
from schemas.clearing import ClearingBatch, ClearingRecord
from schemas.events import ClearingCorrection
from schemas.primitives import MerchantId
from schemas.reasons import Reason, ReasonCode


@dataclass(slots=True)
class SortedRecords:
    """What a batch of clearing records is.

    Attributes:
        to_match: new and corrected records.
        new: those of them that are not stored yet: written with their outcome, when it is known.
        corrections: told to whom settlement is told.
        undone: records that had settled a payment and were superseded, with its merchant.
        stale: records of older files, or superseded ones delivered again.
    """

    to_match: list[ClearingRecord] = field(default_factory=list)
    new: list[ClearingRecord] = field(default_factory=list)
    corrections: list[ClearingCorrection] = field(default_factory=list)
    undone: list[tuple[ClearingRecord, MerchantId]] = field(default_factory=list)
    stale: int = 0


async def sort_records(
    uow: SettlementUnit, batch: ClearingBatch, *, created_at: datetime, now: datetime
) -> SortedRecords:
    """Tell a batch's new records from those that are stored, and undo what its corrections supersede.

    Args:
        uow: the transaction.
        batch: no number stands in it twice.
        created_at: when the network made the file that it is from.
        now: when it is taken in.
    """
    network_id, cycle_id = batch.network_id, batch.cycle_id
    stored = await uow.clearing.lock(network_id, cycle_id, [r.record_no for r in batch.records])
    new = [r for r in batch.records if r.record_no not in stored]
    sorted_records = SortedRecords(to_match=list(new), new=new)
    known = [r for r in batch.records if r.record_no in stored]
    if not known:
        return sorted_records
    changed = [r.record_no for r in known if changed_fields(stored[r.record_no].record, r)]
    earlier = await uow.clearing.earlier(network_id, cycle_id, changed) if changed else {}
    same: list[int] = []
    corrected: list[tuple[ClearingRecord, StoredRecord]] = []
    for record in known:
        before = stored[record.record_no]
        match judge_repeated(record, created_at, before, earlier.get(record.record_no, ()), now):
            case Repeated.SAME:
                same.append(record.record_no)
            case Repeated.CORRECTION:
                corrected.append((record, before))
            case Repeated.STALE:
                sorted_records.stale += 1
    if same:
        await uow.clearing.confirm(network_id, cycle_id, same, created_at=created_at)
    if corrected:
        await _correct(uow, batch, corrected, sorted_records, created_at=created_at, now=now)
    return sorted_records


async def _correct(
    uow: SettlementUnit,
    batch: ClearingBatch,
    corrected: list[tuple[ClearingRecord, StoredRecord]],
    sorted_records: SortedRecords,
    *,
    created_at: datetime,
    now: datetime,
) -> None:
    records = [record for record, _ in corrected]
    await uow.clearing.supersede(batch.network_id, batch.cycle_id, records, created_at=created_at, now=now)
    settled: dict[PaymentKey, ClearingRecord] = {}
    changes: list[Change] = []
    for record, before in corrected:
        told = ClearingCorrection.of_stored(
            record_no=record.record_no,
            changed=changed_fields(before.record, record),
            amount_minor_before=before.record.amount_minor,
            currency_before=before.record.currency,
            amount_minor=record.amount_minor,
            currency=record.currency,
            payment_id_before=before.settled and before.settled[1],
        )
        sorted_records.corrections.append(told)
        if before.settled is not None:
            settled[before.settled] = before.record
            changes.append(Change(before.settled, PaymentEventKind.UNCLEARED, _reason(batch, told)))
    # At once with those that the records name now: whoever else moves some of these locks them in one order, too.
    named = {r.rrn for r in (*sorted_records.to_match, *records)}
    keys = await uow.payments.keys_by_rrn(batch.network_id, sorted(named))
    locked = await uow.payments.lock(sorted({*keys.values(), *settled}))
    applied = await apply_changes(uow, changes, now=now, locked=locked)
    sorted_records.undone += [(settled[p.key], p.merchant_id) for p in applied.changed]
    sorted_records.to_match += records


def _reason(batch: ClearingBatch, told: ClearingCorrection) -> Reason:
    place = f"cycle {batch.cycle_id}, record {told.record_no}"
    text = f"the network corrected {', '.join(told.changed)} in its clearing ({place}); settled no more"
    return Reason(code=ReasonCode.NARR, text=text)
