-- name: head
SELECT tx::text AS tx, id, seq, entry_hash, root_number, root_hash, root_seq, period_start, frontier FROM disclosure_head

-- name: last
SELECT greatest((SELECT max(seq) FROM disclosure_entry), (SELECT max(seq) FROM disclosure_content))

-- name: packed
-- Rows as gateway/disclosure/rules/verification.py takes them. The server only puts bytes together: nothing is hashed
-- here, and what is hashed is what the columns hold now.
SELECT coalesce(
    coalesce(int8send(c.seq) || int8send(c.source_tx) || int8send(c.source_id) || c.content_hash || c.entry_hash,
             int8send(e.seq) || int8send(e.source_tx) || int8send(e.source_id) || e.content_hash || e.entry_hash)
    || CASE WHEN c.seq IS NULL THEN ''::bytea
       ELSE c.salt || convert_to(json_build_array(
            'mypay.disclosure.v1', c.kind, c.customer_id, c.partner_id, c.consent_id, c.consent_version,
            c.recipient, c.purpose, c.legal_basis, c.what, c.reference,
            (extract(epoch FROM c.occurred_at) * 1000000)::bigint)::text, 'UTF8') END,
    int8send(c.seq))
-- A content that has its entry beside it in its row belongs to no other: where there is one, both are told.
FROM (SELECT * FROM disclosure_entry WHERE seq > $1 AND seq <= $2) e
FULL JOIN (SELECT *, CASE WHEN entry_hash IS NULL THEN seq END AS entry_seq FROM disclosure_content
           WHERE seq > $1 AND seq <= $2) c ON c.entry_seq = e.seq
ORDER BY coalesce(e.seq, c.seq), c.seq

-- name: roots
SELECT number, first_seq, last_seq, statement FROM disclosure_root ORDER BY number

-- name: blocks
SELECT first_seq, hash FROM disclosure_block

-- name: destroyed
SELECT first_seq, last_seq, rule, before, digest, destroyed_at, login FROM disclosure_destruction ORDER BY first_seq

-- name: oldest
-- Of the events that the outbox still holds.
SELECT tx::text::bigint FROM outbox ORDER BY tx, id LIMIT 1

-- name: last_of
-- The last entry of the outbox's transactions up to one. Entries follow the outbox's order: found by halving, and no
-- index of sources costs each entry something. Where one is missing the next one is asked.
WITH RECURSIVE halved (low, high) AS (
    SELECT 0::bigint, seq + 1 FROM disclosure_head
    UNION ALL
    SELECT CASE WHEN is_up_to THEN middle ELSE low END, CASE WHEN is_up_to THEN high ELSE middle END
    FROM halved, LATERAL (SELECT (low + high) / 2) AS m (middle), LATERAL (
        SELECT coalesce((
            SELECT source_tx FROM (
                (SELECT 1, seq, source_tx FROM disclosure_content WHERE seq >= middle ORDER BY seq LIMIT 1)
                UNION ALL
                (SELECT 2, seq, source_tx FROM disclosure_entry WHERE seq >= middle ORDER BY seq LIMIT 1)
            ) AS next (place, seq, source_tx)
            WHERE source_tx IS NOT NULL ORDER BY seq, place LIMIT 1), $1 + 1) <= $1::bigint
    ) AS t (is_up_to)
    WHERE high - low > 1
)
SELECT max(low) FROM halved

-- name: unlogged
-- Uses that the outbox still holds, that the sequencer has passed, and of which there is no entry behind one.
SELECT o.id, o.event_type, o.event_id FROM (
    SELECT o.tx::text::bigint, o.id FROM outbox o, disclosure_head h
    WHERE (o.tx, o.id) <= (h.tx, h.id) AND o.event_type = ANY ($1::text[])
    EXCEPT
    SELECT source_tx, source_id FROM disclosure_link WHERE seq > $4
) AS missing (tx, id) JOIN outbox o ON o.tx = missing.tx::text::xid8 AND o.id = missing.id
WHERE NOT (o.event_type = $2 AND NOT EXISTS (
    SELECT FROM payment p WHERE p.partner_id = substr(o.topic, length('mypay.events.') + 1)
       AND p.payment_id = o.key::uuid AND p.rrn IS NOT NULL))
