-- name: read
-- Terms of a version that the caller holds are not sent again: no version's terms ever change.
SELECT c.partner_id, c.consent_id, c.version, c.status, c.ended_purposes,
       CASE WHEN c.version IS DISTINCT FROM k.held THEN c.terms::text END AS terms
FROM consent c
JOIN unnest($1::text[], $2::text[], $3::integer[]) AS k (partner_id, consent_id, held) USING (partner_id, consent_id)

-- name: lock
-- In key order, so that two workers can never wait for each other. Status and version are those under the lock.
SELECT c.partner_id, c.consent_id, c.version, c.status, c.ended_purposes,
       CASE WHEN c.version IS DISTINCT FROM k.held THEN c.terms::text END AS terms
FROM consent c
JOIN unnest($1::text[], $2::text[], $3::integer[]) AS k (partner_id, consent_id, held) USING (partner_id, consent_id)
ORDER BY c.partner_id, c.consent_id
FOR NO KEY UPDATE OF c

-- name: hold
-- Payments' lock goes on beside this one; that of whoever changes a consent does not.
SELECT c.partner_id, c.consent_id, c.version, c.status, c.ended_purposes,
       CASE WHEN c.version IS DISTINCT FROM k.held THEN c.terms::text END AS terms
FROM consent c
JOIN unnest($1::text[], $2::text[], $3::integer[]) AS k (partner_id, consent_id, held) USING (partner_id, consent_id)
ORDER BY c.partner_id, c.consent_id
FOR KEY SHARE OF c

-- name: lock_records
-- Stronger than payments' lock: who holds a consent still is waited for.
-- Without its version's digest: a join is decided before the lock is waited for, and an amendment that commits meanwhile
-- makes it fail, as if there were no such consent.
SELECT c.partner_id, c.consent_id, c.version, c.status, c.ended_purposes, c.terms::text AS terms, c.changes
FROM consent c
JOIN unnest($1::text[], $2::text[]) AS k (partner_id, consent_id) USING (partner_id, consent_id)
ORDER BY c.partner_id, c.consent_id
FOR UPDATE OF c

-- name: digests
SELECT v.partner_id, v.consent_id, v.digest
FROM consent_version v
JOIN unnest($1::text[], $2::text[], $3::integer[]) AS k (partner_id, consent_id, version)
    USING (partner_id, consent_id, version)

-- name: lock_past_end
SELECT c.partner_id, c.consent_id, c.version, c.status, c.ended_purposes, c.terms::text AS terms, c.changes, v.digest
FROM consent c
JOIN consent_version v USING (partner_id, consent_id, version)
WHERE c.status IN ('AWAU', 'AUTH', 'SUSP') AND c.valid_until <= $1
ORDER BY c.valid_until
LIMIT $2
FOR UPDATE OF c SKIP LOCKED

-- name: insert
INSERT INTO consent (partner_id, consent_id, customer_id, version, status, terms, valid_until, changes,
                     ended_purposes, created_at, status_changed_at)
SELECT n.partner_id, n.consent_id, n.customer_id, n.version, n.status, n.terms::jsonb, n.valid_until, n.changes,
       string_to_array(n.ended, ' '), $10, $10
FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::text[], $6::text[], $7::timestamptz[], $8::integer[],
            $9::text[])
    AS n (partner_id, consent_id, customer_id, version, status, terms, valid_until, changes, ended)
ORDER BY n.partner_id, n.consent_id
ON CONFLICT (partner_id, consent_id) DO NOTHING
RETURNING partner_id, consent_id

-- name: update
UPDATE consent c
SET version = u.version, status = u.status, terms = u.terms::jsonb, valid_until = u.valid_until, changes = u.changes,
    ended_purposes = string_to_array(u.ended, ' '),
    status_changed_at = CASE WHEN c.status = u.status THEN c.status_changed_at ELSE $9 END
FROM unnest($1::text[], $2::text[], $3::integer[], $4::text[], $5::text[], $6::timestamptz[], $7::integer[], $8::text[])
    AS u (partner_id, consent_id, version, status, terms, valid_until, changes, ended)
WHERE (c.partner_id, c.consent_id) = (u.partner_id, u.consent_id)

-- name: add_versions
INSERT INTO consent_version (partner_id, consent_id, version, terms, digest, created_at, issuer, subject, jti, level,
                             authenticated_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::integer[], $4::text[], $5::text[], $6::timestamptz[], $7::text[],
                     $8::text[], $9::text[], $10::integer[], $11::timestamptz[])

