-- name: payments_by_rrn
SELECT partner_id, payment_id, state, operation, amount_minor, currency, merchant_id, stan, terminal_id, rrn
FROM payment
WHERE network_id = $1 AND rrn = ANY ($2::text[])
ORDER BY partner_id, payment_id
FOR NO KEY UPDATE

-- name: insert
INSERT INTO clearing_record (network_id, cycle_id, record_no, kind, rrn, stan, terminal_id, acceptor_id, amount_minor,
                             currency)
SELECT $1, $2, r.* FROM unnest($3::integer[], $4::text[], $5::text[], $6::integer[], $7::text[], $8::text[],
                               $9::bigint[], $10::text[]) AS r
ON CONFLICT (network_id, cycle_id, record_no) DO NOTHING
RETURNING record_no

-- name: write_outcomes
UPDATE clearing_record c
SET partner_id = o.partner_id, payment_id = o.payment_id, break_kind = o.break_kind, break_detail = o.break_detail
FROM unnest($3::integer[], $4::text[], $5::uuid[], $6::text[], $7::text[])
    AS o (record_no, partner_id, payment_id, break_kind, break_detail)
WHERE c.network_id = $1 AND c.cycle_id = $2 AND c.record_no = o.record_no

-- name: approved_since
-- Breaks are few, and have an index of their own.
SELECT c.network_id, c.cycle_id, c.record_no, c.kind, c.rrn, c.stan, c.terminal_id, c.acceptor_id, c.amount_minor,
       c.currency
FROM clearing_record c JOIN payment p USING (partner_id, payment_id)
WHERE c.break_kind = 'not_approved' AND p.state = 'approved'
ORDER BY c.network_id, c.cycle_id, c.record_no
LIMIT $1
