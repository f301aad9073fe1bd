-- The outbox becomes partitioned by its order, so that what is old is dropped and not deleted. In three steps, for none may
-- hold payments up while the whole table is read: here a bound for what is there, far beyond the transactions that run.
DO $$
BEGIN
    EXECUTE format('ALTER TABLE outbox ADD CONSTRAINT outbox_first_bound CHECK (tx < %L::xid8) NOT VALID', greatest(
        pg_snapshot_xmax(pg_current_snapshot())::text::numeric + 16777216,
        -- Of a cluster that was restored from another one's dump.
        (SELECT tx::text::numeric + 1 FROM outbox ORDER BY tx DESC LIMIT 1)
    ));
END $$;
