-- name: standing
SELECT * FROM standing_order WHERE ($1::text IS NULL OR partner_id = $1) AND standing_order_id = $2 ORDER BY partner_id
