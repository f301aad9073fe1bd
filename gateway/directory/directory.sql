-- name: merchants
SELECT merchant_id, acceptor_id, name_location, mcc, networks, active FROM merchant WHERE merchant_id = ANY ($1::text[])

-- name: active_partners
SELECT partner_id FROM partner WHERE active

-- name: partner_keys
SELECT kid, partner_id, algorithm, jwk::text AS jwk, valid_from, valid_until, disabled_at FROM partner_key

-- name: usable_tokens
-- A missing token, another customer's and a withdrawn one end alike: in no row.
SELECT u.token, u.customer_id, u.partner_id
FROM unnest($1::text[], $2::text[], $3::text[]) AS u (token, customer_id, partner_id)
JOIN funding_token AS t ON t.token = u.token AND t.customer_id = u.customer_id
JOIN funding_token_partner AS p ON p.token = u.token AND p.partner_id = u.partner_id
WHERE p.withdrawn_at IS NULL

-- name: funding_tokens
SELECT t.token, t.customer_id, t.key_id, t.nonce, t.ciphertext
FROM unnest($1::text[], $2::text[]) AS o (token, customer_id)
JOIN funding_token AS t ON t.token = o.token AND t.customer_id = o.customer_id

-- name: open_networks
SELECT DISTINCT s.network_id FROM network_status s
WHERE s.is_open AND s.reported_at >= $1 AND NOT EXISTS (SELECT FROM network_pause p WHERE p.network_id = s.network_id)

-- name: is_paused
SELECT EXISTS (SELECT FROM network_pause WHERE network_id = $1)

-- name: report_network
-- Every start of a worker makes a row: yesterday's go.
WITH gone AS (DELETE FROM network_status WHERE network_id = $1 AND reported_at < $4::timestamptz - interval '1 day')
INSERT INTO network_status (network_id, worker, is_open, reported_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (network_id, worker) DO UPDATE SET is_open = excluded.is_open, reported_at = excluded.reported_at
RETURNING EXISTS (SELECT FROM network_pause p WHERE p.network_id = $1) AS is_paused
