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
-- The partners are found by one look into the index each, whatever they have. The order by which one is looked for is
-- that of the whole index, so that no other one serves.
WITH RECURSIVE partner AS (
    (SELECT partner_id FROM scheduled_order WHERE closed_at IS NULL AND held_for = $5
     ORDER BY held_for, partner_id, look_at, payment_id LIMIT 1)
    UNION ALL
    SELECT (SELECT s.partner_id FROM scheduled_order s
            WHERE s.closed_at IS NULL AND s.held_for = $5 AND s.partner_id > p.partner_id
            ORDER BY s.held_for, s.partner_id, s.look_at, s.payment_id LIMIT 1)
    FROM partner p WHERE p.partner_id IS NOT NULL
),
-- Those who have something due.
served AS MATERIALIZED (
    SELECT p.partner_id FROM partner p CROSS JOIN LATERAL (
        SELECT FROM scheduled_order s
        WHERE s.closed_at IS NULL AND s.held_for = $5 AND s.partner_id = p.partner_id AND s.look_at <= $1 LIMIT 1
    ) AS any_due
),
-- What is due is dealt out one by one, to the partner after $4 first. Nobody gets more than is left when each of the others
-- has one, so no more are counted.
dealt AS MATERIALIZED (
    SELECT p.partner_id FROM served p CROSS JOIN LATERAL (
        SELECT row_number() OVER () AS round FROM (
            SELECT FROM scheduled_order s
            WHERE s.closed_at IS NULL AND s.held_for = $5 AND s.partner_id = p.partner_id AND s.look_at <= $1
            LIMIT greatest($3 - (SELECT count(*) FROM served) + 1, 1)
        ) AS waiting
    ) AS turn
    ORDER BY turn.round, p.partner_id <= $4, p.partner_id LIMIT $3
),
due AS MATERIALIZED (
    SELECT own.* FROM (SELECT partner_id, count(*) AS orders FROM dealt GROUP BY partner_id) AS share
    CROSS JOIN LATERAL (
        SELECT s.partner_id, s.payment_id, s.look_at FROM scheduled_order s
        WHERE s.closed_at IS NULL AND s.held_for = $5 AND s.partner_id = share.partner_id AND s.look_at <= $1
        ORDER BY s.look_at, s.payment_id LIMIT share.orders
        FOR UPDATE SKIP LOCKED
    ) AS own
),
claimed AS (
    UPDATE scheduled_order s SET look_at = $2, dispatches = s.dispatches + 1
    FROM due WHERE (s.partner_id, s.payment_id) = (due.partner_id, due.payment_id)
    RETURNING s.*, due.look_at AS looked_at
)
SELECT partner_id, payment_id, due_at, expires_at, order_type, body, signature, proven, reference, ordered_at,
       traceparent, dispatches - 1 AS dispatches
FROM claimed
ORDER BY row_number() OVER (PARTITION BY partner_id ORDER BY looked_at, payment_id), partner_id <= $4, partner_id

-- name: claim_expired
-- Asked in such a way that no index finds what is due, which is far more than what has expired.
WITH expired AS MATERIALIZED (
    SELECT partner_id, payment_id FROM scheduled_order
    WHERE closed_at IS NULL AND expires_at <= $1 AND (look_at <= $1) IS TRUE
    ORDER BY expires_at
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)
UPDATE scheduled_order s SET look_at = $2, dispatches = s.dispatches + 1
FROM expired WHERE (s.partner_id, s.payment_id) = (expired.partner_id, expired.payment_id)
RETURNING s.partner_id, s.payment_id, s.due_at, s.expires_at, s.order_type, s.body, s.signature, s.proven, s.reference,
          s.ordered_at, s.traceparent, s.dispatches - 1 AS dispatches

-- name: held_for
-- By one look into the index each.
WITH RECURSIVE held AS (
    (SELECT held_for FROM scheduled_order WHERE closed_at IS NULL AND held_for > ''
     ORDER BY held_for, partner_id, look_at, payment_id LIMIT 1)
    UNION ALL
    SELECT (SELECT s.held_for FROM scheduled_order s WHERE s.closed_at IS NULL AND s.held_for > h.held_for
            ORDER BY s.held_for, s.partner_id, s.look_at, s.payment_id LIMIT 1)
    FROM held h WHERE h.held_for IS NOT NULL
)
SELECT held_for FROM held WHERE held_for IS NOT NULL

-- name: lock
SELECT FROM scheduled_order s
WHERE (s.partner_id, s.payment_id) IN (SELECT * FROM unnest($1::text[], $2::uuid[]))
ORDER BY s.partner_id, s.payment_id
FOR NO KEY UPDATE

-- name: hold
-- What counts another number is held already, or was claimed anew.
UPDATE scheduled_order s SET held_for = k.held_for, look_at = least(s.due_at, $5), dispatches = k.dispatches
FROM unnest($1::text[], $2::uuid[], $3::integer[], $4::text[]) AS k (partner_id, payment_id, dispatches, held_for)
WHERE (s.partner_id, s.payment_id) = (k.partner_id, k.payment_id) AND s.closed_at IS NULL
  AND s.dispatches = k.dispatches + 1

-- name: put_off
UPDATE scheduled_order s SET look_at = k.look_at
FROM unnest($1::text[], $2::uuid[], $3::timestamptz[]) AS k (partner_id, payment_id, look_at)
WHERE (s.partner_id, s.payment_id) = (k.partner_id, k.payment_id) AND s.closed_at IS NULL

-- name: close
UPDATE scheduled_order s SET closed_at = $3
FROM unnest($1::text[], $2::uuid[]) AS k (partner_id, payment_id)
WHERE (s.partner_id, s.payment_id) = (k.partner_id, k.payment_id) AND s.closed_at IS NULL
