-- name: add_partners
INSERT INTO partner (partner_id, name, home_group)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
ON CONFLICT (partner_id) DO NOTHING
RETURNING partner_id

-- name: set_partner_active
UPDATE partner SET active = $2 WHERE partner_id = $1 RETURNING partner_id

-- name: partners
SELECT p.partner_id, p.name, p.home_group, p.active, p.registered_at,
       count(k.kid) FILTER (WHERE k.disabled_at IS NULL AND (k.valid_until IS NULL OR k.valid_until > now())) AS live_keys
FROM partner p LEFT JOIN partner_key k USING (partner_id)
GROUP BY p.partner_id
ORDER BY p.partner_id

-- name: add_keys
INSERT INTO partner_key (kid, partner_id, algorithm, jwk, valid_from, valid_until, disabled_at)
SELECT kid, partner_id, algorithm, jwk::jsonb, valid_from, valid_until, disabled_at
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[])
    AS k (kid, partner_id, algorithm, jwk, valid_from, valid_until, disabled_at)
ON CONFLICT (kid) DO NOTHING
RETURNING kid

-- name: disable_key
-- A key that was disabled before keeps its first moment: what it signed since stays refused.
UPDATE partner_key SET disabled_at = coalesce(disabled_at, $3)
WHERE partner_id = $1 AND kid = $2
RETURNING disabled_at

-- name: partner_keys
SELECT kid, partner_id, algorithm, jwk::text AS jwk, valid_from, valid_until, disabled_at
FROM partner_key WHERE partner_id = $1 ORDER BY valid_from, kid

-- name: upsert_merchants
INSERT INTO merchant (merchant_id, acceptor_id, name_location, mcc, networks, active, name)
SELECT merchant_id, acceptor_id, name_location, mcc, string_to_array(networks, ' '), active, name
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::text[])
    AS m (merchant_id, acceptor_id, name_location, mcc, networks, active, name)
ON CONFLICT (merchant_id) DO UPDATE
SET acceptor_id = excluded.acceptor_id, name_location = excluded.name_location, mcc = excluded.mcc,
    networks = excluded.networks, active = excluded.active, name = excluded.name

-- name: merchants
SELECT merchant_id, acceptor_id, name_location, mcc, networks, active, name
FROM merchant WHERE merchant_id > $1 ORDER BY merchant_id LIMIT $2

-- name: add_consents
WITH given AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
        AS c (partner_id, consent_id, customer_id, status, terms, canonical)
), added AS (
    INSERT INTO consent (partner_id, consent_id, customer_id, version, status, terms, valid_until)
    SELECT partner_id, consent_id, customer_id, 1, status, terms::jsonb,
           (terms::jsonb ->> 'valid_until')::timestamptz
    FROM given
    ON CONFLICT (partner_id, consent_id) DO NOTHING
    RETURNING partner_id, consent_id, created_at
), versions AS (
    INSERT INTO consent_version (partner_id, consent_id, version, terms, digest, created_at)
    SELECT partner_id, consent_id, 1, canonical, encode(sha256(convert_to(canonical, 'UTF8')), 'hex'), created_at
    FROM added JOIN given USING (partner_id, consent_id)
)
SELECT partner_id, consent_id FROM added
