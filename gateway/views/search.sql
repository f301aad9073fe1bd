-- name: partners
SELECT partner_id FROM partner ORDER BY partner_id

-- name: by_id
SELECT p.* FROM unnest($1::text[], $2::uuid[]) AS k (partner_id, payment_id)
JOIN payment p ON p.partner_id = k.partner_id AND p.payment_id = k.payment_id

-- name: archived
SELECT a.partner_id, a.payment_id FROM unnest($1::text[], $2::uuid[]) AS k (partner_id, payment_id)
JOIN archived_payment a ON a.partner_id = k.partner_id AND a.payment_id = k.payment_id

-- name: by_rrn
SELECT p.* FROM unnest($1::text[]) AS n (network_id)
JOIN payment p ON p.network_id = n.network_id AND p.rrn = $2

-- name: refunds
SELECT * FROM payment WHERE partner_id = $1 AND original_payment_id = $2 ORDER BY decided_at LIMIT $3

-- name: of_consent
SELECT * FROM payment WHERE partner_id = $1 AND consent_id = $2 ORDER BY decided_at DESC, payment_id DESC LIMIT $3

-- name: consents
SELECT c.partner_id, c.consent_id, c.customer_id, c.status, c.version, c.status_changed_at
FROM unnest($1::text[]) AS n (partner_id) JOIN consent c ON c.partner_id = n.partner_id AND c.consent_id = $2

-- name: consents_of_customer
SELECT c.partner_id, c.consent_id, c.customer_id, c.status, c.version, c.status_changed_at
FROM unnest($1::text[]) AS n (partner_id) JOIN consent c ON c.partner_id = n.partner_id AND c.customer_id = $2
ORDER BY c.status_changed_at DESC LIMIT $3

-- name: consents_of_token
SELECT partner_id, consent_id, customer_id, status, version, status_changed_at
FROM consent WHERE terms #>> '{payment,funding_token}' = $1 ORDER BY status_changed_at DESC LIMIT $2
