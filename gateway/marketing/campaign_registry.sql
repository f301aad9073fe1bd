-- name: apply
INSERT INTO campaign AS c (campaign_id, body, exclusive_group, budget_minor, budget_offers, currency, active, applied_at)
SELECT $1::text, $2::text, $3::text, $4::bigint, $5::bigint, $6::text, true, $7::timestamptz
WHERE NOT EXISTS (
    SELECT FROM affiliate
    WHERE affiliate_id = ANY ($8::text[]) AND home_group <> 'financial'
       OR affiliate_id = ANY ($9::text[]) AND home_group <> 'telecom'
)
ON CONFLICT (campaign_id) DO UPDATE
SET body = excluded.body, exclusive_group = excluded.exclusive_group, budget_minor = excluded.budget_minor,
    budget_offers = excluded.budget_offers, active = true, applied_at = excluded.applied_at
WHERE c.currency = excluded.currency AND c.offers <= excluded.budget_offers
  AND c.held_minor + c.used_minor <= excluded.budget_minor
RETURNING xmax = 0 AS is_new

-- name: lock_applied
SELECT applied_at, active FROM campaign WHERE campaign_id = $1 FOR NO KEY UPDATE

-- name: set_active
UPDATE campaign SET active = $2 WHERE campaign_id = $1 RETURNING campaign_id
