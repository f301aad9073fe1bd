-- name: lock
SELECT s.* FROM standing_order s
JOIN unnest($1::text[], $2::text[]) AS k (partner_id, standing_order_id) USING (partner_id, standing_order_id)
ORDER BY s.partner_id, s.standing_order_id
FOR NO KEY UPDATE OF s

-- name: insert
INSERT INTO standing_order (
    partner_id, standing_order_id, consent_id, merchant_id, amount_minor, currency, schedule, status, version,
    occurrences, next_due_at, proven, digest, signature, reference, ordered_at, changed_at, reason_code, reason_text,
    traceparent)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::integer[],
    $10::integer[], $11::timestamptz[], $12::boolean[], $13::bytea[], $14::text[], $15::text[], $16::timestamptz[],
    $17::timestamptz[], $18::text[], $19::text[], $20::text[])
ON CONFLICT (partner_id, standing_order_id) DO NOTHING
RETURNING partner_id, standing_order_id

-- name: claim_due
SELECT * FROM standing_order
WHERE status = 'active' AND next_due_at <= $1
ORDER BY next_due_at, partner_id, standing_order_id
LIMIT $2
FOR NO KEY UPDATE SKIP LOCKED

-- name: active
SELECT * FROM standing_order
WHERE status = 'active' AND (partner_id, standing_order_id) > ($1, $2)
ORDER BY partner_id, standing_order_id
LIMIT $3
FOR NO KEY UPDATE SKIP LOCKED

-- name: update
UPDATE standing_order s
SET status = k.status, version = k.version, occurrences = k.occurrences, next_due_at = k.next_due_at,
    changed_at = k.changed_at, reason_code = k.reason_code, reason_text = k.reason_text
FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::integer[], $6::timestamptz[], $7::timestamptz[],
            $8::text[], $9::text[])
    AS k (partner_id, standing_order_id, status, version, occurrences, next_due_at, changed_at, reason_code,
          reason_text)
WHERE (s.partner_id, s.standing_order_id) = (k.partner_id, k.standing_order_id)
