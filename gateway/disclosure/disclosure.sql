-- name: head
SELECT tx::text AS tx, id, seq, entry_hash, root_number, root_hash, root_seq, period_start, frontier FROM disclosure_head

-- name: look
-- The last event below everything that a running transaction may still append, and where a full page ends, where there
-- is one: told by the index alone.
SELECT o.tx::text AS last_tx, o.id AS last_id, page.tx::text AS page_tx, page.id AS page_id
FROM (
    SELECT tx, id FROM outbox
    WHERE (tx, id) > ((SELECT $1::text::xid8), (SELECT $2::bigint)) AND tx >= (SELECT $1::text::xid8)
      AND tx < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY tx DESC, id DESC LIMIT 1
) o
LEFT JOIN (
    SELECT tx, id FROM outbox
    WHERE (tx, id) > ((SELECT $1::text::xid8), (SELECT $2::bigint)) AND tx >= (SELECT $1::text::xid8)
      AND tx < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY tx, id OFFSET (SELECT $3::bigint) - 1 LIMIT 1
) page ON true

-- name: read
-- Those of a page that may be uses, in the relay's order; partitions are passed over by tx alone. Nothing can come to
-- stand before the page's end any more.
-- A planner that knew places and limit would take all that is younger than its statistics for a few rows, and sort it,
-- bodies and all, for each page.
SELECT tx::text AS place_tx, id, topic, key, event_id, event_type, occurred_at, body
FROM outbox
WHERE (tx, id) > ((SELECT $1::text::xid8), (SELECT $2::bigint)) AND tx >= (SELECT $1::text::xid8)
  AND (tx, id) <= ((SELECT $3::text::xid8), (SELECT $4::bigint)) AND tx <= (SELECT $3::text::xid8)
  AND event_type = ANY ($6::text[])
ORDER BY tx, id LIMIT (SELECT $5::bigint)

-- name: payments
-- Of events that do not say it themselves. Look-ups are by key, one row each, however large the table is. Keys come as
-- two texts: to make an array, the driver takes half a microsecond for each member.
SELECT k.n, p.consent_id, p.consent_version, p.merchant_id, p.operation, p.amount_minor, p.currency, p.network_id,
       p.rrn IS NOT NULL AS was_sent
FROM unnest(string_to_array($1, ' '), string_to_array($2, ' ')) WITH ORDINALITY AS k (partner_id, payment_id, n)
CROSS JOIN LATERAL (
    SELECT consent_id, consent_version, merchant_id, operation, amount_minor, currency, network_id, rrn
    FROM payment WHERE partner_id = k.partner_id AND payment_id = k.payment_id::uuid
    OFFSET 0
) p

-- name: customers
SELECT partner_id, consent_id, c.customer_id
FROM unnest($1::text[], $2::text[]) AS k (partner_id, consent_id)
CROSS JOIN LATERAL (
    SELECT customer_id FROM consent WHERE partner_id = k.partner_id AND consent_id = k.consent_id
    OFFSET 0
) c

-- name: advance
-- The head moves only from where the step began: whoever was faster has moved it.
UPDATE disclosure_head
SET tx = $1::text::xid8, id = $2, seq = $3, entry_hash = $4, root_number = $5, root_hash = $6, root_seq = $7,
    period_start = $8, frontier = $9, reads_bundles = true
WHERE tx = $10::text::xid8 AND id = $11 AND seq = $12 AND root_number = $13 AND entry_hash = $14
RETURNING true

-- name: add_root
INSERT INTO disclosure_root (number, first_seq, last_seq, statement, closed_at) VALUES ($1, $2, $3, $4, $5)

-- name: tell
INSERT INTO outbox (topic, key, event_id, event_type, occurred_at, body) VALUES ($1, $2, $3, $4, $5, $6)

-- name: on_disk
-- A root is told to others: what it covers must not be lost by a crash of the server.
SET LOCAL synchronous_commit TO on
