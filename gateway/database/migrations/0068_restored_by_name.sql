-- Where nobody is told as the sender, `=` is neither true nor false, and a constraint lets that pass.
ALTER TABLE payment
    DROP CONSTRAINT payment_sent_has_trace,
    ADD CONSTRAINT payment_sent_has_trace CHECK (
        state IN ('rejected', 'scheduled')
        OR num_nulls(network_id, terminal_id, stan, rrn, transmitted_at) = 0
        OR (state = 'reversed' AND num_nonnulls(terminal_id, stan, rrn, transmitted_at) = 0)
        OR (state = 'unknown' AND sent_by IS NOT DISTINCT FROM 'restored' AND network_id IS NOT NULL
            AND num_nonnulls(terminal_id, stan, rrn, transmitted_at) = 0)) NOT VALID;
