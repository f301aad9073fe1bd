-- name: destroy
SELECT first_seq, last_seq, rule, before, digest, destroyed_at FROM destroy_disclosures($1, $2)

-- name: lock_cursor
SELECT seq FROM disclosure_notice_cursor FOR UPDATE SKIP LOCKED

-- name: find_customers
-- Whose consents the next entries are about: their first notice is due a year after their first use.
WITH looked AS MATERIALIZED (
    SELECT seq, partner_id, customer_id, occurred_at FROM disclosure_content WHERE seq > $1 ORDER BY seq LIMIT $2
), added AS (
    INSERT INTO disclosure_notice (partner_id, customer_id, told_until, next_at)
    SELECT partner_id, customer_id, min(occurred_at), min(occurred_at) + $3::interval FROM looked
    WHERE partner_id IS NOT NULL AND customer_id IS NOT NULL
    GROUP BY partner_id, customer_id
    ON CONFLICT (partner_id, customer_id) DO NOTHING
)
SELECT count(*) AS looked, max(seq) AS seq FROM looked

-- name: move_cursor
UPDATE disclosure_notice_cursor SET seq = $1

-- name: due_notices
SELECT partner_id, customer_id, told_until, next_at FROM disclosure_notice
WHERE next_at <= $1 ORDER BY next_at LIMIT $2 FOR UPDATE SKIP LOCKED

-- name: disclosed
SELECT recipient, kind, purpose, count(*) AS count FROM disclosure_content
WHERE customer_id = $2 AND partner_id = $1 AND occurred_at >= $3 AND occurred_at < $4
GROUP BY recipient, kind, purpose

-- name: notified
UPDATE disclosure_notice n SET told_until = k.until, next_at = k.until + $4::interval
FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS k (partner_id, customer_id, until)
WHERE (n.partner_id, n.customer_id) = (k.partner_id, k.customer_id)
