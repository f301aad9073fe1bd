-- name: put
INSERT INTO funding_token (token, customer_id, key_id, nonce, ciphertext)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::bytea[])
ON CONFLICT (token) DO NOTHING
RETURNING token

-- name: allow
-- What is allowed already keeps its first moment.
INSERT INTO funding_token_partner (token, partner_id, allowed_at)
SELECT u.token, u.partner_id, $3
FROM unnest($1::text[], $2::text[]) AS u (token, partner_id)
ON CONFLICT (token, partner_id) DO UPDATE SET allowed_at = excluded.allowed_at, withdrawn_at = NULL
WHERE funding_token_partner.withdrawn_at IS NOT NULL

-- name: lock_permissions
SELECT partner_id, allowed_at, withdrawn_at FROM funding_token_partner
WHERE token = $1 AND partner_id = ANY ($2::text[])
ORDER BY partner_id FOR UPDATE

-- name: withdraw
UPDATE funding_token_partner SET withdrawn_at = $3
WHERE token = $1 AND partner_id = $2 AND withdrawn_at IS NULL
RETURNING token

-- name: sealed
SELECT token, customer_id, key_id, nonce, ciphertext FROM funding_token WHERE token = $1

-- name: assign
-- Only what nobody owns, and only while it is sealed as it was read.
UPDATE funding_token SET customer_id = $2, key_id = $3, nonce = $4, ciphertext = $5, sealed_at = $7
WHERE token = $1 AND customer_id IS NULL AND nonce = $6
RETURNING token

-- name: sealed_under_others
SELECT token, customer_id, key_id, nonce, ciphertext
FROM funding_token WHERE key_id <> $1 AND token > $2 ORDER BY token LIMIT $3

-- name: reseal
-- A row that was sealed anew since it was read is left as it is.
UPDATE funding_token AS t SET key_id = n.key_id, nonce = n.nonce, ciphertext = n.ciphertext, sealed_at = $6
FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::bytea[])
    AS n (token, key_id, nonce, ciphertext, was)
WHERE t.token = n.token AND t.nonce = n.was
RETURNING t.token
