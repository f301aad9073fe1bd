-- name: partners
SELECT p.partner_id, p.name, p.home_group, p.active, p.registered_at,
       count(k.kid) FILTER (WHERE k.disabled_at IS NULL AND (k.valid_until IS NULL OR k.valid_until > now())) AS live_keys
FROM partner p LEFT JOIN partner_key k USING (partner_id)
GROUP BY p.partner_id
ORDER BY p.partner_id

-- name: partner_keys
SELECT kid, partner_id, algorithm, jwk::text AS jwk, valid_from, valid_until, disabled_at
FROM partner_key WHERE partner_id = $1 ORDER BY valid_from, kid
