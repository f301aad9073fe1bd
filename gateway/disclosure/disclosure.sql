-- name: try_lead
SELECT pg_try_advisory_lock($1)

-- name: head
SELECT tx::text AS tx, id, seq, entry_hash, root_number, root_hash, root_seq, period_start, frontier FROM disclosure_head

-- name: read
-- Events in the relay's order, below everything that a running transaction may still append. Of those that are no uses
-- only the last one's place is wanted. Look-ups are by key, one row each, however large the tables are.
WITH scanned AS MATERIALIZED (
    SELECT tx, id, topic, key, event_id, event_type, occurred_at,
           CASE WHEN event_type = ANY ($5::text[]) THEN body END AS body
    FROM outbox
    WHERE (tx, id) > ($1::text::xid8, $2::bigint) AND tx < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY outbox.tx, outbox.id
    LIMIT $3
)
SELECT s.tx::text AS tx, s.id, s.event_type, s.event_id, s.occurred_at, s.body,
       p.partner_id, s.key, p.consent_id, p.consent_version, p.merchant_id, p.operation, p.amount_minor, p.currency,
       p.network_id, p.rrn IS NOT NULL AS was_sent, c.customer_id, n.scanned, n.to_tx::text AS to_tx, n.to_id
FROM (SELECT count(*) AS scanned,
             (SELECT tx FROM scanned ORDER BY scanned.tx DESC, scanned.id DESC LIMIT 1) AS to_tx,
             (SELECT id FROM scanned ORDER BY scanned.tx DESC, scanned.id DESC LIMIT 1) AS to_id
      FROM scanned) n
LEFT JOIN scanned s ON s.event_type = ANY ($4::text[]) OR s.event_type = ANY ($5::text[])
LEFT JOIN LATERAL (
    SELECT partner_id, consent_id, consent_version, merchant_id, operation, amount_minor, currency, network_id, rrn
    FROM payment
    WHERE partner_id = substr(s.topic, length('mypay.events.') + 1)
      AND payment_id = CASE WHEN s.event_type = ANY ($4::text[]) AND s.key ~ '^[0-9a-f-]{36}$' THEN s.key::uuid END
    OFFSET 0
) p ON true
LEFT JOIN LATERAL (SELECT convert_from(s.body, 'UTF8')::json AS j WHERE s.body IS NOT NULL OFFSET 0) b ON true
LEFT JOIN LATERAL (
    SELECT customer_id FROM consent
    WHERE partner_id = coalesce(p.partner_id, b.j ->> 'partner_id')
      AND consent_id = coalesce(p.consent_id, b.j ->> 'consent_id')
    OFFSET 0
) c ON true
ORDER BY s.tx, s.id

-- name: advance
-- The head moves only from where the step began: whoever was faster has moved it.
UPDATE disclosure_head
SET tx = $1::text::xid8, id = $2, seq = $3, entry_hash = $4, root_number = $5, root_hash = $6, root_seq = $7,
    period_start = $8, frontier = $9
WHERE tx = $10::text::xid8 AND id = $11 AND seq = $12 AND root_number = $13 AND entry_hash = $14
RETURNING true

-- name: add_root
INSERT INTO disclosure_root (number, first_seq, last_seq, statement, closed_at) VALUES ($1, $2, $3, $4, $5)

-- name: tell
INSERT INTO outbox (topic, key, event_id, event_type, occurred_at, body) VALUES ($1, $2, $3, $4, $5, $6)

-- name: on_disk
-- A root is told to others: what it covers must not be lost by a crash of the server.
SET LOCAL synchronous_commit TO on
