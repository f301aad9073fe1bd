-- After a restore to a point in time a payment may be in doubt whose trace numbers died with the database. It is UNKNOWN
-- without them until the network's clearing tells; where it was not executed it ends REVERSED without them.
-- Wider than what it takes the place of, so no row needs to be looked at.
ALTER TABLE payment
    DROP CONSTRAINT payment_sent_has_trace,
    ADD CONSTRAINT payment_sent_has_trace CHECK (
        state IN ('rejected', 'scheduled')
        OR num_nulls(network_id, terminal_id, stan, rrn, transmitted_at) = 0
        OR (state = 'reversed' AND num_nonnulls(terminal_id, stan, rrn, transmitted_at) = 0)
        OR (state = 'unknown' AND sent_by = 'restored' AND network_id IS NOT NULL
            AND num_nonnulls(terminal_id, stan, rrn, transmitted_at) = 0)) NOT VALID;
