-- name: keep
INSERT INTO scheduled_order (
    partner_id, payment_id, due_at, look_at, expires_at, order_type, body, signature, proven, reference, ordered_at,
    traceparent)
SELECT k.partner_id, k.payment_id, k.due_at, k.due_at, k.expires_at, k.order_type, k.body, k.signature, k.proven,
       k.reference, k.ordered_at, k.traceparent
FROM unnest(
    $1::text[], $2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::bytea[], $7::text[], $8::boolean[],
    $9::text[], $10::timestamptz[], $11::text[])
    AS k (partner_id, payment_id, due_at, expires_at, order_type, body, signature, proven, reference, ordered_at,
          traceparent)

-- name: claim
WITH due AS MATERIALIZED (
    SELECT partner_id, payment_id, look_at FROM scheduled_order
    WHERE closed_at IS NULL AND look_at <= $1 AND (NOT $4::boolean OR expires_at <= $1)
    ORDER BY look_at, partner_id, payment_id
    LIMIT $3
    FOR UPDATE SKIP LOCKED
),
claimed AS (
    UPDATE scheduled_order s SET look_at = $2, dispatches = s.dispatches + 1
    FROM due WHERE (s.partner_id, s.payment_id) = (due.partner_id, due.payment_id)
    RETURNING s.*, due.look_at AS looked_at
)
SELECT partner_id, payment_id, due_at, expires_at, order_type, body, signature, proven, reference, ordered_at,
       traceparent, dispatches - 1 AS dispatches
FROM claimed ORDER BY looked_at, partner_id, payment_id

-- name: put_off
UPDATE scheduled_order s SET look_at = k.look_at
FROM unnest($1::text[], $2::uuid[], $3::timestamptz[]) AS k (partner_id, payment_id, look_at)
WHERE (s.partner_id, s.payment_id) = (k.partner_id, k.payment_id) AND s.closed_at IS NULL

-- name: close
UPDATE scheduled_order s SET closed_at = $3
FROM unnest($1::text[], $2::uuid[]) AS k (partner_id, payment_id)
WHERE (s.partner_id, s.payment_id) = (k.partner_id, k.payment_id) AND s.closed_at IS NULL
