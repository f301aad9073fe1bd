-- name: cursor
SELECT tx::text AS tx, id FROM outbox_cursor

-- name: read
-- What has committed and was not told ahead; with $5 only what nothing can come to stand before any more: a running
-- transaction's events stand at its own number or later.
-- The bound comes with the rows, and alone where there are none: asked for later, it could be past the events of a
-- transaction that has committed in between, and the cursor would pass them by.
-- The order names the table: a bare tx would be the text that is selected, which puts 1000 before 999.
-- What was told ahead is looked up in a hash: an array's elements would be compared with each row one by one.
-- Cursor and limit are no constants, but selected: a planner that knew them would take all that is younger than its
-- statistics for a few rows, and sort it, bodies and all, for each page.
-- The cursor's tx is said twice: rows are compared by the index, partitions are passed over by the one column alone.
SELECT found.*, now.bound::text AS bound
FROM (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS bound) now
LEFT JOIN LATERAL (
    SELECT tx::text AS tx, id, topic, key, event_id, event_type, occurred_at, traceparent, body
    FROM outbox
    WHERE (tx, id) > ((SELECT $1::text::xid8), (SELECT $2::bigint)) AND tx >= (SELECT $1::text::xid8)
      AND id NOT IN (SELECT unnest($4::bigint[]))
      AND (NOT $5 OR tx < pg_snapshot_xmin(pg_current_snapshot()))
    ORDER BY outbox.tx, outbox.id
    LIMIT (SELECT $3::bigint)
) found ON TRUE
ORDER BY found.tx::xid8, found.id

-- name: take_numbers
SELECT nextval('outbox_number') FROM generate_series(1, $1::bigint)

-- name: advance
-- It says that we read bundles; a move of the release before takes that back.
UPDATE outbox_cursor SET tx = $1::text::xid8, id = $2, reads_bundles = true

-- name: park
INSERT INTO outbox_parked (tx, id, topic, reason)
SELECT k.tx::xid8, k.id, k.topic, $4 FROM unnest($1::text[], $2::bigint[], $3::text[]) AS k (tx, id, topic)
ON CONFLICT DO NOTHING

-- name: parked_topics
SELECT DISTINCT topic FROM outbox_parked WHERE reason <> ALL ($1::text[])

-- name: read_parked
SELECT o.tx::text AS tx, o.id, o.topic, o.key, o.event_id, o.event_type, o.occurred_at, o.traceparent, o.body
FROM outbox_parked p JOIN outbox o USING (tx, id)
WHERE p.topic = $1 AND p.reason <> ALL ($3::text[])
ORDER BY p.tx, p.id
LIMIT $2

-- name: read_large
SELECT DISTINCT ON (o.topic)
       o.tx::text AS tx, o.id, o.topic, o.key, o.event_id, o.event_type, o.occurred_at, o.traceparent, o.body
FROM outbox_parked p JOIN outbox o USING (tx, id)
WHERE p.reason = $1
ORDER BY o.topic, octet_length(o.body), p.tx, p.id

-- name: read_unreadable
SELECT o.tx::text AS tx, o.id, o.topic, o.key, o.event_id, o.event_type, o.occurred_at, o.traceparent, o.body
FROM outbox_parked p JOIN outbox o USING (tx, id)
WHERE p.reason = $1
ORDER BY p.tx, p.id
LIMIT $2

-- name: unpark
DELETE FROM outbox_parked p USING unnest($1::text[], $2::bigint[]) AS k (tx, id)
WHERE (p.tx, p.id) = (k.tx::xid8, k.id)

-- name: make_partitions
-- Functions of the owner's, this one and those below: nobody who runs may make a table, or delete an event.
SELECT make_outbox_partitions($1, NULL)

-- name: drop_partition
SELECT drop_outbox_partition($1)

-- name: purge
SELECT purge_unpartitioned_events($1, $2)
