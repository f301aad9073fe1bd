-- name: payments_by_rrn
SELECT * FROM payment
WHERE network_id = $1 AND rrn = ANY ($2::text[])
ORDER BY partner_id, payment_id
FOR NO KEY UPDATE

-- name: lock
SELECT record_no, kind, rrn, stan, terminal_id, acceptor_id, amount_minor, currency, created_at, partner_id, payment_id,
       break_kind, break_detail
FROM clearing_record
WHERE network_id = $1 AND cycle_id = $2 AND record_no = ANY ($3::integer[])
ORDER BY record_no
FOR NO KEY UPDATE

-- name: earlier
SELECT record_no, kind, rrn, stan, terminal_id, acceptor_id, amount_minor, currency
FROM clearing_superseded
WHERE network_id = $1 AND cycle_id = $2 AND record_no = ANY ($3::integer[])
ORDER BY record_no, version

-- name: put_aside
INSERT INTO clearing_superseded
    (network_id, cycle_id, record_no, version, kind, rrn, stan, terminal_id, acceptor_id, amount_minor, currency,
     partner_id, payment_id, break_kind, break_detail, created_at, imported_at, superseded_at)
SELECT network_id, cycle_id, record_no, version, kind, rrn, stan, terminal_id, acceptor_id, amount_minor, currency,
       partner_id, payment_id, break_kind, break_detail, created_at, imported_at, $4
FROM clearing_record
WHERE network_id = $1 AND cycle_id = $2 AND record_no = ANY ($3::integer[])

-- name: supersede
UPDATE clearing_record c
SET version = c.version + 1, kind = r.kind, rrn = r.rrn, stan = r.stan, terminal_id = r.terminal_id,
    acceptor_id = r.acceptor_id, amount_minor = r.amount_minor, currency = r.currency, created_at = $11,
    imported_at = $12, partner_id = NULL, payment_id = NULL, break_kind = NULL, break_detail = NULL
FROM unnest($3::integer[], $4::text[], $5::text[], $6::integer[], $7::text[], $8::text[], $9::bigint[], $10::text[])
    AS r (record_no, kind, rrn, stan, terminal_id, acceptor_id, amount_minor, currency)
WHERE c.network_id = $1 AND c.cycle_id = $2 AND c.record_no = r.record_no

-- name: confirm
UPDATE clearing_record SET created_at = $4
WHERE network_id = $1 AND cycle_id = $2 AND record_no = ANY ($3::integer[]) AND created_at < $4

-- name: write_outcomes
UPDATE clearing_record c
SET partner_id = o.partner_id, payment_id = o.payment_id, break_kind = o.break_kind, break_detail = o.break_detail
FROM unnest($3::integer[], $4::text[], $5::uuid[], $6::text[], $7::text[])
    AS o (record_no, partner_id, payment_id, break_kind, break_detail)
WHERE c.network_id = $1 AND c.cycle_id = $2 AND c.record_no = o.record_no

-- name: acceptors
SELECT merchant_id, former_acceptors || acceptor_id AS acceptors FROM merchant WHERE merchant_id = ANY ($1::text[])

-- name: moved_since
-- Breaks are few, and have an index of their own.
SELECT c.network_id, c.cycle_id, c.record_no, c.kind, c.rrn, c.stan, c.terminal_id, c.acceptor_id, c.amount_minor,
       c.currency
FROM clearing_record c JOIN payment p USING (partner_id, payment_id)
WHERE c.break_kind IN ('not_approved', 'duplicate', 'acceptor_differs')
  AND (p.state = 'approved' OR c.break_kind = 'not_approved' AND p.state IN ('settled', 'reversing', 'reversed'))
  AND (c.break_kind <> 'acceptor_differs' OR EXISTS (
      SELECT FROM merchant m
      WHERE m.merchant_id = p.merchant_id AND rtrim(c.acceptor_id) = ANY (m.former_acceptors || m.acceptor_id)))
ORDER BY c.network_id, c.cycle_id, c.record_no
LIMIT $1
FOR NO KEY UPDATE OF c SKIP LOCKED
