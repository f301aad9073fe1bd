-- An event's place in the outbox must not be that of its transaction's number alone: a transaction may take its number
-- early, wait for a payment that a younger one has locked, and tell of that payment after it. So an event stands behind
-- every transaction that had ended when it was appended; what was waited for is among them. (xid8 has no arithmetic.)
ALTER TABLE outbox ALTER COLUMN tx SET DEFAULT greatest(
    pg_current_xact_id(),
    (pg_snapshot_xmax(pg_current_snapshot())::text::numeric - 1)::text::xid8
);
