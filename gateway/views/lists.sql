-- name: open_payments
-- The states of the partial index payment_open.
SELECT * FROM payment
WHERE state IN ('sent', 'unknown', 'reversing') AND state = ANY ($1::text[]) AND decided_at < $2
  AND ($3::text IS NULL OR network_id = $3) AND ($4::text IS NULL OR partner_id = $4)
ORDER BY decided_at LIMIT $5

-- name: standing_orders
SELECT * FROM standing_order
WHERE ($1::text IS NULL OR partner_id = $1) AND ($2::text IS NULL OR status = $2)
ORDER BY partner_id, standing_order_id LIMIT $3

-- name: bulks
SELECT b.partner_id, b.bulk_id, b.status, b.items, b.control_minor, b.currency, b.rejected, b.reason_code, b.reason_text,
       b.reference, b.decided_at, b.dispatched_at
FROM partner r JOIN bulk b ON b.partner_id = r.partner_id AND b.bulk_id = $1
WHERE $2::text IS NULL OR r.partner_id = $2
ORDER BY b.partner_id

-- name: parked_events
SELECT p.topic, o.key, o.event_id, o.event_type, o.occurred_at, p.reason, p.parked_at
FROM (SELECT * FROM outbox_parked ORDER BY parked_at LIMIT $1) AS p
CROSS JOIN LATERAL (
    -- By its key, one at a time: the outbox is large, and few are parked.
    SELECT e.key, e.event_id, e.event_type, e.occurred_at FROM outbox e WHERE (e.tx, e.id) = (p.tx, p.id) LIMIT 1
) AS o
ORDER BY p.parked_at
