-- name: apply
INSERT INTO campaign AS c (campaign_id, body, exclusive_group, budget_minor, budget_offers, currency, active, applied_at)
VALUES ($1, $2, $3, $4, $5, $6, true, $7)
ON CONFLICT (campaign_id) DO UPDATE
SET body = excluded.body, exclusive_group = excluded.exclusive_group, budget_minor = excluded.budget_minor,
    budget_offers = excluded.budget_offers, active = true, applied_at = excluded.applied_at
WHERE c.currency = excluded.currency AND c.offers <= excluded.budget_offers
  AND c.held_minor + c.used_minor <= excluded.budget_minor
RETURNING xmax = 0 AS is_new

-- name: set_active
UPDATE campaign SET active = $2 WHERE campaign_id = $1 RETURNING campaign_id
