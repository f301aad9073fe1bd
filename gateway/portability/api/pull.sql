-- name: recipient
SELECT org_code, active FROM recipient WHERE certificate_sha256 = $1

-- name: accessed_at
SELECT greatest(
    (SELECT max(accessed_at) FROM portability_access WHERE (partner_id, consent_id, org_code) = ($1, $2, $3)),
    (SELECT max(accessed_at) FROM portability_request
     WHERE (partner_id, consent_id) = ($1, $2) AND rcv_org_code = $3)) AS accessed_at

-- name: note_access
INSERT INTO portability_access AS a (partner_id, consent_id, org_code, accessed_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (partner_id, consent_id, org_code) DO UPDATE SET accessed_at = greatest(a.accessed_at, excluded.accessed_at)

-- name: access_requests
UPDATE portability_request SET accessed_at = greatest(accessed_at, $4)
WHERE (partner_id, consent_id) = ($1, $2) AND rcv_org_code = $3 AND status = 'active'

-- name: tokens
SELECT token FROM funding_token WHERE customer_id = $1

-- name: used_tokens
SELECT t.token FROM funding_token t
WHERE t.customer_id = $2 AND EXISTS (
    SELECT 1 FROM consent c JOIN payment p USING (partner_id, consent_id)
    WHERE c.partner_id = $1 AND c.customer_id = $2 AND p.funding_token = t.token)
ORDER BY t.token

-- name: page
-- Each consent gives its latest by its index, and the latest of these are the page.
SELECT p.payment_id::text AS payment_id, p.operation, p.state, p.amount_minor, p.currency, p.approval_code,
       p.decided_at, p.changed_at, p.funding_token, m.name AS merchant_name, m.mcc,
       CASE WHEN p.operation = 'purchase' THEN coalesce((
           SELECT sum(r.amount_minor) FROM payment r
           WHERE r.partner_id = $1 AND r.original_payment_id = p.payment_id
             AND r.state IN ('approved', 'settled')), 0) ELSE 0 END::bigint AS refunded_minor
FROM (
    SELECT q.* FROM consent c CROSS JOIN LATERAL (
        SELECT payment_id, merchant_id, operation, state, amount_minor, currency, approval_code, decided_at, changed_at,
               funding_token
        FROM payment
        WHERE partner_id = c.partner_id AND consent_id = c.consent_id
          AND decided_at >= $3 AND (decided_at, payment_id) < ($4, $5::uuid)
          -- What was given back of a purchase corrects it, and leaves its own row as it was. These are few, and read
          -- once: looked for with each payment, they were most of what a page cost.
          AND ($6::timestamptz IS NULL OR changed_at > $6 OR payment_id IN (
              SELECT r.original_payment_id FROM payment r
              WHERE r.partner_id = c.partner_id AND r.consent_id = c.consent_id AND r.operation = 'refund'
                AND r.changed_at > $6))
          AND ($7::text IS NULL OR funding_token = $7)
        ORDER BY decided_at DESC, payment_id DESC
        LIMIT $8
    ) AS q
    WHERE c.partner_id = $1 AND c.customer_id = $2
    ORDER BY q.decided_at DESC, q.payment_id DESC
    LIMIT $8
) AS p
LEFT JOIN merchant m USING (merchant_id)
ORDER BY p.decided_at DESC, p.payment_id DESC
