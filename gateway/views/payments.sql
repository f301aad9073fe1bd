-- name: payment
SELECT * FROM payment WHERE partner_id = $1 AND payment_id = $2

-- name: payment_of_any_partner
-- The key begins with the partner: one index probe for each.
SELECT p.* FROM partner r JOIN payment p ON p.partner_id = r.partner_id AND p.payment_id = $1

-- name: events_at
-- One look for each moment, so that block ranges are looked at and not the table: OFFSET 0 keeps them apart.
SELECT o.event_id, o.event_type, o.occurred_at, o.body,
       (o.tx, o.id) <= (SELECT c.tx, c.id FROM outbox_cursor c) AS relayed
FROM unnest($2::timestamptz[]) AS t (at) CROSS JOIN LATERAL (
    SELECT e.* FROM outbox e WHERE e.occurred_at = t.at AND e.key = $1 OFFSET 0
) AS o
ORDER BY o.tx, o.id

-- name: events_between
SELECT o.event_id, o.event_type, o.occurred_at, o.body,
       (o.tx, o.id) <= (SELECT c.tx, c.id FROM outbox_cursor c) AS relayed
FROM outbox o
WHERE o.key = $1 AND o.occurred_at BETWEEN $2 AND $3
ORDER BY o.tx, o.id

-- name: transfers
SELECT kind, debit, credit, amount_minor, currency, posted_at
FROM ledger_transfer WHERE partner_id = $1 AND payment_id = $2 ORDER BY posted_at

-- name: schedule
SELECT due_at, expires_at, dispatches FROM scheduled_order WHERE partner_id = $1 AND payment_id = $2

-- name: follow_ups
SELECT 'inquiry' AS kind, stan, transmitted_at, attempts, next_attempt_at, last_code, queued_at, closed_at
FROM inquiry WHERE partner_id = $1 AND payment_id = $2
UNION ALL
SELECT 'reversal', stan, transmitted_at, attempts, next_attempt_at, last_code, queued_at, closed_at
FROM reversal WHERE partner_id = $1 AND payment_id = $2
ORDER BY queued_at

-- name: late_answers
SELECT received_at, mti, response_code, amount_minor, outcome
FROM late_answer WHERE partner_id = $1 AND payment_id = $2 ORDER BY id

-- name: clearing
-- What settled it was recorded in the same transaction as the payment's last change; breaks have an index of their own.
SELECT cycle_id, record_no, kind, amount_minor, currency, break_kind, break_detail, imported_at,
       NULL::timestamptz AS superseded_at
FROM clearing_record
WHERE network_id = $3 AND partner_id = $1 AND payment_id = $2 AND break_kind IS NULL
  AND imported_at BETWEEN $4::timestamptz - interval '5 minutes' AND $4::timestamptz + interval '5 minutes'
UNION ALL
SELECT cycle_id, record_no, kind, amount_minor, currency, break_kind, break_detail, imported_at, NULL
FROM clearing_record
WHERE network_id = $3 AND partner_id = $1 AND payment_id = $2 AND break_kind IS NOT NULL
UNION ALL
SELECT cycle_id, record_no, kind, amount_minor, currency, break_kind, break_detail, imported_at, superseded_at
FROM clearing_superseded
WHERE network_id = $3 AND partner_id = $1 AND payment_id = $2
ORDER BY imported_at, cycle_id, record_no

-- name: refusals
SELECT reference, reason_code, reason_text, refused_at
FROM refusal WHERE partner_id = $1 AND order_id = $2 ORDER BY refused_at LIMIT 20
