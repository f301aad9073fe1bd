-- name: add_recipient
INSERT INTO recipient (org_code, name, partner_id, certificate_sha256) VALUES ($1, $2, $3, $4)
ON CONFLICT (org_code) DO NOTHING
RETURNING org_code

-- name: set_active
UPDATE recipient SET active = $2 WHERE org_code = $1 RETURNING org_code

-- name: set_certificate
UPDATE recipient SET certificate_sha256 = $2 WHERE org_code = $1 RETURNING org_code

-- name: lock_certificate
SELECT certificate_sha256 FROM recipient WHERE org_code = $1 FOR NO KEY UPDATE

-- name: add_key
INSERT INTO recipient_key (org_code, kid, jwk, created_at) VALUES ($1, $2, $3::jsonb, $4)
ON CONFLICT (org_code, kid) DO NOTHING
RETURNING kid

-- name: disable_key
-- Under each id that the owner has it under. A key that was disabled before keeps its first moment.
UPDATE recipient_key k SET disabled_at = coalesce(k.disabled_at, $3)
FROM recipient_key named
WHERE named.org_code = $1 AND named.kid = $2 AND k.org_code = $1
  AND (k.jwk ->> 'crv', k.jwk ->> 'x', k.jwk ->> 'y')
      IS NOT DISTINCT FROM (named.jwk ->> 'crv', named.jwk ->> 'x', named.jwk ->> 'y')
RETURNING k.kid, k.disabled_at
