-- name: campaigns
SELECT campaign_id, body, active, offers, held_minor, used_minor, currency, budget_minor, budget_offers, applied_at
FROM campaign
WHERE $1::text IS NULL OR campaign_id = $1
ORDER BY campaign_id

-- name: offers
SELECT state, count(*) AS offers FROM offer WHERE campaign_id = $1 GROUP BY state ORDER BY state
