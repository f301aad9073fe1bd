-- name: history
SELECT issuer, subject, customer_id, linked_at, unlinked_at
FROM identity_link
WHERE ($1::text IS NULL OR customer_id = $1) AND ($2 OR unlinked_at IS NULL)
ORDER BY customer_id, linked_at, issuer, subject
LIMIT $3
