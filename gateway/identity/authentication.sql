-- name: links
SELECT l.issuer, l.subject, l.customer_id
FROM identity_link l
JOIN unnest($1::text[], $2::text[]) AS k (issuer, subject) USING (issuer, subject)
WHERE l.unlinked_at IS NULL

-- name: add_links
INSERT INTO identity_link (issuer, subject, customer_id, linked_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[])
ON CONFLICT (issuer, subject) WHERE unlinked_at IS NULL DO NOTHING
RETURNING issuer, subject

-- name: last_ended_link
SELECT customer_id, unlinked_at FROM identity_link
WHERE issuer = $1 AND subject = $2 AND unlinked_at IS NOT NULL
ORDER BY unlinked_at DESC LIMIT 1

-- name: unlink
UPDATE identity_link SET unlinked_at = greatest($3, linked_at)
WHERE issuer = $1 AND subject = $2 AND unlinked_at IS NULL
RETURNING customer_id

-- name: use
-- In key order, so that two workers can never wait for each other.
INSERT INTO used_assertion (jti, issuer, partner_id, used_by, keep_until)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::timestamptz[])
    AS u (jti, issuer, partner_id, used_by, keep_until)
ORDER BY jti, issuer
ON CONFLICT (jti, issuer) DO NOTHING
RETURNING jti, issuer

-- name: users
SELECT u.jti, u.issuer, u.partner_id, u.used_by
FROM unnest($1::text[], $2::text[]) AS k (jti, issuer)
-- Key by key (OFFSET keeps it so), also by a plan that was made while the table was young.
CROSS JOIN LATERAL (
    SELECT * FROM used_assertion a WHERE (a.jti, a.issuer) = (k.jti, k.issuer) OFFSET 0
) AS u

-- name: purge
-- A function of the owner's: nobody who runs may delete a used proof.
SELECT purge_used_assertions($1, $2)

-- name: revoke_key
INSERT INTO revoked_issuer_key (issuer, kid, revoked_at) VALUES ($1, $2, $3)
ON CONFLICT (issuer, kid) DO NOTHING
RETURNING kid

-- name: revoked_keys
SELECT issuer, kid FROM revoked_issuer_key

-- name: authenticated_at
SELECT a.partner_id, a.consent_id, a.authenticated_at
FROM consent_authentication a
JOIN unnest($1::text[], $2::text[]) AS k (partner_id, consent_id) USING (partner_id, consent_id)

-- name: mark_authenticated
INSERT INTO consent_authentication (partner_id, consent_id, authenticated_at)
SELECT partner_id, consent_id, $3::timestamptz FROM unnest($1::text[], $2::text[]) AS k (partner_id, consent_id)
ORDER BY partner_id, consent_id
ON CONFLICT (partner_id, consent_id) DO UPDATE SET authenticated_at = excluded.authenticated_at

-- name: apply_policy
INSERT INTO trust_policy (digest)
SELECT $1::text WHERE $1 IS DISTINCT FROM (SELECT digest FROM trust_policy ORDER BY id DESC LIMIT 1)
RETURNING id

-- name: applied_policy
SELECT digest, applied_at FROM trust_policy ORDER BY id DESC LIMIT 1
