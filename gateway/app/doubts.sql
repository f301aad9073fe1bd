-- name: alone
-- Of two people who settle at once one waits for the other, and finds nothing left.
SELECT pg_advisory_xact_lock(hashtextextended('mypay restore', 0))

-- name: in_doubt
SELECT p.partner_id, p.payment_id, p.operation, m.former_acceptors || m.acceptor_id AS acceptors, p.amount_minor,
       p.currency, p.decided_at
FROM payment p JOIN merchant m USING (merchant_id)
WHERE p.network_id = $1 AND p.state = 'unknown' AND p.rrn IS NULL

-- name: missing_here
SELECT cycle_id, record_no, kind, rrn, stan, terminal_id, acceptor_id, amount_minor, currency
FROM clearing_record
WHERE network_id = $1 AND break_kind = 'missing_here' AND created_at >= $2

-- name: give_trace
UPDATE payment p
SET terminal_id = u.terminal_id, stan = u.stan, rrn = u.rrn, transmitted_at = date_trunc('second', p.decided_at)
FROM unnest($1::text[], $2::uuid[], $3::text[], $4::integer[], $5::text[])
    AS u (partner_id, payment_id, terminal_id, stan, rrn)
WHERE (p.partner_id, p.payment_id) = (u.partner_id, u.payment_id) AND p.state = 'unknown' AND p.rrn IS NULL
