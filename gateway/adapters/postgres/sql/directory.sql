-- name: merchants
SELECT merchant_id, acceptor_id, name_location, mcc, networks, active FROM merchant WHERE merchant_id = ANY ($1::text[])

-- name: active_partners
SELECT partner_id FROM partner WHERE active

-- name: partner_keys
SELECT kid, partner_id, algorithm, jwk::text AS jwk, valid_from, valid_until, disabled_at FROM partner_key

-- name: funding_tokens
SELECT token, key_id, nonce, ciphertext FROM funding_token WHERE token = ANY ($1::text[])

-- name: open_networks
SELECT DISTINCT network_id FROM network_status WHERE is_open AND reported_at >= $1

-- name: report_network
-- Every start of a worker makes a row: yesterday's go.
WITH gone AS (DELETE FROM network_status WHERE network_id = $1 AND reported_at < $4::timestamptz - interval '1 day')
INSERT INTO network_status (network_id, worker, is_open, reported_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (network_id, worker) DO UPDATE SET is_open = excluded.is_open, reported_at = excluded.reported_at
