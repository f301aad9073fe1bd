-- name: read
SELECT c.partner_id, c.consent_id, c.version, c.status, c.terms::text AS terms
FROM consent c
JOIN unnest($1::text[], $2::text[]) AS k (partner_id, consent_id) USING (partner_id, consent_id)

-- name: lock
-- In key order, so that two workers can never wait for each other.
SELECT c.partner_id, c.consent_id, c.version, c.status, c.terms::text AS terms
FROM consent c
JOIN unnest($1::text[], $2::text[]) AS k (partner_id, consent_id) USING (partner_id, consent_id)
ORDER BY c.partner_id, c.consent_id
FOR NO KEY UPDATE OF c

-- name: set_status
UPDATE consent SET status = $3, status_changed_at = $4 WHERE partner_id = $1 AND consent_id = $2

-- name: usage
SELECT u.partner_id, u.consent_id, u.limit_key, u.starts_at,
       u.reserved_minor, u.reserved_count, u.consumed_minor, u.consumed_count
FROM consent_usage u
JOIN unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) AS k (partner_id, consent_id, limit_key, starts_at)
    USING (partner_id, consent_id, limit_key, starts_at)

-- name: make_usage_rows
INSERT INTO consent_usage (partner_id, consent_id, limit_key, starts_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[])
ON CONFLICT DO NOTHING

-- name: add_usage
-- The rows are locked in key order before they are changed: two workers can never wait for each other.
WITH change AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[],
                         $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
        AS c (partner_id, consent_id, limit_key, starts_at,
              reserved_minor, reserved_count, consumed_minor, consumed_count)
), locked AS MATERIALIZED (
    SELECT c.*
    FROM consent_usage u JOIN change c USING (partner_id, consent_id, limit_key, starts_at)
    ORDER BY u.partner_id, u.consent_id, u.limit_key, u.starts_at
    FOR UPDATE OF u
)
UPDATE consent_usage u
SET reserved_minor = u.reserved_minor + l.reserved_minor,
    reserved_count = u.reserved_count + l.reserved_count,
    consumed_minor = u.consumed_minor + l.consumed_minor,
    consumed_count = u.consumed_count + l.consumed_count
FROM locked l
WHERE (u.partner_id, u.consent_id, u.limit_key, u.starts_at) = (l.partner_id, l.consent_id, l.limit_key, l.starts_at)
