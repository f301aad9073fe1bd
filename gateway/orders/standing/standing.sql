-- name: lock
SELECT s.* FROM standing_order s
JOIN unnest($1::text[], $2::text[]) AS k (partner_id, standing_order_id) USING (partner_id, standing_order_id)
ORDER BY s.partner_id, s.standing_order_id
FOR NO KEY UPDATE OF s

-- name: insert
INSERT INTO standing_order (
    partner_id, standing_order_id, consent_id, merchant_id, amount_minor, currency, schedule, status, version,
    occurrences, next_due_at, proven, digest, signature, reference, ordered_at, changed_at, reason_code, reason_text,
    traceparent, consent_version)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::integer[],
    $10::integer[], $11::timestamptz[], $12::boolean[], $13::bytea[], $14::text[], $15::text[], $16::timestamptz[],
    $17::timestamptz[], $18::text[], $19::text[], $20::text[], $21::integer[])
ON CONFLICT (partner_id, standing_order_id) DO NOTHING
RETURNING partner_id, standing_order_id

-- name: claim_due
-- A day begins for all at one moment: what is due is dealt out one by one among the partners, who are found by one look
-- into the index each, whatever they have.
WITH RECURSIVE partner AS (
    (SELECT partner_id FROM standing_order WHERE status = 'active'
     ORDER BY partner_id, next_due_at, standing_order_id LIMIT 1)
    UNION ALL
    SELECT (SELECT s.partner_id FROM standing_order s WHERE s.status = 'active' AND s.partner_id > p.partner_id
            ORDER BY s.partner_id, s.next_due_at, s.standing_order_id LIMIT 1)
    FROM partner p WHERE p.partner_id IS NOT NULL
),
served AS MATERIALIZED (
    SELECT p.partner_id FROM partner p CROSS JOIN LATERAL (
        SELECT FROM standing_order s
        WHERE s.status = 'active' AND s.partner_id = p.partner_id AND s.next_due_at <= $1 LIMIT 1
    ) AS any_due
),
-- Nobody gets more than is left when each of the others has one, so no more are counted.
dealt AS MATERIALIZED (
    SELECT p.partner_id FROM served p CROSS JOIN LATERAL (
        SELECT row_number() OVER () AS round FROM (
            SELECT FROM standing_order s
            WHERE s.status = 'active' AND s.partner_id = p.partner_id AND s.next_due_at <= $1
            LIMIT greatest($2 - (SELECT count(*) FROM served) + 1, 1)
        ) AS waiting
    ) AS turn
    ORDER BY turn.round, p.partner_id LIMIT $2
)
SELECT own.* FROM (SELECT partner_id, count(*) AS orders FROM dealt GROUP BY partner_id) AS share
CROSS JOIN LATERAL (
    SELECT s.* FROM standing_order s
    WHERE s.status = 'active' AND s.partner_id = share.partner_id AND s.next_due_at <= $1
    ORDER BY s.next_due_at, s.standing_order_id LIMIT share.orders
    FOR NO KEY UPDATE SKIP LOCKED
) AS own
ORDER BY own.next_due_at, own.partner_id, own.standing_order_id

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
