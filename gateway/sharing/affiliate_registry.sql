-- name: add
INSERT INTO affiliate (affiliate_id, name, home_group) VALUES ($1, $2, $3)
ON CONFLICT (affiliate_id) DO NOTHING
RETURNING affiliate_id

-- name: set_active
UPDATE affiliate SET active = $2 WHERE affiliate_id = $1 RETURNING affiliate_id

-- name: take_turn
-- Sharing holds the place while it shares, and asks for approvals behind it.
SELECT id FROM sharing_place FOR NO KEY UPDATE

-- name: active_campaigns
SELECT campaign_id FROM campaign WHERE active

-- name: hold_campaigns
-- Marketing holds them while it makes offers, and asks who is active behind their locks.
SELECT c.campaign_id FROM campaign c WHERE c.campaign_id = ANY ($1::text[])
ORDER BY c.campaign_id
FOR NO KEY UPDATE OF c

-- name: add_keys
INSERT INTO affiliate_key (kid, affiliate_id, algorithm, jwk, valid_from, valid_until)
SELECT kid, affiliate_id, algorithm, jwk::jsonb, valid_from, valid_until
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[])
    AS k (kid, affiliate_id, algorithm, jwk, valid_from, valid_until)
ON CONFLICT (kid) DO NOTHING
RETURNING kid

-- name: approve
INSERT INTO affiliate_approval (affiliate_id, purpose, legal_basis, approved_by, approved_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (affiliate_id, purpose) DO UPDATE
SET legal_basis = excluded.legal_basis, approved_by = excluded.approved_by, approved_at = excluded.approved_at,
    withdrawn_at = NULL
RETURNING affiliate_id

-- name: lock_affiliate
SELECT affiliate_id FROM affiliate WHERE affiliate_id = $1 FOR NO KEY UPDATE

-- name: lock_approval
SELECT legal_basis, approved_at, withdrawn_at FROM affiliate_approval
WHERE affiliate_id = $1 AND purpose = $2 FOR UPDATE

-- name: withdraw
UPDATE affiliate_approval SET withdrawn_at = coalesce(withdrawn_at, $3)
WHERE affiliate_id = $1 AND purpose = $2
RETURNING withdrawn_at

-- name: disable_key
-- Under each id that the owner has it under. A key that was disabled before keeps its first moment.
UPDATE affiliate_key k SET disabled_at = coalesce(k.disabled_at, $3)
FROM affiliate_key named
WHERE named.affiliate_id = $1 AND named.kid = $2 AND k.affiliate_id = $1
  AND (k.jwk ->> 'crv', k.jwk ->> 'x', k.jwk ->> 'y')
      IS NOT DISTINCT FROM (named.jwk ->> 'crv', named.jwk ->> 'x', named.jwk ->> 'y')
RETURNING k.kid, k.disabled_at

-- name: note_erased
-- One that was confirmed before stays as it was.
UPDATE share_holder SET confirmed_at = coalesce(confirmed_at, $2), confirmation = coalesce(confirmation, $3)
WHERE notice_id = $1
RETURNING affiliate_id, confirmed_at

-- name: retire
UPDATE sharing_place SET followed = false WHERE followed RETURNING followed