-- name: add_proofs
UPDATE consent_version v
SET issuer = p.issuer, subject = p.subject, jti = p.jti, level = p.level, authenticated_at = p.authenticated_at
FROM unnest($1::text[], $2::text[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::integer[],
            $8::timestamptz[])
    AS p (partner_id, consent_id, version, issuer, subject, jti, level, authenticated_at)
WHERE (v.partner_id, v.consent_id, v.version) = (p.partner_id, p.consent_id, p.version) AND v.issuer IS NULL

-- name: versions
SELECT version, terms, digest, created_at, issuer, subject, jti, level, authenticated_at
FROM consent_version WHERE partner_id = $1 AND consent_id = $2 ORDER BY version

-- name: handled
SELECT c.partner_id, c.consent_id, c.command_id, c.command, c.body_digest, c.outcome, c.change, c.status, c.version,
       c.reason_code, c.reason_text, c.actor, c.reference, c.handled_at
FROM consent_command c
JOIN unnest($1::text[], $2::text[], $3::text[]) AS k (partner_id, consent_id, command_id)
    USING (partner_id, consent_id, command_id)

-- name: remember
INSERT INTO consent_command (partner_id, consent_id, command_id, command, body_digest, outcome, change, status, version,
                             reason_code, reason_text, actor, reference, handled_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::integer[], $8::text[],
                     $9::integer[], $10::text[], $11::text[], $12::text[], $13::text[], $14::timestamptz[])
ON CONFLICT (partner_id, consent_id, command_id) DO NOTHING
RETURNING partner_id, consent_id, command_id

-- name: ended_since
SELECT partner_id, consent_id, max(ended_at) AS ended_at FROM consent_purpose_end
WHERE purpose = $2 AND ended_at >= $1 AND how IN ('revoked', 'expired')
GROUP BY partner_id, consent_id

-- name: add_purpose_ends
INSERT INTO consent_purpose_end (partner_id, consent_id, change, purpose, how, version, ended_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::integer[], $4::text[], $5::text[], $6::integer[], $7::timestamptz[])

-- name: purpose_ends
SELECT change, purpose, how, version, ended_at FROM consent_purpose_end
WHERE partner_id = $1 AND consent_id = $2
ORDER BY change, purpose

-- name: last_ends
SELECT k.partner_id, k.consent_id, e.version
FROM unnest($1::text[], $2::text[]) AS k (partner_id, consent_id)
CROSS JOIN LATERAL (
    SELECT max(version) AS version FROM consent_purpose_end
    WHERE partner_id = k.partner_id AND consent_id = k.consent_id AND purpose = $3
    OFFSET 0
) e
WHERE e.version IS NOT NULL

-- name: usage
-- One figure in two pairs of columns: what a process of the release before has moved to consumed_* counts the same.
SELECT u.partner_id, u.consent_id, u.limit_key, u.starts_at,
       u.reserved_minor + u.consumed_minor AS taken_minor, u.reserved_count + u.consumed_count AS taken_count
FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) AS k (partner_id, consent_id, limit_key, starts_at)
-- Key by key (OFFSET keeps it so), also by a plan that was made while the table was young.
CROSS JOIN LATERAL (
    SELECT * FROM consent_usage w
    WHERE (w.partner_id, w.consent_id, w.limit_key, w.starts_at) = (k.partner_id, k.consent_id, k.limit_key, k.starts_at)
    OFFSET 0
) AS u

-- name: take
-- In key order, row by row, so that two workers can never wait for each other.
INSERT INTO consent_usage AS u (partner_id, consent_id, limit_key, starts_at, reserved_minor, reserved_count)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[], $6::bigint[])
    AS t (partner_id, consent_id, limit_key, starts_at, minor, count)
ORDER BY t.partner_id, t.consent_id, t.limit_key, t.starts_at
ON CONFLICT (partner_id, consent_id, limit_key, starts_at) DO UPDATE
SET reserved_minor = u.reserved_minor + excluded.reserved_minor,
    reserved_count = u.reserved_count + excluded.reserved_count

-- name: give_back
-- The rows are locked in key order before they are changed: two workers can never wait for each other.
WITH change AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[], $6::bigint[])
        AS c (partner_id, consent_id, limit_key, starts_at, minor, count)
), locked AS MATERIALIZED (
    SELECT c.*
    FROM consent_usage u JOIN change c USING (partner_id, consent_id, limit_key, starts_at)
    ORDER BY u.partner_id, u.consent_id, u.limit_key, u.starts_at
    FOR UPDATE OF u
)
UPDATE consent_usage u
SET reserved_minor = u.reserved_minor + u.consumed_minor + l.minor, consumed_minor = 0,
    reserved_count = u.reserved_count + u.consumed_count + l.count, consumed_count = 0
FROM locked l
WHERE (u.partner_id, u.consent_id, u.limit_key, u.starts_at) = (l.partner_id, l.consent_id, l.limit_key, l.starts_at)
