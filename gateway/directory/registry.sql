-- name: add_partners
INSERT INTO partner (partner_id, name, home_group)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
ON CONFLICT (partner_id) DO NOTHING
RETURNING partner_id

-- name: set_partner_active
UPDATE partner SET active = $2 WHERE partner_id = $1 RETURNING partner_id

-- name: add_keys
INSERT INTO partner_key (kid, partner_id, algorithm, jwk, valid_from, valid_until, disabled_at)
SELECT kid, partner_id, algorithm, jwk::jsonb, valid_from, valid_until, disabled_at
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[])
    AS k (kid, partner_id, algorithm, jwk, valid_from, valid_until, disabled_at)
ON CONFLICT (kid) DO NOTHING
RETURNING kid

-- name: disable_key
-- Under each id that the owner has it under. A key that was disabled before keeps its first moment: what it signed since
-- stays refused.
UPDATE partner_key k SET disabled_at = coalesce(k.disabled_at, $3)
FROM partner_key named
WHERE named.partner_id = $1 AND named.kid = $2 AND k.partner_id = $1
  AND (k.jwk ->> 'crv', k.jwk ->> 'x', k.jwk ->> 'y')
      IS NOT DISTINCT FROM (named.jwk ->> 'crv', named.jwk ->> 'x', named.jwk ->> 'y')
RETURNING k.kid, k.disabled_at

-- name: pause_network
INSERT INTO network_pause (network_id, operator, why) VALUES ($1, $2, $3)
ON CONFLICT (network_id) DO NOTHING
RETURNING network_id

-- name: resume_network
-- With a time: only the pause that began then.
DELETE FROM network_pause WHERE network_id = $1 AND ($2::timestamptz IS NULL OR paused_at = $2) RETURNING network_id

-- name: paused_at
SELECT paused_at FROM network_pause WHERE network_id = $1

-- name: upsert_merchants
INSERT INTO merchant (merchant_id, acceptor_id, name_location, mcc, networks, active, name)
SELECT merchant_id, acceptor_id, name_location, mcc, string_to_array(networks, ' '), active, name
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::text[])
    AS m (merchant_id, acceptor_id, name_location, mcc, networks, active, name)
ON CONFLICT (merchant_id) DO UPDATE
SET acceptor_id = excluded.acceptor_id, name_location = excluded.name_location, mcc = excluded.mcc,
    networks = excluded.networks, active = excluded.active, name = excluded.name,
    former_acceptors = CASE
        WHEN merchant.acceptor_id = ANY (merchant.former_acceptors || excluded.acceptor_id) THEN merchant.former_acceptors
        ELSE merchant.former_acceptors || merchant.acceptor_id END
