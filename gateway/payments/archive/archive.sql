-- name: blocks
SELECT pg_relation_size('payment') / current_setting('block_size')::bigint

-- name: page
-- In the order of the table's pages: read from the beginning to the end, without an index that payments would pay for.
-- A refund comes with its original, or where that is gone by itself.
WITH old AS MATERIALIZED (
    SELECT p.partner_id, p.payment_id FROM payment p
    WHERE p.ctid >= $1::tid AND p.ctid < $2::tid
      AND p.state IN ('rejected', 'declined', 'reversed', 'settled') AND p.changed_at < $3
      AND (p.original_payment_id IS NULL OR NOT EXISTS (
          SELECT FROM payment o WHERE (o.partner_id, o.payment_id) = (p.partner_id, p.original_payment_id)))
), together AS MATERIALIZED (
    SELECT partner_id, payment_id FROM old
    UNION ALL
    SELECT r.partner_id, r.payment_id
    FROM old JOIN payment r ON (r.partner_id, r.original_payment_id) = (old.partner_id, old.payment_id)
)
SELECT a.partner_id, a.payment_id, (a.record -> 'payment' ->> 'original_payment_id')::uuid AS original_id,
    a.record::text AS record
FROM (SELECT array_agg(partner_id) AS partners, array_agg(payment_id) AS ids FROM together) t,
    archivable(t.partners, t.ids, $3) a

-- name: begin
INSERT INTO archive_file (status, begun_at) VALUES ('writing', $1)
RETURNING file_id, status, payments, sha256, begun_at, written_at, moved_at

-- name: written
UPDATE archive_file SET status = 'written', payments = $2, sha256 = $3, written_at = $4
WHERE file_id = $1 AND status = 'writing'
RETURNING file_id

-- name: move
SELECT partner_id, payment_id FROM archive_payments($1, $2::text[], $3::uuid[], $4::bytea[], $5)

-- name: end
UPDATE archive_file SET status = $2, moved_at = CASE $2 WHEN 'moved' THEN $3::timestamptz END
WHERE file_id = $1 AND status = CASE $2 WHEN 'moved' THEN 'written' ELSE 'writing' END
RETURNING file_id

-- name: unfinished
SELECT file_id, status, payments, sha256, begun_at, written_at, moved_at FROM archive_file
WHERE status IN ('writing', 'written') ORDER BY file_id
