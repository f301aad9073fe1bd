-- name: find
SELECT t.token, t.customer_id, t.key_id, t.created_at, t.sealed_at,
       coalesce(array_agg(p.partner_id ORDER BY p.partner_id)
                FILTER (WHERE p.partner_id IS NOT NULL AND p.withdrawn_at IS NULL), '{}') AS partners
FROM funding_token AS t LEFT JOIN funding_token_partner AS p USING (token)
WHERE ($1::text IS NULL OR t.token = $1)
  AND ($2::text IS NULL OR t.customer_id = $2)
  AND (NOT $3 OR t.customer_id IS NULL)
  AND t.token > $4
GROUP BY t.token
ORDER BY t.token
LIMIT $5

-- name: history
SELECT partner_id, allowed_at, withdrawn_at FROM funding_token_partner WHERE token = $1 ORDER BY partner_id

-- name: count_by_key
SELECT key_id, count(*) AS tokens FROM funding_token GROUP BY key_id