ORDER BY o.id LIMIT $3

-- name: bundles
-- Of those that the outbox still holds and the sequencer has passed: with the events that they hold.
SELECT o.tx::text AS tx, o.id, o.topic, o.event_id, o.event_type, o.occurred_at, o.body FROM outbox o, disclosure_head h
WHERE (o.tx, o.id) > ((SELECT $1::text::xid8), (SELECT $2::bigint)) AND o.tx >= (SELECT $1::text::xid8)
  AND (o.tx, o.id) <= (h.tx, h.id) AND o.event_type = ANY ($3::text[])
ORDER BY o.tx, o.id LIMIT $4

-- name: without_entry
-- Among the entries behind one, up to another.
SELECT n FROM unnest($1::bigint[]) AS n
EXCEPT
SELECT source_id FROM disclosure_link WHERE seq > $2 AND seq <= $3
ORDER BY n

-- name: all
SELECT * FROM disclosure_told WHERE seq > $1 ORDER BY seq LIMIT $2

-- name: of_consent
-- Found among its customer's uses: a consent's customer never changes, and an index of consents would cost each use more.
SELECT * FROM disclosure_told c
WHERE c.customer_id = (SELECT customer_id FROM consent WHERE partner_id = $1 AND consent_id = $2)
  AND c.partner_id = $1 AND c.consent_id = $2
ORDER BY c.occurred_at DESC, c.seq DESC LIMIT $3

-- name: of_customer
SELECT * FROM disclosure_told c
WHERE c.customer_id = $1 AND c.occurred_at >= $2 AND c.occurred_at < $3
  AND ($4::text IS NULL OR c.partner_id = $4)
ORDER BY c.occurred_at, c.seq LIMIT $5

-- name: previous
-- The hashes that entries follow.
SELECT seq + 1 AS seq, entry_hash FROM disclosure_link WHERE seq = ANY ($1::bigint[])

-- name: roots_over
SELECT DISTINCT r.number, r.first_seq, r.last_seq, r.statement
FROM unnest($1::bigint[]) s (seq)
JOIN LATERAL (SELECT * FROM disclosure_root WHERE last_seq >= s.seq ORDER BY last_seq LIMIT 1) r ON r.first_seq <= s.seq
ORDER BY r.number

-- name: leaves
SELECT entry_hash FROM disclosure_link WHERE seq >= $1 AND seq <= $2 ORDER BY seq

-- name: blocks_of
SELECT hash FROM disclosure_block WHERE first_seq >= $1 AND first_seq <= $2 ORDER BY first_seq

-- name: noticed
SELECT partner_id, recipient, kind, purpose, count(*) AS count FROM disclosure_content
WHERE customer_id = $1 AND occurred_at >= $2 AND occurred_at < $3 AND partner_id IS NOT NULL
  AND ($4::text IS NULL OR partner_id = $4)
GROUP BY partner_id, recipient, kind, purpose

-- name: notices
SELECT partner_id, told_until, next_at FROM disclosure_notice
WHERE customer_id = $1 AND ($2::text IS NULL OR partner_id = $2)

-- name: destructions
-- Of the log's own contents, and of what was held for customers who asked for nothing.
SELECT 'contents of the disclosure log' AS kind, last_seq - first_seq + 1 AS rows, rule, before, digest, destroyed_at, login
FROM disclosure_destruction
UNION ALL
SELECT kind, rows, rule, before, digest, destroyed_at, login FROM data_destruction
ORDER BY destroyed_at DESC, kind LIMIT $1
