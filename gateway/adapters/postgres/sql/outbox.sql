-- name: cursor
SELECT tx::text AS tx, id FROM outbox_cursor

-- name: read
-- A running transaction's events stand at its own number or later: nothing can come to stand before these rows.
-- The order names the table: a bare tx would be the text that is selected, which puts 1000 before 999.
SELECT tx::text AS tx, id, topic, key, event_id, event_type, occurred_at, traceparent, body
FROM outbox
WHERE (tx, id) > ($1::text::xid8, $2::bigint) AND tx < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY outbox.tx, outbox.id
LIMIT $3

-- name: advance
UPDATE outbox_cursor SET tx = $1::text::xid8, id = $2

-- name: try_lead
SELECT pg_try_advisory_lock($1)

-- name: resign
SELECT pg_advisory_unlock($1)
